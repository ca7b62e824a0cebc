"""What of a picture survives another encoding: the signs of its low frequencies, and where it has which colour.

The frequencies are ImageHash's ``phash``: 256 bits of lightness alone, so that a red and a blue car of one drawing are
equal. Hence the colours beside them, the mean of each cell of an 8 x 8 grid.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
from PIL import Image, JpegImagePlugin

from arrowlens.search.clustering import by_parts

HASH_SIDE = 16
N_BITS = HASH_SIDE**2
N_COARSE_BITS = 64  # the first bits: the lowest frequencies
_GRID = 8
_LEAST_SIDE = 4 * HASH_SIDE  # pixels that ``phash`` scales to; a JPEG is not decoded smaller
_LEAST_COLOUR = 4.0  # of 255: less is what JPEG makes of grey
_CHUNK = 64


def _low_frequencies_first() -> np.ndarray:
    """Positions of the bits, the lowest 8 x 8 frequencies before the others."""
    row, column = np.divmod(np.arange(N_BITS), HASH_SIDE)
    return np.argsort(np.maximum(row, column) >= round(N_COARSE_BITS**0.5), kind="stable")


_ORDER = _low_frequencies_first()


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """Of n pictures; 0.4 kB each.

    Attributes:
        signs: (n, 256) int8, 1 or -1: the bits, those of the lowest frequencies first.
        colours: (n, 128) int8: blue minus lightness and red minus lightness, as YCbCr has them, of each cell.
    """

    signs: np.ndarray
    colours: np.ndarray

    @classmethod
    def of(cls, thumbnails: Sequence[bytes], n_threads: int | None = None) -> Self:
        """Fingerprints of JPEGs, in their order; Pillow works outside Python's lock, so threads share the work."""
        signs = np.empty((len(thumbnails), N_BITS), np.int8)
        colours = np.empty((len(thumbnails), 2 * _GRID * _GRID), np.int8)

        def fill(start: int) -> None:
            for row in range(start, min(start + _CHUNK, len(thumbnails))):
                signs[row], colours[row] = _fingerprint(thumbnails[row])

        with ThreadPoolExecutor(n_threads or os.cpu_count() or 1) as pool:
            list(pool.map(fill, range(0, len(thumbnails), _CHUNK)))
        return cls(signs, colours)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """One after the other; at least one."""
        return cls(np.concatenate([part.signs for part in parts]), np.concatenate([part.colours for part in parts]))

    def differing_bits(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Of pairs of pictures, given as two (m,) arrays of positions: how many of 256 bits differ, (m,) int64."""
        return by_parts(lambda a, b: np.count_nonzero(self.signs[a] != self.signs[b], axis=1), left, right)

    def colour_distance(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """How differently pairs are coloured, (m,) float32: 0 alike, 1 as a picture and its greys, 2 opposite colours.

        Relative to the stronger colours of the two, since a brighter copy has stronger ones.
        """
        return by_parts(self._colour_distance, left, right)

    def _colour_distance(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        a, b = self.colours[left].astype(np.float32), self.colours[right].astype(np.float32)
        strength = np.maximum(np.sqrt((a * a).mean(axis=1)), np.sqrt((b * b).mean(axis=1)))
        distance: np.ndarray = np.sqrt(((a - b) ** 2).mean(axis=1)) / np.maximum(strength, _LEAST_COLOUR)
        return distance


def _fingerprint(jpeg: bytes) -> tuple[np.ndarray, np.ndarray]:
    import imagehash  # deferred: a search needs none of it

    image = JpegImagePlugin.JpegImageFile(io.BytesIO(jpeg))
    image.draft("YCbCr", (_LEAST_SIDE, _LEAST_SIDE))  # decodes at a half, a quarter or an eighth of the size
    planes = image.convert("YCbCr")
    bits = imagehash.phash(planes.getchannel("Y"), HASH_SIDE).hash.ravel()[_ORDER]
    cells = np.asarray(planes.resize((_GRID, _GRID), Image.Resampling.BOX))
    return np.where(bits, 1, -1), cells[..., 1:].ravel().astype(np.int16) - 128
