"""Joins the rankings by meaning, by words and by what texts mean into one, and cuts it into pages.

Scores of different rankings cannot be compared: a file comes before another because of the ranking that found it, and
files of one ranking keep its order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from arrowlens.embedding import embed_questions
from arrowlens.modalities import MODALITIES, ROLE_OF, Input, TextSource
from arrowlens.search.results import FoundBy
from arrowlens.store import CAPTION_ROLE
from arrowlens.store.loops import look_deeper

if TYPE_CHECKING:
    from arrowlens.encoders import MultimodalEmbeddingProvider
    from arrowlens.search.query import Query
    from arrowlens.store import MultimodalStorage

_FOUND_IN: dict[TextSource | None, Input] = {"speech": "audio", "ocr": "image"}  # of texts that have a moment
SURE = 0.9  # relevance from which a file that meaning puts forward need not wait for all that have the words


@dataclasses.dataclass(frozen=True, slots=True)
class Match:
    """A file that was found.

    Attributes:
        media_id: names it.
        content_hash: of its bytes.
        score: cosine; None where it was found by its words or by a text only.
        relevance: 0..1; None where it was found by these only, or where there is no measure.
        start: seconds; where the best window or shot, or the text, begins, None for pictures.
        end: seconds; where it ends.
        found_by: what found it.
        matches: whether it answers the question; None where that is not known.
        has_words: whether it was found by its words.
        found_in: what of it the score is of: a picture or a shot ("image"), or sound ("audio"); None without a score.
        is_name: whether the question is its file name.
        text, source: the text that found it, where that was read or heard, or is what found it by its meaning.
    """

    media_id: str
    content_hash: str
    score: float | None = None
    relevance: float | None = None
    start: float | None = None
    end: float | None = None
    found_by: FoundBy = "meaning"
    matches: bool | None = None
    has_words: bool = False
    found_in: Input | None = None
    is_name: bool = False
    text: str | None = None
    source: TextSource | None = None

    def joined(self, by_meaning: Match | None) -> Match:
        """Return this file, found by its words or by a text, with what its content was found to mean."""
        if by_meaning is None:
            return self
        has_moment = self.start is not None or by_meaning.matches is False
        moment = self if has_moment else by_meaning
        return dataclasses.replace(
            self,
            score=by_meaning.score,
            relevance=by_meaning.relevance,
            start=moment.start,
            end=moment.end,
            matches=True if self.matches or by_meaning.matches else None,
            found_in=by_meaning.found_in if self.start is None else _FOUND_IN.get(self.source, by_meaning.found_in),
        )


def merged(
    by_meaning: Sequence[Match],
    by_words: Sequence[Match] = (),
    by_texts: Sequence[Match] = (),
    by_likeness: Sequence[Match] = (),
) -> list[Match]:
    """Return all rankings as one, each content once.

    Files that the text names come first. Then those that have the words take turns with those that mean what is asked
    for with a relevance of ``SURE``; then texts that mean it, words that are only like those of the question, and
    what else meaning puts forward. What is rated as no match comes last. The first n of the result depend on the first
    n of each ranking only, so a place does not depend on how many are asked for.

    Args:
        by_meaning: best first, each content once; those that match first, and those that do not last.
        by_words: the same, "words" in ``found_by``; those that the text names first.
        by_texts: the same, "text" in ``found_by``.
        by_likeness: the same, "words" in ``found_by``: by parts of words, or by words with a typo.
    """
    meant = {match.content_hash: match for match in by_meaning}
    together = dict(meant)
    for match in (*by_likeness, *by_texts, *by_words):
        together[match.content_hash] = match.joined(meant.get(match.content_hash))
    named = [match for match in by_words if match.is_name]
    worded = [match for match in by_words if not match.is_name]
    sure = [match for match in by_meaning if match.relevance is not None and match.relevance >= SURE]
    possible = [match for match in by_meaning if match.matches is not False]
    groups = (named, _turns(worded, sure), _turns(by_texts, by_likeness, possible), by_meaning)
    order = dict.fromkeys(match.content_hash for match in chain.from_iterable(groups))
    return [together[content] for content in order]


def joined_words(in_media: Sequence[Match], in_texts: Sequence[Match]) -> list[Match]:
    """Return the files that have the words of a question as one ranking, each content once.

    Args:
        in_media: in their names, captions or tags, best first.
        in_texts: in what was read or heard, best first.
    """
    named = [match for match in in_media if match.is_name]
    others = [match for match in in_media if not match.is_name]
    first: dict[str, Match] = {}
    for match in (*named, *_turns(others, in_texts)):
        first.setdefault(match.content_hash, match)
    return list(first.values())


def _turns(*rankings: Sequence[Match]) -> Iterator[Match]:
    return (match for turn in zip_longest(*rankings) for match in turn if match is not None)


# -- a ranking that knows only "the best n", read as deep as it takes -------------------------------------------------

DEEPER = 8  # times as deep as before, where a part of a ranking is not enough
_Item = TypeVar("_Item")
_T = TypeVar("_T")


def read_ranking(
    best: Callable[[int], Sequence[_Item]],
    key: Callable[[_Item], Hashable],
    read: Callable[[Sequence[_Item], bool], _T | None],
    first: int,
) -> _T:
    """Return what is read from enough of a ranking.

    An index that looks deeper may find what it missed before, so that the best 40 need not begin with the best 20. The
    ranking is therefore made of the best n, then of those of the best 8n that were not among them, and so on. It is the
    same for all who begin with the same n, as long as nobody writes. What was missed before comes first in the next
    block.

    Args:
        best: n -> the best n items, all there are when they are fewer; the same for the same n.
        key: names an item.
        read: the items so far, and whether these are all -> the answer, None when it takes more; of all items it always
            answers.
        first: how many items the first block has.
    """
    seen: dict[Hashable, _Item] = {}

    def fetch(depth: int) -> tuple[Sequence[_Item], bool]:
        deepest = best(depth)
        new = [item for item in deepest if key(item) not in seen][: depth - len(seen)]
        seen.update((key(item), item) for item in new)
        return list(seen.values()), len(deepest) < depth

    return look_deeper(fetch, read, first, DEEPER)


def page(items: Sequence[_Item], is_whole: bool, k: int, offset: int = 0) -> Sequence[_Item] | None:
    """Return items ``offset`` to ``offset + k`` of a ranking; None where it is not deep enough for that."""
    return items[offset : offset + k] if is_whole or len(items) >= offset + k else None


# -- texts, compared by the library's text model ---------------------------------------------------------------------

# Every text has some cosine with every question; only near ones count as found.

# Of all-MiniLM-L6-v2: 6 in 10 questions that mean a caption in other words reach it, 3 in 1,000 that do not mean it
# (docs/performance.md).
LEAST_CAPTION = 0.4


def text_vector(storage: MultimodalStorage, provider: MultimodalEmbeddingProvider, query: Query) -> np.ndarray | None:
    """Return the vector that texts are compared with, (d,); None where texts are not compared.

    Raises:
        ModelLoadError: the text model cannot be loaded.
    """
    if query.text is None or not _asks_texts(query, storage, provider):
        return None
    known = query.encoded.get((CAPTION_ROLE, query.text))
    vector: np.ndarray = provider.text_encoder.encode([query.text])[0] if known is None else known
    return vector


def encoded_together(
    queries: Sequence[Query], storage: MultimodalStorage, provider: MultimodalEmbeddingProvider
) -> list[Query]:
    """Return the queries with the vectors of their texts; each model runs once for all of them.

    Raises:
        ModelLoadError: a model cannot be loaded.
    """
    by_role: dict[str, set[str]] = {}
    for query in queries:
        for one in ROLE_OF if query.modality is None else MODALITIES[query.modality].inputs:
            role = provider.text_role(one)
            if not query.asks_texts_only and role is not None and may_hold(one, storage, provider):
                by_role.setdefault(role, set()).update(query.texts)
        if query.text is not None and _asks_texts(query, storage, provider):
            by_role.setdefault(CAPTION_ROLE, set()).add(query.text)
    encoded: dict[tuple[str, str], np.ndarray] = {}
    for role, texts in by_role.items():
        if texts:
            ordered = sorted(texts)
            is_caption = role == CAPTION_ROLE
            vectors = provider.text_encoder.encode(ordered) if is_caption else embed_questions(ordered, role, provider)
            encoded.update(zip(((role, text) for text in ordered), vectors, strict=True))
    return [dataclasses.replace(query, encoded=encoded) for query in queries]


def may_hold(modality: Input, storage: MultimodalStorage, provider: MultimodalEmbeddingProvider) -> bool:
    """Return whether a library may have vectors of pictures and shots, or of sound.

    Where its model is another one, the search says so.
    """
    role = ROLE_OF[modality]
    record = storage.settings.models.get(role)
    is_its_own = record is not None and provider.has(role) and provider.recipe_digest(role) == record.recipe_digest
    return not is_its_own or storage.has_vectors(role)


def _asks_texts(query: Query, storage: MultimodalStorage, provider: MultimodalEmbeddingProvider) -> bool:
    is_asked = query.mode == "auto" and not query.is_composed and not query.phrases and query.sources != ("name",)
    return is_asked and provider.has(CAPTION_ROLE) and storage.has_vectors(CAPTION_ROLE)
