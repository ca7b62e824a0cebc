"""Vectors to search among: the demo model's encodings of rendered pictures, and beyond those perturbed ones.

``N_REAL`` pictures are drawn from the bundled samples: one to three of them cut, turned, recoloured and laid over a
background, no two alike; ``N_QUERIES`` more are asked for and never stored. A perturbed vector is a real one that took
a step: into a random direction of the plane that it spans with some of its ``NEAR`` nearest real ones, so that it stays
where pictures are, and as far as a random real picture is from its own nearest, so that it is no copy. The same vectors
come out each time; they are kept under ``build``.
"""

from __future__ import annotations

import colorsys
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

import arrowlens
from arrowlens.encoders import CLIPEngine
from benchmarks.measure import CACHE

N_REAL = 20_000
N_QUERIES = 200  # pictures, and as many texts
NEAR, STEPS_TOWARDS = 32, 8
DEMO = Path(arrowlens.__file__).parent / "demo"
_SIDE = 112  # twice what the demo model takes
_BLOCK = 2_000
_COLOURS = ("red", "blue", "green", "yellow", "white", "black", "brown", "purple")


def stored_vectors(n: int) -> np.ndarray:
    """(n, d) float16 of length one, mapped from a file: the first ``N_REAL`` are real."""
    path = CACHE / f"vectors-{n}.npy"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        real = _encoded_pictures()[:N_REAL]
        whole = np.lib.format.open_memmap(path.with_suffix(".partial"), "w+", np.float16, (n, real.shape[1]))
        whole[: min(n, N_REAL)] = real[:n]
        if n > N_REAL:
            _perturb(real, whole[N_REAL:])
        whole.flush()
        path.with_suffix(".partial").rename(path)
    return np.load(path, mmap_mode="r")


def queries() -> tuple[np.ndarray, np.ndarray]:
    """Pictures and texts to ask for, each (``N_QUERIES``, d) float32 of length one; none of them is stored."""
    path = CACHE / "texts.npy"
    if not path.exists():
        np.save(path, CLIPEngine(DEMO / "models" / "clip").encode_text(texts()))
    return _encoded_pictures()[N_REAL:], np.load(path)


def texts() -> list[str]:
    """What people ask for: subjects of the samples, in colours, and two of them together."""
    rng = np.random.default_rng(7)
    subjects = sorted({path.stem.rsplit("-", 1)[0].split("-and-")[0].replace("-", " ") for path in _sample_paths()})
    found: list[str] = []
    while len(found) < N_QUERIES:
        first, second = rng.choice(subjects, 2, replace=False)
        kinds = (f"a {first}", f"a {rng.choice(_COLOURS)} {first}", f"a {first} and a {second}")
        found.append(str(kinds[len(found) % 3]))
    return found


def rendered(number: int) -> Image.Image:
    """The picture of a number: samples, each cut, turned, recoloured, over a slope between two colours."""
    rng = np.random.default_rng((number, 71))
    image = _slope(rng)
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        sprite = _samples()[rng.integers(len(_samples()))]
        share = rng.uniform(0.55, 1.0)
        left, top = (rng.uniform(0, 1 - share, 2) * sprite.size).astype(int)
        sprite = sprite.crop((left, top, left + int(share * sprite.width), top + int(share * sprite.height)))
        if rng.random() < 0.5:
            sprite = _recoloured(sprite, int(rng.integers(256)))
        sprite = ImageEnhance.Brightness(sprite).enhance(rng.uniform(0.7, 1.25))
        side = int(rng.uniform(0.35, 0.95) * _SIDE)
        sprite = sprite.resize((side, max(8, side * sprite.height // sprite.width)), Image.Resampling.BILINEAR)
        sprite = sprite.convert("RGBA").rotate(rng.uniform(-30, 30), Image.Resampling.BILINEAR, expand=True)
        x, y = (rng.uniform(-0.15, 0.65, 2) * _SIDE).astype(int)
        image.paste(sprite, (int(x), int(y)), sprite)
    return image


def _encoded_pictures() -> np.ndarray:
    """(``N_REAL + N_QUERIES``, d) float32."""
    path = CACHE / "pictures.npy"
    if not path.exists():
        engine = CLIPEngine(DEMO / "models" / "clip")
        parts = []
        for start in range(0, N_REAL + N_QUERIES, 100):
            numbers = range(start, min(start + 100, N_REAL + N_QUERIES))
            pictures = [engine.image_processor(np.asarray(rendered(n)), normalize=False) for n in numbers]
            parts.append(engine.encode_image(np.stack(pictures)))
        CACHE.mkdir(parents=True, exist_ok=True)
        np.save(path, np.concatenate(parts))
    vectors: np.ndarray = np.load(path)
    return vectors


def _perturb(real: np.ndarray, into: np.ndarray) -> None:
    near, closest = _neighbours(real)
    rng = np.random.default_rng(3)
    for start in range(0, len(into), _BLOCK):
        n = min(_BLOCK, len(into) - start)
        anchors = rng.integers(0, len(real), n)
        towards = near[anchors[:, None], rng.integers(0, NEAR, (n, STEPS_TOWARDS))]
        origin = real[anchors]
        weights = rng.standard_normal((n, STEPS_TOWARDS, 1)).astype(np.float32)
        step = (weights * (real[towards] - origin[:, None])).sum(axis=1)
        step -= (step * origin).sum(axis=1, keepdims=True) * origin
        step /= np.linalg.norm(step, axis=1, keepdims=True)
        cosine = closest[rng.integers(0, len(real), n)][:, None]
        into[start : start + n] = cosine * origin + np.sqrt(1 - cosine**2) * step


def _neighbours(real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each vector the positions of its ``NEAR`` nearest (n, ``NEAR``), and its cosine with the very nearest (n,)."""
    near, closest = [], []
    for start in range(0, len(real), _BLOCK):
        cosines = real[start : start + _BLOCK] @ real.T
        cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -1
        near.append(np.argpartition(-cosines, NEAR, axis=1)[:, :NEAR].astype(np.int32))
        closest.append(cosines.max(axis=1))
    return np.concatenate(near), np.concatenate(closest)


@cache
def _samples() -> list[Image.Image]:
    found = []
    for path in _sample_paths():
        with Image.open(path) as image:
            image.thumbnail((_SIDE, _SIDE))
            found.append(image.convert("RGB"))
    return found


def _sample_paths() -> list[Path]:
    return sorted((DEMO / "samples" / "pictures").rglob("*.*"))


def _slope(rng: np.random.Generator) -> Image.Image:
    hues, light = rng.random(2), rng.uniform(0.3, 1.0)
    ends = [tuple(int(255 * v) for v in colorsys.hsv_to_rgb(hue, rng.uniform(0, 0.8), light)) for hue in hues]
    image = Image.new("RGB", (1, 2), ends[0])
    ImageDraw.Draw(image).point((0, 1), ends[1])
    return image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)


def _recoloured(image: Image.Image, turn: int) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    return Image.merge("HSV", (hue.point(lambda level: (level + turn) % 256), saturation, value)).convert("RGB")
