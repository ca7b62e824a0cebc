"""A raw photograph's file -> upright RGB pixels: the picture that the camera has put into it, or else a development.

LibRaw reads it, through rawpy of the extra ``raw``. Developing takes seconds, and the camera's own JPEG shows what the
photographer saw; so what the sensor saw is decoded only where that JPEG is missing, damaged or too small. It is
developed at half its size, where each pixel is made of the four values of a cell of the sensor, and none is invented.
LibRaw itself develops what is cut off or cannot be decoded, in grey or in black; files built as TIFFs tell that.
"""

from __future__ import annotations

import io
import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
from PIL import Image

from arrowlens.errors import MediaError, MissingExtraError
from arrowlens.media.decoded import Limits, TooLargeError
from arrowlens.media.downscale import ONE_COLOUR_SPREAD, THUMBNAIL_SIDE, factor_for, make_thumbnail, unpack
from arrowlens.media.metadata import About
from arrowlens.media.picture_headers import check_size, is_plausible_tiff, read_whole
from arrowlens.media.picture_metadata import about_picture
from arrowlens.media.pictures import SMALLEST_SIDE, Picture, box_within, read_picture
from arrowlens.media.tiff_directories import Directory, largest_of_sensor, stated_end
from arrowlens.modalities import RAW_EXTRA, RAW_PACKAGE, reads_raw

if TYPE_CHECKING:
    from rawpy import RawPy

_LIES_ON_ITS_SIDE = 4  # the bit of LibRaw's number of a turn that says so
_SRGB_GAMMA = (2.4, 12.92)  # LibRaw's own is that of BT.709
_TIFF_MAGIC = {b"IIRO": b"II*\0", b"IIRS": b"II*\0", b"MMOR": b"MM\0*", b"IIU\0": b"II*\0"}
"""What ORF and RW2 write in place of a TIFF's first bytes."""
_FEW_BYTES = 32  # different ones in compressed pixels of one value: they repeat a code of a few bits


def read_raw(file: BinaryIO, limits: Limits, *, thumbnail: bool = True, min_side: int | None = None) -> Picture:
    """Decode a raw photograph. Of one with a picture of the camera that is large enough, the rest is not looked at.

    Args:
        file: the whole file, in memory.
        limits: ``max_pixels`` holds for what is decoded, the sensor or the camera's picture, before it is.
        thumbnail: whether to make one.
        min_side: what its shorter side is needed for, in pixels. None for half the sensor's size, which is never
            exceeded.

    Raises:
        MissingExtraError: the extra ``raw`` is not installed.
        MediaError: too large, truncated or damaged; one line for a user.
    """
    if not reads_raw():
        raise MissingExtraError(
            f"a raw photograph, and {RAW_PACKAGE} is not installed; pip install 'arrowlens[{RAW_EXTRA}]'"
        )
    import rawpy

    data = read_whole(file)
    tiff = _as_tiff(data)
    about = _tiff_about(tiff)
    try:
        with rawpy.RawPy() as raw:
            raw.open_buffer(io.BytesIO(data))
            sizes = raw.sizes
            width, height = sizes.width, sizes.height
            if sizes.flip & _LIES_ON_ITS_SIDE:
                width, height = height, width
            shorter, longer = (side // 2 for side in sorted((sizes.width, sizes.height)))  # of a development
            wanted = min(min_side or shorter, shorter), min(THUMBNAIL_SIDE if thumbnail else 1, longer)
            picture = _preview(raw, wanted, limits, thumbnail, min_side)
            if picture is None or (picture.width < picture.height) != (width < height):  # or one that is not upright
                picture = _developed(raw, tiff, limits, thumbnail, min_side)
            check_size((width, height), limits)
    except rawpy.LibRawUnsufficientMemoryError as error:
        raise MemoryError from error
    except rawpy.LibRawTooBigError as error:
        raise TooLargeError(_words(error)) from error
    except (rawpy.LibRawFileUnsupportedError, rawpy.LibRawNotImplementedError) as error:
        raise MediaError(f"a form of raw photograph that is not read ({_words(error)})") from error
    except rawpy.LibRawError as error:
        raise MediaError(f"damaged or truncated: the raw photograph cannot be decoded ({_words(error)})") from error
    is_trivial = picture.trivial or min(width, height) < SMALLEST_SIDE
    return replace(picture, width=width, height=height, about=about or picture.about, trivial=is_trivial)


def _preview(
    raw: RawPy, wanted: tuple[int, int], limits: Limits, thumbnail: bool, min_side: int | None
) -> Picture | None:
    """The largest JPEG in the file, if its sides, the shorter one first, are as long as wanted; else None."""
    import rawpy

    try:
        found = raw.extract_thumb()
    except rawpy.LibRawError:
        return None
    if found.format != rawpy.ThumbFormat.JPEG:
        return None
    try:  # one without EXIF has got one from LibRaw, with the orientation of the whole
        picture = read_picture(
            io.BytesIO(cast(bytes, found.data)), "jpeg", limits, thumbnail=thumbnail, min_side=min_side
        )
    except TooLargeError:
        raise
    except MediaError:
        return None
    shorter, longer = sorted((picture.width, picture.height))
    return picture if shorter >= wanted[0] and longer >= wanted[1] else None


def _developed(raw: RawPy, tiff: BinaryIO, limits: Limits, thumbnail: bool, min_side: int | None) -> Picture:
    """What the sensor saw, at half its size where there is one value for each pixel, in sRGB, upright."""
    sensor = largest_of_sensor(tiff)
    check_size((raw.sizes.raw_width, raw.sizes.raw_height), limits, _form(sensor))
    promised, there = stated_end(tiff), tiff.seek(0, os.SEEK_END)
    if promised > there:
        raise MediaError(f"truncated: {there:,} of {promised:,} bytes are there")
    pixels = raw.postprocess(half_size=True, use_camera_wb=True, output_bps=8, gamma=_SRGB_GAMMA)
    if sensor is not None and pixels.min() == pixels.max() and _has_different_pixels(tiff, sensor):
        raise MediaError("damaged, or in a form that LibRaw does not decode: nothing is seen in the raw photograph")
    if pixels.shape[2] == 1:  # of a sensor without colours
        pixels = np.repeat(pixels, 3, axis=2)
    image = Image.fromarray(pixels)
    factor = factor_for(*image.size, min_side, THUMBNAIL_SIDE if thumbnail else 1)
    reduced, small, spread = unpack(image, lambda band: band, factor)
    return Picture(
        pixels=reduced,
        box=box_within(image.width / factor, image.height / factor, reduced.shape[1], reduced.shape[0]),
        width=image.width,
        height=image.height,
        thumbnail=make_thumbnail(small) if thumbnail else None,
        about=About(),
        trivial=spread <= ONE_COLOUR_SPREAD,
    )


def _form(sensor: Directory | None) -> str:
    """The name under which ``check_size`` knows how much memory a development takes."""
    if sensor is None or sensor.linear_samples is None:
        return "raw"
    return "monochrome raw" if sensor.linear_samples == 1 else "linear raw"


def _has_different_pixels(tiff: BinaryIO, sensor: Directory) -> bool:
    """Whether compressed pixels are not all alike; what is not compressed is decoded as it is."""
    if sensor.is_plain:
        return False
    for place, size in sensor.parts():
        tiff.seek(place + size // 4)  # after tables and headers
        if len(set(tiff.read(size // 2))) > _FEW_BYTES:
            return True
    return False


def _as_tiff(data: bytes) -> BinaryIO:
    """The file, with a TIFF's first bytes where a camera has written its own."""
    magic = _TIFF_MAGIC.get(data[:4])
    return io.BytesIO(data if magic is None else magic + data[4:])


def _tiff_about(tiff: BinaryIO) -> About | None:
    """What the camera wrote, of a file built as a TIFF; None of another one, and of damaged tags."""
    exif = Image.Exif()
    if is_plausible_tiff(tiff):
        with suppress(Exception):  # as in picture_metadata.read_exif
            tiff.seek(0)
            exif.load_from_fp(tiff)
    return about_picture(exif, {}) if len(exif) else None


def _words(error: Exception) -> str:
    """LibRaw's words."""
    words = error.args[0] if error.args else ""
    return words.decode(errors="replace") if isinstance(words, bytes) else str(words)
