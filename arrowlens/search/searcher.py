"""A text, a picture or a recording -> the nearest files of a library."""

from __future__ import annotations

import dataclasses
import operator
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from arrowlens.errors import InputError, TextValidationError
from arrowlens.search.results import Hit, Modality, Results

if TYPE_CHECKING:
    from arrowlens.encoders import MultimodalEmbeddingProvider
    from arrowlens.store import MultimodalStorage

MAX_QUERY_WINDOWS = 32  # each costs a search of the store; two hours of recording have 1,440

_ROLE_OF: dict[Modality, str] = {"image": "clip", "audio": "audio"}


@dataclasses.dataclass(frozen=True, slots=True)
class _Match:
    """The best row of one file: cosine, and for audio the window's seconds."""

    media_id: str
    score: float
    start: float | None
    end: float | None


class Searcher:
    """Questions to one store with one set of models; safe to share between threads.

    Results are ordered by falling cosine, equal ones by ``media_id``; files of equal content appear once.
    """

    def __init__(self, storage: MultimodalStorage, provider: MultimodalEmbeddingProvider) -> None:
        self._storage = storage
        self._provider = provider

    def text(self, text: str, k: int = 20, modality: Modality | None = None) -> Results:
        """The ``k`` files nearest to a text: pictures, and recordings where the text's space holds them too.

        Pictures and recordings share one ranking, which is fair only because they share one space. ``modality`` keeps
        one kind; recordings that the text cannot reach are never found.

        Raises:
            InputError: ``k`` is below 1. TextValidationError: an empty text.
            ModelLoadError: the library has no CLIP model.
        """
        started = time.perf_counter()
        k = _check_k(k)
        if not isinstance(text, str) or not text.strip():
            raise TextValidationError(f"the text is {text!r}; say in words what to look for")
        query = self._provider.clip_engine.encode_text([text])
        kinds: list[Modality] = ["image", "audio"] if self._provider.text_reaches_audio else ["image"]
        matches = [match for kind in kinds if modality in (None, kind) for match in self._nearest(kind, query, k)]
        return self._results(matches, k, started)

    def image(self, pixels: np.ndarray, k: int = 20) -> Results:
        """The ``k`` pictures nearest to a picture, (H, W, 3) uint8 RGB of any size.

        Raises:
            InputError: ``k`` is below 1. ImageValidationError: something else than such pixels.
            ModelLoadError: the library has no CLIP model.
        """
        started = time.perf_counter()
        k = _check_k(k)
        engine = self._provider.clip_engine
        query = engine.encode_image(engine.image_processor(pixels)[None])
        return self._results(self._nearest("image", query, k), k, started)

    def audio(self, windows: Sequence[np.ndarray], k: int = 20) -> Results:
        """The ``k`` recordings nearest to a recording, given as its windows: (n,) float32, mono, 16 kHz, at most 30 s.

        A recording scores as its best pair of windows, one of the query's and one of its own: it is found by the
        moment that sounds alike, wherever in either of the two it lies. Of a query of more than 32 windows
        (``MAX_QUERY_WINDOWS``), 32 are compared, spread evenly from the first to the last.

        Raises:
            InputError: ``k`` is below 1, or there is no window. AudioValidationError: unusable samples.
            ModelLoadError: the library has no audio model.
        """
        started = time.perf_counter()
        k = _check_k(k)
        if not windows:
            raise InputError("a recording without samples finds nothing; give at least one window")
        query = self._provider.audio_encoder.encode([windows[index] for index in _spread(len(windows))], context="clip")
        return self._results(self._nearest("audio", query, k), k, started)

    def stored(self, content_hash: str, modality: Modality, k: int = 20) -> Results:
        """The ``k`` files of the same kind nearest to one that the library holds, by its stored vectors.

        The file itself comes first, with a score of 1 within float16's precision. A recording of more than 32 windows
        (``MAX_QUERY_WINDOWS``) asks with 32 of them, spread evenly from the first to the last. Empty when the
        library holds no vectors of that content.

        Raises:
            InputError: ``k`` is below 1. ModelLoadError: the library has no model of that kind.
        """
        started = time.perf_counter()
        k = _check_k(k)
        role = _ROLE_OF[modality]
        query = self._storage.vectors(role, self._provider.digest(role), content_hash)
        return self._results(self._nearest(modality, query[_spread(len(query))], k), k, started)

    def _nearest(self, modality: Modality, queries: np.ndarray, k: int) -> list[_Match]:
        """Best match of each file over all ``queries`` (n, d). The best k of every row hold the best k of all rows."""
        role = _ROLE_OF[modality]
        digest = self._provider.digest(role)
        best: dict[str, _Match] = {}
        for query in queries:
            table = self._storage.search(role, digest, query, k, modality=modality)
            for row in table.select(["media_id", "score", "start", "end"]).to_pylist():
                match = _Match(**row)
                if match.media_id not in best or match.score > best[match.media_id].score:
                    best[match.media_id] = match
        return list(best.values())

    def _results(self, matches: Iterable[_Match], k: int, started: float) -> Results:
        best = sorted(matches, key=lambda match: (-match.score, match.media_id))[:k]
        rows = {row["media_id"]: row for row in self._storage.media([match.media_id for match in best]).to_pylist()}
        hits = [_hit(match, rows[match.media_id]) for match in best if match.media_id in rows]
        return Results(hits, (time.perf_counter() - started) * 1e3)


_COPIED = (
    "width",
    "height",
    "duration",
    "sample_rate",
    "channels",
    "format",
    "size",
    "modified",
    "captured_at",
    "taken",
    "caption",
    "description",
    "camera",
    "latitude",
    "longitude",
    "title",
    "artist",
    "album",
    "content_hash",
)


def _hit(match: _Match, row: dict[str, Any]) -> Hit:
    """A match with its row of ``media``."""
    return Hit(
        path=Path(os.fsdecode(row["absolute_path"])),
        media_id=match.media_id,
        modality=row["modality"],
        score=match.score,
        start=match.start,
        end=match.end,
        metadata=dict(row["metadata"] or ()),
        **{name: row[name] for name in _COPIED},
    )


def _spread(n: int) -> list[int]:
    """At most ``MAX_QUERY_WINDOWS`` of n positions, evenly, the first and the last included."""
    if n <= MAX_QUERY_WINDOWS:
        return list(range(n))
    return [round(step * (n - 1) / (MAX_QUERY_WINDOWS - 1)) for step in range(MAX_QUERY_WINDOWS)]


def _check_k(k: SupportsIndex) -> int:
    """``k`` as an int; numpy's whole numbers are as good as Python's, truth values are no numbers."""
    try:
        count = 0 if isinstance(k, bool | np.bool_) else operator.index(k)
    except TypeError:
        count = 0
    if count < 1:
        raise InputError(f"k is {k!r}; it is the number of results, a whole number from 1 on")
    return count
