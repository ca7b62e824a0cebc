"""Long recordings of what the demo model was made for: synthesised sounds one after another.

Drawn before anything was measured: 30 to 90 s of segments of 1 to 6 s. A segment is, two times in three, one of the
bundled sounds, played at 0.75 to 1.33 times its speed; else a tone, a chord, a sweep, filtered noise or a train of
clicks. Segments differ in loudness by up to 12 dB and overlap by 50 ms; low noise lies under all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr

import arrowlens

RATE = 16_000  # Hz
_SAMPLES = Path(arrowlens.__file__).parent / "demo" / "samples" / "sounds"
_OVERLAP = RATE // 20


def recording(seed: int) -> np.ndarray:
    """(n,) float32 at 16 kHz, 30 to 90 s long."""
    dice = np.random.default_rng([seed, 8])
    n_samples = int(dice.uniform(30, 90) * RATE)
    sound = dice.normal(0, 10 ** dice.uniform(-4, -2.5), n_samples + 7 * RATE)
    at = 0
    while at < n_samples:
        part = segment(dice, int(dice.uniform(1, 6) * RATE)) * 10 ** (dice.uniform(-12, 0) / 20)
        sound[at : at + len(part)] += part
        at += len(part) - _OVERLAP
    return np.clip(sound[:n_samples], -1, 1).astype(np.float32)


def write_recordings(folder: Path, seeds: Sequence[int]) -> list[Path]:
    """FLAC files, one for each seed."""
    folder.mkdir(parents=True)
    paths = [folder / f"{seed:04d}.flac" for seed in seeds]
    for seed, path in zip(seeds, paths, strict=True):
        soundfile.write(path, recording(seed), RATE)
    return paths


def cut(path: Path, start_s: float, seconds: float) -> np.ndarray:
    """(n,) float32, a part of one of them."""
    return soundfile.read(path, round(seconds * RATE), round(start_s * RATE), dtype="float32")[0]


def segment(dice: np.random.Generator, n_samples: int) -> np.ndarray:
    """(n_samples,), at most 0.5 loud, its ends faded."""
    part = bundled(dice, n_samples) if dice.random() < 2 / 3 else synthesised(dice, n_samples)
    part = part / max(1e-6, np.abs(part).max()) * 0.5
    edge = np.linspace(0, 1, _OVERLAP)
    part[:_OVERLAP] *= edge
    part[-_OVERLAP:] *= edge[::-1]
    return part


def bundled(dice: np.random.Generator, n_samples: int) -> np.ndarray:
    """One of the package's sounds at another speed, repeated until it is long enough."""
    sounds = _bundled()
    sound = sounds[dice.integers(len(sounds))]
    sound = soxr.resample(sound, RATE, RATE / dice.uniform(0.75, 1.33))
    return np.resize(sound, n_samples)


def synthesised(dice: np.random.Generator, n_samples: int) -> np.ndarray:
    """A tone, a chord, a sweep, filtered noise, or a train of clicks."""
    times = np.arange(n_samples) / RATE
    low, high = np.sort(dice.uniform(80, 6000, 2))
    match dice.integers(5):
        case 0:
            return np.sin(2 * np.pi * low * times)
        case 1:
            return np.sum([np.sin(2 * np.pi * low * ratio * times) for ratio in (1, 1.25, 1.5)], axis=0)
        case 2:
            return np.sin(2 * np.pi * (low + (high - low) * times / times[-1] / 2) * times)
        case 3:
            spectrum = np.fft.rfft(dice.standard_normal(n_samples))
            frequencies = np.fft.rfftfreq(n_samples, 1 / RATE)
            return np.fft.irfft(spectrum * ((frequencies > low) & (frequencies < high + 200)), n_samples)
        case _:
            clicks = np.zeros(n_samples)
            clicks[:: int(RATE / dice.uniform(2, 25))] = 1.0
            return np.convolve(clicks, np.exp(-np.arange(400) / 60) * np.sin(np.arange(400) * low / RATE * 6), "same")


@cache
def _bundled() -> list[np.ndarray]:
    sounds = []
    for path in sorted(_SAMPLES.iterdir()):
        samples, rate = soundfile.read(path, always_2d=True)
        sounds.append(soxr.resample(samples.mean(axis=1), rate, RATE))
    return sounds
