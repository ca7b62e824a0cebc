"""A file's bytes -> pixels, samples, metadata, a thumbnail; or the reason why not.

>>> from arrowlens.media import decode
>>> decode("holiday.jpg").reason
'the file is gone'

``decode`` is one picklable step for a thread or a process. It imports neither torch nor librosa.
"""

from __future__ import annotations

from arrowlens.media.captions import read_caption
from arrowlens.media.decoded import Decoded, Limits
from arrowlens.media.decoder import decode
from arrowlens.media.files import hash_file
from arrowlens.media.formats import MEDIA_SUFFIXES, modality_of
from arrowlens.media.windowing import Window, windows

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
