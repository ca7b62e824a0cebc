"""What a picture's header promises, looked at before a decoder sees it and allocates what it promises."""

from __future__ import annotations

import io
import math
import os
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

from arrowlens.errors import MediaError
from arrowlens.media.containers import check_boxes
from arrowlens.media.decoded import Limits, TooLargeError

_MAX_SEGMENTS = 10_000  # of a JPEG, before its pixels
_MAX_SCANS = 500  # of a JPEG, each of which costs a pass over the whole: there are no more than 30
_TIFF_HEADER = re.compile(rb"II\*\0|MM\0\*")
_MAX_TIFF_HEADERS = 100
_MOST_EXIF = 1 << 23  # bytes in a JPEG, whose standard has room for 2 ** 16; Pillow's joining them takes the square
_EXTENTS = re.compile(rb"ispe\0{4}")
# Memory a pixel, measured, over that of a PNG (4.5 bytes, reduced): the decoders hold several copies.
_COSTS = {"webp": 2.5, "avif": 1.5, "jpeg2000": 3.0, "raw": 1.5, "monochrome raw": 3.8, "linear raw": 5.2}
_MAX_TILES = 65_535  # as many as a tile's number has room for
_TILE_BYTES = 14  # of a tile's header, at the least: its marker and where its data starts
_START_OF_SCAN, _EXIF_MARKER, _PROGRESSIVE = 0xDA, 0xE1, 0xC2
_FRAMES = (0xC0, 0xC1, 0xC2)
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INNER_DIRECTORIES = (0x8769, 0x8825, 0xA005)  # of the camera, of the place, of interoperability
_MOST_SHARED = 1 << 25  # bytes: what damaged directories claim twice is less
_ENTRIES_AT_ONCE = 65_536
_IMPLAUSIBLE = "damaged: its metadata claims more than the file holds"


def check_picture_header(file: BinaryIO, file_format: str, limits: Limits) -> None:
    """Refuse a picture by its header alone.

    Raises:
        MediaError: too large, truncated, or claims more than it could hold; one line for a user.
    """
    if file_format == "tiff":
        if not is_plausible_tiff(file):
            raise MediaError(_IMPLAUSIBLE)
    elif file_format not in ("bmp", "pnm"):  # whose decoders read the size first, and allocate nothing before
        _check_in_memory(read_whole(file), file_format, limits)


def read_whole(file: BinaryIO) -> bytes:
    """Read a file from its start; what lies in memory is not copied."""
    file.seek(0)
    return file.read()


def _check_in_memory(data: bytes, file_format: str, limits: Limits) -> None:
    check_size(_stated_size(data, file_format), limits, file_format)
    if file_format == "webp":
        promised = int.from_bytes(data[4:8], "little") + 8
        if promised > len(data):
            raise MediaError(f"truncated: {len(data):,} of {promised:,} bytes are there")
    if file_format in ("heic", "avif", "jpeg2000"):
        check_boxes(io.BytesIO(data), len(data))
    if file_format == "jpeg2000":
        _check_tiles(data, limits)
    if file_format == "jpeg":
        _check_scans(data)
    if not _metadata_is_plausible(data, file_format):
        raise MediaError(_IMPLAUSIBLE)


def check_size(size: tuple[int, int], limits: Limits, file_format: str = "") -> None:
    """Hold a width and a height against the limit, which is lower for formats whose decoders take more memory.

    Raises:
        TooLargeError: over it.
    """
    width, height = size
    if width * height > limits.max_pixels / _COSTS.get(file_format, 1.0):
        raise TooLargeError(f"{width} x {height} pixels is over the limit of {say_megapixels(limits, file_format)}")


def say_megapixels(limits: Limits, file_format: str = "") -> str:
    """The limit of pixels for a user."""
    cost = _COSTS.get(file_format, 1.0)
    return f"{limits.max_pixels / cost / 1e6:,.6g} megapixels" + (f" for {file_format.upper()}" if cost > 1 else "")


def _stated_size(data: bytes, file_format: str) -> tuple[int, int]:
    """Width and height from a fixed place of the header; (0, 0) where there is none, or it is cut off.

    For formats that Pillow would not open without allocating (WebP), or would refuse for a size in its own words.
    """
    try:
        if file_format == "png":
            return struct.unpack_from(">II", data, 16)
        if file_format == "gif":
            return struct.unpack_from("<HH", data, 6)
        if file_format == "webp":
            return _webp_size(data)
        if file_format == "avif":  # of its parts, the largest is the whole
            sizes = (struct.unpack_from(">II", data, match.end()) for match in _EXTENTS.finditer(data))
            return max(sizes, key=math.prod, default=(0, 0))
    except struct.error:
        pass
    return 0, 0


def _webp_size(data: bytes) -> tuple[int, int]:
    chunk = data[12:16]
    if chunk == b"VP8X":
        fields = data[24:30]
        return int.from_bytes(fields[:3], "little") + 1, int.from_bytes(fields[3:], "little") + 1
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _metadata_is_plausible(data: bytes, file_format: str) -> bool:
    """Whether the directories that Pillow reads on opening are; others are looked at when they are read."""
    if file_format == "jpeg":
        exif = b"".join(
            body[6:] for marker, body in _jpeg_segments(data) if marker == _EXIF_MARKER and body[:6] == b"Exif\0\0"
        )  # as Pillow joins them
        return len(exif) <= _MOST_EXIF and is_plausible_tiff(io.BytesIO(exif))
    if file_format == "avif":  # anywhere in it
        starts = [
            match.start() for _, match in zip(range(_MAX_TIFF_HEADERS), _TIFF_HEADER.finditer(data), strict=False)
        ]
        return len(starts) < _MAX_TIFF_HEADERS and all(is_plausible_tiff(io.BytesIO(data[start:])) for start in starts)
    return True


def _check_tiles(data: bytes, limits: Limits) -> None:
    """The decoder of JPEG 2000 allocates kilobytes for each tile that a header promises, before it looks for one."""
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0 or len(data) < at + 40:
        return
    right, bottom, left, top, width, height, tiles_left, tiles_top = struct.unpack_from(">8I", data, at + 8)
    check_size((right - left, bottom - top), limits)
    if not width or not height:
        raise MediaError("damaged: its tiles have no size")
    n_tiles = -(-max(0, right - tiles_left) // width) * -(-max(0, bottom - tiles_top) // height)
    if n_tiles > _MAX_TILES or n_tiles * _TILE_BYTES > len(data):
        raise MediaError(f"damaged: it claims {n_tiles:,} tiles, which {len(data):,} bytes cannot hold")


def _check_scans(data: bytes) -> None:
    """A JPEG that is not all in its first scan holds the whole picture for as many as come."""
    n_channels = 0
    for marker, body in _jpeg_segments(data):
        if marker in _FRAMES:
            n_channels = body[5] if len(body) > 5 else 0
        if marker == _PROGRESSIVE or (marker == _START_OF_SCAN and body[:1] < bytes([n_channels])):
            if (n_scans := data.count(b"\xff\xda")) > _MAX_SCANS:
                raise MediaError(f"damaged: it claims {n_scans:,} passes over the picture")
            return


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and contents of the segments of a JPEG, up to where its pixels start."""
    position = 2
    for _ in range(_MAX_SEGMENTS):
        head = data[position : position + 4]
        if len(head) < 4 or head[0] != 0xFF:
            return
        marker, length = head[1], int.from_bytes(head[2:])
        yield marker, data[position + 4 : position + 2 + length]
        if marker == _START_OF_SCAN:
            return
        position += 2 + length


def is_plausible_tiff(file: BinaryIO) -> bool:
    """Return whether a TIFF, which EXIF is too, could hold what its directories claim, before a reader copies it all.

    Each of 65,535 entries may point at the same bytes, so that a small file asks its reader for gigabytes.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        return True  # no directory, so nothing is read from it
    try:
        long_form = struct.unpack_from(order + "H", head, 2)[0] == 43  # BigTIFF
        (start,) = struct.unpack_from(order + ("Q" if long_form else "I"), head, 8 if long_form else 4)
    except struct.error:
        return True  # cut off: a reader finds so too
    claimed, inner = _read_directory(file, size, order, long_form, start)
    for place in inner:
        claimed += _read_directory(file, size, order, long_form, place)[0]
    return claimed <= size + _MOST_SHARED


def _read_directory(file: BinaryIO, size: int, order: str, long_form: bool, start: int) -> tuple[int, list[int]]:
    """Return the bytes that a directory claims and that are there, and where the directories within it begin."""
    count, entry = (struct.Struct(order + form) for form in (("Q", "HHQQ") if long_form else ("H", "HHII")))
    if start + count.size > size:
        return 0, []
    file.seek(start)
    n_entries = min(count.unpack(file.read(count.size))[0], (size - start - count.size) // entry.size)
    claimed, inner = 0, []
    for first in range(0, n_entries, _ENTRIES_AT_ONCE):
        entries = file.read(min(_ENTRIES_AT_ONCE, n_entries - first) * entry.size)
        for tag, kind, n_values, value in entry.iter_unpack(entries):
            n_bytes = n_values * _TIFF_SIZES.get(kind, 0)
            if n_bytes > (8 if long_form else 4):
                claimed += min(n_bytes, max(0, size - value))
            if tag in _INNER_DIRECTORIES:
                inner.append(value)
    return claimed, inner
