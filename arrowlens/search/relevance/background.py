"""What relevance is measured by: ordinary questions and bundled files, as one set of models encodes them.

The bundled models have numbers that were fitted with labels (``weights.py``). Any other model is calibrated by what it
makes of the bundled files, of parts of them and of their names (``calibration.py``).

The bundled audio model knows the kinds of recordings that it was trained with, and gives any other a vector among
them: to it a spoken "six" is footsteps, with as high a cosine as footsteps have. Its numbers, fitted with those kinds,
say nothing of such a recording. So what is asked for with a text matches only where it is like a bundled recording, of
which there are some of each kind (``Familiarity``).
"""

from __future__ import annotations

import dataclasses
import os
import re
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import numpy as np

from arrowlens.embedding import EmbeddingPlan, Example, embed_questions, encode, prepare
from arrowlens.errors import MediaError, ModelLoadError
from arrowlens.media import Decoded
from arrowlens.modalities import ROLE_OF, TEXT_ROLE, Input
from arrowlens.search.relevance import MATCHING, Kind, ScoreCalibration, Weights, relevance
from arrowlens.search.relevance.calibration import Calibration
from arrowlens.search.relevance.questions import questions
from arrowlens.search.relevance.weights import FITTED_WITH, WEIGHTS

if TYPE_CHECKING:
    from arrowlens.encoders import MultimodalEmbeddingProvider
    from arrowlens.store import RouteCalibration

SAMPLES = Path(__file__).parents[2] / "demo" / "samples"
BATCH_SIZE = 16
N_PICTURES = 64  # of the bundled ones, evenly spread; recordings all

PART = 0.75  # of a picture's sides that each of its two parts has, at opposite corners

Encoded = Kind | Literal["image parts", "audio parts", "image names", "audio names"]
"""What a bank holds vectors of: ordinary questions and bundled files, two parts of each file, and the files' names."""

_T = TypeVar("_T")
_DIGEST = re.compile("[0-9a-f]{64}")
_TEXTS: tuple[Encoded, ...] = ("text", "image names", "audio names")
_PARTS_OF: dict[Input, Encoded] = {"image": "image parts", "audio": "audio parts"}
_NAMES_OF: dict[Input, Encoded] = {"image": "image names", "audio": "audio names"}


@dataclasses.dataclass(frozen=True, eq=False)
class Familiarity:
    """How sure it is that files are like some of the bundled ones.

    Attributes:
        background: (n, d) float32, vectors of bundled files.
        calibration: of files of that kind that are asked for with their like.
    """

    background: np.ndarray
    calibration: Calibration

    def limit(self, relevance: np.ndarray, files: np.ndarray) -> np.ndarray:
        """Relevance, (k,), of files with vectors (k, d): of one that is like no bundled file, below ``MATCHING``."""
        nearest = (files @ self.background.T).max(axis=1, initial=-1.0)
        familiarity = self.calibration.of_each(files, nearest, len(self.background))
        limited: np.ndarray = np.where(familiarity >= MATCHING, relevance, np.minimum(relevance, familiarity))
        return limited


class Route(Protocol):
    """What makes relevance of the scores between questions of one kind and files of one kind.

    Attributes:
        familiarity: limits the relevance of files that the route's numbers do not hold for; None where there are none.
    """

    @property
    def familiarity(self) -> Familiarity | None:
        """As above."""

    def relevance(
        self, question: np.ndarray, scores: np.ndarray, n_compared: int, *, composed: bool = False
    ) -> np.ndarray:
        """Relevance of hits, (k,) float64 in [0, 1], as ``Calibration.relevance``."""


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """A route of the bundled models, with the numbers that were fitted for it."""

    yardstick: ScoreCalibration
    weights: Weights
    familiarity: Familiarity | None = None

    def relevance(
        self, question: np.ndarray, scores: np.ndarray, n_compared: int, *, composed: bool = False
    ) -> np.ndarray:
        """As ``Calibration.relevance``."""
        return relevance(self.yardstick.standing(question, scores, composed=composed), n_compared, self.weights)


class Bank:
    """Vectors of what is bundled, and what they say of each route. Safe to share between threads.

    Vectors are made when they are first asked for, and kept in a file that is named by the model's digest and by what
    was encoded: another process reads them in a millisecond, and another model never does.

    Args:
        provider: the models.
        read: a bundled file -> the example that the models take.
        folder: for the files; made when needed. One that cannot be written costs time only.
        own: the calibrations by route that the user's own pairs gave, as they are now. They go before any other.
    """

    def __init__(
        self,
        provider: MultimodalEmbeddingProvider,
        read: Callable[[Path], Example],
        folder: Path,
        own: Callable[[], Mapping[str, RouteCalibration]] = dict,
    ) -> None:
        self._provider = provider
        self._read = read
        self._folder = folder
        self._own = own
        self._vectors: dict[Encoded, np.ndarray] = {}
        self._routes: dict[tuple[Kind, Input], Route | None] = {}
        self._lock = threading.RLock()

    def route(self, asked: Kind, found: Input) -> Route | None:
        """For questions of one kind and files of another or the same; None where nothing can be said of them.

        That is so where the models cannot tell like from unlike among the bundled files, and for pictures that are
        asked for with recordings or the reverse, unless the models are the bundled ones.

        Raises:
            ModelLoadError: there is no model for one of them. MediaError: a bundled file is missing or damaged.
        """
        own = self._own().get(f"{asked} to {found}")
        if own is not None and own.digests == self.digests(asked, found):
            return Calibration(self.mean(found), own.weights)
        with self._lock:
            if (asked, found) not in self._routes:
                self._routes[asked, found] = self._measured(asked, found)
            return self._routes[asked, found]

    def digests(self, asked: Kind, found: Input) -> dict[str, str]:
        """The models that a route's scores are of: ``recipe_digest`` by role."""
        return {role: self._provider.recipe_digest(role) for role in self._roles(asked, found)}

    def mean(self, found: Input) -> np.ndarray:
        """The mean of the bundled files' vectors, (d,) float64."""
        mean: np.ndarray = self.vectors(found).mean(axis=0, dtype=np.float64)
        return mean

    def _roles(self, asked: Kind, found: Input) -> set[str]:
        """Of the models that a route's scores are of."""
        return {self._role(_NAMES_OF[found] if asked == "text" else asked), ROLE_OF[found]}

    def _is_fitted(self, asked: Kind, found: Input) -> bool:
        roles = self._roles(asked, found)
        return all(self._provider.digest(role) == FITTED_WITH.get(role) for role in roles)

    def _needed(self, asked: Kind, found: Input) -> tuple[Encoded, ...]:
        """What a route is measured by."""
        if self._is_fitted(asked, found):
            return (asked, found, *([_PARTS_OF[found]] if asked != found == "audio" else []))
        if asked == "text":
            return (found, _NAMES_OF[found])
        return (found, _PARTS_OF[found]) if asked == found else ()

    def _measured(self, asked: Kind, found: Input) -> Route | None:
        if self._is_fitted(asked, found):
            yardstick = ScoreCalibration.measured(self.vectors(asked), self.vectors(found), same=asked == found)
            if asked == found or found != "audio":
                return Fitted(yardstick, weights_of(asked, found))
            by_parts = self._by_parts(found)
            if by_parts is None:
                return None
            return Fitted(yardstick, weights_of(asked, found), Familiarity(self.vectors(found), by_parts))
        if asked == "text":
            return self._by_names(found)
        return self._by_parts(found) if asked == found else None

    def _by_names(self, found: Input) -> Calibration | None:
        files, names = self.vectors(found), [_words(path) for path in bundled(found)]
        alike = np.array([[one == other for other in names] for one in names])
        return Calibration.fitted(self.mean(found), self.vectors(_NAMES_OF[found]), files, alike, _unlike(names))

    def _by_parts(self, found: Input) -> Calibration | None:
        names = [_words(path) for path in bundled(found)]
        first, second = np.split(self.vectors(_PARTS_OF[found]), 2)
        return Calibration.fitted(self.mean(found), first, second, np.eye(len(names), dtype=bool), _unlike(names))

    def prepare(
        self,
        kinds: Sequence[Input],
        on_progress: Callable[[int, int], None] = lambda done, total: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Make what a library with files of these kinds will ask for, as far as there are models.

        Args:
            kinds: of files.
            on_progress: called with how many texts and files are encoded, of how many; not at all where all are known.
            stop: whether to end early; what is encoded of a kind so far is lost.

        Raises:
            ModelError: a model cannot be loaded. MediaError: a bundled file is missing or damaged.
        """
        routes: list[tuple[Kind, Input]] = []
        for kind in kinds:
            if self._provider.has(ROLE_OF[kind]):
                routes.append((kind, kind))
                if self._provider.text_role(kind) is not None:
                    routes.append(("text", kind))
        needed = dict.fromkeys(encoded for route in routes for encoded in self._needed(*route))
        missing = [encoded for encoded in needed if not self._is_kept(encoded)]
        total, done = sum(len(_contents(encoded)) for encoded in missing), 0
        read = cache(self._read)  # each file once, whole and for its parts: 40 MB of pixels and samples
        for encoded in missing:
            parts: list[np.ndarray] = []
            for vectors in self._batches(encoded, read):
                parts.append(vectors)
                done += len(vectors)
                on_progress(done, total)
                if stop():
                    return
            self._keep(encoded, np.concatenate(parts))
        for route in routes:
            self.route(*route)

    def vectors(self, kind: Encoded) -> np.ndarray:
        """(n, d) float32 of length one; parts of files are (2n, d), the first ones of all first.

        Raises:
            ModelLoadError: there is no model for that kind. MediaError: a bundled file is missing or damaged.
        """
        with self._lock:
            if not self._is_kept(kind):
                self._keep(kind, np.concatenate([*self._batches(kind, cache(self._read))]))
            return self._vectors[kind]

    def _is_kept(self, kind: Encoded) -> bool:
        """Whether the vectors are there: in memory, or in their file."""
        with self._lock:
            if kind in self._vectors:
                return True
            shape = (len(_contents(kind)), self._provider.dimension(self._role(kind)))
            vectors = _load(self._path(kind), shape)
            if vectors is not None:
                self._vectors[kind] = vectors
            return vectors is not None

    def _keep(self, kind: Encoded, vectors: np.ndarray) -> None:
        _save(self._path(kind), vectors)
        with self._lock:
            self._vectors[kind] = vectors

    def _role(self, kind: Encoded) -> str:
        """The role of the model that encodes a kind; texts, as files of their modality are asked for with them."""
        if kind == "text":
            return TEXT_ROLE
        modality = _modality_of(kind)
        return self._provider.text_role(modality) or TEXT_ROLE if kind in _TEXTS else ROLE_OF[modality]

    def _path(self, kind: Encoded) -> Path:
        role = self._role(kind)
        templates = self._provider.templates(role) if kind in _TEXTS else ()
        stamp = zlib.crc32("\n".join([*_contents(kind), *templates]).encode())
        digest = self._provider.recipe_digest(role)
        if _DIGEST.fullmatch(digest) is None:  # it names a file, and must not lead out of the folder
            raise ModelLoadError(f"{role} model: its digest is {digest!r:.80}, not 64 hex characters; convert it again")
        return self._folder / f"{kind.replace(' ', '-')}-{stamp:08x}-{digest}.npy"

    def _batches(self, kind: Encoded, read: Callable[[Path], Example]) -> Iterator[np.ndarray]:
        """The vectors in the order of ``vectors``, (n, d) at a time.

        Batches are encoded side by side: recordings differ in length, so that each is encoded by itself, and one is too
        little for several threads to share.
        """
        from arrowlens.encoders.runtime import encoding_threads  # deferred: torch, and the vectors may be known

        with encoding_threads(str(self._provider.runtime.device)) as threads:
            pending: deque[Future[np.ndarray]] = deque()
            for run in self._runs(kind, read):
                pending.append(threads.pool.submit(run))
                if len(pending) == 2 * threads.n:  # so many batches of pixels are in memory
                    yield pending.popleft().result()
            for batch in pending:
                yield batch.result()

    def _runs(self, kind: Encoded, read: Callable[[Path], Example]) -> Iterator[Callable[[], np.ndarray]]:
        """What encodes one batch after the other, (n, d) each, of what was read for it."""
        if kind in _TEXTS:
            for texts in _in_batches(_contents(kind)):
                yield partial(embed_questions, texts, self._role(kind), self._provider)
            return
        modality = _modality_of(kind)
        for number in (0, 1) if kind == _PARTS_OF[modality] else (None,):
            for paths in _in_batches(bundled(modality)):
                examples = [read(path) for path in paths]
                if number is not None:
                    examples = [_parts(example)[number] for example in examples]
                yield partial(encode, modality, [self._segment(example) for example in examples], self._provider)

    def _segment(self, example: Example) -> np.ndarray:
        """The picture as its model takes it, or the first window of the recording."""
        if example.windows:
            return example.windows[0]
        plan = EmbeddingPlan(self._provider.clip_engine.image_processor)
        return prepare(Decoded("image", None, pixels=example.pixels, box=example.box), plan).segments[0]


def weights_of(asked: Kind, found: Input) -> Weights:
    """The fitted numbers of a route; files of another kind than what is asked with count as if a text had asked."""
    return WEIGHTS[f"{asked if asked == found else 'text'} to {found}"]


def bundled(kind: Input) -> list[Path]:
    """The bundled files of a kind, the same ones in the same order each time.

    Raises:
        MediaError: they were not installed.
    """
    if kind == "audio":
        paths = sorted((SAMPLES / "sounds").glob("*.*"))
    else:
        paths = sorted((SAMPLES / "pictures").rglob("*.*"))
        paths = paths[:: max(1, len(paths) // N_PICTURES)][:N_PICTURES]
    if len(paths) < 2:
        raise MediaError(f"{SAMPLES} holds no {kind} files, by which relevance is measured; install arrowlens again")
    return paths


def _in_batches(items: list[_T]) -> Iterator[list[_T]]:
    for start in range(0, len(items), BATCH_SIZE):
        yield items[start : start + BATCH_SIZE]


def _contents(kind: Encoded) -> list[str]:
    """What is encoded, for the name of the file that keeps it: texts, or files and how they are divided."""
    if kind == "text":
        return list(questions())
    modality = _modality_of(kind)
    if kind == _NAMES_OF[modality]:
        return [" ".join(path.stem.split("-")[:-1]) for path in bundled(modality)]
    contents = [f"{path.name} {path.stat().st_size}" for path in bundled(modality)]
    return contents if kind == modality else [f"{content} {number}" for number in (1, 2) for content in contents]


def _modality_of(kind: Encoded) -> Input:
    return "audio" if kind.startswith("audio") else "image"


def _words(path: Path) -> frozenset[str]:
    """What a bundled file is called: blue and bus of blue-bus-01.webp."""
    return frozenset(path.stem.split("-")[:-1]) - {"and"}


def _unlike(names: list[frozenset[str]]) -> np.ndarray:
    """Which pairs have no word in common, (n, n) boolean."""
    return np.array([[one.isdisjoint(other) for other in names] for one in names])


def _parts(example: Example) -> tuple[Example, Example]:
    """Two parts of a file: the halves of a recording's first window, or the parts at two corners of a picture."""
    if example.windows:
        samples = example.windows[0]
        middle = len(samples) // 2
        return (
            dataclasses.replace(example, windows=[samples[:middle]]),
            dataclasses.replace(example, windows=[samples[middle:]]),
        )
    assert example.pixels is not None  # a file that was read is a recording or a picture
    left, top, right, bottom = example.box or (0, 0, example.pixels.shape[1], example.pixels.shape[0])
    width, height = PART * (right - left), PART * (bottom - top)
    return (
        dataclasses.replace(example, box=(left, top, left + width, top + height)),
        dataclasses.replace(example, box=(right - width, bottom - height, right, bottom)),
    )


def _load(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The vectors of a file, None where there is none that can be used."""
    try:
        vectors: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    usable = vectors.shape == shape and vectors.dtype == np.float32 and bool(np.isfinite(vectors).all())
    return vectors if usable else None


def _save(path: Path, vectors: np.ndarray) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
        partial.replace(path)
    except OSError:  # they are made again the next time
        with suppress(OSError):
            partial.unlink()
