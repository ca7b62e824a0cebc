"""Rankings by looks or sound, by words and by what captions mean, as one, and the pages of that one.

Their scores are of different kinds: only ranks are compared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from arrowlens.modalities import TEXT_ROLE
from arrowlens.search.results import FoundBy
from arrowlens.store import CAPTION_ROLE

if TYPE_CHECKING:
    from arrowlens.encoders import MultimodalEmbeddingProvider
    from arrowlens.search.query import Query
    from arrowlens.store import MultimodalStorage

FUSED = 100  # ranks of each ranking that are fused at a time
RANK_OFFSET = 60  # Cormack et al. 2009: how little the first few ranks differ


@dataclasses.dataclass(frozen=True, slots=True)
class Match:
    """A file that was found.

    Attributes:
        media_id, content_hash: name it.
        score: cosine; None where it was found by its words or its caption only.
        relevance: 0..1; None where it was found by these only, or where there is no measure.
        start, end: seconds of the best window, None for pictures.
        found_by: what found it; "name" where the text is its file name.
    """

    media_id: str
    content_hash: str
    score: float | None = None
    relevance: float | None = None
    start: float | None = None
    end: float | None = None
    found_by: FoundBy = "meaning"


def fused(by_meaning: Sequence[Match], by_words: Sequence[Match], by_captions: Sequence[Match] = ()) -> list[Match]:
    """All rankings by reciprocal rank, 1 / (60 + rank) summed over those that hold a content,
    ``FUSED`` ranks at a time.

    Files that the text names come first. What is among the first 100 of any ranking comes before what is not, and so
    on, so that a result's place does not depend on how many are asked for: rankings that go on leave it as it is.
    Equal sums: what was found by words first, then by content.

    Args:
        by_meaning: best first, each content once. by_words: the same, "name" or "words" in ``found_by``.
        by_captions: the same, "caption" in ``found_by``.
    """
    places: dict[str, _Place] = {}
    for matches, is_text in ((by_meaning, False), (by_words, True), (by_captions, True)):
        for rank, match in enumerate(matches, start=1):
            place = places.setdefault(match.content_hash, _Place())
            place.add((rank - 1) // FUSED, 1.0 / (RANK_OFFSET + rank), is_text=is_text)
    together = {match.content_hash: match for match in by_meaning}
    for match in (*by_captions, *by_words):
        together[match.content_hash] = _joined(match, together.get(match.content_hash))

    return sorted(
        together.values(),
        key=lambda match: (match.found_by != "name", *places[match.content_hash].order, match.content_hash),
    )


@dataclasses.dataclass(slots=True)
class _Place:
    """What decides where a content stands: what its earliest hundred says of it, and nothing of later ones."""

    hundred: int | None = None
    total: float = 0.0
    by_text: bool = False

    def add(self, hundred: int, value: float, *, is_text: bool) -> None:
        if self.hundred is None or hundred < self.hundred:
            self.hundred, self.total, self.by_text = hundred, 0.0, False
        if hundred == self.hundred:
            self.total += value
            self.by_text |= is_text

    @property
    def order(self) -> tuple[int, float, bool]:
        return self.hundred or 0, -self.total, not self.by_text


def _joined(by_text: Match, before: Match | None) -> Match:
    """The place whose words or caption were found, with the cosine of its content."""
    if before is None:
        return by_text
    found_by: FoundBy = "name" if by_text.found_by == "name" else "both"
    return dataclasses.replace(before, media_id=by_text.media_id, found_by=found_by)


# -- pages of a ranking that knows only "the best n" -----------------------------------------------------------------

_GROWTH = 8
_Item = TypeVar("_Item")


def ranking(
    best: Callable[[int], Sequence[_Item]], key: Callable[[_Item], Hashable], first: int
) -> Iterator[list[_Item]]:
    """The whole ranking, block by block, each item once.

    An index that looks deeper may find what it missed before, so that the best 40 need not begin with the best 20.
    The ranking is therefore made of the best n, then of those of the best 8n that were not among them, and so on. It
    is the same for all who begin with the same n, as long as nobody writes. A block is in order; what was missed
    before comes first in the next one.

    Args:
        best: n -> the best n items, all there are when they are fewer; the same for the same n.
        key: names an item.
        first: how many items the first block has.
    """
    seen: set[Hashable] = set()
    depth = first
    while True:
        found = best(depth)
        block = [item for item in found if key(item) not in seen][: depth - len(seen)]
        seen.update(map(key, block))
        yield block
        if len(found) < depth:
            return
        depth *= _GROWTH


def page(blocks: Iterator[list[_Item]], k: int, offset: int = 0) -> list[_Item]:
    """Items ``offset`` to ``offset + k`` of a ranking; no more blocks are asked for than it takes."""
    items = (item for block in blocks for item in block)
    return list(islice(items, offset, offset + k))


# -- captions, compared by the library's text model ------------------------------------------------------------------

# Every caption has some cosine with every question; only those that are near count as found, as words do or don't.

# Of all-MiniLM-L6-v2: 6 in 10 questions that mean a caption in other words reach it, 3 in 1,000 that do not mean it
# (docs/performance.md).
LEAST_CAPTION = 0.4


def caption_vector(
    storage: MultimodalStorage, provider: MultimodalEmbeddingProvider, query: Query
) -> np.ndarray | None:
    """What captions are compared with, (d,); None where there are none, no model, or the question is not for them.

    Raises:
        ModelLoadError: the text model cannot be loaded.
    """
    if query.text is None or not _asks_captions(query, storage, provider):
        return None
    known = query.encoded.get((CAPTION_ROLE, query.text))
    vector: np.ndarray = provider.text_encoder.encode([query.text])[0] if known is None else known
    return vector


def encoded_together(
    queries: Sequence[Query], storage: MultimodalStorage, provider: MultimodalEmbeddingProvider
) -> list[Query]:
    """Queries that carry the vectors of their texts; each model runs once for all of them.

    Raises:
        ModelLoadError: a model cannot be loaded.
    """
    by_role: dict[str, set[str]] = {TEXT_ROLE: set(), CAPTION_ROLE: set()}
    for query in queries:
        if query.mode != "keyword" and provider.has(TEXT_ROLE):
            by_role[TEXT_ROLE].update(query.texts)
        if query.text is not None and _asks_captions(query, storage, provider):
            by_role[CAPTION_ROLE].add(query.text)
    encoded: dict[tuple[str, str], np.ndarray] = {}
    for role, texts in by_role.items():
        if texts:
            ordered = sorted(texts)
            encode = provider.clip_engine.encode_text if role == TEXT_ROLE else provider.text_encoder.encode
            encoded.update(zip(((role, text) for text in ordered), encode(ordered), strict=True))
    return [dataclasses.replace(query, encoded=encoded) for query in queries]


def _asks_captions(query: Query, storage: MultimodalStorage, provider: MultimodalEmbeddingProvider) -> bool:
    is_asked = query.mode == "auto" and not query.is_composed
    return is_asked and provider.has(CAPTION_ROLE) and storage.has_vectors(CAPTION_ROLE)
