"""Rankings by meaning and by words as one. Their scores are of different kinds: only ranks are compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from arrowlens.search.results import FoundBy

FUSED = 100  # of each ranking at least, so that the first page knows of what is on the second
RANK_OFFSET = 60  # Cormack et al. 2009: how little the first few ranks differ


@dataclasses.dataclass(frozen=True, slots=True)
class Match:
    """A file that was found.

    Attributes:
        media_id, content_hash: name it.
        score: cosine; None where it was found by its words only.
        relevance: 0..1; None where it was found by its words only, or where there is no measure.
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


def fused(by_meaning: Sequence[Match], by_words: Sequence[Match]) -> list[Match]:
    """Both rankings by reciprocal rank, 1 / (60 + rank) summed over those that hold a content.

    Files that the text names come first. Equal sums: what was found by words first, then by ``media_id``.

    Args:
        by_meaning: best first, each content once. by_words: the same, "name" or "words" in ``found_by``.
    """
    sums: dict[str, float] = {}
    for matches in (by_meaning, by_words):
        for rank, match in enumerate(matches, start=1):
            sums[match.content_hash] = sums.get(match.content_hash, 0.0) + 1.0 / (RANK_OFFSET + rank)
    together = {match.content_hash: match for match in by_meaning}
    for match in by_words:
        together[match.content_hash] = _joined(match, together.get(match.content_hash))

    def order(match: Match) -> tuple[bool, float, bool, str]:
        return match.found_by != "name", -sums[match.content_hash], match.found_by == "meaning", match.media_id

    return sorted(together.values(), key=order)


def _joined(by_words: Match, by_meaning: Match | None) -> Match:
    """The place whose words were found, with the cosine of its content."""
    if by_meaning is None:
        return by_words
    found_by: FoundBy = "name" if by_words.found_by == "name" else "both"
    return dataclasses.replace(by_meaning, media_id=by_words.media_id, found_by=found_by)
