"""A file's bytes -> pixels, samples, metadata, a thumbnail; or the reason why not.

>>> from arrowlens.media import decode
>>> decode("holiday.jpg").reason
'the file is gone'

``decode`` is one picklable step for a thread or a process. It imports neither torch nor librosa. Names load on first
use: a search needs no decoders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from arrowlens.modalities import MEDIA_SUFFIXES, modality_of

if TYPE_CHECKING:
    from arrowlens.media.captions import read_caption
    from arrowlens.media.decoded import Decoded, Limits
    from arrowlens.media.decoder import decode, decode_fingerprint
    from arrowlens.media.files import hash_file
    from arrowlens.media.windowing import Window, windows


__all__ = [
    "MEDIA_SUFFIXES",
    "Decoded",
    "Limits",
    "Window",
    "decode",
    "decode_fingerprint",
    "hash_file",
    "modality_of",
    "read_caption",
    "windows",
]

_NAMES = {
    "captions": ["read_caption"],
    "decoded": ["Decoded", "Limits"],
    "decoder": ["decode", "decode_fingerprint"],
    "files": ["hash_file"],
    "windowing": ["Window", "windows"],
}
__getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs=_NAMES)
