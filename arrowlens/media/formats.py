"""The format of a file, recognised by its content."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

SNIFF_BYTES = 4096
_EBML_HEADER_BYTES = 256  # its type may come last, behind fields whose sizes take eight bytes each

_PREFIXES = [
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0\x10\0\0\0CR", "raw"),  # CR2; other TIFFs may be raw as well, as tiff_directories.is_raw_tiff finds
    (b"IIRO", "raw"),  # ORF
    (b"IIRS", "raw"),
    (b"MMOR", "raw"),
    (b"IIU\0", "raw"),  # RW2
    (b"FUJIFILMCCD-RAW", "raw"),  # RAF
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),  # more than 4 GB, in principle
    (b"MM\0+", "tiff"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
    (b"fLaC", "flac"),
    (b"BM", "bmp"),
]

_FORMS = {
    (b"RIFF", b"WEBP"): "webp",
    (b"RIFF", b"WAVE"): "wav",
    (b"RF64", b"WAVE"): "wav",
    (b"RIFF", b"AVI "): "avi",
    (b"FORM", b"AIFF"): "aiff",
    (b"FORM", b"AIFC"): "aiff",
}
_PNM_HEADER = re.compile(rb"P[1-6f][ \t\r\n](?:\s|#[^\r\n]*[\r\n])*[0-9]")

# Brands of the ISO base media file format: what follows "ftyp".
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"mif1", b"mif2", b"msf1", b"miaf"}
_SOUND_BRANDS = {b"M4A ", b"M4B ", b"M4P "}
_CR3_BRAND = b"crx "
_FOREIGN_BRANDS = {
    b"mjp2": "a Motion JPEG 2000 film",
    b"jxl ": "a JPEG XL picture",
}
# QuickTime files older than brands begin with one of these.
_QUICKTIME_BOXES = {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}

_FOREIGN = [
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"8BPS", "a Photoshop document"),
    (b"gimp xcf", "a GIMP picture"),
    (b"FORM", "an IFF file that is not AIFF"),
    (b"\x30\x26\xb2\x75", "a Windows Media file (WMA or WMV)"),
    (b"\0\0\x01\xba", "an MPEG film"),
    (b"RIFF", "a RIFF file that is neither WAV nor WebP nor AVI"),
    (b"PF\n", "a colour PFM picture"),
    (b"P7\n", "a PAM picture"),
]


def sniff(head: bytes) -> str | None:
    """The format of a file's content, from its first ``SNIFF_BYTES`` bytes; None when it is none that we read."""
    for prefix, name in _PREFIXES:
        if head.startswith(prefix):
            return name
    if form := _FORMS.get((head[:4], head[8:12])):
        return form
    if head[:4] == b"OggS":
        return "opus" if b"OpusHead" in head[:64] else "ogg"
    if head[4:8] == b"ftyp":
        return _sniff_brands(head)
    if head[4:8] in _QUICKTIME_BOXES:
        return "mp4"
    if head[:4] == b"\x1aE\xdf\xa3":
        kinds = head[:_EBML_HEADER_BYTES]
        return "webm" if b"webm" in kinds else "mkv" if b"matroska" in kinds else None
    if head[:3] == b"ID3":
        inner = head[id3_size(head) :]
        return "flac" if inner[:4] == b"fLaC" else "aac" if _is_adts_frame(inner) else "mp3"
    tests: dict[str, Callable[[bytes], object]] = {
        "pnm": _PNM_HEADER.match,
        "mpegts": _is_transport_stream,
        "mp3": _is_mpeg_frame,
        "aac": _is_adts_frame,
    }
    return next((name for name, is_one in tests.items() if is_one(head)), None)


def describe_content(head: bytes) -> str:
    """A few words for a user about content that is none of our formats."""
    for prefix, words in _FOREIGN:
        if head.startswith(prefix):
            return words
    if head[4:8] == b"ftyp":
        return _FOREIGN_BRANDS.get(head[8:12], "a container of an unknown kind")
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


def _is_transport_stream(head: bytes) -> bool:
    """Whether MPEG transport packets follow one another here: of 188 bytes, or with a time before each, of 192."""
    return any(
        len(head) >= first + 3 * length and all(head[first + n * length] == 0x47 for n in range(3))
        for first, length in ((0, 188), (4, 192))
    )


def _is_adts_frame(head: bytes) -> bool:
    """Whether a frame of raw AAC starts here: sync, layer 0, a possible sample rate and frame length."""
    if len(head) < 7:
        return False
    (word,) = struct.unpack(">I", head[:4])
    length = (word & 3) << 11 | head[4] << 3 | head[5] >> 5
    sync, layer, sample_rate = word >> 20, word >> 17 & 3, word >> 10 & 15
    return bool(sync == 0xFFF and layer == 0 and sample_rate <= 12 and length > 7)


def _sniff_brands(head: bytes) -> str | None:
    """What the brands of an ISO base media file say that it holds."""
    major = head[8:12]
    size = min(int.from_bytes(head[:4]), len(head))
    brands = {major} | {head[at : at + 4] for at in range(16, size - 3, 4)}
    if major in _FOREIGN_BRANDS:
        return None
    if major == _CR3_BRAND:
        return "raw"
    if major in _HEIC_BRANDS | _AVIF_BRANDS | _HEIF_BRANDS:
        return "avif" if major in _AVIF_BRANDS or (major in _HEIF_BRANDS and brands & _AVIF_BRANDS) else "heic"
    return "m4a" if major in _SOUND_BRANDS else "mp4"
