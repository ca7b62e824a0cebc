"""Whole pictures at full size, drawn with Pillow: for the samples and for the evaluation, never for training."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from captions import COLOURS
from catalogue import Concept
from PIL import Image, ImageFilter
from render_sprites import draw

DRAWN_AT = 256
LAYOUTS: dict[int, tuple[tuple[tuple[float, float], ...], ...]] = {
    1: (((0.5, 0.5),),),
    2: (((0.27, 0.5), (0.73, 0.5)), ((0.5, 0.27), (0.5, 0.73)), ((0.28, 0.3), (0.72, 0.7)), ((0.28, 0.7), (0.72, 0.3))),
    3: (((0.26, 0.28), (0.74, 0.28), (0.5, 0.74)), ((0.5, 0.26), (0.26, 0.74), (0.74, 0.74))),
}


@dataclass(frozen=True)
class Sources:
    """Where the drawings come from."""

    npm: Path
    font: Path


@lru_cache(maxsize=4096)
def drawing(sources: Sources, style: str, concept: Concept, variant: int) -> Image.Image:
    """One concept in one style, RGBA 256 x 256.

    Raises:
        FileNotFoundError: the set has no such drawing.
    """
    image = draw(sources.npm, sources.font, style, concept, variant, DRAWN_AT)
    if image is None:
        raise FileNotFoundError(f"{style} has no drawing of {concept.labels[variant]}")
    return image


def tinted(image: Image.Image, colour: str) -> Image.Image:
    """The drawing in shades of one colour."""
    pixels = np.asarray(image).astype(np.float32)
    luma = pixels[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32) / 255
    shaded = np.array(COLOURS[colour], np.float32) * (0.35 + 0.9 * luma[..., None])
    return Image.fromarray(np.concatenate([shaded.clip(0, 255), pixels[..., 3:]], -1).astype(np.uint8), "RGBA")


def backdrop(size: tuple[int, int], colour: str, rng: random.Random) -> Image.Image:
    """A background (width, height) around one colour: plain, a gradient, or softly mottled."""
    width, height = size
    base = np.array(COLOURS[colour], np.float32) + rng.uniform(-12, 12)
    pixels = np.broadcast_to(base, (height, width, 3)).copy()
    kind = rng.random()
    if kind < 0.3:
        ramp_x, ramp_y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)
        slope = rng.uniform(-30, 30) * ramp_x[None, :] + rng.uniform(-30, 30) * ramp_y[:, None]
        pixels += slope[..., None]
    elif kind < 0.45:
        source = np.random.default_rng(rng.getrandbits(32)).uniform(-30, 30, (8, 8))
        mottled = Image.fromarray(source.astype(np.float32), "F").resize(size, Image.Resampling.BICUBIC)
        pixels += np.asarray(mottled)[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8), "RGB")


def compose(
    drawings: Sequence[Image.Image], size: tuple[int, int], colour: str, rng: random.Random, effort: float = 1.0
) -> Image.Image:
    """A picture (width, height) of one to three drawings side by side on a background.

    Args:
        drawings: RGBA squares.
        size: width and height in pixels.
        colour: the background's colour, a key of `COLOURS`.
        rng: source of randomness.
        effort: 0 puts every drawing upright at full size, 1 varies place, size, angle and direction.
    """
    canvas = backdrop(size, colour, rng)
    short = min(size)
    room = {1: 0.85, 2: 0.5, 3: 0.44}[len(drawings)]
    for image, (x, y) in zip(drawings, rng.choice(LAYOUTS[len(drawings)]), strict=True):
        if rng.random() < 0.5 * effort:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = image.rotate(rng.uniform(-18, 18) * effort, Image.Resampling.BICUBIC)
        side = max(8, round(short * room * (1 - rng.uniform(0, 0.35) * effort)))
        image = image.resize((side, side), Image.Resampling.LANCZOS)
        slack = (0.9 - side / short) / 2 if len(drawings) == 1 else 0.03
        # everything lies in the central square, which is what a model of square pictures gets to see
        shift_x, shift_y = (rng.uniform(-1, 1) * slack * short * effort for _ in range(2))
        left = (size[0] - short) / 2 + x * short + shift_x - side / 2
        top = (size[1] - short) / 2 + y * short + shift_y - side / 2
        left, top = min(max(left, 0), size[0] - side), min(max(top, 0), size[1] - side)
        canvas.paste(image, (round(left), round(top)), image)
    if rng.random() < 0.15 * effort:
        canvas = canvas.filter(ImageFilter.GaussianBlur(short / 200))
    return canvas
