"""Files of a library without a question: the newest, and those with given ids."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arrowlens.addresses import as_path
from arrowlens.modalities import Modality, TextSource
from arrowlens.search.hybrid import Match
from arrowlens.search.query import View
from arrowlens.search.results import Hit, Results
from arrowlens.search.where import to_store_filters
from arrowlens.store import INDEXED, media_id_of, shown_columns, words_found
from arrowlens.store.loops import OutdatedError, read_unchanged

if TYPE_CHECKING:
    from arrowlens.store import MultimodalStorage

# The fields of ``Hit`` that ``hit_of`` sets one by one; the others are columns of ``media`` and copied.
_SET = {"path", "media_id", "modality", "score", "relevance", "start", "end", "found_by", "matched_words", "matches"}
_SET |= {"cluster_size", "metadata", "found_in", "companion", "text", "source"}
_LIVE_PHOTO = {b".heic": b".mov", b".mov": b".heic"}
COPIED = [field.name for field in dataclasses.fields(Hit) if field.name not in _SET]


def hit_of(match: Match, row: Mapping[str, Any], words: str | None = None) -> Hit:
    """Return the hit of a match.

    Args:
        match: what was found.
        row: its row of ``media``, with ``absolute_path``.
        words: that were searched for.
    """
    text, source = match.text, match.source
    matched: dict[str, str] = {}
    if words is not None and match.has_words:
        matched = words_found(row if source is None else {source: text}, words)
        if source is None:
            text, source = _worded(row, matched, is_name=match.is_name)
    return Hit(
        path=as_path(row["absolute_path"]),
        media_id=match.media_id,
        modality=row["modality"],
        score=match.score or 0.0,
        relevance=match.relevance,
        start=match.start,
        end=match.end,
        found_by=match.found_by,
        matched_words=matched,
        matches=match.matches,
        found_in=match.found_in,
        metadata=dict(row["metadata"] or ()),
        text=text,
        source=source,
        **{name: row[name] for name in COPIED},
    )


def hits_of(
    storage: MultimodalStorage,
    matches: Sequence[Match],
    rows: Mapping[str, Mapping[str, Any]],
    words: str | None = None,
) -> list[Hit]:
    """Return the hits of matches, each with its other half where it is one of a live photo.

    Args:
        storage: the library.
        matches: what was found.
        rows: their rows of ``media`` by id, as for ``hit_of``.
        words: that were searched for.
    """
    others = _companions(storage, [rows[match.media_id] for match in matches])
    listed = [hit_of(match, rows[match.media_id], words) for match in matches]
    return [
        dataclasses.replace(hit, companion=others[hit.media_id]) if hit.media_id in others else hit for hit in listed
    ]


def _companions(storage: MultimodalStorage, rows: Sequence[Mapping[str, Any]]) -> dict[str, Path]:
    """The other halves of live photos, by the id of the one: a HEIC and a MOV of one name in one folder."""
    owners: dict[str, tuple[str, str]] = {}
    for row in rows:
        stem, suffix = os.path.splitext(row["path_bytes"])  # noqa: PTH122 - bytes
        wanted = _LIVE_PHOTO.get(suffix.lower())
        if wanted is not None:
            for other in (wanted, wanted.upper()):
                owners[media_id_of(row["root_id"], stem + other)] = row["media_id"], row["modality"]
    found = storage.media(list(owners), shown_columns()).to_pylist() if owners else []
    return {
        owners[row["media_id"]][0]: as_path(row["absolute_path"])
        for row in found
        if row["state"] == INDEXED and {row["modality"], owners[row["media_id"]][1]} == {"image", "video"}
    }


def _worded(
    row: Mapping[str, Any], matched: Mapping[str, str], *, is_name: bool
) -> tuple[str | None, TextSource | None]:
    """Return the text of a row of ``media`` that has matched words, the first of several, and its source."""
    place, path = next(iter(matched), "name" if is_name else None), row["path"] or ""
    if place in ("name", "folder"):
        return path.rpartition("/")[2] if place == "name" else path, "name"
    if place == "caption":
        return row["caption"], "caption"
    if place == "text":
        description = row["description"] or ""
        if all(word in description for word in matched[place].split()):
            return description, "description"
        return " ".join(row[column] for column in ("title", "artist", "album") if row[column]), "title"
    return None, None


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
    read = storage.media(list(media_ids), shown_columns()).to_pylist()
    rows = {row["media_id"]: row for row in read if row["state"] == INDEXED}
    held = [rows[media_id] for media_id in media_ids if media_id in rows]
    return hits_of(storage, [Match(row["media_id"], row["content_hash"]) for row in held], rows)
