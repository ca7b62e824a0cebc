"""A recording's bytes -> mono samples at 16 kHz, as librosa.load(sr=16000, mono=True) gives them, without librosa."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from arrowlens.errors import MediaError
from arrowlens.media.decoded import SAMPLE_RATE, Limits
from arrowlens.media.files import Tape
from arrowlens.media.lengths import TRUNCATION_TOLERANCE, check_length, say_length
from arrowlens.media.tags import clean_text

SILENCE_SPREAD = 2e-4  # of full scale 1: -74 dB between the lowest and the highest sample
MAX_PEAK = 65536.0  # float files scaled to 16-bit integers exist; beyond that it is no sound
RATES = (1000, 768_000)  # Hz
_VALUES_AT_ONCE = 1 << 19  # frames times channels of a block, 2 MB
_UNKNOWN_FRAMES = 1 << 62
_TAGS = ("title", "artist", "album")


@dataclass(frozen=True)
class Recording:
    """What a recording's file holds."""

    samples: np.ndarray
    """(n,) float32 mono at 16 kHz."""
    duration: float
    sample_rate: int
    channels: int
    metadata: dict[str, str]
    trivial: bool


def read_recording(file: BinaryIO, size: int, file_format: str, limits: Limits) -> Recording:
    """Decode a recording in blocks, down-mixed to mono and resampled to 16 kHz.

    Args:
        file: its bytes, seekable.
        size: how many.
        file_format: as ``formats.sniff`` gives it.
        limits: ``max_seconds`` holds for what the header promises, before anything is decoded, and for what comes.

    Raises:
        MediaError: too long, empty, truncated, damaged, or NaN among the samples; one line for a user.
    """
    stated = check_length(file, size, file_format)
    file.seek(0)
    tape = Tape(file)
    with _open(tape, file_format) as sound:
        _check_header(sound, limits)
        promised = _promised_frames(sound, stated)
        mixer = _Mixer(sound.samplerate)
        n_frames = 0
        for block in _blocks(sound, tape, promised):
            n_frames += len(block)
            _check_seconds(n_frames / sound.samplerate, limits)
            mixer.add(block)
        _check_complete(n_frames, promised, sound.samplerate)
        samples = mixer.finish()
        tags = sound.copy_metadata()
        return Recording(
            samples=samples,
            duration=n_frames / sound.samplerate,
            sample_rate=sound.samplerate,
            channels=sound.channels,
            metadata={name: text for name in _TAGS if (text := clean_text(tags.get(name)))},
            trivial=float(samples.max() - samples.min()) <= SILENCE_SPREAD,
        )


class _Mixer:
    """Blocks of frames -> mono at 16 kHz, in constant memory beside the result."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._n_frames = 0
        self._parts: list[np.ndarray] = []
        self._resampler = (
            None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        )

    def add(self, block: np.ndarray) -> None:
        """Take a block, (n, channels) float32."""
        with np.errstate(over="ignore", invalid="ignore"):  # extreme floats are found below, by what they make
            mono = block[:, 0].copy() if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
            peak = float(np.abs(mono).max())
        if not peak <= MAX_PEAK:
            self._refuse(mono, peak)
        self._n_frames += len(mono)
        self._parts.append(mono if self._resampler is None else self._resampler.resample_chunk(mono))

    def finish(self) -> np.ndarray:
        """All samples, (n,) float32; n is the length in seconds times 16,000, rounded up."""
        if self._resampler is not None:
            self._parts.append(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        samples = np.zeros(-(-self._n_frames * SAMPLE_RATE // self._rate), np.float32)
        start = 0
        self._parts.reverse()
        while self._parts:  # each part is let go once it is copied: the peak is one copy, not two
            part = self._parts.pop()[: len(samples) - start]
            samples[start : start + len(part)] = part
            start += len(part)
        return samples

    def _refuse(self, mono: np.ndarray, peak: float) -> None:
        bad = ~(np.abs(mono) <= MAX_PEAK)
        at = (self._n_frames + int(bad.argmax())) / self._rate
        if np.isnan(mono).any():
            raise MediaError(f"samples are not finite (NaN, first at {at:.2f} s)")
        if not np.isfinite(peak):
            raise MediaError(f"samples are not finite (infinity, first at {at:.2f} s)")
        raise MediaError(f"samples reach {peak:.3g} at {at:.2f} s, where full scale is 1: this is no sound")


def _open(tape: Tape, file_format: str) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(tape)
    except soundfile.LibsndfileError as error:
        tape.check()
        # The library's words on what failed are about its own insides, and wrong for MP3 ("file does not exist").
        raise MediaError(f"damaged or truncated: the {file_format.upper()} header cannot be read") from error


def _check_header(sound: soundfile.SoundFile, limits: Limits) -> None:
    rate = sound.samplerate
    if not RATES[0] <= rate <= RATES[1]:
        raise MediaError(f"a sample rate of {rate:,} Hz is not between {RATES[0]:,} and {RATES[1]:,} Hz")
    if sound.frames < _UNKNOWN_FRAMES:
        _check_seconds(sound.frames / rate, limits)


def _check_seconds(seconds: float, limits: Limits) -> None:
    if seconds > limits.max_seconds:
        raise MediaError(f"{say_length(seconds)} is over the limit of {say_length(limits.max_seconds)}")


def _promised_frames(sound: soundfile.SoundFile, stated: bool) -> int | None:
    """How many frames there should be, where the file states it rather than the library guessing."""
    return int(sound.frames) if stated and sound.frames < _UNKNOWN_FRAMES else None


def _blocks(sound: soundfile.SoundFile, tape: Tape, promised: int | None) -> Iterator[np.ndarray]:
    """Blocks of (n, channels) float32, the same memory each time."""
    memory = np.empty((max(1, _VALUES_AT_ONCE // sound.channels), sound.channels), np.float32)
    n_frames = 0
    while True:
        try:
            block = sound.read(out=memory)
        except soundfile.LibsndfileError as error:
            tape.check()
            there = f"{say_length(n_frames / sound.samplerate)}"
            of = f" of {say_length(promised / sound.samplerate)}" if promised else ""
            raise MediaError(f"truncated or damaged after {there}{of} ({_words(error)})") from error
        tape.check()
        if len(block) == 0:
            return
        n_frames += len(block)
        yield block


def _words(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string).removeprefix("Error : ").rstrip(".")


def _check_complete(n_frames: int, promised: int | None, rate: int) -> None:
    if promised is not None and promised - n_frames > TRUNCATION_TOLERANCE * rate:
        raise MediaError(f"truncated: {say_length(n_frames / rate)} of {say_length(promised / rate)} are there")
    if n_frames == 0:
        raise MediaError("the recording is empty (0 samples)")
