"""How well the picture and text towers find drawings that were never trained on."""

from __future__ import annotations

import csv
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from captions import COLOURS
from catalogue import Concept, concepts, with_article
from numpy.typing import NDArray
from pictures import Sources, compose, drawing
from PIL import Image

from arrowlens.encoders import CLIPEngine

Vectors = NDArray[np.float32]
CONCEPTS, SCENES, SEED = 300, 500, 77_000_000
TRAINED = ("noto", "twemoji", "flat", "modern")
UNSEEN = "openmoji"
SIZE = (224, 224)
BATCHES, BATCH = 400, 8


def recall(queries: Vectors, gallery: Vectors, k: int) -> float:
    """The share of queries (n, d) whose own row of the gallery (n, d) is among the k most similar."""
    scores = queries @ gallery.T
    own = np.diagonal(scores)[:, None]
    better = (scores > own).sum(1) + ((scores == own).sum(1) - 1)
    return float((better < k).mean())


class PictureTests:
    """Renderings by seed, their vectors, and what is found with them."""

    def __init__(self, engine: CLIPEngine, sources: Sources) -> None:
        self.engine, self.sources = engine, sources
        self.concepts: list[Concept] = random.Random(300).sample(concepts(sources.npm), CONCEPTS)
        self.texts = engine.encode_text([with_article(concept.name) for concept in self.concepts])

    def _pixels(self, pictures: Sequence[Image.Image]) -> NDArray[np.float32]:
        return np.stack([self.engine.image_processor(picture) for picture in pictures])

    def _vectors(self, pixels: NDArray[np.float32]) -> Vectors:
        parts = [self.engine.encode_image(pixels[start : start + 64]) for start in range(0, len(pixels), 64)]
        return np.concatenate(parts)

    def renderings(self, style: str | None, seed: int) -> NDArray[np.float32]:
        """One picture of each concept, in one style or in any of the trained ones; (300, S, S, 3)."""
        rng = random.Random(SEED + seed)
        pictures = []
        for concept in self.concepts:
            image = drawing(self.sources, style or rng.choice(TRAINED), concept, 0)
            pictures.append(compose([image], SIZE, rng.choice(list(COLOURS)), rng))
        return self._pixels(pictures)

    def text_to_picture(self, style: str | None, rounds: int = 3) -> dict[int, float]:
        """Recall at 1 and 5 of 300 names over 300 pictures, averaged over rounds of new pictures."""
        galleries = [self._vectors(self.renderings(style, 10 * number)) for number in range(rounds)]
        return {k: float(np.mean([recall(self.texts, gallery, k) for gallery in galleries])) for k in (1, 5)}

    def picture_to_picture(self) -> dict[str, float]:
        """Recall at 5 across the trained styles, for the model and for the nearest pixels."""
        pixels = [self.renderings(style, 100 + number) for number, style in enumerate(TRAINED)]
        vectors = [self._vectors(batch) for batch in pixels]
        flat = [_flat(batch) for batch in pixels]
        return {"model": _across(vectors), "pixels": _across(flat)}

    def pixels_with_names(self) -> dict[str, float]:
        """Text to picture by the nearest pixels: a name stands for one plain trained drawing of the concept."""
        rng = random.Random(SEED)
        plain = [compose([drawing(self.sources, "noto", c, 0)], SIZE, "white", rng, 0) for c in self.concepts]
        names = _flat(self._pixels(plain))
        trained, unseen = (_flat(self.renderings(style, 0)) for style in (None, UNSEEN))
        return {
            f"{label} R@{k}": recall(names, gallery, k)
            for label, gallery in (("trained", trained), ("unseen", unseen))
            for k in (1, 5)
        }

    def scenes(self) -> dict[int, float]:
        """Recall at 1 and 5 of captions naming both objects over 500 scenes of two."""
        rng = random.Random(SEED + 1)
        pictures, captions = [], []
        for _ in range(SCENES):
            pair = rng.sample(self.concepts, 2)
            style = rng.choice(TRAINED)
            images = [drawing(self.sources, style, concept, 0) for concept in pair]
            pictures.append(compose(images, SIZE, rng.choice(list(COLOURS)), rng))
            captions.append(" and ".join(with_article(concept.name) for concept in pair))
        gallery, texts = self._vectors(self._pixels(pictures)), self.engine.encode_text(captions)
        return {k: recall(texts, gallery, k) for k in (1, 5)}

    def distinct_pairs(self, samples: Path) -> dict[str, float]:
        """Property 7 on batches of 8 of the sample pairs.

        `rows`: the share of batches in which every text prefers its own picture. `strict`: in which moreover the
        worst matching pair is above the best pair that does not match.
        """
        with (samples / "pairs.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        pictures = [Image.open(samples / row["path"]) for row in rows]
        images, texts = self._vectors(self._pixels(pictures)), self.engine.encode_text([row["caption"] for row in rows])
        scores, rng = texts @ images.T, np.random.default_rng(7)
        prefers, strict = 0, 0
        for _ in range(BATCHES):
            chosen = rng.choice(len(rows), BATCH, replace=False)
            block = scores[np.ix_(chosen, chosen)]
            matching, others = np.diagonal(block), np.where(np.eye(BATCH, dtype=bool), -np.inf, block)
            prefers += bool((matching > others.max(1)).all())
            strict += bool(matching.min() > others.max())
        return {"rows": prefers / BATCHES, "strict": strict / BATCHES}

    def speed(self) -> float:
        """Pictures a second through the picture tower, already decoded and resized; the best of five."""
        pixels = self.renderings(None, 5)[:256]
        return max(timed(lambda: self._vectors(pixels), len(pixels)) for _ in range(5))


def timed(action: Callable[[], object], count: int) -> float:
    """How many a second, `count` of them being done by the action."""
    started = time.perf_counter()
    action()
    return count / (time.perf_counter() - started)


def _unit(rows: NDArray[np.float32]) -> Vectors:
    return np.asarray(rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9), dtype=np.float32)


def _flat(pixels: NDArray[np.float32]) -> Vectors:
    return _unit(pixels.reshape(len(pixels), -1))


def _across(vectors: Sequence[Vectors]) -> float:
    count = len(vectors)
    return float(np.mean([recall(vectors[a], vectors[b], 5) for a in range(count) for b in range(count) if a != b]))
