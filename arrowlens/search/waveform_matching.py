"""When two recordings hold the same take: where their waveforms correlate at some shift.

Two takes of one word by one speaker, or two recordings of one rain, sound alike to any model and have nothing in common
sample by sample; a re-encoded copy keeps most of its waveform. The threshold was measured (docs/performance.md): 98 of
100 copies through Opus at 32 kbit/s correlate by .72 and more, takes of one digit by one speaker by .54 at most.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from arrowlens.media.acoustic_fingerprint import EXCERPT, N_CELLS, RATE, Waveform
from arrowlens.search.clustering import Pairs, products_above

LEAST_CORRELATION = 0.62  # of the same take
LEAST_COURSE = 0.8  # correlation of the loudness of two copies over their length
LEAST_SPECTRUM = 0.45  # correlation of the spectra of pairs that are compared at all
COPY_UNMATCHED = 0.02  # share of the sound that only one of two copies has
COPY_LENGTH_SHARE = 0.09  # by which their lengths differ without silence; codecs make a quiet end quieter or louder
_LEAST_SHARED = 0.7  # of the longer recording's length
_LEAST_SHARED_EXCERPT = 0.75  # of five seconds
_STEADY = 0.01  # of a natural logarithm, by which a steady sound varies
_LEAST_SAMPLES = RATE // 10  # a click of less correlates with any other
_LEAST_ENERGY = 0.5  # share of the energy of each that must lie in what both have
_DRIFT = 0.01, 1e-4  # seconds, and a share of the length, by which first and last seconds may be shifted differently
_SHIFTS_A_SAMPLE = 2  # a codec shifts by parts of a sample
_MOST_ALIKE = 256  # of one recording, that are compared with it at once
_PAIRS_AT_ONCE = 256  # 20 MB of waveforms

Likeness = Literal["copy", "near"]


class Recordings:
    """What is compared of n recordings; each pair is compared once.

    Args:
        spectra: (n, N_CELLS) int8, of their acoustic fingerprints.
        waveforms: gives the waveforms of some of them by position; None for one that has none.
    """

    def __init__(self, spectra: np.ndarray, waveforms: Callable[[Sequence[int]], Sequence[Waveform | None]]) -> None:
        norms = np.maximum(np.linalg.norm(spectra.astype(np.float32), axis=1, keepdims=True), 1.0)
        self._spectra = spectra / norms.astype(np.float32)  # (n, N_CELLS) of length one; zero for none
        self._waveforms = waveforms
        self._compared: dict[tuple[int, int], tuple[Likeness | None, float]] = {}

    def copies(self, rows: np.ndarray, columns: np.ndarray) -> Pairs:
        """Pairs that hold the same take from its first sound to its last."""
        return self._alike(rows, columns, only_copies=True)

    def near(self, rows: np.ndarray, columns: np.ndarray) -> Pairs:
        """Pairs that share a take: copies, and where one is cut a little shorter or has noise on top."""
        return self._alike(rows, columns, only_copies=False)

    def similarities(self, group: np.ndarray) -> list[float]:
        """Of each recording of a group to its first: the correlation of their waveforms."""
        return [1.0, *(self._compared[_key(group[0], item)][1] for item in group[1:])]

    def _alike(self, rows: np.ndarray, columns: np.ndarray, *, only_copies: bool) -> Pairs:
        left, right = _most_alike(self._spectra[rows], self._spectra[columns])
        pairs = [(a, b) for a, b in zip(rows[left].tolist(), columns[right].tolist(), strict=True) if a != b]
        self._compare({_key(a, b) for a, b in pairs} - self._compared.keys())
        kinds = {"copy"} if only_copies else {"copy", "near"}
        kept = [pair for pair in pairs if self._compared[_key(*pair)][0] in kinds]
        array = np.array(kept, np.int64).reshape(-1, 2)
        return array[:, 0], array[:, 1]

    def _compare(self, keys: Collection[tuple[int, int]]) -> None:
        ordered = sorted(keys)
        for start in range(0, len(ordered), _PAIRS_AT_ONCE):
            part = ordered[start : start + _PAIRS_AT_ONCE]
            needed = sorted({position for key in part for position in key})
            waveforms = dict(zip(needed, self._waveforms(needed), strict=True))
            for a, b in part:
                self._compared[a, b] = compare(waveforms[a], waveforms[b])


def _most_alike(left: np.ndarray, right: np.ndarray) -> Pairs:
    """Pairs of spectra above ``LEAST_SPECTRUM``; for each of the left ones at most ``_MOST_ALIKE``, the closest.

    Noises of all sorts have spectra that are alike: without a bound, thousands of them would be compared pair by pair.
    """
    if len(right) <= _MOST_ALIKE:
        return products_above(left, right, LEAST_SPECTRUM)
    products = left @ right.T  # (n, m)
    closest = np.argpartition(products, -_MOST_ALIKE, axis=1)[:, -_MOST_ALIKE:]
    kept = np.zeros(products.shape, bool)
    np.put_along_axis(kept, closest, np.take_along_axis(products, closest, axis=1) >= LEAST_SPECTRUM, axis=1)
    rows, columns = np.nonzero(kept)
    return rows, columns


def _key(first: int, second: int) -> tuple[int, int]:
    """A pair, whichever way round."""
    return min(first, second), max(first, second)


def compare(first: Waveform | None, second: Waveform | None) -> tuple[Likeness | None, float]:
    """ "copy", "near" or None for two recordings, and the correlation of their waveforms."""
    if first is None or second is None or min(first.n_samples, second.n_samples) < _LEAST_SAMPLES:
        return None, 0.0
    whole = first.is_whole and second.is_whole
    correlations, unmatched = _at_shifts(first, second) if whole else _ends_at_shifts(first, second)
    # First where both begin and end together: a steady tone correlates with itself at many shifts.
    shorter, longer = sorted((first.n_samples, second.n_samples))
    # Of a long recording only the ends are compared sample by sample: what lies between must be as loud, part by part.
    as_long = shorter >= (1 - COPY_LENGTH_SHARE) * longer and (whole or _same_course(first, second))
    together = float(correlations[unmatched <= COPY_UNMATCHED].max(initial=0.0)) if as_long else 0.0
    if together >= LEAST_CORRELATION:
        return "copy", together
    correlation = float(correlations.max(initial=0.0))
    return "near" if correlation >= LEAST_CORRELATION else None, correlation


def _same_course(first: Waveform, second: Waveform) -> bool:
    """Whether two recordings get louder and quieter together; a tone that stays the same has no course to compare."""
    if first.is_whole or second.is_whole:
        # It has no course, and is no longer than its two ends. So the other one must be nothing but its ends, nearly.
        return max(first.n_samples, second.n_samples) * (1 - COPY_UNMATCHED) <= 2 * EXCERPT
    spreads = first.course.std(), second.course.std()
    if max(spreads) < _STEADY:
        return True
    return min(spreads) > 0 and float(np.corrcoef(first.course, second.course)[0, 1]) >= LEAST_COURSE


def _at_shifts(first: Waveform, second: Waveform) -> tuple[np.ndarray, np.ndarray]:
    """Correlations at every shift, and the share of the sound that only one of the two has there."""
    least = int(_LEAST_SHARED * max(first.n_samples, second.n_samples))
    shifted = _Shifted.of(
        first.samples, second.samples, np.arange(least - second.n_samples, first.n_samples - least + 1)
    )
    return shifted.correlations, shifted.ahead + shifted.behind


def _ends_at_shifts(first: Waveform, second: Waveform) -> tuple[np.ndarray, np.ndarray]:
    """The same for recordings of more than ten seconds: the lower correlation of their first and their last five."""
    longer_by, most = first.n_samples - second.n_samples, int((1 - _LEAST_SHARED_EXCERPT) * EXCERPT)
    shifts = np.arange(max(-most, longer_by - most), min(most, longer_by + most) + 1)
    if not len(shifts):
        return np.empty(0), np.empty(0)
    start = _Shifted.of(first.samples[:EXCERPT], second.samples[:EXCERPT], shifts)
    end = _Shifted.of(first.samples[-EXCERPT:], second.samples[-EXCERPT:], shifts - longer_by)
    drift = int(_DRIFT[0] * RATE + _DRIFT[1] * first.n_samples)
    around = np.pad(end.correlations, drift, constant_values=0.0)
    at_end = np.lib.stride_tricks.sliding_window_view(around, 2 * drift + 1).max(axis=1)[: len(shifts)]
    return np.minimum(start.correlations, at_end), start.ahead + end.behind


@dataclass(frozen=True, eq=False, slots=True)
class _Shifted:
    """Two waveforms at m shifts; by a shift, the second one's first sample is that one of the first.

    Attributes:
        correlations: (m,) over what both have, at most 1; 0 where that holds little of their sound.
        ahead, behind: (m,) share of the energy of one of them that lies before what both have, and after it.
    """

    correlations: np.ndarray
    ahead: np.ndarray
    behind: np.ndarray

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray, shifts: np.ndarray) -> _Shifted:
        a, b = first.astype(np.float32), second.astype(np.float32)
        low, high = np.maximum(0, shifts), np.minimum(len(a), len(b) + shifts)
        energy_a, energy_b = _share_before(a), _share_before(b)
        ahead = np.maximum(energy_a[low], energy_b[low - shifts])
        behind = np.maximum(1 - energy_a[high], 1 - energy_b[high - shifts])
        in_a, in_b = energy_a[high] - energy_a[low], energy_b[high - shifts] - energy_b[low - shifts]
        heard = np.minimum(in_a, in_b) >= _LEAST_ENERGY
        size = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
        products = _products(a, b, shifts) / max(size, 1.0)
        correlations = np.where(heard, products / np.sqrt(np.where(heard, in_a * in_b, 1.0)), 0.0)
        return cls(np.minimum(correlations, 1.0), ahead, behind)


def _share_before(samples: np.ndarray) -> np.ndarray:
    """(n + 1,): the share of a waveform's energy that lies before each sample, and after the last."""
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    share: np.ndarray = energy / max(energy[-1], 1.0)
    return share


def _products(a: np.ndarray, b: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """The sum of a times the shifted b for each shift, the largest within half a sample around it."""
    n = _fast_length(len(a) + len(b))
    spectrum = np.zeros(_SHIFTS_A_SAMPLE * n // 2 + 1, np.complex64)
    spectrum[: n // 2 + 1] = np.fft.rfft(a, n) * np.fft.rfft(b, n).conj()
    products = np.fft.irfft(spectrum, _SHIFTS_A_SAMPLE * n) * _SHIFTS_A_SAMPLE
    around = shifts * _SHIFTS_A_SAMPLE
    nearby = [products[(around + part) % len(products)] for part in (-1, 0, 1)]
    largest: np.ndarray = np.maximum.reduce(nearby)
    return largest


def _fast_length(n: int) -> int:
    """An even length of at least n that a Fourier transform takes quickly: 2, 3 or 5 times a power of two."""
    power = 1 << max(1, (n - 1).bit_length())
    return min(length for length in (power, power * 3 // 4, power * 5 // 8) if length >= n and length % 2 == 0)


def spectra_of(stored: Sequence[bytes]) -> np.ndarray:
    """(n, N_CELLS) int8 of stored spectra; zeros, which resemble nothing, for one of another length."""
    rows = [part if len(part) == N_CELLS else bytes(N_CELLS) for part in stored]
    return np.frombuffer(b"".join(rows), np.int8).reshape(-1, N_CELLS)
