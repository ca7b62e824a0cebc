"""A picture's bytes -> upright RGB pixels, a thumbnail and what the camera wrote.

Pillow's plugins are called directly rather than through ``Image.open``: the format is known, and the size limit is
ours, held for each call, where ``Image.open`` consults a process-wide one and warns through process-wide filters.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from arrowlens.errors import MediaError
from arrowlens.media.colours import ToRgb
from arrowlens.media.decoded import Limits
from arrowlens.media.picture_metadata import capture_time, orientation, texts

THUMBNAIL_SIDE = 320  # pixels, the longer side
THUMBNAIL_QUALITY = 80
DRAFT_MARGIN = 2  # a reduced JPEG keeps at least this many times the wanted side
ONE_COLOUR_SPREAD = 4  # of 255: lossy WebP makes up to 3 of a flat area
_ROWS_AT_ONCE = 256
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # TIFF tags

_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "jpeg": JpegImageFile,
    "png": PngImageFile,
    "webp": WebPImageFile,
    "gif": GifImageFile,
    "bmp": BmpImageFile,
    "tiff": TiffImageFile,
}

_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF orientation -> a view that stands upright
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a[::-1].transpose(1, 0, 2),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}

# Pillow remarks on oddities of metadata through warnings, one text per file; over a folder of old photographs that is
# a flood. Filters belong to the process and cannot be set for a call in threads, so this is done once, at import.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.(Tiff|Png)ImagePlugin")


@dataclass(frozen=True)
class Picture:
    """What a picture's file holds."""

    pixels: np.ndarray
    """(H, W, 3) uint8 RGB, upright."""
    width: int
    height: int
    thumbnail: bytes | None
    captured_at: datetime | None
    metadata: dict[str, str]
    trivial: bool


def read_picture(
    data: bytes, file_format: str, limits: Limits, *, thumbnail: bool = True, min_side: int | None = None
) -> Picture:
    """Decode a picture: its first frame, upright, over white, in sRGB.

    Args:
        data: the whole file.
        file_format: as ``formats.sniff`` gives it.
        limits: ``max_pixels`` holds before anything of the picture's size is allocated.
        thumbnail: whether to make one.
        min_side: a JPEG may be reduced while it is decoded as long as its shorter side keeps twice this many pixels.

    Raises:
        MediaError: too large, truncated or damaged; the message is one line for a user.
        Exception: whatever else Pillow raises on a damaged file.
    """
    _check_size(_header_size(data, file_format), limits)
    if file_format == "webp":
        _check_webp_length(data)
    try:
        image = _PLUGINS[file_format](io.BytesIO(data))
        width, height = image.size
        _check_size((width, height), limits)
        _check_tiles(image, limits)
        reduced = min_side is not None and _reduce_jpeg(image, min_side, THUMBNAIL_SIDE if thumbnail else 1)
        image.load()
    except Image.DecompressionBombError as error:  # a GIF's frame may be larger than the screen its header states
        raise MediaError(f"a frame is over the limit of {_megapixels(limits)}") from error
    except (OSError, SyntaxError, ValueError, Warning) as error:  # a warning where the process makes errors of them
        raise MediaError(_explain(error, file_format)) from error
    if not reduced:
        width, height = image.size  # a TIFF has turned itself upright
    turn = orientation(image)
    convert = ToRgb(image)
    metadata = texts(image) | ({"colour_profile": convert.profile_name} if convert.profile_name else {})
    captured_at = capture_time(image)
    pixels, small, spread = _unpack(image, convert)
    del image  # before the pixels are turned, which takes a second copy of them
    if turn >= 5:
        width, height = height, width
    return Picture(
        pixels=np.ascontiguousarray(_UPRIGHT[turn](pixels)),
        width=width,
        height=height,
        thumbnail=_thumbnail(np.ascontiguousarray(_UPRIGHT[turn](small))) if thumbnail else None,
        captured_at=captured_at,
        metadata=metadata,
        trivial=spread <= ONE_COLOUR_SPREAD,
    )


def _unpack(image: Image.Image, convert: ToRgb) -> tuple[np.ndarray, np.ndarray, int]:
    """The picture as (H, W, 3) uint8, the same shrunk by a whole factor for the thumbnail, and its range of values.

    By bands of rows: beside Pillow's 4 bytes a pixel and the 3 of the array nothing of the picture's size is held, and
    a band is still in the processor's cache when it is shrunk.
    """
    shrink = max(1, max(image.size) // (2 * THUMBNAIL_SIDE))
    rows = -(-_ROWS_AT_ONCE // shrink) * shrink
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    small, spread = [], 0
    lowest, highest = np.full(3, 255), np.zeros(3, int)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        band = convert(image.crop((0, top, image.width, bottom)))
        pixels[top:bottom] = np.asarray(band)
        small.append(np.asarray(band.reduce(shrink)))
        if spread <= ONE_COLOUR_SPREAD:  # most pictures are told by their first band
            extrema = np.array(band.getextrema())
            lowest, highest = np.minimum(lowest, extrema[:, 0]), np.maximum(highest, extrema[:, 1])
            spread = int((highest - lowest).max())
    return pixels, np.concatenate(small), spread


def _thumbnail(small: np.ndarray) -> bytes:
    image = Image.fromarray(small)
    scale = min(1.0, THUMBNAIL_SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
    return buffer.getvalue()


def _header_size(data: bytes, file_format: str) -> tuple[int, int]:
    """Width and height from a fixed place of the header; (0, 0) where there is none (JPEG, TIFF) or it is cut off.

    Before Pillow sees the file, since its WebP reader allocates the canvas on opening.
    """
    try:
        if file_format == "png":
            return struct.unpack_from(">II", data, 16)
        if file_format == "gif":
            return struct.unpack_from("<HH", data, 6)
        if file_format == "webp":
            return _webp_size(data)
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


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise MediaError(f"{width} x {height} pixels is over the limit of {_megapixels(limits)}")


def _megapixels(limits: Limits) -> str:
    return f"{limits.max_pixels / 1e6:,.6g} megapixels"


def _check_webp_length(data: bytes) -> None:
    promised = int.from_bytes(data[4:8], "little") + 8
    if promised > len(data):
        raise MediaError(f"truncated: {len(data):,} of {promised:,} bytes are there")


def _check_tiles(image: ImageFile.ImageFile, limits: Limits) -> None:
    """A TIFF's tile may be larger than its picture, and a whole tile is allocated."""
    if isinstance(image, TiffImageFile):
        tile = image.tag_v2.get(_TILE_WIDTH, 0), image.tag_v2.get(_TILE_LENGTH, 0)
        if all(isinstance(side, int) for side in tile):
            _check_size(tile, limits)


def _reduce_jpeg(image: ImageFile.ImageFile, min_side: int, longer_side: int) -> bool:
    """Ask the JPEG decoder for the smallest of 1/8, 1/4, 1/2 that leaves enough; whether there was one."""
    if not isinstance(image, JpegImageFile):
        return False
    for scale in (8, 4, 2):
        if min(image.size) >= scale * DRAFT_MARGIN * min_side and max(image.size) >= scale * longer_side:
            return image.draft(None, (image.width // scale, image.height // scale)) is not None
    return False


def _explain(error: Exception, file_format: str) -> str:
    name, message = file_format.upper(), str(error)
    if "truncated" in message.lower() or "unexpected end" in message.lower():
        return f"truncated: the {name} data ends before the picture is complete"
    if isinstance(error, SyntaxError):
        # Pillow wraps Python's own errors, whose words mean nothing to a user.
        words = f" ({message})" if error.__cause__ is None else ""
        return f"damaged or truncated: the {name} header cannot be read{words}"
    return f"damaged or truncated: the {name} data cannot be decoded ({message})"
