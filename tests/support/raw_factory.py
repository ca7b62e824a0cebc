"""Raw photographs for tests: DNGs of a sensor behind a Bayer pattern, or linear ones, as small as LibRaw takes them.

dng_bytes(pixels, ...) -> one file's bytes
"""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _SRATIONAL = 1, 2, 3, 4, 5, 10
_CODES = {_BYTE: "B", _SHORT: "H", _LONG: "I"}
_SENSOR_WHITE = 58_982
_XYZ_TO_SRGB = (32404542, -15371385, -4985314, -9692660, 18760108, 415560, 556434, -2040259, 10572252)  # / 1e7
_Tags = dict[int, tuple[int, object]]


def dng_bytes(
    pixels: np.ndarray,
    *,
    preview: np.ndarray | bytes | None = None,
    orientation: int = 1,
    taken: str = "2021:05:06 07:08:09",
    model: str = "Kamera One",
    linear: bool = False,
    compression: int = 1,
    n_strips: int = 1,
) -> bytes:
    """A DNG of what (H, W, 3) uint8 sRGB pixels, of even sides, are to a sensor.

    Args:
        pixels: as the sensor lies, not upright.
        preview: an embedded picture, as pixels or as the bytes of a JPEG.
        orientation: of EXIF, for both.
        taken: when.
        model: of the camera.
        linear: red, green and blue for each pixel in place of one of them.
        compression: of linear pixels: 1 for none, 34892 for a JPEG, 7 for one that LibRaw does not decode.
        n_strips: parts that the pixels are cut into, of the same number of rows.
    """
    jpeg = preview if isinstance(preview, bytes) else b"" if preview is None else _jpeg(preview)
    light = _linear(pixels) if linear else _bayer(pixels)
    seen = light.tobytes() if compression == 1 else _jpeg(pixels)
    height, width = light.shape[:2]
    n_samples, bits, white = (3 if linear else 1), *((16, _SENSOR_WHITE) if compression == 1 else (8, 255))
    strip = len(seen) // n_strips
    details: _Tags = {36867: (_ASCII, taken)}
    places = dict.fromkeys(("details", "inner", "jpeg", "sensor"), 0)
    for _ in range(2):  # the first time for the lengths of what comes before each place
        main: _Tags = {
            254: (_LONG, [0]),
            256: (_LONG, [width]),
            257: (_LONG, [height]),
            258: (_SHORT, [bits] * n_samples),
            259: (_SHORT, [compression]),
            262: (_SHORT, [34892 if linear else 32803]),
            271: (_ASCII, "Kamera"),
            272: (_ASCII, model),
            273: (_LONG, [places["sensor"] + number * strip for number in range(n_strips)]),
            274: (_SHORT, [orientation]),
            277: (_SHORT, [n_samples]),
            278: (_LONG, [height // n_strips]),
            279: (_LONG, [strip] * n_strips),
            34665: (_LONG, [places["details"]]),
            50706: (_BYTE, [1, 4, 0, 0]),
            50708: (_ASCII, model),
            50717: (_LONG, [white] * n_samples),
            50721: (_SRATIONAL, [(value, 10**7) for value in _XYZ_TO_SRGB]),
            50728: (_RATIONAL, [(1, 1)] * 3),
            50778: (_SHORT, [21]),
        }
        if not linear:
            main |= {33421: (_SHORT, [2, 2]), 33422: (_BYTE, [0, 1, 1, 2])}
        inner: _Tags = {}
        if jpeg:
            across, down = Image.open(io.BytesIO(jpeg)).size
            main[330] = (_LONG, [places["inner"]])
            inner = {254: (_LONG, [1]), 256: (_LONG, [across]), 257: (_LONG, [down]), 258: (_SHORT, [8] * 3)}
            inner |= {259: (_SHORT, [7]), 262: (_SHORT, [6]), 273: (_LONG, [places["jpeg"]]), 277: (_SHORT, [3])}
            inner |= {278: (_LONG, [down]), 279: (_LONG, [len(jpeg)])}
        data = b"II*\0" + struct.pack("<I", 8)
        for name, tags in {"": main, "details": details, "inner": inner}.items():
            places[name] = len(data)
            data += _directory(tags, len(data))
        places["jpeg"] = len(data)
        data += jpeg + bytes(len(data + jpeg) % 2)
        places["sensor"] = len(data)
    return data + seen


def _linear(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) little-endian uint16, in proportion to the light."""
    share = pixels / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return np.round(linear * _SENSOR_WHITE).astype("<u2")


def _bayer(pixels: np.ndarray) -> np.ndarray:
    """(H, W) little-endian uint16, each pixel behind a filter: red and green, green and blue."""
    light = _linear(pixels)
    seen = light[:, :, 1].copy()
    seen[::2, ::2], seen[1::2, 1::2] = light[::2, ::2, 0], light[1::2, 1::2, 2]
    return seen


def _jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _directory(tags: _Tags, place: int) -> bytes:
    """A TIFF's directory at a place, and after it the values that have no room in it."""
    entries, further = b"", b""
    start = place + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in sorted(tags.items()):
        if isinstance(values, str):
            data, count = values.encode() + b"\0", len(values) + 1
        elif kind in (_RATIONAL, _SRATIONAL):
            form = "<ii" if kind == _SRATIONAL else "<II"
            data, count = b"".join(struct.pack(form, *pair) for pair in values), len(values)
        else:
            data, count = struct.pack(f"<{len(values)}{_CODES[kind]}", *values), len(values)
        if len(data) > 4:
            value = struct.pack("<I", start + len(further))
            further += data + bytes(len(data) % 2)
        else:
            value = data.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, kind, count) + value
    return struct.pack("<H", len(tags)) + entries + bytes(4) + further
