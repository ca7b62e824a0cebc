"""How long a recording says it is, against how much of it is there.

libsndfile silently takes what is there of a WAV, and libmpg123 prints a warning of its own about an MP3; so the headers
are looked at before either sees them.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, Literal

from arrowlens.errors import MediaError
from arrowlens.media.containers import check_boxes, check_elements
from arrowlens.media.formats import id3_size

TRUNCATION_TOLERANCE = 0.1  # s; recorders that miscount by a header or a frame are common
_SIZE_TOLERANCE = 0.01  # of the bytes
_UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)  # bytes of data, as writers to a pipe leave them
_MAX_CHUNKS = 1000
_XING_BYTES = 200  # the tag lies within the first frame, behind its header and side information


def check_length(file: BinaryIO, size: int, file_format: str) -> bool:
    """Refuse a recording of which a part is missing; whether the file states its length at all.

    WAV, FLAC (checked while decoding), MP4 and MP3 with a Xing header do. A Matroska file states its bytes,
    but its sound may be shorter than its pictures. OGG, Opus, raw AAC and other MP3s are as long as what is there.

    Raises:
        MediaError: truncated, with what is promised and what is there.
    """
    if file_format == "wav":
        return _check_wav(file, size)
    if file_format == "mp3":
        return _check_mp3(file, size)
    if file_format in ("aiff", "avi"):
        _check_form(file, size, "big" if file_format == "aiff" else "little")
    if file_format in ("m4a", "mp4"):
        check_boxes(file, size, needed=b"moov")
    if file_format in ("mkv", "webm"):
        check_elements(file, size)
    return file_format in ("aiff", "flac", "m4a", "mp4")


def say_length(seconds: float) -> str:
    """A duration for a user, in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} hours"


def _check_wav(file: BinaryIO, size: int) -> bool:
    data = _wav_data(file, size)
    if data is None:
        return True
    promised, there, bytes_per_second = data
    if promised in _UNKNOWN_SIZES or bytes_per_second == 0:
        return False
    if promised - there > TRUNCATION_TOLERANCE * bytes_per_second:
        raise MediaError(
            f"truncated: the header promises {say_length(promised / bytes_per_second)}, "
            f"the file holds {say_length(there / bytes_per_second)}"
        )
    return True


def _wav_data(file: BinaryIO, size: int) -> tuple[int, int, int] | None:
    """(bytes promised, bytes there, bytes per second) of the data chunk; None when the chunks lead nowhere."""
    position, long_size, bytes_per_second = 12, None, 0
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        header = file.read(8)
        if len(header) < 8:
            return None
        name, length = header[:4], int.from_bytes(header[4:], "little")
        body = file.read(16) if name in (b"fmt ", b"ds64") else b""
        if name == b"fmt " and len(body) >= 12:
            (bytes_per_second,) = struct.unpack_from("<I", body, 8)
        elif name == b"ds64" and len(body) >= 16:  # RF64: sizes beyond 4 GB
            (long_size,) = struct.unpack_from("<Q", body, 8)
        elif name == b"data":
            promised = long_size if long_size is not None and length == 0xFFFFFFFF else length
            return promised, size - position - 8, bytes_per_second
        position += 8 + length + length % 2
    return None


def _check_form(file: BinaryIO, size: int, order: Literal["big", "little"]) -> None:
    """An IFF file is one chunk with its length; several of them, or an unknown length, are rare and pass."""
    file.seek(4)
    promised = int.from_bytes(file.read(4), order)
    if promised not in _UNKNOWN_SIZES and promised + 8 - size > _SIZE_TOLERANCE * promised:
        raise MediaError(f"truncated: {size:,} of {promised + 8:,} bytes are there")


def _check_mp3(file: BinaryIO, size: int) -> bool:
    file.seek(0)
    start = id3_size(file.read(10))
    file.seek(start)
    frame = file.read(_XING_BYTES)
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if at < 0 or len(frame) < at + 16:
        return False
    flags, n_frames, n_bytes = struct.unpack_from(">III", frame, at + 4)
    if flags & 3 == 3 and n_bytes - (size - start) > _SIZE_TOLERANCE * n_bytes:
        raise MediaError(f"truncated: {size - start:,} of {n_bytes:,} bytes of sound are there")
    return bool(flags & 1 and n_frames)
