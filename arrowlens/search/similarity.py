"""When two pictures are copies of one another, and when they are nearly the same.

Thresholds were measured on generated cases (``benchmarks/duplicates.py``; the figures are in
docs/performance.md). Those of the perceptual hash hold for every model. How far apart a model puts two vectors does
not: one spreads ordinary pictures over the whole sphere, another over a narrow cone. Distances of vectors (1 - cosine)
are therefore counted in units of the library's own ordinary distance, the one that nine of ten random pairs stay below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from arrowlens.search.clustering import Pairs, by_parts, products_above
from arrowlens.search.perceptual_hash import N_BITS, N_COARSE_BITS, Fingerprints

COPY_BITS = 40  # of 256 may differ between copies; 128 do between unrelated pictures
COPY_COLOURS = 0.5  # as ``Fingerprints.colour_distance`` counts
COPY_DISTANCE = 0.3  # of the ordinary distance: the vectors need only not contradict
NEAR_BITS = 80
NEAR_DISTANCE = 0.25
N_MOMENTS = 16  # of a film that are compared
FILM_COPY_DISTANCE, FILM_NEAR_DISTANCE = 0.2, 0.35  # of the ordinary distance, in the mean over moments
FILM_COPY_LENGTH, FILM_NEAR_LENGTH = 0.02, 0.1  # by which share of the longer one's the lengths may differ
_LENGTH_SLACK_S = 0.5

LEAST_ORDINARY = 0.2  # also of a library with too few files, or only one subject, to tell what is ordinary
_ORDINARY_QUANTILE = 0.9
_SAMPLED_PAIRS = 20_000
_COARSE_MARGIN = 16  # of the 64 lowest frequencies: unlike by more, copies would differ in most of them
_ROUNDING = 1e-3  # of a product, which is summed in another order for every block


@dataclass(frozen=True, eq=False)
class Pictures:
    """What is compared of n pictures.

    Attributes:
        fingerprints: of all. vectors: (n, d) float16 of length one; zero for a picture that has none.
    """

    fingerprints: Fingerprints
    vectors: np.ndarray

    @cached_property
    def ordinary(self) -> float:
        """The distance that nine of ten pairs stay below."""
        return ordinary_distance(self.vectors[self._known])

    def copies(self, rows: np.ndarray, columns: np.ndarray) -> Pairs:
        """Pairs that show the same picture: by the hash and the colours, unless the vectors contradict."""
        coarse = self.fingerprints.signs[:, :N_COARSE_BITS]
        left, right = products_above(
            coarse[rows].astype(np.float32), coarse[columns].astype(np.float32), N_COARSE_BITS - 2 * _COARSE_MARGIN
        )
        left, right = _kept(rows[left], columns[right], self.fingerprints.differing_bits, COPY_BITS)
        left, right = _kept(left, right, self.fingerprints.colour_distance, COPY_COLOURS)
        far = self.distance(left, right) > COPY_DISTANCE * self.ordinary
        kept = ~(far & self._known[left] & self._known[right])
        return left[kept], right[kept]

    def near(self, rows: np.ndarray, columns: np.ndarray) -> Pairs:
        """Pairs that are nearly the same: by the vectors, unless the hash contradicts."""
        most = NEAR_DISTANCE * self.ordinary
        left, right = _candidates(self.vectors, rows, columns, most)
        left, right = _kept(left, right, self.fingerprints.differing_bits, NEAR_BITS)
        return _kept(left, right, self.distance, most)

    def distance(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """1 - cosine of pairs, (m,) float32; 1 where one has no vector."""
        return by_parts(lambda a, b: _distances(self.vectors, a, b), left, right)

    def similarities(self, group: np.ndarray) -> list[float]:
        """Of each picture of a group to its first: the cosine, or without vectors the hashes' correlation."""
        first = np.full(len(group), group[0])
        cosines = 1.0 - self.distance(first, group)
        agreeing = 1.0 - 2.0 * self.fingerprints.differing_bits(first, group) / N_BITS
        return _similarities(np.where(self._known[first] & self._known[group], cosines, agreeing))

    @cached_property
    def _known(self) -> np.ndarray:
        """Which ones have a vector, (n,) bool."""
        known: np.ndarray = np.any(self.vectors != 0, axis=1)
        return known


@dataclass(frozen=True, eq=False)
class Films:
    """What is compared of n films: what they show at the same share of their length.

    Attributes:
        pictures: their thumbnails' fingerprints, and their ``timeline`` as vectors.
        durations: (n,) float64, seconds.
    """

    pictures: Pictures
    durations: np.ndarray

    def copies(self, rows: np.ndarray, columns: np.ndarray) -> Pairs:
        """Pairs that show the same from beginning to end, and have the same thumbnail.

        Films of one place that nothing happens in are alike throughout; their thumbnails tell them apart.
        """
        left, right = self._alike(rows, columns, FILM_COPY_DISTANCE, FILM_COPY_LENGTH)
        left, right = _kept(left, right, self.pictures.fingerprints.differing_bits, COPY_BITS)
        return _kept(left, right, self.pictures.fingerprints.colour_distance, COPY_COLOURS)

    def near(self, rows: np.ndarray, columns: np.ndarray) -> Pairs:
        """Pairs that show nearly the same, as where a little was cut off."""
        return self._alike(rows, columns, FILM_NEAR_DISTANCE, FILM_NEAR_LENGTH)

    def similarities(self, group: np.ndarray) -> list[float]:
        """Of each film of a group to its first: the mean cosine over moments."""
        return self.pictures.similarities(group)

    def _alike(self, rows: np.ndarray, columns: np.ndarray, distance: float, length: float) -> Pairs:
        most = distance * self.pictures.ordinary
        left, right = _candidates(self.pictures.vectors, rows, columns, most)
        left, right = _kept(left, right, self.pictures.distance, most)
        longer = np.maximum(self.durations[left], self.durations[right])
        kept = np.abs(self.durations[left] - self.durations[right]) <= np.maximum(_LENGTH_SLACK_S, length * longer)
        return left[kept], right[kept]


def timeline(starts: np.ndarray, vectors: np.ndarray, duration: float) -> np.ndarray:
    """Return what a film shows at ``N_MOMENTS``, evenly spaced: (N_MOMENTS * d,) float16 of length one.

    The product of two is the mean cosine over the moments.

    Args:
        starts: (n,) seconds, rising, of its shots.
        vectors: (n, d) of length one.
        duration: seconds.
    """
    times = (np.arange(N_MOMENTS) + 0.5) / N_MOMENTS * duration
    shots = np.maximum(np.searchsorted(starts, times, side="right") - 1, 0)
    moments = vectors[shots] / np.linalg.norm(vectors[shots], axis=1, keepdims=True)
    flat: np.ndarray = (moments / np.sqrt(N_MOMENTS)).ravel().astype(np.float16)
    return flat


def ordinary_distance(vectors: np.ndarray) -> float:
    """The distance (1 - cosine) that nine of ten pairs of (n, d) vectors stay below; a sample of them, always the same.

    At least ``LEAST_ORDINARY``, so that in a library of one subject not everything seems far apart.
    """
    n = len(vectors)
    if n < 2:
        return LEAST_ORDINARY
    if n * (n - 1) // 2 <= _SAMPLED_PAIRS:
        left, right = np.triu_indices(n, 1)
    else:
        left, right = np.random.default_rng(0).integers(0, n, (2, _SAMPLED_PAIRS))
        left, right = left[left != right], right[left != right]
    distances = by_parts(lambda a, b: _distances(vectors, a, b), left, right)
    return max(LEAST_ORDINARY, float(np.quantile(distances, _ORDINARY_QUANTILE)))


def _candidates(vectors: np.ndarray, rows: np.ndarray, columns: np.ndarray, most: float) -> Pairs:
    """Pairs no farther apart than ``most``, and some that are a little."""
    a, b = vectors[rows].astype(np.float32), vectors[columns].astype(np.float32)
    left, right = products_above(a, b, 1.0 - most - _ROUNDING)
    return rows[left], columns[right]


def _distances(vectors: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    products = vectors[left].astype(np.float32) * vectors[right]
    distances: np.ndarray = 1.0 - products.sum(axis=1)
    return distances


def _kept(
    left: np.ndarray, right: np.ndarray, measure: Callable[[np.ndarray, np.ndarray], np.ndarray], most: float
) -> Pairs:
    kept = measure(left, right) <= most
    return left[kept], right[kept]


def _similarities(values: np.ndarray) -> list[float]:
    """At most 1, and 1 for the first of the group."""
    cosines: list[float] = np.minimum(values.astype(np.float64), 1.0).tolist()
    return [1.0, *cosines[1:]]
