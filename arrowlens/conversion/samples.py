"""Built-in pictures, recordings and texts that verify a conversion. They are generated and always the same."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

from arrowlens.modalities import SAMPLE_RATE

TEXTS = (
    "a photo of two cats",
    "a photo of a dog",
    "a red circle on white paper",
    "Night sky over the mountains, long exposure",
    "music",
    "the quick brown fox jumps over the lazy dog 1234567890 times, doesn't it?",
    "naïve café – größer als 10 €",
    "x",
    "a very long description, longer than any text tower reads, " * 60,  # truncation must agree, too
)


@cache  # drawing them costs as much as a small conversion
def pictures() -> tuple[Image.Image, ...]:
    """Return eight pictures of different content and odd sizes: gradients, shapes, stripes, noise."""
    rng = np.random.default_rng(20240501)
    return (
        _gradient(320, 240, (255, 40, 0), (0, 60, 255)),
        _gradient(97, 301, (250, 250, 200), (10, 90, 20)),
        _discs(400, 300, rng, 3),
        _discs(233, 377, rng, 25),
        _checkers(256, 192, 16, (240, 240, 240), (20, 20, 20)),
        _checkers(500, 320, 45, (200, 30, 90), (20, 200, 180)),
        Image.fromarray(rng.integers(0, 256, (240, 260, 3), dtype=np.uint8)),
        _clouds(300, 300, rng),
    )


@cache
def sounds() -> tuple[np.ndarray, ...]:
    """Return six recordings of different content and length, 0.4 to 30 s: tones, a sweep, noise, clicks, syllables.

    Float32 at 16 kHz. Most are long, since padding to 30 s makes short ones alike.
    """
    rng = np.random.default_rng(20240502)
    return (
        _tones((440.0, 880.0, 1320.0), 3.0),
        _tones((97.0, 131.0), 0.4),
        _sweep(60.0, 7000.0, 22.0),
        _samples(0.3 * rng.standard_normal(int(14.5 * SAMPLE_RATE))),
        _clicks(28.0, 3.0, rng),
        _syllables(30.0, rng),
    )


def _gradient(width: int, height: int, start: tuple[int, ...], end: tuple[int, ...]) -> Image.Image:
    ramp = np.add.outer(np.linspace(0, 0.5, height), np.linspace(0, 0.5, width))[..., None]
    return _image(np.array(start) * (1 - ramp) + np.array(end) * ramp)


def _discs(width: int, height: int, rng: np.random.Generator, count: int) -> Image.Image:
    rows, columns = np.mgrid[:height, :width]
    pixels = np.full((height, width, 3), rng.integers(0, 256, 3), dtype=np.float64)
    for _ in range(count):
        row, column, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0.05, 0.3) * min(width, height)
        pixels[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = rng.integers(0, 256, 3)
    return _image(pixels)


def _checkers(width: int, height: int, side: int, one: tuple[int, ...], other: tuple[int, ...]) -> Image.Image:
    rows, columns = np.mgrid[:height, :width] // side
    return _image(np.where(((rows + columns) % 2 == 0)[..., None], np.array(one), np.array(other)))


def _clouds(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Draw noise with the spectrum of photographs: an amplitude of one over the frequency."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    frequency[0, 0] = 1.0
    spectrum = np.fft.fft2(rng.standard_normal((height, width, 3)), axes=(0, 1)) / frequency[..., None]
    field = np.fft.ifft2(spectrum, axes=(0, 1)).real
    return _image(128 + 50 * field / field.std())


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _samples(wave: np.ndarray) -> np.ndarray:
    samples: np.ndarray = wave.astype(np.float32)
    return samples


def _seconds(duration: float) -> np.ndarray:
    return np.arange(int(duration * SAMPLE_RATE)) / SAMPLE_RATE


def _tones(frequencies: tuple[float, ...], duration: float) -> np.ndarray:
    waves = [np.sin(2 * np.pi * frequency * _seconds(duration)) for frequency in frequencies]
    return _samples(0.5 * np.mean(waves, axis=0))


def _sweep(low: float, high: float, duration: float) -> np.ndarray:
    time = _seconds(duration)
    phase = 2 * np.pi * low * duration / np.log(high / low) * (np.exp(time / duration * np.log(high / low)) - 1)
    return _samples(0.4 * np.sin(phase))


def _clicks(duration: float, per_second: float, rng: np.random.Generator) -> np.ndarray:
    samples = np.zeros(int(duration * SAMPLE_RATE))
    decay = np.exp(-np.arange(1600) / 160)
    for start in np.arange(0.1, duration - 0.2, 1 / per_second):
        at = int(start * SAMPLE_RATE)
        samples[at : at + decay.size] += decay * rng.standard_normal(decay.size)
    return _samples(0.5 * samples / np.abs(samples).max())


def _syllables(duration: float, rng: np.random.Generator) -> np.ndarray:
    """Make a buzz with harmonics, of wandering pitch, whose loudness rises and falls four times a second."""
    time = _seconds(duration)
    pitch = 140 + 30 * np.sin(2 * np.pi * 0.7 * time) + np.cumsum(rng.standard_normal(time.size)) * 0.01
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    buzz = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 25))
    return _samples(0.3 * buzz * np.clip(np.sin(2 * np.pi * 2 * time), 0, 1))
