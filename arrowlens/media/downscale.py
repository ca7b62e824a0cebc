"""A loaded picture -> RGB pixels, full or reduced, and its thumbnail, by bands of rows.

Beside the decoder's own memory and the result nothing of the picture's size is held, and a band is still in the
processor's cache when it is shrunk.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

THUMBNAIL_SIDE = 320  # pixels, the longer side
THUMBNAIL_QUALITY = 80
REDUCTION_MARGIN = 2  # a reduced picture keeps at least this many times the wanted side
ONE_COLOUR_SPREAD = 4  # of 255: lossy WebP makes up to 3 of a flat area
_ROWS_AT_ONCE = 256


class Rows(Protocol):
    """A loaded picture that gives parts of itself: Pillow's, or one like it."""

    @property
    def width(self) -> int:
        """In pixels."""

    @property
    def height(self) -> int:
        """In pixels."""

    def crop(self, box: tuple[int, int, int, int], /) -> Image.Image:
        """The part between (left, top) and (right, bottom)."""


class Unpacked(NamedTuple):
    """What became of a picture; not yet turned upright."""

    pixels: np.ndarray
    """(H, W, 3) uint8 RGB."""
    small: np.ndarray
    """(h, w, 3) uint8, for the thumbnail."""
    spread: int
    """From the lowest to the highest value, in the channel where that is most."""


def factor_for(width: int, height: int, min_side: int | None, longer_side: int) -> int:
    """By what whole factor a picture may be reduced; 1 for not at all.

    Args:
        width: of the picture.
        height: of the picture.
        min_side: what its shorter side is needed for: it keeps at least twice that. None for every pixel.
        longer_side: what its longer side must keep.
    """
    if min_side is None:
        return 1
    return max(1, min(min(width, height) // (REDUCTION_MARGIN * max(1, min_side)), max(width, height) // longer_side))


def unpack(image: Rows, convert: Callable[[Image.Image], Image.Image], factor: int) -> Unpacked:
    """Convert a picture band by band, and reduce it by a whole factor: each pixel is the mean of a box."""
    width, height = image.width, image.height
    pixels = np.empty((-(-height // factor), -(-width // factor), 3), np.uint8)
    shrink = max(1, max(pixels.shape) // (2 * THUMBNAIL_SIDE))
    step = factor * shrink
    rows = -(-_ROWS_AT_ONCE // step) * step
    small, spread = [], 0
    lowest, highest = np.full(3, 255), np.zeros(3, int)
    for top in range(0, height, rows):
        band = convert(image.crop((0, top, width, min(top + rows, height))))
        if spread <= ONE_COLOUR_SPREAD:  # most pictures are told by their first band
            extrema = np.array(band.getextrema())
            lowest, highest = np.minimum(lowest, extrema[:, 0]), np.maximum(highest, extrema[:, 1])
            spread = int((highest - lowest).max())
        band = band.reduce(factor)
        pixels[top // factor : top // factor + band.height] = np.asarray(band)
        small.append(np.asarray(band.reduce(shrink)))
    return Unpacked(pixels, np.concatenate(small), spread)


def make_thumbnail(small: np.ndarray) -> bytes:
    """A JPEG with a longer side of at most 320 pixels."""
    image = Image.fromarray(small)
    scale = min(1.0, THUMBNAIL_SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
    return buffer.getvalue()
