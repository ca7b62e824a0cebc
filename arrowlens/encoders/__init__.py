"""Pixels, samples and text in, vectors out. Names load on first use; only some need torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from arrowlens.encoders.audio import AudioEncoder
    from arrowlens.encoders.audio_processor import AudioConfig, AudioProcessor, MelSpectrogramProcessor
    from arrowlens.encoders.batches import AudioBatch, BatchEncoder, ImageBatch
    from arrowlens.encoders.clap import ClapEncoder
    from arrowlens.encoders.clip import CLIPEngine, ClipTextConfig
    from arrowlens.encoders.image_processor import ImageProcessor
    from arrowlens.encoders.loading import load_model_with_validation
    from arrowlens.encoders.model_directory import ModelInfo, model_info
    from arrowlens.encoders.provider import EmbeddingProvider, MultimodalEmbeddingProvider
    from arrowlens.encoders.runtime import Runtime, choose_runtime
    from arrowlens.encoders.siglip import SiglipEngine, SiglipTextConfig
    from arrowlens.encoders.text import TextConfig, TextEncoder
    from arrowlens.encoders.transformer import InferenceCore
    from arrowlens.encoders.validation import validate_audio_input, validate_image_input
    from arrowlens.encoders.verification import Agreement, validate_embedding_precision
    from arrowlens.encoders.vision import PatchEmbedding, VisionConfig, VisionEncoder
    from arrowlens.encoders.weights import WeightLoader, write_model


__all__ = [
    "Agreement",
    "AudioBatch",
    "AudioConfig",
    "AudioEncoder",
    "AudioProcessor",
    "BatchEncoder",
    "CLIPEngine",
    "ClapEncoder",
    "ClipTextConfig",
    "EmbeddingProvider",
    "ImageBatch",
    "ImageProcessor",
    "InferenceCore",
    "MelSpectrogramProcessor",
    "ModelInfo",
    "MultimodalEmbeddingProvider",
    "PatchEmbedding",
    "Runtime",
    "SiglipEngine",
    "SiglipTextConfig",
    "TextConfig",
    "TextEncoder",
    "VisionConfig",
    "VisionEncoder",
    "WeightLoader",
    "choose_runtime",
    "load_model_with_validation",
    "model_info",
    "validate_audio_input",
    "validate_embedding_precision",
    "validate_image_input",
    "write_model",
]

_NAMES = {
    "audio": ["AudioEncoder"],
    "audio_processor": ["AudioConfig", "AudioProcessor", "MelSpectrogramProcessor"],
    "batches": ["AudioBatch", "BatchEncoder", "ImageBatch"],
    "clap": ["ClapEncoder"],
    "clip": ["CLIPEngine", "ClipTextConfig"],
    "image_processor": ["ImageProcessor"],
    "loading": ["load_model_with_validation"],
    "model_directory": ["ModelInfo", "model_info"],
    "provider": ["EmbeddingProvider", "MultimodalEmbeddingProvider"],
    "runtime": ["Runtime", "choose_runtime"],
    "siglip": ["SiglipEngine", "SiglipTextConfig"],
    "text": ["TextConfig", "TextEncoder"],
    "transformer": ["InferenceCore"],
    "validation": ["validate_audio_input", "validate_image_input"],
    "verification": ["Agreement", "validate_embedding_precision"],
    "vision": ["PatchEmbedding", "VisionConfig", "VisionEncoder"],
    "weights": ["WeightLoader", "write_model"],
}
__getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs=_NAMES)
