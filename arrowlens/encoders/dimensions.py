"""Checks a model's dimensions, which come from a file, before anything is built from them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from arrowlens.encoders.model_directory import MAX_DIMENSION
from arrowlens.encoders.transformer import ACTIVATIONS

_MAX_LAYERS = 512
_MAX_STAGES = 8
_WORDS = {
    "activation": ACTIVATIONS,
    "pooling": ("argmax", "eos"),
    "padding_side": ("left", "right"),
    "padding": ("repeatpad", "repeat", "pad"),
}
_NOT_ABOVE = (  # the first must not be larger than the second
    ("max_length", "max_positions"),
    ("patch_size", "image_size"),
    ("max_audio_length", "max_positions"),
)


def check_dimensions(config: Any) -> None:  # noqa: ANN401 - any of the dataclasses
    """Refuse dimensions that no model has.

    Args:
        config: a dataclass with the fields ``hidden_size`` and ``num_heads``.

    Raises:
        ValueError: a value has the wrong type or is out of its range, or two contradict each other.
    """
    values = dataclasses.asdict(config)
    for field in dataclasses.fields(config):
        if not _is_right(field.name, str(field.type), values[field.name]):
            raise ValueError(f"{field.name} is {values[field.name]!r:.80}")
    if config.hidden_size % config.num_heads:
        raise ValueError(f"hidden_size {config.hidden_size} is no multiple of num_heads {config.num_heads}")
    for small, large in _NOT_ABOVE:
        if values.get(small, 0) > values.get(large, math.inf):
            raise ValueError(f"{small} {values[small]} is larger than {large} {values[large]}")
    if "window_size" in values:
        _check_windows(config)
    for name in values:
        if name.endswith("_id") and values[name] >= config.vocab_size:
            raise ValueError(f"{name} {values[name]} is not below vocab_size {config.vocab_size}")


def _check_windows(config: Any) -> None:  # noqa: ANN401 - ClapAudioConfig
    """Check that a spectrogram fills the picture, and that windows fill the grid of patches of every stage."""
    if config.image_size % config.n_mels:
        raise ValueError(f"image_size {config.image_size} is no multiple of n_mels {config.n_mels}")
    grid, stages = config.image_size // config.patch_size, len(config.depths)
    if grid % (config.window_size << (stages - 1)):
        raise ValueError(
            f"image_size {config.image_size} and patch_size {config.patch_size} give a grid of {grid} patches, which "
            f"has no {stages} stages in windows of window_size {config.window_size}"
        )


def _is_right(name: str, kind: str, value: object) -> bool:
    if value is None:
        return kind.endswith("None")
    if kind == "str":
        return value in _WORDS[name]
    if kind == "tuple[int, ...]":  # of a Swin Transformer: the layers of each stage
        if not isinstance(value, list | tuple) or not 1 <= len(value) <= _MAX_STAGES:
            return False
        return all(_is_right("num_layers", "int", each) for each in value)
    if kind == "float":
        return type(value) in (int, float) and 0 < value < 1  # type: ignore[operator]
    largest = _MAX_LAYERS if name == "num_layers" else MAX_DIMENSION
    return type(value) is int and (0 if name.endswith("_id") else 1) <= value <= largest
