"""A question -> the nearest files of a library."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, count
from typing import TYPE_CHECKING

import numpy as np

from arrowlens.embedding import MAX_QUERY_WINDOWS, Example, embed_example, evenly_spaced
from arrowlens.errors import InputError
from arrowlens.modalities import ROLE_OF, TEXT_ROLE, Modality
from arrowlens.search.composition import (
    MINUS_WEIGHT,
    PLUS_WEIGHT,
    Part,
    checked_weights,
    composed,
    mean_vector,
    reached,
)
from arrowlens.search.grouping import by_date, classes_by_vectors, stacked
from arrowlens.search.hybrid import FUSED, LEAST_CAPTION, Match, caption_vector, encoded_together, fused, page, ranking
from arrowlens.search.listing import VanishedError, hit_of
from arrowlens.search.query import DATED, Query, View
from arrowlens.search.relevance import MATCHING, Kind
from arrowlens.search.results import Hit, Results
from arrowlens.search.sanitize import as_stored
from arrowlens.search.where import to_store_filters
from arrowlens.store import CAPTION_ROLE

if TYPE_CHECKING:
    from arrowlens.encoders import MultimodalEmbeddingProvider
    from arrowlens.search.relevance.background import Bank
    from arrowlens.store import MultimodalStorage, Selection

__all__ = ["MAX_QUERY_WINDOWS", "Searcher"]

_ATTEMPTS = 20  # to ask with the newest selection


_Best = Callable[[int], list[Match]]


@dataclasses.dataclass(frozen=True, slots=True)
class _Question:
    """What the store is asked: vectors (n, d) by the kind of file that they are compared with, and words.

    Attributes:
        words: to look for; None for none. modality: that words are looked for in.
        kinds: what the vectors are made of. composed: of several parts.
        content: hash of the file that is asked with, which is a match whatever the model makes of it.
        caption: what captions are compared with, (d,) of the text model; None for none.
    """

    vectors: Mapping[Modality, np.ndarray]
    words: str | None = None
    modality: Modality | None = None
    kinds: Sequence[Kind] = ()
    composed: bool = False
    content: str | None = None
    caption: np.ndarray | None = None

    def asked(self, found: Modality) -> Kind:
        """What files of a kind are asked with: their like if that is among the parts, else the first part."""
        return found if found in self.kinds else self.kinds[0]


class Searcher:
    """Questions to one store with one set of models; safe to share between threads.

    Results are ordered by falling cosine, equal ones by ``media_id``; files of equal content appear once. Pictures and
    recordings in one list are ordered by relevance: their cosines are of different ranges.

    Args:
        storage: the library. provider: its models.
        bank: what relevance is measured by; without it hits carry none.
    """

    def __init__(
        self, storage: MultimodalStorage, provider: MultimodalEmbeddingProvider, bank: Bank | None = None
    ) -> None:
        self._storage = storage
        self._provider = provider
        self._bank = bank

    def search(self, query: Query, view: View = View()) -> Results:  # noqa: B008 - it cannot be changed
        """The files nearest to a question: pictures, and recordings where the question's space holds them too.

        Pictures and recordings share one ranking where they share one space; recordings that a text cannot reach are
        found by their words only. A single text is looked for by meaning and by its words
        (``Query.mode``), and both rankings are fused by rank; files of which it is the name come first. An example
        alone is looked for as ``similar`` does: a recording is compared by each of its windows, not by their mean.

        Raises:
            InputError: parts use different embedding spaces or cancel out, or a weight is 0.
            ImageValidationError, AudioValidationError: an unusable example. ModelLoadError: a model is missing.
        """
        weights = _weights(query)
        started = time.perf_counter()
        if (example := query.only_example) is not None:
            return self._answer(self._question_of(example, self._needed_vectors(example)), view, started)
        notices: list[str] = []
        words = query.text if query.mode != "vector" and not query.is_composed else None
        vectors: dict[Modality, np.ndarray] = {}
        kinds: list[Kind] = []
        is_composed = False
        if query.mode != "keyword" and (words is None or self._provider.has(TEXT_ROLE)):
            parts, one_space = list(self._parts(query, weights, notices)), self._provider.text_reaches_audio
            vectors = dict.fromkeys(reached(parts, one_space, query.modality), composed(parts, one_space)[None])
            kinds = [part.kind for part in parts]
            is_composed = len(parts) > 1 or parts[0].weight < 0
        caption = caption_vector(self._storage, self._provider, query)
        question = _Question(vectors, words, query.modality, kinds, is_composed, caption=caption)
        return self._answer(question, view, started, notices)

    def search_many(self, queries: Sequence[Query], view: View = View()) -> list[Results]:  # noqa: B008
        """As ``search`` for each, but each model encodes all texts at once; ``took_ms`` is without that.

        Raises:
            As ``search``; nothing is answered then.
        """
        return [self.search(query, view) for query in encoded_together(queries, self._storage, self._provider)]

    def similar(self, example: Example, view: View = View()) -> Results:  # noqa: B008 - it cannot be changed
        """The files of the same kind nearest to a picture or a recording.

        An example that the library holds comes first, with a score of 1 within float16's precision. A recording scores
        as its best pair of windows, one of the query's and one of its own: it is found by the moment that sounds alike,
        wherever in either of the two it lies. Of a query of more than 32 windows (``MAX_QUERY_WINDOWS``), 32 are
        compared, spread evenly from the first to the last. Empty where only stored vectors could count and the library
        holds none.

        Raises:
            InputError: a recording without windows. ImageValidationError, AudioValidationError: an unusable example.
            ModelLoadError: the library has no model for that kind.
        """
        started = time.perf_counter()
        return self._answer(self._question_of(example, self._vectors(example)), view, started)

    def encode(self, example: Example) -> Example:
        """The example with its vectors, and only as much else as it takes to make them again with other models.

        Raises:
            InputError: a recording without windows. ImageValidationError, AudioValidationError: an unusable example.
            ModelLoadError: the library has no model for that kind.
        """
        digest = self._provider.digest(ROLE_OF[example.modality])
        windows = example.windows and [example.windows[index].copy() for index in evenly_spaced(len(example.windows))]
        small = dataclasses.replace(example, windows=windows)
        return dataclasses.replace(small, vectors=embed_example(small, self._provider), digest=digest)

    # -- from a question to vectors -------------------------------------------------------------------------------

    def _parts(self, query: Query, weights: Mapping[str, float], notices: list[str]) -> Iterator[Part]:
        texts = [*([query.text] if query.text is not None else []), *query.plus]
        examples = [*((example, 1.0) for example in query.like), *((example, -1.0) for example in query.unlike)]
        for text in texts:
            yield Part("text", self._text_vector(text, notices, query), weights.get(text, PLUS_WEIGHT))
        for text in query.minus:
            yield Part("text", self._text_vector(text, notices, query), -weights.get(text, MINUS_WEIGHT))
        for example, sign in examples:
            vectors = self._needed_vectors(example)
            weight = weights.get(as_stored(example.name), PLUS_WEIGHT if sign > 0 else MINUS_WEIGHT)
            yield Part(example.modality, mean_vector(vectors), sign * weight)

    def _text_vector(self, text: str, notices: list[str], query: Query) -> np.ndarray:
        engine = self._provider.clip_engine
        read = engine.tokenizer.part_read(text)
        if read is not None:
            notices.append(f"the text is longer than the model reads; what follows {read[-30:]!r} does not count")
        known = query.encoded.get((TEXT_ROLE, text))
        vector: np.ndarray = engine.encode_text([text])[0] if known is None else known
        return vector

    def _vectors(self, example: Example) -> np.ndarray:
        """(n, d) of the picture, or of the recording's windows; n is 0 where there are none."""
        role = ROLE_OF[example.modality]
        stored = self._stored(role, example.content_hash)
        if len(stored):
            return stored[evenly_spaced(len(stored))]
        if example.vectors is not None and example.digest == self._provider.digest(role):
            return example.vectors
        if example.pixels is None and example.windows is None:
            return stored
        return embed_example(example, self._provider)

    def _needed_vectors(self, example: Example) -> np.ndarray:
        vectors = self._vectors(example)
        if not len(vectors):
            raise InputError(f"{example.name}: the library no longer holds it; search again, or give its path")
        return vectors

    @staticmethod
    def _question_of(example: Example, vectors: np.ndarray) -> _Question:
        kind = example.modality
        return _Question({kind: vectors}, kinds=[kind], content=example.content_hash)

    def _stored(self, role: str, content_hash: str | None) -> np.ndarray:
        digest = self._provider.digest(role)
        if content_hash is None:
            return np.empty((0, 0), dtype=np.float32)
        return self._storage.vectors(role, digest, content_hash)

    # -- from vectors to results ----------------------------------------------------------------------------------

    def _answer(self, question: _Question, view: View, started: float, notices: Sequence[str] = ()) -> Results:
        ranked = view
        if view.sort == "date":
            ranked = dataclasses.replace(view, k=max(view.k, DATED), offset=0)
        hits, matches = self._asked_until_whole(question, ranked)
        if view.sort == "date":
            if len(hits) == ranked.k:
                notices = [*notices, f"of the best {ranked.k:,} only, newest first; others may be newer"]
            hits = by_date(hits)[view.offset : view.offset + view.k]
        return Results(hits, (time.perf_counter() - started) * 1e3, notices, matches)

    def _asked_until_whole(self, question: _Question, view: View) -> tuple[list[Hit], bool | None]:
        """``_hits_in``, again where another process wrote between two of its reads.

        A file that was found and is removed before its row is read would leave its place empty, so everything is asked
        again. The next round cannot find that file: the rounds are at most one more than the files that are removed
        meanwhile. A selection that is not the newest leaves no place empty, so that is tried a few times only.
        """
        for attempt in count():
            selection = self._storage.select(to_store_filters(view.where)) if view.where else None
            try:
                answer = self._hits_in(question, view, selection)
            except VanishedError:
                continue
            if selection is None or attempt >= _ATTEMPTS or self._storage.is_current(selection):
                return answer
        raise AssertionError("unreachable")

    def _hits_in(self, question: _Question, view: View, selection: Selection | None) -> tuple[list[Hit], bool | None]:
        """The hits, and whether the best of all, which may be on an earlier page, match."""
        blocks = ranking(self._best(question, selection), lambda match: match.content_hash, view.k)
        first = next(blocks)
        matches, blocks = _matches(first, question), chain([first], blocks)
        if view.collapse:
            return self._stacks_in(blocks, question, view), matches
        return self._hits(page(blocks, view.k, view.offset), question), matches

    def _stacks_in(self, blocks: Iterator[list[Match]], question: _Question, view: View) -> list[Hit]:
        hits: list[Hit] = []
        vectors: dict[str, np.ndarray] = {}
        for block in blocks:
            new = self._hits(block, question)
            hits, vectors = hits + new, vectors | self._vectors_of(new)
            stacks = stacked(hits, classes_by_vectors(hits, vectors))
            if len(stacks) >= view.offset + view.k:
                break
        shown = stacks[view.offset : view.offset + view.k]
        places = self._storage.places([hit.content_hash for stack in shown for hit in stack.hits if hit.content_hash])
        n_files = [sum(places.get(hit.content_hash or "", 1) for hit in stack.hits) for stack in shown]
        return [dataclasses.replace(stack.best, cluster_size=n) for stack, n in zip(shown, n_files, strict=True)]

    def _best(self, question: _Question, selection: Selection | None) -> _Best:
        """n -> the best n by meaning; where files have the question's words, by both."""

        def best(n: int) -> list[Match]:
            hundreds = -(-n // FUSED) * FUSED
            by_words = self._by_words(question, hundreds, selection)
            by_captions = self._by_captions(question, hundreds, selection)
            depth = hundreds if by_words or by_captions else n
            by_meaning = [
                match for kind in question.vectors for match in self._nearest(kind, question, depth, selection)
            ]
            by_meaning.sort(key=_order)
            if by_words or by_captions:
                return fused(by_meaning[:depth], by_words, by_captions)[:n]
            return by_meaning[:n]

        return best

    def _by_words(self, question: _Question, n: int, selection: Selection | None) -> list[Match]:
        if question.words is None:
            return []
        rows = self._storage.find_words(question.words, n, question.modality, selection).slice(0, n).to_pylist()
        return [
            Match(row["media_id"], row["content_hash"], found_by="name" if row["is_name"] else "words") for row in rows
        ]

    def _by_captions(self, question: _Question, n: int, selection: Selection | None) -> list[Match]:
        if question.caption is None:
            return []
        digest = self._provider.digest(CAPTION_ROLE)
        rows = self._storage.search(CAPTION_ROLE, digest, question.caption, n, question.modality, selection).to_pylist()
        return [
            Match(row["media_id"], row["content_hash"], found_by="caption")
            for row in rows
            if row["score"] >= LEAST_CAPTION
        ]

    def _nearest(self, kind: Modality, question: _Question, k: int, selection: Selection | None) -> list[Match]:
        """Best match of each file over all vectors. The best k of every vector hold the best k of all."""
        role, queries = ROLE_OF[kind], question.vectors[kind]
        digest = self._provider.digest(role)
        best: dict[str, Match] = {}
        for query in queries:
            table = self._storage.search(role, digest, query, k, kind, selection)
            for row in table.to_pylist():
                match = Match(**row)
                if match.media_id not in best or row["score"] > (best[match.media_id].score or 0.0):
                    best[match.media_id] = match
        return self._measured(list(best.values()), kind, question)

    def _measured(self, matches: list[Match], kind: Modality, question: _Question) -> list[Match]:
        """With their relevance, if their route is calibrated."""
        if self._bank is None or not matches:
            return matches
        vectors, asked = question.vectors[kind], question.asked(kind)
        scores = np.array([match.score for match in matches])
        route = self._bank.route(asked, kind)
        if route is None:
            return matches
        role = ROLE_OF[kind]
        n_compared = len(vectors) * max(1, self._storage.n_vectors(role, self._provider.digest(role)))
        found = route.relevance(vectors, scores, n_compared, composed=question.composed).tolist()
        return [
            dataclasses.replace(match, relevance=1.0 if match.content_hash == question.content else value)
            for match, value in zip(matches, found, strict=True)
        ]

    def _scored(self, matches: Sequence[Match], question: _Question) -> list[Match]:
        """With the cosines of what was found by its words only, as far as the question can be compared with it."""
        bare = [match for match in matches if match.score is None]
        scored: dict[str, Match] = {}
        if bare and question.vectors:
            keys = {"media_id": [m.media_id for m in bare], "content_hash": [m.content_hash for m in bare]}
            among = self._storage.selection(**keys)
            for kind in question.vectors:
                scored |= {match.content_hash: match for match in self._nearest(kind, question, len(bare), among)}
        return [
            dataclasses.replace(scored.get(match.content_hash, match), media_id=match.media_id, found_by=match.found_by)
            for match in matches
        ]

    def _vectors_of(self, hits: Sequence[Hit]) -> dict[str, np.ndarray]:
        """The vectors by which hits were found, by ``media_id``."""
        found: dict[str, np.ndarray] = {}
        for modality, role in ROLE_OF.items():
            mine = [hit for hit in hits if hit.modality == modality and hit.content_hash is not None]
            rows = self._storage.vector_rows(role, [str(hit.content_hash) for hit in mine]) if mine else {}
            for hit in mine:
                windows = rows.get(str(hit.content_hash), [])
                matched = [row for row in windows if row.start == hit.start] or windows
                if matched:
                    found[hit.media_id] = matched[0].embedding
        return found

    def _hits(self, matches: Sequence[Match], question: _Question) -> list[Hit]:
        matches = self._scored(matches, question)
        rows = {row["media_id"]: row for row in self._storage.media([match.media_id for match in matches]).to_pylist()}
        if any(match.media_id not in rows for match in matches):
            raise VanishedError
        return [hit_of(match, rows[match.media_id]) for match in matches]


def _weights(query: Query) -> dict[str, float]:
    """The weights of a question's parts by text or name.

    Raises:
        InputError: as ``checked_weights``.
    """
    names = [*query.texts, *(as_stored(example.name) for example in (*query.like, *query.unlike))]
    return checked_weights({as_stored(str(name)): weight for name, weight in query.weights.items()}, names)


def _matches(best: Sequence[Match], question: _Question) -> bool | None:
    """Whether anything matches: by its words, or as relevant as what is right in half of the cases.

    What is right for a composed question is often less relevant than that: then it is not known.
    """
    known = [match.relevance for match in best if match.relevance is not None]
    if any(match.found_by != "meaning" for match in best) or any(value >= MATCHING for value in known):
        return True
    return False if (known and not question.composed) or not best else None


def _order(match: Match) -> tuple[float, float, str]:
    """By relevance, which for files of one kind is by cosine; where it is not known or the same, by cosine."""
    return -(match.relevance or 0.0), -(match.score or 0.0), match.media_id
