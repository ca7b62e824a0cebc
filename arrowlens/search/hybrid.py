"""Rankings by looks or sound, by words and by what captions mean, as one.

Their scores are of different kinds: only ranks are compared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from arrowlens.search.results import FoundBy

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
