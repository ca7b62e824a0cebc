"""What relevance is measured by: ordinary questions and bundled files, as one set of models encodes them."""

from __future__ import annotations

import os
import re
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from arrowlens.embedding import Example, embed_example
from arrowlens.errors import MediaError, ModelLoadError
from arrowlens.modalities import ROLE_OF, TEXT_ROLE, Modality
from arrowlens.search.relevance import Kind, ScoreCalibration, Weights
from arrowlens.search.relevance.questions import questions
from arrowlens.search.relevance.weights import WEIGHTS

if TYPE_CHECKING:
    from arrowlens.encoders import MultimodalEmbeddingProvider

SAMPLES = Path(__file__).parents[2] / "demo" / "samples"
N_PICTURES = 64  # of the bundled ones, evenly spread; recordings all

_DIGEST = re.compile("[0-9a-f]{64}")
_ROLE_OF: dict[str, str] = {"text": TEXT_ROLE, **ROLE_OF}


class Bank:
    """Vectors by kind, and the yardsticks that they give. Safe to share between threads.

    The vectors of a kind are made when they are first asked for, and kept in a file that is named by the model's digest
    and by what was encoded: another process reads them in a millisecond, and another model never does.

    Args:
        provider: the models.
        read: a bundled file -> the example that the models take.
        folder: for the files; made when needed. One that cannot be written costs time only.
    """

    def __init__(self, provider: MultimodalEmbeddingProvider, read: Callable[[Path], Example], folder: Path) -> None:
        self._provider = provider
        self._read = read
        self._folder = folder
        self._vectors: dict[Kind, np.ndarray] = {}
        self._yardsticks: dict[tuple[Kind, Modality], ScoreCalibration] = {}
        self._lock = threading.RLock()

    def yardstick(self, asked: Kind, found: Modality) -> ScoreCalibration:
        """For questions of one kind and files of another or the same.

        Raises:
            ModelLoadError: there is no model for one of them. MediaError: a bundled file is missing or damaged.
        """
        with self._lock:
            if (asked, found) not in self._yardsticks:
                measured = ScoreCalibration.measured(self.vectors(asked), self.vectors(found), same=asked == found)
                self._yardsticks[asked, found] = measured
            return self._yardsticks[asked, found]

    def vectors(self, kind: Kind) -> np.ndarray:
        """(n, d) float32 of length one: ordinary questions, bundled pictures or recordings.

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
            if self._provider.has(_ROLE_OF[kind]):
                self.vectors(kind)
        if self._provider.has(TEXT_ROLE) and ("image" in kinds or self._provider.text_reaches_audio):
            self.vectors("text")

    def _kept(self, kind: Kind) -> np.ndarray:
        contents = questions() if kind == "text" else [f"{path.name} {path.stat().st_size}" for path in bundled(kind)]
        stamp = zlib.crc32("\n".join(contents).encode())
        role = _ROLE_OF[kind]
        digest = self._provider.recipe_digest(role)
        if _DIGEST.fullmatch(digest) is None:  # it names a file, and must not lead out of the folder
            raise ModelLoadError(f"{role} model: its digest is {digest!r:.80}, not 64 hex characters; convert it again")
        path = self._folder / f"{kind}-{stamp:08x}-{digest}.npy"
        vectors = _load(path, (len(contents), self._provider.dimension(role)))
        if vectors is None:
            vectors = self._encode(kind)
            _save(path, vectors)
        return vectors

    def _encode(self, kind: Kind) -> np.ndarray:
        if kind == "text":
            texts: np.ndarray = self._provider.clip_engine.encode_text(list(questions()))
            return texts
        return np.concatenate([embed_example(self._read(path), self._provider)[:1] for path in bundled(kind)])


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
