"""The seed's way to load a model: all tensors at once, after checking that they make a working model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from arrowlens.encoders.audio import AudioEncoder
from arrowlens.encoders.clip import CLIPEngine
from arrowlens.encoders.runtime import Encoder
from arrowlens.encoders.text import TextEncoder
from arrowlens.encoders.vision import VisionEncoder
from arrowlens.encoders.weights import WeightLoader
from arrowlens.errors import InputError

_KINDS: dict[str, Callable[[WeightLoader, str], Encoder]] = {
    "vision": VisionEncoder,
    "clip": CLIPEngine,
    "audio": AudioEncoder,
    "text": TextEncoder,
}


def load_model_with_validation(model_path: str | Path, model_type: str) -> dict[str, torch.Tensor]:
    """Load the tensors of a model directory after building the encoder from them.

    Args:
        model_type: ``vision`` or ``clip`` (a CLIP model), ``audio`` (a Whisper encoder), ``text`` (a BERT encoder).

    Returns:
        Tensors by name, in their stored type; views of the mapping.

    Raises:
        InputError: an unknown ``model_type``.
        ModelLoadError: as ``WeightLoader``; a model of another family; a tensor is missing or has the wrong shape.
    """
    if model_type not in _KINDS:
        raise InputError(f"model_type {model_type!r} is unknown; use one of {', '.join(_KINDS)}")
    loader = WeightLoader(model_path)
    _KINDS[model_type](loader, "cpu")
    return loader.load_weights()
