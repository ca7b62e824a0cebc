"""A file's bytes -> pixels, samples, metadata, a thumbnail; or the reason why not.

>>> from arrowlens.media import decode
>>> decode("holiday.jpg").reason
'the file is gone'

``decode`` is one picklable step for a thread or a process. It imports neither torch nor librosa. Names load on first
use: a search needs no decoders.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arrowlens.media.captions import read_caption
    from arrowlens.media.decoded import Decoded, Limits
    from arrowlens.media.decoder import decode
    from arrowlens.media.files import hash_file
    from arrowlens.media.formats import MEDIA_SUFFIXES, modality_of
    from arrowlens.media.windowing import Window, windows

_HOMES = {
    "MEDIA_SUFFIXES": "formats",
    "Decoded": "decoded",
    "Limits": "decoded",
    "Window": "windowing",
    "decode": "decoder",
    "hash_file": "files",
    "modality_of": "formats",
    "read_caption": "captions",
    "windows": "windowing",
}

__all__ = [
    "MEDIA_SUFFIXES",
    "Decoded",
    "Limits",
    "Window",
    "decode",
    "hash_file",
    "modality_of",
    "read_caption",
    "windows",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'arrowlens.media' has no attribute {name!r}")
    return getattr(importlib.import_module(f"arrowlens.media.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
