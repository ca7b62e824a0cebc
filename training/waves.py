"""Building blocks of synthetic sounds: seeded parameters, tones, shaped noise, events in time, rooms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.signal import fftconvolve

RATE = 16_000
SLICES, KEPT_BACK = 8, (2, 5)  # of every parameter's range, which slices are kept for the evaluation
Wave = NDArray[np.float64]
Item = TypeVar("Item")


class Dice:
    """Draws the parameters of sounds.

    Every range is cut into eight slices. Two of them are never drawn from in training; the evaluation draws from
    these two only. Choices from a list of four and more are split likewise.
    """

    def __init__(self, seed: int, unseen: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.unseen = unseen
        self._slices = [slot for slot in range(SLICES) if (slot in KEPT_BACK) == unseen]

    def __call__(self, low: float, high: float) -> float:
        """A number from the range."""
        slot = self._slices[int(self.rng.integers(len(self._slices)))]
        return float(low + (high - low) * (slot + self.rng.random()) / SLICES)

    def log(self, low: float, high: float) -> float:
        """A number from the range, evenly in its logarithm."""
        return float(np.exp(self(np.log(low), np.log(high))))

    def pick(self, items: Sequence[Item]) -> Item:
        """One of the items; of four and more every fourth is unseen in training."""
        indices = [i for i in range(len(items)) if len(items) < 4 or (i % 4 == 2) == self.unseen]
        return items[int(self.rng.choice(indices))]

    def chance(self, share: float) -> bool:
        """True in this share of the cases."""
        return bool(self.rng.random() < share)

    def jitter(self, spread: float) -> float:
        """A free variation around 1: not a parameter of the sound."""
        return float(1 + spread * (2 * self.rng.random() - 1))


def samples(seconds: float) -> int:
    """Seconds in samples."""
    return max(64, round(seconds * RATE))


def clock(count: int) -> Wave:
    """Times of the samples in seconds."""
    return np.arange(count) / RATE


def oscillate(frequency: float | Wave, count: int, partials: Sequence[float] = (1.0,)) -> Wave:
    """A tone of harmonic partials, its frequency in Hz fixed or following (count,) values."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(frequency, count)) / RATE
    top = float(np.max(frequency))
    wave = np.zeros(count)
    for number, amount in enumerate(partials, 1):
        if number * top < RATE / 2:
            wave += amount * np.sin(number * phase)
    return wave


def curve(points: Sequence[float], count: int) -> Wave:
    """A line through evenly spaced points, (count,)."""
    return np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(points)), points)


def fade(count: int, attack: float, decay: float) -> Wave:
    """An envelope: a rise of `attack` seconds, then an exponential fall with the time constant `decay`."""
    time = clock(count)
    return np.minimum(1, time / max(attack, 1e-4)) * np.exp(-np.maximum(0, time - attack) / decay)


def hold(count: int, edge: float = 0.02) -> Wave:
    """An envelope: full, with short edges."""
    time = clock(count)
    return np.minimum(1, np.minimum(time, time[::-1]) / edge)


def noise(dice: Dice, count: int, gain: Callable[[Wave], Wave]) -> Wave:
    """Noise whose spectrum follows `gain` (of the frequencies in Hz), at an RMS of 1."""
    size = next_fast_len(count, real=True)
    spectrum = rfft(dice.rng.standard_normal(size))
    shaped = irfft(spectrum * gain(rfftfreq(size, 1 / RATE)), size)[:count]
    return np.asarray(shaped / (np.sqrt(np.mean(shaped**2)) + 1e-9))


def band(dice: Dice, count: int, low: float, high: float, slope: float = 3.0) -> Wave:
    """Noise between two frequencies with soft edges."""
    return noise(dice, count, lambda f: 1 / (1 + (low / (f + 1)) ** (2 * slope)) / (1 + (f / high) ** (2 * slope)))


def coloured(dice: Dice, count: int, power: float) -> Wave:
    """Noise falling with the frequency to the given power (1 pink-like in amplitude, 2 steeper)."""
    return noise(dice, count, lambda f: (np.maximum(f, 30) / 30) ** -power)


def formants(wave: Wave, peaks: Sequence[tuple[float, float]]) -> Wave:
    """Weight a wave's spectrum by resonances (centre, width in Hz)."""

    def gain(frequencies: Wave) -> Wave:
        peaked = [1 / (1 + ((frequencies - centre) / width) ** 2) for centre, width in peaks]
        return np.asarray(0.02 + np.sum(peaked, axis=0))

    return filtered(wave, gain)


def filtered(wave: Wave, gain: Callable[[Wave], Wave]) -> Wave:
    """The wave with its spectrum weighted by `gain` (of the frequencies in Hz)."""
    size = next_fast_len(len(wave), real=True)
    return np.asarray(irfft(rfft(wave, size) * gain(rfftfreq(size, 1 / RATE)), size)[: len(wave)])


def slow(dice: Dice, count: int, rate: float, low: float, high: float) -> Wave:
    """A random slow movement between two values with about `rate` turns a second."""
    points = dice.rng.uniform(low, high, max(2, int(count / RATE * rate) + 2))
    return curve(points.tolist(), count)


def place(count: int, times: Sequence[float], make: Callable[[], Wave]) -> Wave:
    """Events at the given times (seconds) in a wave of `count` samples, each made anew."""
    wave = np.zeros(count)
    for time in times:
        start = int(time * RATE)
        if 0 <= start < count:
            event = make()[: count - start]
            wave[start : start + len(event)] += event
    return wave


def regular(dice: Dice, seconds: float, gap: float, spread: float = 0.0) -> list[float]:
    """Times from a random first one on, `gap` apart, each gap varied."""
    times, time = [], float(dice.rng.random() * min(gap, 0.5))
    while time < seconds:
        times.append(time)
        time += gap * dice.jitter(spread)
    return times


def scattered(dice: Dice, seconds: float, rate: float) -> list[float]:
    """Times at random, `rate` a second, at least one."""
    count = max(1, int(dice.rng.poisson(rate * seconds)))
    return sorted(dice.rng.uniform(0, max(seconds - 0.1, 0.05), count).tolist())


def struck(count: int, modes: Sequence[tuple[float, float, float]], attack: float = 0.002) -> Wave:
    """A struck body: modes of (frequency in Hz, amount, decay in seconds)."""
    wave = np.zeros(count)
    for frequency, amount, decay in modes:
        if frequency < RATE / 2:
            wave += amount * oscillate(frequency, count) * fade(count, attack, decay)
    return wave


def plucked(dice: Dice, frequency: float, seconds: float, damping: float = 0.996) -> Wave:
    """A plucked string after Karplus and Strong."""
    period = max(2, round(RATE / frequency))
    row = dice.rng.uniform(-1, 1, period)
    rows = []
    for _ in range(samples(seconds) // period + 1):
        rows.append(row)
        row = damping * 0.5 * (row + np.roll(row, 1))
    return np.concatenate(rows)


def reverberated(dice: Dice, wave: Wave, seconds: float, share: float) -> Wave:
    """The wave in a room: convolved with decaying noise."""
    length = samples(seconds)
    tail = dice.rng.standard_normal(length) * np.exp(-clock(length) / (seconds / 5))
    wet = fftconvolve(wave, tail)[: len(wave)]
    scale = np.sqrt(np.mean(wave**2) / (np.mean(wet**2) + 1e-12))
    return np.asarray((1 - share) * wave + share * scale * wet)


def levelled(wave: Wave, peak: float = 0.7) -> Wave:
    """Scale to a peak."""
    return np.asarray(peak * wave / (np.max(np.abs(wave)) + 1e-9))
