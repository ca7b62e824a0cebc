"""The specification's way to load a model: all tensors at once, after checking that they make a working model."""

from __future__ import annotations

from pathlib import Path

import torch

from arrowlens.encoders.registry import family_for
from arrowlens.encoders.weights import WeightLoader
from arrowlens.errors import InputError

# the specification's names of what is loaded
_ROLE_OF = {"vision": "pooled_vision", "clip": "vision", "audio": "audio", "text": "text"}


def load_model_with_validation(model_path: str | Path, model_type: str) -> dict[str, torch.Tensor]:
    """Load the tensors of a model directory after building the encoder from them.

    Args:
        model_path: a model directory.
        model_type: ``vision`` (a CLIP model), ``clip`` (a CLIP or SigLIP model), ``audio`` (a Whisper
            encoder or a CLAP model), ``text`` (a BERT encoder).

    Returns:
        Tensors by name, in their stored type; views of the mapping.

    Raises:
        InputError: an unknown ``model_type``.
        ModelLoadError: as ``WeightLoader``; a model of another family; a tensor is missing or has the wrong shape.
    """
    if model_type not in _ROLE_OF:
        raise InputError(f"model_type {model_type!r} is unknown; use one of {', '.join(_ROLE_OF)}")
    role = _ROLE_OF[model_type]
    loader = WeightLoader(model_path)
    family_for(role, loader.info.family, loader.directory).encoder(role)(loader, "cpu")
    return loader.load_weights()
