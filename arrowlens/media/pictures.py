"""A picture's bytes -> upright RGB pixels, a thumbnail and what the camera wrote.

Pillow's plugins are called directly rather than through ``Image.open``: the format is known, and the size limit is
ours, held for each call, where ``Image.open`` consults a process-wide one and warns through process-wide filters.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

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
from arrowlens.media.about import About
from arrowlens.media.colour_codes import nclx_of, profile_for
from arrowlens.media.colours import ToRgb
from arrowlens.media.decoded import Limits, TooLargeError
from arrowlens.media.heif import HeifPicture
from arrowlens.media.picture_headers import check_picture_header, check_size, say_megapixels
from arrowlens.media.picture_metadata import about_picture, orientation, read_exif
from arrowlens.media.pnm import ScaledPnm, open_pnm
from arrowlens.media.unpacking import ONE_COLOUR_SPREAD, THUMBNAIL_SIDE, factor_for, make_thumbnail, unpack

SMALLEST_SIDE = 8  # pixels: what is smaller shows nothing
_TRUNCATED = ("truncated", "unexpected end", "not enough image data")  # in Pillow's words
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # TIFF tags

_Image = ImageFile.ImageFile | HeifPicture | ScaledPnm
_PLUGINS: dict[str, Callable[[io.BytesIO], _Image]] = {
    "jpeg": JpegImageFile,
    "png": PngImageFile,
    "webp": WebPImageFile,
    "gif": GifImageFile,
    "bmp": BmpImageFile,
    "tiff": TiffImageFile,
    "jpeg2000": Jpeg2KImageFile,
    "pnm": open_pnm,
    "heic": HeifPicture,
    "avif": AvifImageFile,
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
    about: About
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
        min_side: it may be reduced by a whole factor as long as its shorter side keeps twice this many pixels.

    Raises:
        MediaError: too large, truncated or damaged; the message is one line for a user.
        Exception: whatever else Pillow raises on a damaged file.
    """
    check_picture_header(data, file_format, limits)
    longer_side = THUMBNAIL_SIDE if thumbnail else 1
    image, (width, height) = _load(data, file_format, limits, min_side, longer_side)
    exif = read_exif(image)
    turn = 1 if file_format == "heic" else orientation(exif)
    convert = ToRgb(image)
    about = about_picture(exif, image.info)
    if convert.profile_name:
        about = replace(about, metadata=about.metadata | {"colour_profile": convert.profile_name})
    pixels, small, spread = unpack(image, convert, factor_for(*image.size, min_side, longer_side))
    del image  # before the pixels are turned, which takes a second copy of them
    if turn >= 5:
        width, height = height, width
    return Picture(
        pixels=np.ascontiguousarray(_UPRIGHT[turn](pixels)),
        width=width,
        height=height,
        thumbnail=make_thumbnail(np.ascontiguousarray(_UPRIGHT[turn](small))) if thumbnail else None,
        about=about,
        trivial=spread <= ONE_COLOUR_SPREAD or min(width, height) < SMALLEST_SIDE,
    )


def _load(
    data: bytes, file_format: str, limits: Limits, min_side: int | None, longer_side: int
) -> tuple[_Image, tuple[int, int]]:
    """The decoded picture, which may be a reduced one, and the size of the whole."""
    try:
        image = _PLUGINS[file_format](io.BytesIO(data))
        size = image.size
        reduced = _reduce(image, data, factor_for(*size, min_side, longer_side))
        check_size(size, limits, "" if reduced else file_format)
        _check_tiles(image, limits)
        image.load()
        if file_format == "avif" and "icc_profile" not in image.info and (codes := nclx_of(data)):
            image.info["icc_profile"] = profile_for(*codes)  # Pillow does not look for it
    except Image.DecompressionBombError as error:  # a GIF's frame may be larger than the screen its header states
        raise TooLargeError(f"a frame is over the limit of {say_megapixels(limits)}") from error
    except (OSError, RuntimeError, SyntaxError, ValueError, Warning) as error:  # where the process makes them errors
        raise MediaError(_explain(error, file_format)) from error
    return image, size if reduced else image.size  # a TIFF has turned itself upright


def _check_tiles(image: _Image, limits: Limits) -> None:
    """A TIFF's tile may be larger than its picture, and a whole tile is allocated."""
    if isinstance(image, TiffImageFile):
        tile = image.tag_v2.get(_TILE_WIDTH, 0), image.tag_v2.get(_TILE_LENGTH, 0)
        if all(isinstance(side, int) for side in tile):
            check_size(tile, limits)


def _reduce(image: _Image, data: bytes, factor: int) -> bool:
    """Ask decoders that can for half, a quarter or an eighth of the picture; whether there is one."""
    power = min(factor.bit_length() - 1, 3)
    if isinstance(image, JpegImageFile) and power:
        return image.draft(None, (image.width >> power, image.height >> power)) is not None
    if isinstance(image, Jpeg2KImageFile) and (power := min(power, _wavelet_levels(data))):
        image.reduce = power
        return True
    return False


def _wavelet_levels(data: bytes) -> int:
    """How often a JPEG 2000 picture can be halved while decoding: from its marker of coding style."""
    at = data.find(b"\xff\x52", data.find(b"\xff\x4f\xff\x51"))
    return data[at + 9] if 0 <= at < len(data) - 9 else 0


def _explain(error: Exception, file_format: str) -> str:
    name, message = file_format.upper(), str(error)
    if any(words in message.lower() for words in _TRUNCATED):
        return f"truncated: the {name} data ends before the picture is complete"
    if isinstance(error, SyntaxError):
        # Pillow wraps Python's own errors, whose words mean nothing to a user.
        words = f" ({message})" if error.__cause__ is None else ""
        return f"damaged or truncated: the {name} header cannot be read{words}"
    return f"damaged or truncated: the {name} data cannot be decoded ({message})"
