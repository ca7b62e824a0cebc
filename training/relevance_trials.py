"""Libraries made of known pictures and recordings, questions to them, and which hits are right."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from relevance_data import Items, Vectors, World

from arrowlens.modalities import Modality
from arrowlens.search.relevance import Kind, ScoreCalibration

K = 20
ROUTES: dict[str, tuple[Kind, Modality]] = {
    "text to image": ("text", "image"),
    "text to audio": ("text", "audio"),
    "image to image": ("image", "image"),
    "audio to audio": ("audio", "audio"),
}
SHARES = (0.3, 0.5, 0.7)  # of the meanings of a half that a library holds
SOUNDING = (0.1, 0.2, 0.4)  # of a library's files that are recordings


@dataclass(frozen=True)
class Size:
    """How many files libraries have, of how many of them questions are asked, and of what they are.

    `meanings` limits what the pictures of a library show: 1 makes a library of nothing but cats.
    """

    n_files: int
    n_libraries: int
    n_questions: int
    meanings: int | None = None

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.n_files:,}" + ("" if self.meanings is None else f" ({self.meanings} things)")


@dataclass(frozen=True)
class Found:
    """The hits of one route, at most `K`, best cosine first.

    `scores`, `standing` and `right` are (k,); `n_compared` is what relevance counts.
    """

    scores: NDArray[np.float64]
    standing: NDArray[np.float64]
    right: NDArray[np.bool_]
    n_compared: int


@dataclass(frozen=True)
class Trial:
    """One question to one library: its hits by route.

    `meaning` is what was asked for; `matched` whether anything in the library is right, found or not.
    """

    size: Size
    meaning: int
    matched: bool
    found: dict[str, Found]


class Trials:
    """Asks libraries of one half of the meanings with questions of the same half."""

    def __init__(self, world: World, yardsticks: Mapping[str, ScoreCalibration], half: int, seed: int) -> None:
        self.world, self.yardsticks, self.half = world, yardsticks, half
        self.rng = random.Random(seed)
        self.equal: dict[int, set[int]] = {meaning: {meaning} for meaning in range(len(world.names))}
        for one, other in world.same:
            self.equal[one].add(other)

    def run(self, sizes: Sequence[Size]) -> Iterator[Trial]:
        """Half of the questions of a library have a match in it, half have none, as far as there are such."""
        for size in sizes:
            for _ in range(size.n_libraries):
                yield from self._library(size)

    def _library(self, size: Size) -> Iterator[Trial]:
        pictures, clips = self._files(size)
        shown = {int(m) for m in self.world.pictures.shown[pictures].ravel()} - {-1}
        heard = {int(m) for m in self.world.clips.shown[clips].ravel()} - {-1}
        there = {equal for meaning in shown | heard for equal in self.equal[meaning]}
        parts = {"image": (self.world.pictures, pictures), "audio": (self.world.clips, clips)}
        asked = {
            "text": (self.world.texts, self.world.text_meanings, there),
            "image": (self.world.asking_pictures.vectors, self.world.asking_pictures.shown[:, 0], shown),
            "audio": (self.world.asking_clips.vectors, self.world.asking_clips.shown[:, 0], heard),
        }
        for kind, (vectors, meanings, held) in asked.items():
            routes = {
                name: parts[found]
                for name, (asking, found) in ROUTES.items()
                if asking == kind and len(parts[found][1])
            }
            for row in self._chosen(meanings, held, size):
                yield self._trial(size, int(meanings[row]), vectors[row], routes)

    def _files(self, size: Size) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows of the pictures and of the recordings of one library."""
        own = sorted(self.world.halves[self.half])
        n_concepts = min(self.world.clips.shown[self.world.clips.shown >= 0])
        concepts, kinds = [m for m in own if m < n_concepts], [m for m in own if m >= n_concepts]
        share = self.rng.choice(SHARES)
        n_inside = size.meanings or round(share * len(concepts))
        inside = {*self.rng.sample(concepts, n_inside), *self.rng.sample(kinds, round(share * len(kinds)))}
        pictures, clips = self.world.pictures.of(inside), self.world.clips.of(inside)
        if len(pictures) + len(clips) < size.n_files and size.meanings is None:  # filled up from the other half
            outside = {equal for meaning in set(own) - inside for equal in self.equal[meaning]}
            inside |= self.world.halves[1 - self.half] - outside
            pictures, clips = self.world.pictures.of(inside), self.world.clips.of(inside)
        n_clips = min(len(clips), round(size.n_files * self.rng.choice(SOUNDING)))
        n_pictures = min(len(pictures), size.n_files - n_clips)
        return (
            np.array(self.rng.sample(list(pictures), n_pictures), np.intp),
            np.array(self.rng.sample(list(clips), n_clips), np.intp),
        )

    def _chosen(self, meanings: NDArray[np.int32], there: set[int], size: Size) -> list[int]:
        own = [row for row, meaning in enumerate(meanings) if int(meaning) in self.world.halves[self.half]]
        chosen = []
        for wanted in (True, False):
            rows = [row for row in own if (int(meanings[row]) in there) == wanted]
            chosen += self.rng.sample(rows, min(len(rows), size.n_questions // 2))
        return chosen

    def _trial(
        self, size: Size, meaning: int, question: Vectors, routes: Mapping[str, tuple[Items, NDArray[np.intp]]]
    ) -> Trial:
        found, matched = {}, False
        for name, (items, rows) in routes.items():
            cosines = (items.vectors[rows] @ question).astype(np.float64)
            right = np.isin(items.shown[rows], list(self.equal[meaning])).any(1)
            best = np.argsort(-cosines, kind="stable")[:K]
            standing = self.yardsticks[name].standing(question[None], cosines[best])
            found[name] = Found(cosines[best], standing, right[best], len(rows))
            matched |= bool(right.any())
        return Trial(size, meaning, matched, found)
