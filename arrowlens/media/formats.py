"""Which files are media: by name for a first look, by content for good."""

from __future__ import annotations

import os
import struct

from arrowlens.media.decoded import Modality

MEDIA_SUFFIXES: dict[str, Modality] = {
    ".jpg": "image",
    ".jpeg": "image",
    ".jpe": "image",
    ".jfif": "image",
    ".png": "image",
    ".webp": "image",
    ".gif": "image",
    ".bmp": "image",
    ".dib": "image",
    ".tif": "image",
    ".tiff": "image",
    ".wav": "audio",
    ".wave": "audio",
    ".flac": "audio",
    ".mp3": "audio",
    ".ogg": "audio",
    ".oga": "audio",
    ".opus": "audio",
}

FORMAT_MODALITY: dict[str, Modality] = {
    "jpeg": "image",
    "png": "image",
    "webp": "image",
    "gif": "image",
    "bmp": "image",
    "tiff": "image",
    "wav": "audio",
    "flac": "audio",
    "mp3": "audio",
    "ogg": "audio",
    "opus": "audio",
}

SNIFF_BYTES = 4096

_PREFIXES = [
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),  # more than 4 GB, in principle
    (b"MM\0+", "tiff"),
    (b"fLaC", "flac"),
    (b"BM", "bmp"),
]

_FOREIGN = [
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
]


def modality_of(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> Modality | None:
    """What a file's name promises: "image", "audio", or None for other suffixes. Case does not matter."""
    suffix = os.path.splitext(os.fsdecode(path))[1]  # noqa: PTH122 - Path() rejects nothing here, but costs ten times more
    return MEDIA_SUFFIXES.get(suffix.lower())


def sniff(head: bytes) -> str | None:
    """The format of a file's content, from its first ``SNIFF_BYTES`` bytes; None when it is none that we read."""
    for prefix, name in _PREFIXES:
        if head.startswith(prefix):
            return name
    if head[:4] in (b"RIFF", b"RF64"):
        return {b"WEBP": "webp", b"WAVE": "wav"}.get(head[8:12])
    if head[:4] == b"OggS":
        return "opus" if b"OpusHead" in head[:64] else "ogg"
    if head[:3] == b"ID3":
        tag_size = id3_size(head)
        return "flac" if head[tag_size : tag_size + 4] == b"fLaC" else "mp3"
    return "mp3" if _is_mpeg_frame(head) else None


def describe_content(head: bytes) -> str:
    """A few words for a user about content that is none of our formats."""
    for prefix, words in _FOREIGN:
        if head.startswith(prefix):
            return words
    if head[4:8] == b"ftyp":
        return "an MP4, M4A, HEIC or AVIF file, which is not read"
    if not head.strip(b"\0"):
        return "zeros"
    try:
        # The last bytes may be the first half of a character.
        text = head.decode("utf-8", errors="ignore") if len(head) == SNIFF_BYTES else head.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if text and all(char.isprintable() or char.isspace() for char in text):
        return "text"
    return f"unknown, starting with the bytes {head[:4].hex(' ')}"


def id3_size(head: bytes) -> int:
    """Bytes of the ID3 tag that a file starts with, from its first 10 bytes; 0 without one."""
    if len(head) < 10 or head[:3] != b"ID3":
        return 0
    size = 0
    for byte in head[6:10]:  # 7 bits each
        size = size << 7 | byte & 0x7F
    return size + 10


def _is_mpeg_frame(head: bytes) -> bool:
    """Whether an MPEG audio frame starts here: sync, then layer III with a possible bit rate and sample rate."""
    if len(head) < 4:
        return False
    (word,) = struct.unpack(">I", head[:4])
    sync, version, layer = word >> 21, word >> 19 & 3, word >> 17 & 3
    bit_rate, sample_rate = word >> 12 & 15, word >> 10 & 3
    return sync == 0x7FF and version != 1 and layer == 1 and bit_rate not in (0, 15) and sample_rate != 3
