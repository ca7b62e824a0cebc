"""A recording's bytes -> mono samples at a model's rate, as librosa.load(mono=True) gives them, without librosa."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soxr

from arrowlens.errors import MediaError
from arrowlens.media.acoustic_fingerprint import AcousticFingerprint, acoustic_fingerprint
from arrowlens.media.decoded import Limits, TooLargeError
from arrowlens.media.files import NativeFileAdapter
from arrowlens.media.formats import SNIFF_BYTES, sniff
from arrowlens.media.metadata import About, about_recording
from arrowlens.media.sounds import Sound, open_sound
from arrowlens.media.truncation import check_length, say_length
from arrowlens.modalities import FORMAT_MODALITY, SAMPLE_RATE

SILENCE_SPREAD = 2e-4  # of full scale 1: -74 dB between the lowest and the highest sample
MAX_PEAK = 65536.0  # float files scaled to 16-bit integers exist; beyond that it is no sound
_PART = 1 << 23  # samples, 32 MB: so large a piece of memory goes back to the system the moment it is let go
RATES = (1000, 768_000)  # Hz


@dataclass(frozen=True)
class Recording:
    """What a recording's file holds."""

    samples: np.ndarray
    """(n,) float32 mono at ``decoded_rate``."""
    decoded_rate: int
    duration: float
    sample_rate: int
    channels: int
    about: About
    trivial: bool
    fingerprint: AcousticFingerprint | None = None


def read_recording(
    file: BinaryIO,
    size: int,
    file_format: str,
    limits: Limits,
    *,
    fingerprint: bool = True,
    sample_rate: int = SAMPLE_RATE,
) -> Recording:
    """Decode a recording in blocks, down-mixed to mono and resampled.

    Args:
        file: its bytes, seekable.
        size: how many.
        file_format: as ``formats.sniff`` gives it.
        limits: ``max_seconds`` holds for what the header promises, before anything is decoded, and for what comes.
        fingerprint: whether to make one; it is one of the sound at 16 kHz, as is the judgement that there is none.
        sample_rate: of the samples, in Hz.

    Raises:
        MediaError: too long, empty, truncated, damaged, or NaN among the samples; one line for a user.
    """
    stated = check_length(file, size, file_format)
    file.seek(0)
    with closing(open_sound(NativeFileAdapter(file), file_format)) as sound:
        if not RATES[0] <= sound.rate <= RATES[1]:
            raise MediaError(f"a sample rate of {sound.rate:,} Hz is not between {RATES[0]:,} and {RATES[1]:,} Hz")
        _check_seconds(sound.promised or 0.0, limits)
        mixer = _Mixer(sound.rate, {sample_rate, SAMPLE_RATE})
        for block in sound.blocks():
            mixer.add(block)
            _check_seconds(mixer.seconds, limits)
        _check_complete(mixer.seconds, sound, stated)
        by_rate = mixer.finish()
        common, samples = by_rate[SAMPLE_RATE], by_rate[sample_rate]
        trivial = float(common.max() - common.min()) <= SILENCE_SPREAD
        return Recording(
            samples=samples,
            decoded_rate=sample_rate,
            duration=mixer.seconds,
            sample_rate=sound.rate,
            channels=sound.channels,
            about=about_recording(sound.tags),
            trivial=trivial,
            fingerprint=acoustic_fingerprint(common) if fingerprint and not trivial else None,
        )


def stated_seconds(file: BinaryIO) -> float | None:
    """Return the length that a recording's header states, in seconds; None where it states none.

    Raises:
        MediaError: it is no recording, or damaged.
    """
    file_format = sniff(file.read(SNIFF_BYTES))
    if file_format is None or FORMAT_MODALITY[file_format] != "audio":
        raise MediaError("not a recording in a known format")
    file.seek(0)
    with closing(open_sound(NativeFileAdapter(file), file_format)) as sound:
        return sound.promised


class _Mixer:
    """Blocks of frames -> mono at each of some rates, in constant memory beside the results."""

    def __init__(self, rate: int, wanted: Collection[int]) -> None:
        self._rate = rate
        self._n_frames = 0
        self._resampled = {each: _Resampled(rate, each) for each in wanted}

    @property
    def seconds(self) -> float:
        """How much there is so far."""
        return self._n_frames / self._rate

    def add(self, block: np.ndarray) -> None:
        """Take a block, (n, channels) float32."""
        with np.errstate(over="ignore", invalid="ignore"):  # extreme floats are found below, by what they make
            mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
            peak = float(np.abs(mono).max())
        if not peak <= MAX_PEAK:
            self._refuse(mono, peak)
        self._n_frames += len(mono)
        for each in self._resampled.values():
            each.add(mono)

    def finish(self) -> dict[int, np.ndarray]:
        """All samples by rate, (n,) float32; n is the length in seconds times the rate, rounded up."""
        return {rate: each.finish(-(-self._n_frames * rate // self._rate)) for rate, each in self._resampled.items()}

    def _refuse(self, mono: np.ndarray, peak: float) -> None:
        bad = ~(np.abs(mono) <= MAX_PEAK)
        at = (self._n_frames + int(bad.argmax())) / self._rate
        if np.isnan(mono).any():
            raise MediaError(f"samples are not finite (NaN, first at {at:.2f} s)")
        if not np.isfinite(peak):
            raise MediaError(f"samples are not finite (infinity, first at {at:.2f} s)")
        raise MediaError(f"samples reach {peak:.3g} at {at:.2f} s, where full scale is 1: this is no sound")


class _Resampled:
    """Samples at one rate -> the same at another, in parts."""

    def __init__(self, rate: int, wanted: int) -> None:
        self._parts: list[np.ndarray] = []
        self._n_last = _PART  # samples in the last of them, which is full
        self._resampler = (
            None if rate == wanted else soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")
        )

    def add(self, mono: np.ndarray) -> None:
        """Take a block, (n,) float32."""
        self._keep(mono if self._resampler is None else self._resampler.resample_chunk(mono))

    def finish(self, n_samples: int) -> np.ndarray:
        """All samples, (n_samples,) float32."""
        if self._resampler is not None:
            self._keep(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        samples = np.zeros(n_samples, np.float32)
        start = 0
        self._parts.reverse()
        while self._parts:  # each part is let go once it is copied: the peak is one copy and a part, not two
            part = self._parts.pop()
            part = part[: min(len(part) if self._parts else self._n_last, n_samples - start)]
            samples[start : start + len(part)] = part
            start += len(part)
        return samples

    def _keep(self, samples: np.ndarray) -> None:
        while len(samples):
            if self._n_last == _PART:
                self._parts.append(np.empty(_PART, np.float32))
                self._n_last = 0
            taken = samples[: _PART - self._n_last]
            self._parts[-1][self._n_last : self._n_last + len(taken)] = taken
            self._n_last += len(taken)
            samples = samples[len(taken) :]


def _check_seconds(seconds: float, limits: Limits) -> None:
    if seconds > limits.max_seconds:
        raise TooLargeError(f"{say_length(seconds)} is over the limit of {say_length(limits.max_seconds)}")


def _check_complete(seconds: float, sound: Sound, stated: bool) -> None:
    """Whether there is as much as the file states, where it does so rather than the decoder guessing."""
    if stated and sound.promised is not None and sound.promised - seconds > sound.slack:
        raise MediaError(f"truncated: {say_length(seconds)} of {say_length(sound.promised)} are there")
    if seconds == 0:
        raise MediaError("the recording is empty (0 samples)")
