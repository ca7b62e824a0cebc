"""Files of a library without a question: the newest, and those with given ids."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from arrowlens.addresses import as_path
from arrowlens.modalities import Modality
from arrowlens.search.hybrid import Match
from arrowlens.search.query import View
from arrowlens.search.results import Hit, Results
from arrowlens.search.where import to_store_filters
from arrowlens.store import INDEXED, words_found
from arrowlens.store.loops import OutdatedError, read_unchanged

if TYPE_CHECKING:
    from arrowlens.store import MultimodalStorage

# The fields of ``Hit`` that ``hit_of`` sets one by one; the others are columns of ``media`` and copied.
_SET = {"path", "media_id", "modality", "score", "relevance", "start", "end", "found_by", "matched_words", "matches"}
_SET |= {"cluster_size", "metadata"}
COPIED = [field.name for field in dataclasses.fields(Hit) if field.name not in _SET]


def hit_of(match: Match, row: Mapping[str, Any], words: str | None = None) -> Hit:
    """Return the hit of a match.

    Args:
        match: what was found.
        row: its row of ``media``, with ``absolute_path``.
        words: that were searched for.
    """
    return Hit(
        path=as_path(row["absolute_path"]),
        media_id=match.media_id,
        modality=row["modality"],
        score=match.score or 0.0,
        relevance=match.relevance,
        start=match.start,
        end=match.end,
        found_by=match.found_by,
        matched_words=words_found(row, words) if words is not None and match.has_words else {},
        matches=match.matches,
        metadata=dict(row["metadata"] or ()),
        **{name: row[name] for name in COPIED},
    )


def newest(storage: MultimodalStorage, view: View, modality: Modality | None = None) -> Results:
    """Return the files that were taken last, newest first, without scores. Loads no model."""
    started = time.perf_counter()

    def read() -> list[Hit]:
        among = storage.select(to_store_filters(view.where)) if view.where else None
        ids = storage.newest(view.offset + view.k, modality, among)[view.offset :]
        listed = hits(storage, ids)
        if len(listed) < len(ids):
            raise OutdatedError
        return listed

    return Results(read_unchanged(read), (time.perf_counter() - started) * 1e3)


def hits(storage: MultimodalStorage, media_ids: Sequence[str]) -> list[Hit]:
    """Return searchable files by id, in that order, without scores; ids that the library does not hold are omitted."""
    rows = {row["media_id"]: row for row in storage.media(list(media_ids)).to_pylist() if row["state"] == INDEXED}
    held = [rows[media_id] for media_id in media_ids if media_id in rows]
    return [hit_of(Match(row["media_id"], row["content_hash"]), row) for row in held]
