"""Hugging Face checkpoints to model directories, verified against the original models. Names load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from arrowlens.encoders.registry import FAMILIES

if TYPE_CHECKING:
    from arrowlens.conversion.convert import (
        ConversionOptions,
        convert_clap_model,
        convert_clip_model,
        convert_model,
        convert_siglip_model,
        convert_text_model,
        convert_whisper_model,
    )
    from arrowlens.conversion.report import ConversionReport, OnProgress, Progress, Verified


__all__ = [
    "FAMILIES",
    "ConversionOptions",
    "ConversionReport",
    "OnProgress",
    "Progress",
    "Verified",
    "convert_clap_model",
    "convert_clip_model",
    "convert_model",
    "convert_siglip_model",
    "convert_text_model",
    "convert_whisper_model",
]

_NAMES = {
    "convert": [
        "ConversionOptions",
        "convert_clap_model",
        "convert_clip_model",
        "convert_model",
        "convert_siglip_model",
        "convert_text_model",
        "convert_whisper_model",
    ],
    "report": ["ConversionReport", "OnProgress", "Progress", "Verified"],
}
__getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs=_NAMES)
