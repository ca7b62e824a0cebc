"""Folders of real media files for tests, written afresh: pictures and sounds that differ from one another."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image


def write_picture(path: Path, seed: int, size: tuple[int, int] = (64, 48)) -> Path:
    """Patches of colour, different for each seed; the format is that of the suffix."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def write_sound(path: Path, seed: int, seconds: float = 2.0, rate: int = 16_000) -> Path:
    """Three tones, different for each seed."""
    rng = np.random.default_rng(seed)
    times = np.arange(int(seconds * rate)) / rate
    tones = [np.sin(2 * np.pi * frequency * times) for frequency in rng.uniform(100, 7000, 3)]
    soundfile.write(path, (np.mean(tones, axis=0) * 0.5).astype(np.float32), rate)
    return path


def write_folder(folder: Path, n_pictures: int = 12, n_sounds: int = 3) -> Path:
    """Pictures and sounds in a folder and one below it; the last sound is longer than a window."""
    (folder / "below").mkdir(parents=True)
    for number in range(n_pictures):
        parent = folder / "below" if number % 3 == 0 else folder
        write_picture(parent / f"picture {number:03d}.{('png', 'jpg')[number % 2]}", number)
    for number in range(n_sounds):
        write_sound(folder / f"sound {number:03d}.wav", number, 23.0 if number == n_sounds - 1 else 2.0)
    return folder


ODD_NAMES = (
    b'it\'s a "quote".png',
    b"line\nbreak.png",
    "emoji \U0001f6b2 and \u00e9.png".encode(),
    b"not utf-8 \xff\xfe.png",
    b"100% _ like\\.png",
    b"); drop table media; --.png",
)


def write_odd_names(folder: Path) -> list[bytes]:
    """A good picture under each of ``ODD_NAMES``; returns the absolute paths."""
    paths = []
    for seed, name in enumerate(ODD_NAMES):
        picture = write_picture(folder / "plain.png", 1000 + seed)
        paths.append(os.fsencode(picture.rename(folder / os.fsdecode(name))))
    return paths
