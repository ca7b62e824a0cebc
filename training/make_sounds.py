"""Synthesise sounds of every kind: clips for training and evaluation, and the sample recordings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import sounds_living as living
import sounds_music as music
import sounds_world as world
import soxr
from catalogue import sounds
from numpy.typing import NDArray
from waves import RATE, Dice, Wave, band, coloured, filtered, levelled, reverberated, samples

Maker = Callable[[Dice, float], Wave]
NAMES = {"clock": "ticking"}
SAMPLE_RATES = (16_000, 22_050, 32_000, 44_100)


def makers() -> dict[str, Maker]:
    """The function behind every kind of `sounds.txt`.

    Raises:
        AttributeError: a kind without a function.
    """
    found = {}
    for kind in sounds():
        name = NAMES.get(kind, kind).replace(" ", "_")
        found[kind] = getattr(music, name, None) or getattr(living, name, None) or getattr(world, name)
    return found


def roughened(dice: Dice, wave: Wave) -> Wave:
    """What rooms, microphones and surroundings do: reverberation, tone control, background noise, silence before."""
    if dice.chance(0.35):
        wave = reverberated(dice, wave, dice.rng.uniform(0.2, 1.2), dice.rng.uniform(0.1, 0.5))
    if dice.chance(0.4):
        tilt = dice.rng.uniform(-0.4, 0.4)
        wave = filtered(wave, lambda f: (np.maximum(f, 50) / 1000) ** tilt)
        if dice.chance(0.3):
            edge = dice.rng.uniform(2500, 6000)
            wave = filtered(wave, lambda f: 1 / (1 + (f / edge) ** 6))
    wave = levelled(wave)
    power = np.sqrt(np.mean(wave**2)) + 1e-6
    if dice.chance(0.6):
        bed = (
            coloured(dice, len(wave), dice.rng.uniform(0, 1.2))
            if dice.chance(0.7)
            else band(dice, len(wave), 200, 4000)
        )
        wave = wave + bed * power * 10 ** (-dice.rng.uniform(12, 45) / 20)
    if dice.chance(0.15):
        lead = int(dice.rng.uniform(0, 0.25) * len(wave))
        wave = np.concatenate([1e-4 * dice.rng.standard_normal(lead), wave[: len(wave) - lead]])
    return levelled(wave, float(dice.rng.uniform(0.15, 0.95)))


def clip(kind: str, seed: int, unseen: bool = False, seconds: tuple[float, float] = (2.0, 5.0)) -> NDArray[np.float32]:
    """One recording of a kind, float32 at 16 kHz.

    Args:
        kind: a kind of `sounds.txt`.
        seed: everything follows from it.
        unseen: draw the parameters from the ranges that training never sees.
        seconds: the shortest and the longest it may be.
    """
    dice = Dice(seed, unseen)
    wave = MAKERS[kind](dice, float(dice.rng.uniform(*seconds)))
    return roughened(dice, wave).astype(np.float32)


def write_recordings(folder: Path, seed: int) -> None:
    """The sample recordings: one of every kind and two more of speech and dogs, in several formats and rates."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number, kind in enumerate([*sounds(), "speech", "speech", "dog"]):
        dice = Dice(seed + 7919 * number, unseen=True)
        seconds = 12.0 if number % 15 == 4 else float(rng.choice((1.2, 2, 3, 4, 5, 6)))
        seconds = max(seconds, 3.0) if kind in ("ship horn", "waves", "thunder") else seconds
        wave = MAKERS[kind](dice, seconds)
        if dice.chance(0.4):
            wave = reverberated(dice, wave, 0.6, 0.2)
        rate = int(rng.choice(SAMPLE_RATES))
        resampled = np.asarray(soxr.resample(levelled(wave, 0.6), RATE, rate))
        suffix = "wav" if rate == RATE and seconds <= 3 else str(rng.choice(("ogg", "ogg", "flac")))
        rate_note = resampled if number % 9 else np.stack([resampled, 0.8 * resampled], 1)
        index = 1 + len(list(folder.glob(f"{kind.replace(' ', '-')}-[0-9]*")))
        path = folder / f"{kind.replace(' ', '-')}-{index:02d}.{suffix}"
        # in pieces: libsndfile's Vorbis writer overflows its stack on long blocks
        channels = 1 if rate_note.ndim == 1 else 2
        with soundfile.SoundFile(path, "w", rate, channels) as file:
            for start in range(0, len(rate_note), samples(0.5)):
                file.write(rate_note[start : start + samples(0.5)])


MAKERS = makers()
