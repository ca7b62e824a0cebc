"""A picture's file -> upright RGB pixels, a thumbnail and what the camera wrote.

Pillow's plugins are called directly rather than through ``Image.open``: the format is known, and the size limit is
ours, held for each call, where ``Image.open`` consults a process-wide one and warns through process-wide filters.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from arrowlens.errors import MediaError
from arrowlens.media.colour_codes import nclx_of, profile_for
from arrowlens.media.colours import ToRgb
from arrowlens.media.decoded import Limits, TooLargeError
from arrowlens.media.downscale import ONE_COLOUR_SPREAD, THUMBNAIL_SIDE, factor_for, make_thumbnail, unpack
from arrowlens.media.heif import HeifPicture
from arrowlens.media.metadata import About
from arrowlens.media.picture_headers import check_picture_header, check_size, read_whole, say_megapixels
from arrowlens.media.picture_metadata import about_picture, orientation, read_exif
from arrowlens.media.png import without_damaged_chunks, without_texts
from arrowlens.media.pnm import ScaledPnm, open_pnm

SMALLEST_SIDE = 8  # pixels: what is smaller shows nothing
_TRUNCATED = ("truncated", "unexpected end", "not enough image data")  # in Pillow's words
_UNSUPPORTED = ("unsupported", "not implemented")
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # TIFF tags


def _open_tiff(file: BinaryIO) -> TiffImageFile:
    """Open a TIFF; a compressed one in memory.

    libtiff maps a file that it has a descriptor of, and a mapped file that gets shorter meanwhile ends the process.
    """
    image = TiffImageFile(file)
    if any(tile.codec_name == "libtiff" for tile in image.tile):
        return TiffImageFile(io.BytesIO(read_whole(file)))
    return image


# Formats that may lie uncompressed in a file: 300 MB of it beside 400 MB of pixels would be too much memory.
STREAMED_FORMATS = frozenset({"bmp", "pnm", "tiff"})

_Image = ImageFile.ImageFile | HeifPicture | ScaledPnm
_PLUGINS: dict[str, Callable[[BinaryIO], _Image]] = {
    "jpeg": JpegImageFile,
    "png": PngImageFile,
    "webp": WebPImageFile,
    "gif": GifImageFile,
    "bmp": BmpImageFile,
    "tiff": _open_tiff,
    "jpeg2000": Jpeg2KImageFile,
    "pnm": open_pnm,
    "heic": HeifPicture,
    "avif": AvifImageFile,
}

# EXIF orientation -> whether to mirror it left to right, then top to bottom, then along its diagonal.
_TURNS = {
    1: (False, False, False),
    2: (True, False, False),
    3: (True, True, False),
    4: (False, True, False),
    5: (False, False, True),
    6: (False, True, True),
    7: (True, True, True),
    8: (True, False, True),
}

# Pillow remarks on oddities of metadata through warnings, one text per file; over a folder of old photographs that is
# a flood. Filters belong to the process and cannot be set for a call in threads, so this is done once, at import.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.(Tiff|Png)ImagePlugin")


@dataclass(frozen=True)
class Picture:
    """What a picture's file holds."""

    pixels: np.ndarray
    """(H, W, 3) uint8 RGB, upright."""
    box: tuple[float, float, float, float] | None
    width: int
    height: int
    thumbnail: bytes | None
    about: About
    trivial: bool


def read_picture(
    file: BinaryIO, file_format: str, limits: Limits, *, thumbnail: bool = True, min_side: int | None = None
) -> Picture:
    """Decode a picture: its first frame, upright, over white, in sRGB.

    Args:
        file: the whole file, in memory unless its format is one of ``STREAMED_FORMATS``.
        file_format: as ``formats.sniff`` gives it.
        limits: ``max_pixels`` holds before anything of the picture's size is allocated.
        thumbnail: whether to make one.
        min_side: it may be reduced by a whole factor as long as its shorter side keeps twice this many pixels.

    Raises:
        MediaError: too large, truncated or damaged; the message is one line for a user.
        Exception: whatever else Pillow raises on a damaged file.
    """
    check_picture_header(file, file_format, limits)
    if file_format == "png":
        file = io.BytesIO(without_damaged_chunks(read_whole(file)))
    longer_side = THUMBNAIL_SIDE if thumbnail else 1
    image, (width, height), scale = _load(file, file_format, limits, min_side, longer_side)
    exif = read_exif(image)
    turn = 1 if file_format == "heic" else orientation(exif)
    convert = ToRgb(image)
    about = about_picture(exif, image.info)
    if convert.profile_name:
        about = replace(about, metadata=about.metadata | {"colour_profile": convert.profile_name})
    factor = factor_for(*image.size, min_side, longer_side)
    pixels, small, spread = unpack(image, convert, factor)
    del image  # before the pixels are turned, which takes a second copy of them
    box = box_within(width / (scale * factor), height / (scale * factor), pixels.shape[1], pixels.shape[0], turn)
    if _TURNS[turn][2]:
        width, height = height, width
    return Picture(
        pixels=_upright(pixels, turn),
        box=box,
        width=width,
        height=height,
        thumbnail=make_thumbnail(_upright(small, turn)) if thumbnail else None,
        about=about,
        trivial=spread <= ONE_COLOUR_SPREAD or min(width, height) < SMALLEST_SIDE,
    )


def _upright(pixels: np.ndarray, turn: int) -> np.ndarray:
    """(H, W, 3) as it stands, for an EXIF orientation."""
    mirror_x, mirror_y, transpose = _TURNS[turn]
    pixels = pixels[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1]
    return np.ascontiguousarray(pixels.transpose(1, 0, 2) if transpose else pixels)


def box_within(
    across: float, down: float, width: int, height: int, turn: int = 1
) -> tuple[float, float, float, float] | None:
    """Where a picture of ``across`` by ``down`` pixels lies within ``width`` by ``height`` of them, once upright."""
    if (across, down) == (width, height):
        return None
    mirror_x, mirror_y, transpose = _TURNS[turn]
    left, right = (width - across, float(width)) if mirror_x else (0.0, across)
    top, bottom = (height - down, float(height)) if mirror_y else (0.0, down)
    return (top, left, bottom, right) if transpose else (left, top, right, bottom)


def _load(
    file: BinaryIO, file_format: str, limits: Limits, min_side: int | None, longer_side: int
) -> tuple[_Image, tuple[int, int], int]:
    """The decoded picture, the size of the whole, and how many times smaller than that it was decoded."""
    scale = 1
    try:
        file.seek(0)
        image = _PLUGINS[file_format](file)
        size = image.size
        scale = _reduce(image, file, factor_for(*size, min_side, longer_side))
        check_size(size, limits, file_format if scale == 1 else "")
        _check_tiles(image, limits)
        image.load()
        if file_format == "avif" and "icc_profile" not in image.info and (codes := nclx_of(read_whole(file))):
            image.info["icc_profile"] = profile_for(*codes)  # Pillow does not look for it
    except Image.DecompressionBombError as error:  # a GIF's frame may be larger than the screen its header states
        raise TooLargeError(f"a frame is over the limit of {say_megapixels(limits)}") from error
    except (EOFError, OSError, RuntimeError, SyntaxError, ValueError, Warning) as error:
        if scale > 1 and file_format == "jpeg2000":  # one with parts cut away, where Pillow miscounts what is left
            return _load(file, file_format, limits, None, longer_side)
        if file_format == "png" and "MAX_TEXT" in str(error):
            data = read_whole(file)
            if len(bare := without_texts(data)) < len(data):
                return _load(io.BytesIO(bare), file_format, limits, min_side, longer_side)
        raise MediaError(_explain(error, file_format)) from error
    return image, size if scale > 1 else image.size, scale  # a TIFF has turned itself upright


def _check_tiles(image: _Image, limits: Limits) -> None:
    """A TIFF's tile may be larger than its picture, and a whole tile is allocated."""
    if isinstance(image, TiffImageFile):
        tile = image.tag_v2.get(_TILE_WIDTH, 0), image.tag_v2.get(_TILE_LENGTH, 0)
        if all(isinstance(side, int) for side in tile):
            check_size(tile, limits)


def _reduce(image: _Image, file: BinaryIO, factor: int) -> int:
    """Ask decoders that can for half, a quarter or an eighth of the picture; how many times smaller it gets."""
    power = min(factor.bit_length() - 1, 3)
    if isinstance(image, JpegImageFile) and power:
        size = image.size
        image.draft(None, (image.width >> power, image.height >> power))
        return 1 << power if image.size != size else 1
    if isinstance(image, Jpeg2KImageFile):
        power = min(power - 1, _wavelet_levels(read_whole(file)))  # wavelets are no boxes: they keep twice as much
        while power > 0 and any(0 < side % (1 << power) < 1 << power - 1 for side in image.size):
            power -= 1  # Pillow rounds where the decoder rounds up
        if power > 0:
            image.reduce = power
            return 1 << power
    return 1


def _wavelet_levels(data: bytes) -> int:
    """How often a JPEG 2000 picture can be halved while decoding: from its marker of coding style."""
    at = data.find(b"\xff\x52", data.find(b"\xff\x4f\xff\x51"))
    return data[at + 9] if 0 <= at < len(data) - 9 else 0


def _explain(error: Exception, file_format: str) -> str:
    name, message = file_format.upper(), " ".join(str(error).split())
    if any(words in message.lower() for words in _TRUNCATED):
        return f"truncated: the {name} data ends before the picture is complete"
    if any(words in message.lower() for words in _UNSUPPORTED):
        return f"a form of {name} that is not read ({message})"
    # Pillow wraps Python's own errors, whose words mean nothing to a user, nor do bytes.
    words = "" if error.__cause__ is not None or "b'" in message or 'b"' in message else f" ({message})"
    if isinstance(error, SyntaxError):
        return f"damaged or truncated: the {name} header cannot be read{words}"
    return f"damaged or truncated: the {name} data cannot be decoded{words}"
