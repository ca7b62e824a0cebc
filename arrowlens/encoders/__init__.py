"""Pixels, samples and text in, vectors out. Names load on first use; only some need torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arrowlens.encoders.agreement import Agreement, validate_embedding_precision
    from arrowlens.encoders.audio import AudioEncoder
    from arrowlens.encoders.audio_processor import AudioConfig, AudioProcessor, MelSpectrogramProcessor
    from arrowlens.encoders.batches import AudioBatch, BatchEncoder, ImageBatch
    from arrowlens.encoders.clip import CLIPEngine, ClipTextConfig
    from arrowlens.encoders.core import InferenceCore
    from arrowlens.encoders.image_processor import ImageProcessor
    from arrowlens.encoders.loading import load_model_with_validation
    from arrowlens.encoders.model_directory import ModelInfo, model_info
    from arrowlens.encoders.provider import EmbeddingProvider, MultimodalEmbeddingProvider
    from arrowlens.encoders.runtime import Runtime, choose_runtime
    from arrowlens.encoders.text import TextConfig, TextEncoder
    from arrowlens.encoders.validation import validate_audio_input, validate_image_input
    from arrowlens.encoders.vision import PatchEmbedding, VisionConfig, VisionEncoder
    from arrowlens.encoders.weights import WeightLoader, write_model

_HOMES = {
    "agreement": ("Agreement", "validate_embedding_precision"),
    "audio": ("AudioEncoder",),
    "audio_processor": ("AudioConfig", "AudioProcessor", "MelSpectrogramProcessor"),
    "batches": ("AudioBatch", "BatchEncoder", "ImageBatch"),
    "clip": ("CLIPEngine", "ClipTextConfig"),
    "core": ("InferenceCore",),
    "image_processor": ("ImageProcessor",),
    "loading": ("load_model_with_validation",),
    "model_directory": ("ModelInfo", "model_info"),
    "provider": ("EmbeddingProvider", "MultimodalEmbeddingProvider"),
    "runtime": ("Runtime", "choose_runtime"),
    "text": ("TextConfig", "TextEncoder"),
    "validation": ("validate_audio_input", "validate_image_input"),
    "vision": ("PatchEmbedding", "VisionConfig", "VisionEncoder"),
    "weights": ("WeightLoader", "write_model"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Agreement",
    "AudioBatch",
    "AudioConfig",
    "AudioEncoder",
    "AudioProcessor",
    "BatchEncoder",
    "CLIPEngine",
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


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'arrowlens.encoders' has no attribute {name!r}")
    return getattr(importlib.import_module(f"arrowlens.encoders.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
