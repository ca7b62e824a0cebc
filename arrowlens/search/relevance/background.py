"""What relevance is measured by: ordinary questions and bundled files, as one set of models encodes them.

The bundled models have numbers that were fitted with labels (``weights.py``). Any other model is calibrated by what it
makes of the bundled files, of parts of them and of their names (``calibration.py``).
"""

from __future__ import annotations

import dataclasses
import os
import re
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from arrowlens.embedding import Example, embed_example, question_encoder
from arrowlens.errors import MediaError, ModelLoadError
from arrowlens.modalities import ROLE_OF, TEXT_ROLE, Modality
from arrowlens.search.relevance import Kind, ScoreCalibration, Weights, relevance
from arrowlens.search.relevance.calibration import Calibration
from arrowlens.search.relevance.questions import questions
from arrowlens.search.relevance.weights import FITTED_WITH, WEIGHTS

if TYPE_CHECKING:
    from arrowlens.encoders import MultimodalEmbeddingProvider

SAMPLES = Path(__file__).parents[2] / "demo" / "samples"
N_PICTURES = 64  # of the bundled ones, evenly spread; recordings all

PART = 0.75  # of a picture's sides that each of its two parts has, at opposite corners

Encoded = Kind | Literal["image parts", "audio parts", "image names", "audio names"]
"""What a bank holds vectors of: ordinary questions and bundled files, two parts of each file, and the files' names."""

_DIGEST = re.compile("[0-9a-f]{64}")
_TEXTS: tuple[Encoded, ...] = ("text", "image names", "audio names")
_PARTS_OF: dict[Modality, Encoded] = {"image": "image parts", "audio": "audio parts"}
_NAMES_OF: dict[Modality, Encoded] = {"image": "image names", "audio": "audio names"}


class Route(Protocol):
    """What makes relevance of the scores between questions of one kind and files of one kind."""

    def relevance(
        self, question: np.ndarray, scores: np.ndarray, n_compared: int, *, composed: bool = False
    ) -> np.ndarray:
        """Relevance of hits, (k,) float64 in [0, 1], as ``Calibration.relevance``."""


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """A route of the bundled models, with the numbers that were fitted for it."""

    yardstick: ScoreCalibration
    weights: Weights

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
    """

    def __init__(self, provider: MultimodalEmbeddingProvider, read: Callable[[Path], Example], folder: Path) -> None:
        self._provider = provider
        self._read = read
        self._folder = folder
        self._vectors: dict[Encoded, np.ndarray] = {}
        self._routes: dict[tuple[Kind, Modality], Route | None] = {}
        self._lock = threading.RLock()

    def route(self, asked: Kind, found: Modality) -> Route | None:
        """For questions of one kind and files of another or the same; None where nothing can be said of them.

        That is so where the models cannot tell like from unlike among the bundled files, and for pictures that are
        asked for with recordings or the reverse, unless the models are the bundled ones.

        Raises:
            ModelLoadError: there is no model for one of them. MediaError: a bundled file is missing or damaged.
        """
        with self._lock:
            if (asked, found) not in self._routes:
                self._routes[asked, found] = self._measured(asked, found)
            return self._routes[asked, found]

    def _measured(self, asked: Kind, found: Modality) -> Route | None:
        roles = {self._role(_NAMES_OF[found] if asked == "text" else asked), ROLE_OF[found]}
        if all(self._provider.digest(role) == FITTED_WITH.get(role) for role in roles):
            yardstick = ScoreCalibration.measured(self.vectors(asked), self.vectors(found), same=asked == found)
            return Fitted(yardstick, weights_of(asked, found))
        if asked not in ("text", found):
            return None
        files, names = self.vectors(found), [_words(path) for path in bundled(found)]
        mean = files.mean(axis=0, dtype=np.float64)
        unlike = np.array([[one.isdisjoint(other) for other in names] for one in names])
        if asked == "text":
            alike = np.array([[one == other for other in names] for one in names])
            return Calibration.fitted(mean, self.vectors(_NAMES_OF[found]), files, alike, unlike)
        first, second = np.split(self.vectors(_PARTS_OF[found]), 2)
        return Calibration.fitted(mean, first, second, np.eye(len(names), dtype=bool), unlike)

    def vectors(self, kind: Encoded) -> np.ndarray:
        """(n, d) float32 of length one; parts of files are (2n, d), the first ones of all first.

        Raises:
            ModelLoadError: there is no model for that kind. MediaError: a bundled file is missing or damaged.
        """
        with self._lock:
            if kind not in self._vectors:
                self._vectors[kind] = self._kept(kind)
            return self._vectors[kind]

    def prepare(self, kinds: list[Modality]) -> None:
        """Make what a library with files of these kinds will ask for, as far as there are models.

        Raises:
            ModelError: a model cannot be loaded. MediaError: a bundled file is missing or damaged.
        """
        for kind in kinds:
            if self._provider.has(ROLE_OF[kind]):
                self.route(kind, kind)
                if self._provider.text_role(kind) is not None:
                    self.route("text", kind)

    def _role(self, kind: Encoded) -> str:
        """The role of the model that encodes a kind; texts, as files of their modality are asked for with them."""
        if kind == "text":
            return TEXT_ROLE
        modality = _modality_of(kind)
        return self._provider.text_role(modality) or TEXT_ROLE if kind in _TEXTS else ROLE_OF[modality]

    def _kept(self, kind: Encoded) -> np.ndarray:
        contents = _contents(kind)
        stamp = zlib.crc32("\n".join(contents).encode())
        role = self._role(kind)
        digest = self._provider.recipe_digest(role)
        if _DIGEST.fullmatch(digest) is None:  # it names a file, and must not lead out of the folder
            raise ModelLoadError(f"{role} model: its digest is {digest!r:.80}, not 64 hex characters; convert it again")
        path = self._folder / f"{kind.replace(' ', '-')}-{stamp:08x}-{digest}.npy"
        vectors = _load(path, (len(contents), self._provider.dimension(role)))
        if vectors is None:
            vectors = self._encode(kind)
            _save(path, vectors)
        return vectors

    def _encode(self, kind: Encoded) -> np.ndarray:
        if kind in _TEXTS:
            encoder = question_encoder(self._role(kind), self._provider)
            texts: np.ndarray = encoder.encode_text(list(_contents(kind)))
            return texts
        modality = _modality_of(kind)
        examples = [self._read(path) for path in bundled(modality)]
        if kind == _PARTS_OF[modality]:
            halves = [_parts(example) for example in examples]
            examples = [half[number] for number in (0, 1) for half in halves]
        return np.concatenate([embed_example(example, self._provider)[:1] for example in examples])


def weights_of(asked: Kind, found: Modality) -> Weights:
    """The fitted numbers of a route; files of another kind than what is asked with count as if a text had asked."""
    return WEIGHTS[f"{asked if asked == found else 'text'} to {found}"]


def bundled(kind: Modality) -> list[Path]:
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


def _contents(kind: Encoded) -> list[str]:
    """What is encoded, for the name of the file that keeps it: texts, or files and how they are divided."""
    if kind == "text":
        return list(questions())
    modality = _modality_of(kind)
    if kind == _NAMES_OF[modality]:
        return [" ".join(path.stem.split("-")[:-1]) for path in bundled(modality)]
    contents = [f"{path.name} {path.stat().st_size}" for path in bundled(modality)]
    return contents if kind == modality else [f"{content} {number}" for number in (1, 2) for content in contents]


def _modality_of(kind: Encoded) -> Modality:
    return "audio" if kind.startswith("audio") else "image"


def _words(path: Path) -> frozenset[str]:
    """What a bundled file is called: blue and bus of blue-bus-01.webp."""
    return frozenset(path.stem.split("-")[:-1]) - {"and"}


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
