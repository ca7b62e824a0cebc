"""Answers a question: the nearest files of a library, with their relevance."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.embedding import (
    MAX_QUERY_WINDOWS,
    Example,
    embed_example,
    embed_questions,
    encode,
    evenly_spaced,
    question_encoder,
    windows_for,
)
from arrowlens.errors import InputError
from arrowlens.modalities import EXTRACTED, MODALITIES, ROLE_OF, TEXT_ROLE, Input, Modality, TextSource
from arrowlens.search.composition import (
    MINUS_WEIGHT,
    PLUS_WEIGHT,
    Part,
    checked_weights,
    composed,
    mean_vector,
    reached,
)
from arrowlens.search.copies import N_COMPARED, RELEVANCE, Copies
from arrowlens.search.grouping import Stack, by_date, classes_by_vectors, stacked
from arrowlens.search.hybrid import (
    DEEPER,
    LEAST_CAPTION,
    Match,
    encoded_together,
    joined_words,
    may_hold,
    merged,
    page,
    read_ranking,
    text_vector,
)
from arrowlens.search.listing import hit_of, hits_of
from arrowlens.search.query import DATED, Query, View
from arrowlens.search.relevance import MATCHING, Kind
from arrowlens.search.results import MAX_COUNTED, Hit, Results
from arrowlens.search.sanitize import as_stored, printable
from arrowlens.search.where import to_store_filters
from arrowlens.store import CAPTION_ROLE, FileText, shown_columns, written_texts
from arrowlens.store.loops import OutdatedError, look_deeper, read_unchanged
from arrowlens.store.ranking import RESULT_SCHEMA
from arrowlens.store.vectors import embedding_matrix

if TYPE_CHECKING:
    from arrowlens.encoders import MultimodalEmbeddingProvider
    from arrowlens.search.relevance.background import Bank, Route
    from arrowlens.store import MultimodalStorage, Selection
    from arrowlens.store.fulltext import Matching

__all__ = ["MAX_QUERY_WINDOWS", "Searcher"]

_Best = Callable[[int], list[Match]]


@dataclasses.dataclass(frozen=True, slots=True)
class _Question:
    """What the store is asked.

    Attributes:
        vectors: (n, d) by what they are compared with: pictures and shots, or sound.
        words: to search for; None for none.
        modality: the files that are searched; None for all.
        kinds: what the vectors are made of: texts, or examples of a modality.
        composed: whether there are several parts.
        content: hash of the file that is asked with. It is shown as a match, whatever the model makes of it, and not
            counted.
        meant: (d,) of the text model, which the texts of files are compared with; None for none.
        sources: of the texts that are searched; empty for all.
        copies: tells copies of the file that is asked with; None for a text, or several parts.
    """

    vectors: Mapping[Input, np.ndarray]
    words: str | None = None
    modality: Modality | None = None
    kinds: Sequence[Kind] = ()
    composed: bool = False
    content: str | None = None
    meant: np.ndarray | None = None
    sources: tuple[TextSource, ...] = ()
    copies: Copies | None = None

    def asked_with(self, found: Input) -> Kind:
        """Return what pictures or sound are asked with: an example of them if there is one, else the first part."""
        return found if found in self.kinds else self.kinds[0]


@dataclasses.dataclass(frozen=True, slots=True)
class _Reading:
    """What was read of a ranking; the attributes are those of ``Results``."""

    hits: Sequence[Hit]
    has_match: bool | None
    n_matches: int | None
    notices: tuple[str, ...] = ()


class Searcher:
    """Answers questions to one library with one set of models. Thread-safe.

    Matches come first, then files of which it is not known whether they match, then those that do not. Meaning orders
    them by falling relevance, which for files of one kind falls with the cosine as long as the model knows such files,
    and equal ones by cosine and ``media_id``. ``hybrid.merged`` says where files stand that have the question's words.
    Files of equal content appear once.

    Args:
        storage: the library.
        provider: its models.
        bank: what relevance is measured by; without it hits have none.
    """

    def __init__(
        self, storage: MultimodalStorage, provider: MultimodalEmbeddingProvider, bank: Bank | None = None
    ) -> None:
        self._storage = storage
        self._provider = provider
        self._bank = bank

    def search(self, query: Query, view: View = View()) -> Results:  # noqa: B008 - it cannot be changed
        """Return the files nearest to a question: pictures and films, and recordings where they share its space.

        A film counts by its best moment, whether that is seen or heard. A text finds pictures and films, and recordings
        where the audio model encodes texts or shares the vision model's space;
        recordings that a text cannot reach are found by their words only. A text is looked for by meaning and by its
        words (``Query.mode``); with further parts the meaning is that of all of them, and orders the files that have
        the words. An example alone is looked for as ``similar`` does: a recording is compared by each of its windows,
        not by their mean.

        Raises:
            InputError: parts use different embedding spaces or cancel out, or a weight is 0.
            ImageValidationError, AudioValidationError: an unusable example. ModelLoadError: a model is missing.
        """
        weights = _weights(query)
        started = time.perf_counter()
        if (example := query.only_example) is not None:
            return self._answer(self._question_of(example, is_needed=True), view, started)
        notices: list[str] = []
        words = query.text if query.mode != "vector" else None
        examples: list[Kind] = [example.inputs[0] for example in (*query.like, *query.unlike)]
        asked: list[Kind] = ["text"] * len(query.texts)
        kinds = [*asked, *examples]
        vectors: dict[Input, np.ndarray] = {}
        if not query.asks_texts_only:
            vectors = self._composed(query, weights, kinds, notices)
        is_composed = query.mode != "keyword" and (len(kinds) > 1 or bool(query.minus or query.unlike))
        meant = text_vector(self._storage, self._provider, query)
        question = _Question(vectors, words, query.modality, kinds, is_composed, meant=meant, sources=query.sources)
        return self._answer(question, view, started, list(dict.fromkeys(notices)))

    def search_many(self, queries: Sequence[Query], view: View = View()) -> list[Results]:  # noqa: B008
        """Return what ``search`` gives for each; each model encodes all texts at once, which ``took_ms`` leaves out.

        Raises:
            As ``search``; nothing is answered then.
        """
        return [self.search(query, view) for query in encoded_together(queries, self._storage, self._provider)]

    def similar(self, example: Example, view: View = View()) -> Results:  # noqa: B008 - it cannot be changed
        """Return what is nearest to a picture, a recording or a film.

        A picture is compared with pictures and with the shots of films, a recording with recordings and with the sound
        of films. A film is compared with films, by its shots and by its sound; a moment of it (``Example.at_s``) with
        all that it can be compared with.

        An example that the library holds comes first, with a score of 1 within float16's precision; ``n_matches`` and
        ``has_match`` are of the others. A copy of it in another file matches, whatever the model says, as one of the 16
        nearest (``copies``). A recording scores
        as its best pair of windows, one of the query's and one of its own: it is found by the moment that sounds alike,
        wherever in either of the two it lies. Of a query of more than 32 windows (``MAX_QUERY_WINDOWS``), 32 are
        compared, spread evenly from the first to the last. Empty where only stored vectors could count and the library
        holds none.

        Raises:
            InputError: a recording without windows. ImageValidationError, AudioValidationError: an unusable example.
            ModelLoadError: the library has no model for that modality.
        """
        started = time.perf_counter()
        return self._answer(self._question_of(example), view, started)

    def encode(self, example: Example) -> Example:
        """Return the example with its vectors, and with no more than it takes to encode it with other models.

        Raises:
            InputError: a recording without windows. ImageValidationError, AudioValidationError: an unusable example.
            ModelLoadError: the library has no model for that modality.
        """
        windows = example.windows and [example.windows[index].copy() for index in evenly_spaced(len(example.windows))]
        shots = None if example.shots is None else example.shots[evenly_spaced(len(example.shots))]
        small = dataclasses.replace(example, windows=windows, shots=shots)
        if example.modality == "video":  # which has vectors of two models
            return small
        digest = self._provider.recipe_digest(ROLE_OF[example.modality])
        return dataclasses.replace(small, vectors=embed_example(small, self._provider), digest=digest)

    def embed(self, example: Example) -> np.ndarray:
        """Return the vectors of an example as the library stores them: (n_segments, d) float32 of length one.

        Of a film those of its shots.

        Raises:
            InputError: a recording without windows, or a hit of what the library no longer holds.
            ImageValidationError, AudioValidationError: an unusable example. ModelLoadError: a model is missing.
        """
        modality = example.inputs[0]
        stored = self._stored(ROLE_OF[modality], example.content_hash)
        if not len(stored) and example.shots is not None:
            return encode("image", [*example.shots], self._provider)
        if not len(stored) and example.windows:
            windows = windows_for(self._provider.recipe, example.windows, example.rate)
            return encode(modality, windows, self._provider)
        return stored if len(stored) else self._needed_vectors(example, modality)

    def embed_text(self, text: str, modality: Modality) -> np.ndarray:
        """Return the vector that a text asks with for media of a modality: (d,) float32 of length one.

        Raises:
            InputError: texts do not reach that modality with these models. ModelLoadError: a model is missing.
        """
        one = MODALITIES[modality].inputs[0]
        role = self._provider.text_role(one)
        if role is None and one != "image":
            raise InputError(f"texts do not find {MODALITIES[modality].plural} with these models; use others, as demo")
        vector: np.ndarray = embed_questions([text], role or TEXT_ROLE, self._provider)[0]
        return vector

    # -- from a question to vectors -------------------------------------------------------------------------------

    def _composed(
        self, query: Query, weights: Mapping[str, float], kinds: Sequence[Kind], notices: list[str]
    ) -> dict[Input, np.ndarray]:
        """What pictures and shots, and sound, are compared with, (1, d): the question in the space of these."""
        one_space = self._provider.has_one_space
        roles = {one: self._provider.text_role(one) for one in ROLE_OF}
        texts = [one for one, role in roles.items() if role is not None]
        compared = reached(kinds, one_space, None if query.modality == "video" else query.modality, texts)
        if not compared and query.mode != "vector" and not query.is_composed:
            return {}  # words alone find it
        # A model is not loaded for files that the library does not hold; one is, to refuse what cannot be asked.
        held = [kind for kind in compared if may_hold(kind, self._storage, self._provider)]
        compared = tuple(held) or compared[:1]
        asked: dict[str, list[Input]] = {}
        for one in compared:
            asked.setdefault(roles[one] or TEXT_ROLE, []).append(one)
        vectors: dict[str, np.ndarray] = {}
        for role in asked or [TEXT_ROLE]:
            vectors[role] = composed(list(self._parts(query, weights, role)), one_space, texts)[None]
            if query.texts:
                notices += self._notices(query, role, asked.get(role, []), is_one_of_several=len(asked) > 1)
        return {one: vectors[role] for role, several in asked.items() for one in several}

    def _parts(self, query: Query, weights: Mapping[str, float], role: str) -> Iterator[Part]:
        """The parts of a question, its texts as the model of a role encodes them."""
        texts = [*([query.text] if query.text is not None else []), *query.plus]
        examples = [*((example, 1.0) for example in query.like), *((example, -1.0) for example in query.unlike)]
        for text in texts:
            yield Part("text", self._text_vector(text, query, role), weights.get(text, PLUS_WEIGHT))
        for text in query.minus:
            yield Part("text", self._text_vector(text, query, role), -weights.get(text, MINUS_WEIGHT))
        for example, sign in examples:
            vectors = self._needed_vectors(example, example.inputs[0])
            weight = weights.get(as_stored(example.name), PLUS_WEIGHT if sign > 0 else MINUS_WEIGHT)
            yield Part(example.inputs[0], mean_vector(vectors), sign * weight)

    def _text_vector(self, text: str, query: Query, role: str) -> np.ndarray:
        known = query.encoded.get((role, text))
        if known is not None:
            return known
        vector: np.ndarray = embed_questions([text], role, self._provider)[0]
        return vector

    def _notices(
        self, query: Query, role: str, modalities: Sequence[Input], *, is_one_of_several: bool
    ) -> Iterator[str]:
        """What a model does not read of a question's texts."""
        nouns = " and ".join(MODALITIES[modality].plural for modality in modalities) or "pictures"
        finding = f", to find {nouns}" if is_one_of_several else ""
        language, tokenizer = self._provider.language(role), question_encoder(role, self._provider).tokenizer
        for text in query.texts:
            read = tokenizer.part_read(text)
            if read is not None:
                yield (f"the text is longer than the model reads{finding}; what follows {read[-30:]!r} does not count")
            if language is not None and not _is_latin(text):
                by_words = text == query.text and query.mode == "auto" and not query.is_composed
                but = ", though files that have these words are found" if by_words else ""
                yield (
                    f"the model that finds {nouns} knows {language}: {text[:30]!r} means little to it{but}; "
                    "`arrowlens models` lists sets that know more languages"
                )

    def _vectors(self, example: Example, modality: Input) -> np.ndarray:
        """(n, d) of the picture, of a film's shots, or of the windows of sound; n is 0 where there are none."""
        role = ROLE_OF[modality]
        if example.at_s is not None:
            return self._at_moment(role, example, example.at_s)
        stored = self._stored(role, example.content_hash)
        if len(stored):
            return stored[evenly_spaced(len(stored))]
        if example.vectors is not None and example.digest == self._provider.recipe_digest(role):
            return example.vectors
        there = example.pixels if modality == "image" and example.shots is None else example.shots
        if (there if modality == "image" else example.windows) is None:
            return stored
        return embed_example(example, self._provider, modality)

    def _needed_vectors(self, example: Example, modality: Input) -> np.ndarray:
        vectors = self._vectors(example, modality)
        if not len(vectors):
            raise InputError(f"{example.name}: the library no longer holds it; search again, or give its path")
        return vectors

    def _question_of(self, example: Example, *, is_needed: bool = False) -> _Question:
        """What an example alone asks for; with vectors, or an error, where they ``is_needed``."""
        inputs = example.inputs
        if example.modality == "video":
            inputs = tuple(one for one in inputs if self._provider.has(ROLE_OF[one])) or inputs[:1]
            inputs = inputs if example.at_s is None else inputs[:1]  # windows of sound are too long for a moment
        vectors = {one: self._vectors(example, one) for one in inputs}
        vectors = {one: each for one, each in vectors.items() if len(each)} or {inputs[0]: vectors[inputs[0]]}
        if is_needed:
            self._needed_vectors(example, next(iter(vectors)))
        is_film = example.modality == "video" and example.at_s is None
        modality: Modality | None = "video" if is_film else None
        copies = None if example.modality == "video" else Copies(self._storage, example)
        kinds, content = list(vectors), example.content_hash
        return _Question(vectors, modality=modality, kinds=kinds, content=content, copies=copies)

    def _stored(self, role: str, content: str | None) -> np.ndarray:
        digest = self._provider.recipe_digest(role)
        if content is None:
            return np.empty((0, 0), dtype=np.float32)
        return self._storage.vectors(role, digest, content)

    def _at_moment(self, role: str, example: Example, at_s: float) -> np.ndarray:
        """The vectors of the shot or the windows at a moment, (n, d); of the nearest in time where there is a gap."""
        content = example.content_hash or ""
        rows = self._storage.vector_rows(role, [content]).get(content, [])
        if example.modality == "image":
            raise InputError(f"{example.name}: a picture has no moments; leave the time out")
        if not rows:
            raise InputError(f"{example.name}: the library knows no moments of it; ingest it, or leave the time out")
        lengths = self._storage.media_of(content)["duration"].to_pylist()
        end_s = max([length for length in lengths if length is not None], default=math.inf)
        if not 0.0 <= at_s <= end_s:
            raise InputError(f"{example.name}: {at_s:g} s is not in its {end_s:.1f} s; name a moment from 0 s on")
        away = [max((row.start or 0.0) - at_s, at_s - (row.end or math.inf), 0.0) for row in rows]
        return np.stack([row.embedding for row, each in zip(rows, away, strict=True) if each == min(away)])

    # -- from vectors to results ----------------------------------------------------------------------------------

    def _answer(self, question: _Question, view: View, started: float, notices: Sequence[str] = ()) -> Results:
        def read() -> _Reading:
            selection = self._storage.select(to_store_filters(view.where)) if view.where else None
            best = self._best(question, selection)
            return read_ranking(
                best,
                lambda match: match.content_hash,
                lambda ranked, is_whole: self._read(ranked, is_whole, question, view),
                view.k,
            )

        # Without conditions, each question to the store is of one version anyway.
        reading = read_unchanged(read, self._storage.media_version) if view.where else read_unchanged(read)
        milliseconds = (time.perf_counter() - started) * 1e3
        return Results(reading.hits, milliseconds, (*notices, *reading.notices), reading.has_match, reading.n_matches)

    def _read(self, ranked: Sequence[Match], is_whole: bool, question: _Question, view: View) -> _Reading | None:
        """Return the wanted part of a ranking, with facts about the whole; None where it takes more of the ranking.

        Raises:
            OutdatedError: a file was removed before its row was read.
        """
        is_dated, notices = view.sort == "date", tuple[str, ...]()
        last = ranked[-1].matches if ranked and not is_whole else False
        n_dated = max(view.k, DATED)
        if (last and len(ranked) <= MAX_COUNTED) or (is_dated and last is not False and len(ranked) <= n_dated):
            return None  # more may match
        others = [match.matches for match in ranked if match.content_hash != question.content]
        has_match = any(others) or (None if None in others else False)
        n_certain = others.count(True)
        n_matches = None if None in others and n_certain <= MAX_COUNTED else min(n_certain, MAX_COUNTED + 1)
        if is_dated and sum(match.matches is not False for match in ranked) > n_dated:
            ranked, is_whole = [match for match in ranked if match.matches is not False][:n_dated], True
            notices = (f"only the best {n_dated:,} files are put in order of time; others may be newer",)
        if any(match.has_words and match.matches is None for match in ranked):
            notices += (f"no file has the words {printable(question.words or '')!r}; words like these were found",)
        hits = self._shown(ranked, is_whole, question, view)
        return None if hits is None else _Reading(hits, has_match, n_matches, notices)

    def _shown(self, ranked: Sequence[Match], is_whole: bool, question: _Question, view: View) -> Sequence[Hit] | None:
        is_dated = view.sort == "date"
        if view.collapse:
            hits = self._hits(ranked, question)
            stacks = stacked(hits, classes_by_vectors(hits, self._vectors_of(hits)))
            if is_dated:
                place = {hit.media_id: n for n, hit in enumerate(_newest_first([stack.best for stack in stacks]))}
                stacks.sort(key=lambda stack: place[stack.best.media_id])
            shown = page(stacks, is_whole, view.k, view.offset)
            return None if shown is None else self._with_sizes(shown)
        if is_dated:
            rows = self._rows(ranked)
            by_id = {match.media_id: match for match in ranked}
            dated = _newest_first([hit_of(match, rows[match.media_id]) for match in ranked])
            ranked = [by_id[hit.media_id] for hit in dated]
        matches = page(ranked, is_whole, view.k, view.offset)
        return None if matches is None else self._hits(matches, question)

    def _with_sizes(self, stacks: Sequence[Stack]) -> list[Hit]:
        """Return the best hit of each stack, with the number of files that it stands for."""
        places = self._storage.places([hit.content_hash for stack in stacks for hit in stack.hits if hit.content_hash])
        n_files = [sum(places.get(hit.content_hash or "", 1) for hit in stack.hits) for stack in stacks]
        return [dataclasses.replace(stack.best, cluster_size=n) for stack, n in zip(stacks, n_files, strict=True)]

    def _best(self, question: _Question, selection: Selection | None) -> _Best:
        """Return a function of n: the best n files by meaning and by words."""
        by_words = functools.cache(lambda n: self._by_words(question, n, selection, "whole"))
        by_parts = functools.cache(lambda n: self._by_words(question, n, selection, "part"))
        by_typos = functools.cache(lambda n: self._by_words(question, n, selection, "typo"))

        def best(n: int) -> list[Match]:
            rankings = [self._nearest(kind, question, n, selection) for kind in question.vectors]
            by_meaning = _joined(rankings, one_space=self._provider.has_one_space)[:n]
            if question.words is None:
                return by_meaning
            depth = max(n, MAX_COUNTED + 1)
            words, texts = by_words(depth), self._by_texts(question, n, selection)
            likeness = by_parts(depth) if len(words) < depth else []
            if not words and not texts and not likeness and not any(match.matches for match in by_meaning[:1]):
                likeness = by_typos(depth)
            return merged(by_meaning, words, texts, likeness)[:n]

        return best

    def _by_words(self, question: _Question, n: int, selection: Selection | None, matching: Matching) -> list[Match]:
        assert question.words is not None
        in_media = [source for source in question.sources if source not in EXTRACTED] or None
        in_texts = [source for source in question.sources if source in EXTRACTED] or None
        asked = (question.words, n, question.modality, selection, matching)
        rows, texts = list[dict[str, Any]](), list[dict[str, Any]]()
        if in_media or not question.sources:
            rows = self._storage.find_words(*asked, in_media).slice(0, n).to_pylist()
        if in_texts or not question.sources:
            texts = self._storage.find_texts(*asked, in_texts).slice(0, n).to_pylist()
        is_match = None if matching == "typo" else True  # another word may be meant, or nothing be there
        known: dict[str, Any] = {"found_by": "words", "matches": is_match, "has_words": True}
        matches = joined_words(
            [Match(row["media_id"], row["content_hash"], is_name=row["is_name"], **known) for row in rows],
            [Match(**row, **known) for row in texts],
        )[:n]
        if not question.composed:
            return matches
        # What refines a question orders the files that have its words; those nearer to what is not wanted than to what
        # is wanted have a cosine below 0, and stand where meaning puts them.
        wanted = [match for match in self._scored(matches, question) if match.score is None or match.score >= 0.0]
        return sorted(wanted, key=lambda match: (not match.is_name, _order(match)))

    def _by_texts(self, question: _Question, n: int, selection: Selection | None) -> list[Match]:
        """Return the files of which a text means what is asked for, at most ``n``."""
        if question.meant is None:
            return []
        digest, modality = self._provider.recipe_digest(CAPTION_ROLE), question.modality
        rows = self._storage.search(CAPTION_ROLE, digest, question.meant, n, modality, selection, with_vectors=True)
        rows = rows.filter(pc.greater_equal(rows["score"], LEAST_CAPTION)).drop_columns(["embedding"])
        texts = self._texts_by_id(rows["media_id"].to_pylist())
        if question.sources:
            wanted = {name: text for name, text in texts.items() if text.text.source in question.sources}
            vectors = self._storage.vectors_by_id(CAPTION_ROLE, sorted(wanted))
            scores = {name: float(vector @ question.meant) for name, vector in vectors.items()}
            best = sorted(scores, key=lambda name: (-scores[name], name))
            names = [name for name in best if scores[name] >= LEAST_CAPTION]
        else:
            names = [name for name in rows["embedding_id"].to_pylist() if name in texts]
        first: dict[str, Match] = {}
        for each in (texts[name] for name in names):
            match = Match(
                each.media_id,
                each.content_hash,
                start=each.text.start,
                end=each.text.end,
                found_by="text",
                matches=True,
                text=each.text.text,
                source=each.text.source,
            )
            first.setdefault(each.content_hash, match)
        return list(first.values())

    def _texts_by_id(self, media_ids: Sequence[str]) -> dict[str, FileText]:
        """Return the texts of files by the ids of their vectors; of equal ones the first."""
        texts: dict[str, FileText] = {}
        rows = self._storage.media(media_ids, shown_columns()).to_pylist() if media_ids else []
        extracted = self._storage.extracted_texts(sorted({row["content_hash"] for row in rows}))
        for row in rows:
            for text in (*written_texts(row), *extracted.get(row["content_hash"], ())):
                of_file = FileText(row["media_id"], row["content_hash"], row["modality"], text)
                texts.setdefault(of_file.embedding_id, of_file)
        return texts

    def _nearest(self, kind: Input, question: _Question, k: int, selection: Selection | None) -> list[Match]:
        """Return the best k files by what is seen of them, or by what is heard, and perhaps more.

        A route that limits the relevance of files does not order them by their scores. Then as many are read as it
        takes: until the score of the last would not bring it among the best k, whatever file it is of. The same files
        are compared with the one that is asked with, however few are wanted.
        """
        k = k if question.copies is None else max(k, N_COMPARED)

        def fetch(depth: int) -> tuple[tuple[list[Match], Callable[[], np.ndarray]], bool]:
            matches, vectors = self._closest(kind, question, depth, selection)
            return (matches, vectors), len(matches) < depth

        def read(found: tuple[list[Match], Callable[[], np.ndarray]], is_whole: bool) -> list[Match] | None:
            matches, vectors = found
            route = self._bank.route(question.asked_with(kind), kind) if self._bank is not None and matches else None
            if route is None:  # nothing is claimed
                return self._with_copies(matches, kind, question)
            values = self._relevance(route, matches, kind, question)
            if route.familiarity is None:
                return self._with_copies(self._measured(matches, values, question), kind, question)
            limited = route.familiarity.limit(values, vectors())
            if is_whole or values.min() <= np.sort(limited)[-k]:
                return self._measured(matches, limited, question)
            return None

        return look_deeper(fetch, read, k, DEEPER)

    def _closest(
        self, kind: Input, question: _Question, k: int, selection: Selection | None
    ) -> tuple[list[Match], Callable[[], np.ndarray]]:
        """Return the best match of each file over all vectors, and what reads the files' own vectors, (n, d) float32.

        The best k of each vector hold the best k of all.
        """
        role, best = ROLE_OF[kind], dict[str, tuple[Match, pa.Table]]()
        digest = self._provider.recipe_digest(role)
        for query in question.vectors[kind]:
            table = self._storage.search(role, digest, query, k, question.modality, selection, with_vectors=True)
            for number, row in enumerate(table.select(RESULT_SCHEMA.names).to_pylist()):
                match = Match(**row, found_in=kind)
                if match.media_id not in best or row["score"] > (best[match.media_id][0].score or 0.0):
                    best[match.media_id] = match, table.slice(number, 1)
        files = [file for _, file in best.values()]
        return [match for match, _ in best.values()], lambda: embedding_matrix(pa.concat_tables(files)["embedding"])

    def _relevance(self, route: Route, matches: list[Match], kind: Input, question: _Question) -> np.ndarray:
        """Return what a route makes of the scores, (n,)."""
        vectors, role = question.vectors[kind], ROLE_OF[kind]
        scores = np.array([match.score for match in matches])
        n_compared = len(vectors) * max(1, self._storage.n_vectors(role, self._provider.recipe_digest(role)))
        return route.relevance(vectors, scores, n_compared, composed=question.composed)

    @staticmethod
    def _measured(matches: list[Match], values: np.ndarray, question: _Question) -> list[Match]:
        """Return matches with their relevance, and whether they match."""
        # What is right for a composed question is often less relevant than a match: then it is not known.
        below = None if question.composed else False
        measured = []
        for match, value in zip(matches, values.tolist(), strict=True):
            value = 1.0 if match.content_hash == question.content else value
            measured.append(dataclasses.replace(match, relevance=value, matches=value >= MATCHING or below))
        return measured

    def _with_copies(self, matches: list[Match], kind: Modality, question: _Question) -> list[Match]:
        """Return matches, of which copies of the file that is asked with are known as such."""
        copies = question.copies
        if copies is None or copies.modality != kind or self._bank is None or not matches:
            return matches
        nearest = sorted(matches, key=lambda match: (-(match.score or 0.0), match.media_id))[:N_COMPARED]
        if kind == "image":  # as of duplicates, the vectors need only not contradict
            from arrowlens.search.similarity import COPY_DISTANCE  # deferred: a text needs no Pillow

            own = float((question.vectors[kind].astype(np.float64) @ self._bank.mean(kind)).mean())
            nearest = [match for match in nearest if 1.0 - (match.score or 0.0) <= COPY_DISTANCE * (1.0 - own)]
        rows = self._storage.media([match.media_id for match in nearest], shown_columns()).to_pylist()
        alike = {row["media_id"] for row in rows if row["modality"] == copies.modality}  # a shot of a film is no copy
        copied = copies.among([match.content_hash for match in nearest if match.media_id in alike])
        return [
            dataclasses.replace(match, relevance=max(match.relevance or 0.0, RELEVANCE), matches=True, found_by="copy")
            if match.content_hash in copied
            else match
            for match in matches
        ]

    def _scored(self, matches: Sequence[Match], question: _Question) -> list[Match]:
        """Return matches with cosines, also of those found by words, where the question can be compared with them."""
        bare = [match for match in matches if match.score is None]
        scored: dict[str, Match] = {}
        if bare and question.vectors:
            keys = {"media_id": [m.media_id for m in bare], "content_hash": [m.content_hash for m in bare]}
            among = self._storage.selection(**keys)
            rankings = [self._nearest(kind, question, len(bare), among) for kind in question.vectors]
            best = _joined(rankings, one_space=self._provider.has_one_space)
            scored = {match.content_hash: match for match in best}
        return [match if match.score is not None else match.joined(scored.get(match.content_hash)) for match in matches]

    def _vectors_of(self, hits: Sequence[Hit]) -> dict[str, np.ndarray]:
        """Return the vectors by which hits were found, by ``media_id``."""
        vectors: dict[str, np.ndarray] = {}
        for one, role in ROLE_OF.items():
            mine = [
                hit
                for hit in hits
                if hit.content_hash is not None and (hit.found_in or MODALITIES[hit.modality].inputs[0]) == one
            ]
            rows = self._storage.vector_rows(role, [str(hit.content_hash) for hit in mine]) if mine else {}
            for hit in mine:
                windows = rows.get(str(hit.content_hash), [])
                matched = [row for row in windows if row.start == hit.start] or windows
                if matched:
                    vectors[hit.media_id] = matched[0].embedding
        return vectors

    def _rows(self, matches: Sequence[Match]) -> dict[str, dict[str, Any]]:
        """Return the rows of files by id.

        Raises:
            OutdatedError: one of them was removed.
        """
        read = self._storage.media([match.media_id for match in matches], shown_columns())
        rows = {row["media_id"]: row for row in read.to_pylist()}
        if any(match.media_id not in rows for match in matches):
            raise OutdatedError
        return rows

    def _hits(self, matches: Sequence[Match], question: _Question) -> list[Hit]:
        matches = self._scored(matches, question)
        rows = self._rows(matches)
        return hits_of(self._storage, matches, rows, question.words)


def _weights(query: Query) -> dict[str, float]:
    """Return the weights of a question's parts by text or name.

    Raises:
        InputError: they are not by text, or as ``checked_weights``.
    """
    if not isinstance(query.weights, Mapping):
        raise InputError(f"weights is {query.weights!r:.60}; it gives numbers by text, as in {{'a dog': 2}}")
    names = [*query.texts, *(as_stored(example.name) for example in (*query.like, *query.unlike))]
    return checked_weights({as_stored(str(name)): weight for name, weight in query.weights.items()}, names)


def _newest_first(hits: Sequence[Hit]) -> list[Hit]:
    """Return matches by date, then what may match by date, then what does not match in its order."""
    groups = [[hit for hit in hits if hit.matches is known] for known in (True, None, False)]
    return [*by_date(groups[0]), *by_date(groups[1]), *groups[2]]


def _joined(rankings: Sequence[Sequence[Match]], *, one_space: bool) -> list[Match]:
    """Return all files in one order, each as its best match; where cosines cannot be compared, rankings take turns."""
    if one_space or len(rankings) < 2:
        together = sorted(chain.from_iterable(rankings), key=_order)
    else:
        turns = {
            id(match): n * len(rankings) + number
            for number, ranking in enumerate(rankings)
            for n, match in enumerate(sorted(ranking, key=_order))
        }

        def in_turns(match: Match) -> tuple[int, float, float, str]:
            rank, relevance, score, media_id = _order(match)
            return rank, relevance, score if match.relevance is not None else turns[id(match)], media_id

        together = sorted(chain.from_iterable(rankings), key=in_turns)
    best: dict[str, Match] = {}
    for match in together:
        best.setdefault(match.content_hash, match)  # a film is seen and heard
    return list(best.values())


def _order(match: Match) -> tuple[int, float, float, str]:
    """Return the sort key: by match, by relevance (within a modality the order of cosines), by cosine, by id."""
    rank = 0 if match.matches else 1 if match.matches is None else 2
    return rank, -(match.relevance or 0.0), -(match.score or 0.0), match.media_id


def _is_latin(text: str) -> bool:
    """Whether half of the letters or more are Latin ones, as in all languages that are written as English is."""
    letters = [character for character in text if character.isalpha()]
    n_latin = sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    return 2 * n_latin >= len(letters)
