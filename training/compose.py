"""Pictures for training, composed from the sprites on the fly: batches of pixels and their captions."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from captions import COLOURS, picture_caption
from catalogue import Concept
from torch import Tensor

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
LUMA = torch.tensor([0.299, 0.587, 0.114])
SLOTS = 3
TINTS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey")


@dataclass
class Batch:
    """Normalised pixels (n, 3, S, S), a caption each, and which concepts are seen (n, concepts) as shares of one."""

    pixels: Tensor
    captions: list[str]
    targets: Tensor


@dataclass
class Plan:
    """What goes into one picture: sprite ids and places, tints, the background's colour and its name in the caption."""

    sprites: list[int]
    places: list[tuple[float, float, float]]
    tint: str | None
    background: str
    caption: str
    concepts: list[int]


class Composer:
    """Draws batches from one file of sprites; everything follows from the seed."""

    def __init__(self, path: Path, concepts: list[Concept], seed: int) -> None:
        table = np.load(path)
        straight = torch.from_numpy(table["pixels"]).permute(0, 3, 1, 2).float() / 255
        alpha = straight[:, 3:]
        self.levels = [torch.cat([straight[:, :3] * alpha, alpha], 1)]
        for _ in range(2):
            self.levels.append(F.avg_pool2d(self.levels[-1], 2))
        self.concepts = concepts
        self.style = table["style"]
        self.contrast = list(table["styles"]).index("contrast") if "contrast" in table["styles"] else -1
        self.by_style: list[dict[int, list[int]]] = [{} for _ in concepts]
        for index, (concept, style) in enumerate(zip(table["concept"], table["style"], strict=True)):
            self.by_style[concept].setdefault(int(style), []).append(index)
        self.rng = random.Random(seed)
        self.torch_rng = torch.Generator().manual_seed(seed)

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.torch_rng)

    def _styles(self, concept: int, count: int) -> list[int]:
        """Styles for the views of one concept, all different; the black-and-white set only now and then."""
        coloured = [style for style in self.by_style[concept] if style != self.contrast]
        chosen = self.rng.sample(coloured, min(count, len(coloured)))
        if self.contrast in self.by_style[concept] and self.rng.random() < 0.2:
            chosen[0] = self.contrast
        return chosen

    def plan_single(self, concept: int, style: int, strength: float) -> Plan:
        """One concept, most often once, else two or three times."""
        rng = self.rng
        count = rng.choices((1, 2, 3), (1 - 0.24 * strength, 0.13 * strength, 0.11 * strength))[0]
        sprite = rng.choice(self.by_style[concept][style])
        tint = rng.choice(TINTS) if rng.random() < 0.1 else None
        background = rng.choice(("white", *COLOURS))
        named = background if rng.random() < 0.25 else None
        caption = picture_caption([(self.concepts[concept], count, tint)], named, rng)
        return Plan([sprite] * count, self._places(count, strength), tint, background, caption, [concept])

    def plan_scene(self, chosen: list[int]) -> Plan:
        """Two or three different concepts in one picture, each in any style."""
        rng = self.rng
        style = rng.choice([0, 1, 2, 3])
        sprites = [rng.choice(self.by_style[c].get(style) or next(iter(self.by_style[c].values()))) for c in chosen]
        background = rng.choice(("white", *COLOURS))
        named = background if rng.random() < 0.5 else None
        caption = picture_caption([(self.concepts[c], 1, None) for c in chosen], named, rng)
        return Plan(sprites, self._places(len(chosen), 1.0), None, background, caption, chosen)

    def _places(self, count: int, strength: float) -> list[tuple[float, float, float]]:
        """Centre x, y in [-1, 1] and the half size, for objects side by side."""
        rng = self.rng
        if count == 1:
            half = 0.95 - 0.5 * strength * rng.random()
            room = max(0.0, 1.05 - half) * strength
            return [(rng.uniform(-room, room), rng.uniform(-room, room), half)]
        cells = {
            2: rng.choice((((-0.5, 0.0), (0.5, 0.0)), ((0.0, -0.5), (0.0, 0.5)), ((-0.5, -0.4), (0.5, 0.4)),
                           ((-0.5, 0.4), (0.5, -0.4)))),
            3: rng.choice((((-0.5, -0.5), (0.5, -0.5), (0.0, 0.5)), ((0.0, -0.5), (-0.5, 0.5), (0.5, 0.5)),
                           ((-0.6, -0.5), (0.0, 0.5), (0.6, -0.5)))),
        }[count]  # fmt: skip
        shuffled = rng.sample(list(cells), count)
        size = 0.52 if count == 2 else 0.46
        jitter = 0.12
        return [
            (x + rng.uniform(-jitter, jitter), y + rng.uniform(-jitter, jitter), size * rng.uniform(0.6, 1.1))
            for x, y in shuffled
        ]

    def singles(self, concepts: list[int], views: int, strength: float) -> list[Plan]:
        """`views` pictures of every concept, each in another style."""
        return [
            self.plan_single(concept, style, strength)
            for concept in concepts
            for style in (self._styles(concept, views) * views)[:views]
        ]

    def draw(self, plans: list[Plan], size: int, strength: float) -> Batch:
        """The pixels, captions and targets of the plans."""
        canvas = self._backgrounds(plans, size)
        bright = canvas.mean((1, 2, 3)) > 0.45
        for slot in range(SLOTS):
            rows = [row for row, plan in enumerate(plans) if len(plan.sprites) > slot]
            if rows:
                layer = self._layer([plans[row] for row in rows], slot, bright[rows], size, strength)
                canvas[rows] = canvas[rows] * (1 - layer[:, 3:]) + layer[:, :3]
        pixels = self._finish(canvas, strength)
        targets = torch.zeros(len(plans), len(self.concepts))
        for row, plan in enumerate(plans):
            targets[row, plan.concepts] = 1 / len(plan.concepts)
        return Batch((pixels - MEAN) / STD, [plan.caption for plan in plans], targets)

    def _backgrounds(self, plans: list[Plan], size: int) -> Tensor:
        count = len(plans)
        base = torch.tensor([COLOURS[plan.background] for plan in plans], dtype=torch.float32)[:, :, None, None] / 255
        base = base + 0.12 * (self._rand(count, 3, 1, 1) - 0.5)
        ramp = torch.linspace(-0.5, 0.5, size)
        slopes = 0.5 * (self._rand(count, 2, 3) - 0.5) * (self._rand(count, 1, 1) < 0.35)
        gradient = slopes[:, 0, :, None, None] * ramp[:, None] + slopes[:, 1, :, None, None] * ramp[None, :]
        coarse = F.interpolate(self._rand(count, 3, 6, 6) - 0.5, size=(size, size), mode="bilinear")
        texture = coarse * 0.5 * (self._rand(count, 1, 1, 1) < 0.25)
        waves = self._rand(count, 4)[:, :, None, None]
        phase = ramp[:, None] * (waves[:, 0:1] - 0.5) * 80 + ramp[None, :] * (waves[:, 1:2] - 0.5) * 80
        stripes = 0.12 * torch.sign(torch.sin(phase)) * (waves[:, 2:3] < 0.12)
        return (base + gradient + texture + stripes).clamp(0, 1)

    def _layer(self, plans: list[Plan], slot: int, bright: Tensor, size: int, strength: float) -> Tensor:
        """One object of each plan, premultiplied RGBA (n, 4, size, size)."""
        count = len(plans)
        ids = torch.tensor([plan.sprites[slot] for plan in plans])
        place = torch.tensor([plan.places[slot] for plan in plans])
        angle = (self._rand(count) - 0.5) * 2 * strength * 0.45
        flip = torch.where(self._rand(count) < 0.5, -1.0, 1.0)
        stretch = 1 + 0.3 * strength * (self._rand(count) - 0.5)
        half_x, half_y = place[:, 2] * stretch.sqrt(), place[:, 2] / stretch.sqrt()
        cos, sin = torch.cos(angle), torch.sin(angle)
        shear = 0.3 * strength * (self._rand(count) - 0.5)
        rows_x = torch.stack([cos * flip, (sin + shear) * flip], 1) / half_x[:, None]
        rows_y = torch.stack([-sin, cos], 1) / half_y[:, None]
        linear = torch.stack([rows_x, rows_y], 1)
        shift = -(linear @ place[:, :2, None])
        grid = F.affine_grid(torch.cat([linear, shift], 2), [count, 4, size, size], align_corners=False)
        wanted = (72 / (place[:, 2] * size)).log2().round().clamp(0, 2).long()
        layer = torch.empty(count, 4, size, size)
        for level, sprites in enumerate(self.levels):
            rows = torch.nonzero(wanted == level)[:, 0]
            if len(rows):
                dressed = self._dress(
                    sprites[ids[rows]], [plans[row] for row in rows], ids[rows], bright[rows], strength
                )
                layer[rows] = F.grid_sample(dressed, grid[rows], align_corners=False)
        return layer

    def _dress(self, sprites: Tensor, plans: list[Plan], ids: Tensor, bright: Tensor, strength: float) -> Tensor:
        """Vary the colours and the way of drawing of premultiplied sprites (n, 4, s, s)."""
        # looks vary more than places do: colours and manner are what another style changes
        count, strength = len(sprites), min(1.0, 1.3 * strength)
        colour, alpha = sprites[:, :3], sprites[:, 3:]
        luma = torch.einsum("nchw,c->nhw", colour, LUMA)[:, None]
        kind = self._rand(count, 1, 1, 1) / strength
        edges = self._edges(luma, alpha) if colour.shape[-1] > 18 else torch.zeros_like(luma)
        saturation = 1 + strength * (self._rand(count, 1, 1, 1) - 0.5)
        gains = 1 + 0.4 * strength * (self._rand(count, 3, 1, 1) - 0.5)
        varied = (luma + (colour - luma) * saturation) * gains
        turned = self._rand(count, 1, 1, 1) < 0.12 * strength
        varied = torch.where(turned, varied[:, [1, 2, 0]], varied)
        varied = torch.where(kind < 0.1, luma.expand_as(varied), varied)
        tints = torch.tensor([COLOURS[plan.tint] if plan.tint else (-1, -1, -1) for plan in plans]) / 255
        tinted = tints[:, :, None, None] * (0.35 * alpha + 0.9 * luma)
        varied = torch.where(tints[:, :1, None, None] >= 0, tinted, varied)
        inked = varied.clamp(min=0) * (1 - edges)
        pale = (0.75 + 0.25 * self._rand(count, 3, 1, 1)) * alpha * (1 - edges)
        varied = torch.where((kind > 0.1) & (kind < 0.45), inked, varied)
        varied = torch.where((kind > 0.45) & (kind < 0.53), pale, varied)
        contrast = torch.from_numpy(self.style[ids.numpy()] == self.contrast)[:, None, None, None]
        ink = torch.where(bright[:, None, None, None], 0.25 * self._rand(count, 3, 1, 1), 1.0) * alpha
        varied = torch.where(contrast, ink, varied)
        return torch.cat([torch.minimum(varied.clamp(min=0), alpha), alpha], 1)

    @staticmethod
    def _edges(luma: Tensor, alpha: Tensor) -> Tensor:
        """Where a drawing's outlines would be, 0..1: jumps of lightness or of the silhouette, about two pixels wide."""
        both = torch.cat([luma, alpha], 1)
        jump = (F.max_pool2d(both, 3, 1, 1) + F.max_pool2d(-both, 3, 1, 1)).amax(1, keepdim=True)
        return ((jump - 0.12) * 5).clamp(0, 1)

    def _finish(self, canvas: Tensor, strength: float) -> Tensor:
        """Blur, contrast, greyscale, occlusion and noise."""
        count, size = len(canvas), canvas.shape[-1]

        def some(share: float) -> Tensor:
            return self._rand(count, 1, 1, 1) < share * strength

        canvas = torch.where(some(0.15), F.avg_pool2d(F.pad(canvas, (1, 1, 1, 1), mode="replicate"), 3, 1), canvas)
        grey = torch.einsum("nchw,c->nhw", canvas, LUMA)[:, None]
        canvas = torch.where(some(0.08), grey.expand_as(canvas), canvas)
        contrast = 1 + 0.5 * strength * (self._rand(count, 1, 1, 1) - 0.5)
        brightness = 0.25 * strength * (self._rand(count, 1, 1, 1) - 0.5)
        canvas = (canvas - 0.5) * contrast + 0.5 + brightness
        ramp = torch.arange(size) / size
        corner, extent = self._rand(count, 2), 0.15 + 0.25 * self._rand(count, 2)
        inside_x = (ramp >= corner[:, :1]) & (ramp < corner[:, :1] + extent[:, :1])
        inside_y = (ramp >= corner[:, 1:]) & (ramp < corner[:, 1:] + extent[:, 1:])
        hidden = (inside_x[:, None, None, :] & inside_y[:, None, :, None]) & some(0.2)
        canvas = torch.where(hidden, self._rand(count, 3, 1, 1), canvas)
        noise = torch.randn(canvas.shape, generator=self.torch_rng)
        return (canvas + 0.08 * strength * self._rand(count, 1, 1, 1) ** 2 * noise).clamp(0, 1)
