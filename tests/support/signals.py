"""Pixels and samples that look and sound a little like something. The same seed always gives the same."""

from __future__ import annotations

import numpy as np


def pixels(seed: int = 0, width: int = 96, height: int = 64) -> np.ndarray:
    """(height, width, 3) uint8: a smooth slope with a few rectangles, different for each seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    slope = rng.uniform(-90, 90, (3, 2))
    image = 128 + slope[:, 0] * x[..., None] + slope[:, 1] * y[..., None]
    for _ in range(4):
        left, top = rng.integers(0, [width, height])
        right, bottom = left + rng.integers(1, width + 1) // 2 + 1, top + rng.integers(1, height + 1) // 2 + 1
        image[top:bottom, left:right] = rng.integers(0, 256, 3)
    return np.clip(image, 0, 255).astype(np.uint8)


def samples(seed: int = 0, seconds: float = 1.0, rate: int = 16_000, channels: int = 1) -> np.ndarray:
    """(n, channels) float32: tones with a slow beat and a little noise, different for each seed."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate))[:, None] / rate
    frequencies = rng.uniform(110, 1800, (3, channels))
    sound = sum(0.2 * np.sin(2 * np.pi * f * t + rng.uniform(0, 6)) for f in frequencies)
    sound = sound * (0.6 + 0.4 * np.sin(2 * np.pi * rng.uniform(0.5, 3) * t))
    return (sound + rng.normal(0, 0.003, sound.shape)).astype(np.float32)
