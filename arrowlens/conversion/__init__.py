"""Hugging Face checkpoints to model directories, verified against the original models. Names load on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arrowlens.conversion.convert import convert_clip_model, convert_text_model, convert_whisper_model
    from arrowlens.conversion.report import ConversionReport, OnProgress, Progress, Verified

_HOMES = {
    "convert": ("convert_clip_model", "convert_text_model", "convert_whisper_model"),
    "report": ("ConversionReport", "OnProgress", "Progress", "Verified"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ConversionReport",
    "OnProgress",
    "Progress",
    "Verified",
    "convert_clip_model",
    "convert_text_model",
    "convert_whisper_model",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'arrowlens.conversion' has no attribute {name!r}")
    return getattr(importlib.import_module(f"arrowlens.conversion.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
