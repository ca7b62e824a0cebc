"""What of a recording survives another encoding: its waveform below 4 kHz, a few bits a sample, without silence around.

A lossy codec changes the spectrum's envelope less than two takes of a word differ, but it keeps the waveform of what is
heard: two files hold the same take where their waveforms correlate, and no other way. Of a recording of more than ten
seconds its first and last five are kept, and how loud it is from one end to the other.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import soxr

from arrowlens.modalities import SAMPLE_RATE

RATE = 8_000  # Hz
EXCERPT = 5 * RATE  # samples of each end
N_CELLS = 512  # of the spectrum, 7.8 Hz each
_FORMAT = 1  # the first byte; raised with each change, so that no two kinds are compared
_HEADER_BYTES = 5
N_COURSE = 256  # parts of a long recording, of each of which the loudness is kept
_BLOCK = SAMPLE_RATE // 50  # 20 ms
_ACTIVE_SHARE = 0.02  # -34 dB of the loudest block
_EXPONENT, _STEPS_AT_RMS, _HIGHEST = 0.7, 2.5, 7  # quiet parts count beside loud ones; whole numbers from -7 to 7
_N_FFT = 65_536
_SMOOTHED = 33  # cells: what is broader belongs to the kind of sound, what is finer to the take
_CELL_STEPS = 16.0  # a natural logarithm's unit


@dataclass(frozen=True, slots=True)
class AcousticFingerprint:
    """A recording in at most 41 kB.

    Attributes:
        spectrum: ``N_CELLS`` int8: the fine structure of the logarithmic spectrum of the first five seconds, which
            hardly depends on where they begin; zeros where there is none.
        waveform: as ``pack`` makes it and ``Waveform.unpack`` takes it.
    """

    spectrum: bytes
    waveform: bytes

    @property
    def parts(self) -> tuple[bytes, bytes]:
        """As a library stores them."""
        return self.spectrum, self.waveform


@dataclass(frozen=True, eq=False, slots=True)
class Waveform:
    """A recording from its first sound to its last, at ``RATE``.

    Attributes:
        n_samples: of the whole. samples: (n,) int8 from -7 to 7: all of them, or the first and the last ``EXCERPT``.
        course: (N_COURSE,) float32, the logarithm of the loudness of equal parts of the whole; (0,) where ``samples``
            leaves nothing out.
    """

    n_samples: int
    samples: np.ndarray
    course: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.float32))

    @property
    def is_whole(self) -> bool:
        """Whether ``samples`` leaves nothing out."""
        return len(self.samples) == self.n_samples

    @classmethod
    def unpack(cls, data: bytes) -> Waveform | None:
        """The waveform that ``pack`` packed; None for data of another format."""
        if len(data) < _HEADER_BYTES or data[0] != _FORMAT:
            return None
        n_samples = int.from_bytes(data[1:_HEADER_BYTES], "little")
        n_kept, n_course = min(n_samples, 2 * EXCERPT), N_COURSE if n_samples > 2 * EXCERPT else 0
        if len(data) != _HEADER_BYTES + 2 * n_course + -(-n_kept // 2):
            return None
        course = np.frombuffer(data, "<f2", n_course, _HEADER_BYTES).astype(np.float32)
        pairs = np.frombuffer(data, np.uint8, offset=_HEADER_BYTES + 2 * n_course)
        samples = np.stack([pairs >> 4, pairs & 15], axis=1).ravel()[:n_kept].astype(np.int8) - 8
        return cls(n_samples, samples, course) if np.isfinite(course).all() else None

    def pack(self) -> bytes:
        """A byte for the format, four for ``n_samples``, two for each part of the course, then two samples a byte."""
        shifted = np.pad(self.samples + 8, (0, len(self.samples) % 2)).astype(np.uint8)
        pairs = shifted[::2] << 4 | shifted[1::2]
        header = bytes([_FORMAT]) + self.n_samples.to_bytes(4, "little")
        return header + self.course.astype("<f2").tobytes() + pairs.tobytes()


def acoustic_fingerprint(samples: np.ndarray) -> AcousticFingerprint:
    """The fingerprint of a recording.

    Args:
        samples: (n,) float32 mono at 16 kHz, finite, at least one.
    """
    waveform = _waveform(samples)
    return AcousticFingerprint(_spectrum(waveform.samples[:EXCERPT]).tobytes(), waveform.pack())


def _waveform(samples: np.ndarray) -> Waveform:
    start, end = _active(samples)
    n_samples, share = (end - start) * RATE // SAMPLE_RATE, SAMPLE_RATE // RATE
    if n_samples <= 2 * EXCERPT:
        whole = _resampled(samples[start:end])[:n_samples]
        return Waveform(len(whole), _quantised(whole))
    # The last five seconds begin at a whole number of samples from the start, so that both ends tell of one shift.
    first = samples[start : start + EXCERPT * share]
    tail = start + (n_samples - EXCERPT) * share
    ends = np.concatenate([_resampled(first)[:EXCERPT], _resampled(samples[tail : tail + EXCERPT * share])[:EXCERPT]])
    return Waveform(n_samples, _quantised(ends), _course(samples[start:end]))


def _course(samples: np.ndarray) -> np.ndarray:
    """(N_COURSE,) float32; at least one sample for each part."""
    power = np.array([np.dot(part, part) / len(part) for part in np.array_split(samples, N_COURSE)])  # without a copy
    course: np.ndarray = (np.log(power + 1e-6 * power.max()) / 2).astype(np.float32)
    return course


def _active(samples: np.ndarray) -> tuple[int, int]:
    """Where the first and the last block lie that are more than silence beside the loudest."""
    n_blocks = len(samples) // _BLOCK
    if n_blocks == 0:
        return 0, len(samples)
    blocks = samples[: n_blocks * _BLOCK].reshape(n_blocks, _BLOCK)
    spread = blocks.max(axis=1) - blocks.min(axis=1)  # unlike the amplitude, it knows no constant offset
    active = np.flatnonzero(spread > _ACTIVE_SHARE * spread.max())
    if not len(active):
        return 0, len(samples)
    is_last = active[-1] == n_blocks - 1
    return int(active[0]) * _BLOCK, len(samples) if is_last else int(active[-1] + 1) * _BLOCK


def _resampled(samples: np.ndarray) -> np.ndarray:
    # With a constant offset, the filter would make clicks of the two ends.
    at_rate: np.ndarray = soxr.resample(samples - samples.mean(), SAMPLE_RATE, RATE)
    return at_rate


def _quantised(samples: np.ndarray) -> np.ndarray:
    """(n,) int8; differences stand for samples, since the low frequencies of two takes are alike."""
    steps = np.diff(samples.astype(np.float64), prepend=samples[:1])
    level = np.sqrt(np.mean(steps**2)) if len(steps) else 0.0
    if level == 0:
        return np.zeros(len(steps), np.int8)
    compressed = np.rint(_STEPS_AT_RMS * (np.abs(steps) / level) ** _EXPONENT)
    quantised: np.ndarray = (np.sign(steps) * np.minimum(compressed, _HIGHEST)).astype(np.int8)
    return quantised


def _spectrum(samples: np.ndarray) -> np.ndarray:
    """(N_CELLS,) int8."""
    power = np.abs(np.fft.rfft(samples, _N_FFT)[1:]) ** 2
    cells = power.reshape(N_CELLS, -1).mean(axis=1)
    if cells.max() == 0:
        return np.zeros(N_CELLS, np.int8)
    logarithms = np.log(cells + 1e-6 * cells.max())
    padded = np.pad(logarithms, _SMOOTHED // 2, mode="reflect")
    fine = logarithms - np.convolve(padded, np.full(_SMOOTHED, 1 / _SMOOTHED), "valid")
    spectrum: np.ndarray = np.clip(np.rint(_CELL_STEPS * fine), -127, 127).astype(np.int8)
    return spectrum
