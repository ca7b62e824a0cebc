"""A picture's bytes -> upright RGB pixels, a thumbnail and what the camera wrote.

Pillow's plugins are called directly rather than through ``Image.open``: the format is known, and the size limit is
ours, held for each call, where ``Image.open`` consults a process-wide one and warns through process-wide filters.
"""

from __future__ import annotations

import io
import struct
import warnings
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
from arrowlens.media.colours import to_rgb
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

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
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
    except (OSError, SyntaxError, Warning) as error:  # a warning where the process makes errors of them
        raise MediaError(_explain(error, file_format)) from error
    if not reduced:
        width, height = image.size  # a TIFF has turned itself upright
    metadata, captured_at, turn = texts(image), capture_time(image), _UPRIGHT.get(orientation(image))
    rgb, profile = to_rgb(image)
    if turn is not None:
        rgb = rgb.transpose(turn)
        if turn in (_UPRIGHT[5], _UPRIGHT[6], _UPRIGHT[7], _UPRIGHT[8]):
            width, height = height, width
    return Picture(
        pixels=_to_array(rgb),
        width=width,
        height=height,
        thumbnail=make_thumbnail(rgb) if thumbnail else None,
        captured_at=captured_at,
        metadata=metadata | ({"colour_profile": profile} if profile else {}),
        trivial=_is_one_colour(rgb),
    )


def make_thumbnail(rgb: Image.Image) -> bytes:
    """A JPEG of the RGB picture, its longer side at most 320 pixels; a smaller picture keeps its size."""
    scale = min(1.0, THUMBNAIL_SIDE / max(rgb.size))
    size = (max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale)))
    small = rgb if size == rgb.size else rgb.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
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


def _to_array(rgb: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8, writable; by bands of rows, since Pillow makes a copy of its own on the way."""
    pixels = np.empty((rgb.height, rgb.width, 3), np.uint8)
    for top in range(0, rgb.height, _ROWS_AT_ONCE):
        bottom = min(top + _ROWS_AT_ONCE, rgb.height)
        pixels[top:bottom] = np.asarray(rgb.crop((0, top, rgb.width, bottom)))
    return pixels


def _is_one_colour(rgb: Image.Image) -> bool:
    # A few pixels tell nearly every picture; all of them are looked at only when those agree.
    sample = rgb.resize((min(16, rgb.width), min(16, rgb.height)), Image.Resampling.NEAREST)
    return _spread(sample) <= ONE_COLOUR_SPREAD and _spread(rgb) <= ONE_COLOUR_SPREAD


def _spread(rgb: Image.Image) -> int:
    return max(int(high) - int(low) for low, high in rgb.getextrema())  # type: ignore[misc]
