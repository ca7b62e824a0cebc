"""Files whose fate is decided -> the store, some hundred at a time: vectors, thumbnails, and ``media`` rows last."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

from arrowlens.ingest.batching import Pending
from arrowlens.ingest.diff import Action
from arrowlens.ingest.prepare import Prepared
from arrowlens.ingest.progress import Progress
from arrowlens.ingest.walk import ScannedFile
from arrowlens.media import Decoded
from arrowlens.modalities import ROLE_OF
from arrowlens.store import INDEXED, SCHEMA_VERSION, SKIPPED, MultimodalStorage, VectorRow

# A killed run loses the work of so many seconds; the first files can be found sooner.
_FIRST_AFTER_S, _LATER_AFTER_S = 1.0, 5.0
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LATEST = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)
_NOT_DECODED = Decoded(modality=None, reason="")


class Gathering(ABC):
    """Gathers what is to be written, and writes it when it is enough; files come once their fate is decided."""

    def __init__(self, storage: MultimodalStorage, progress: Progress, commit_every: int) -> None:
        self._storage, self._progress = storage, progress
        self._commit_every = commit_every
        self._last, self._due_s = time.monotonic(), _FIRST_AFTER_S
        self._vectors: dict[str, list[VectorRow]] = {}
        self._copies: dict[str, list[Prepared]] = {}  # role -> files whose content the store has vectors of

    def index(self, pending: Pending) -> None:
        """A file that has vectors now, with its copies."""
        for prepared in (pending.prepared, *pending.copies):
            rows = self._vectors.setdefault(_role(prepared), [])
            rows.extend(_vector_row(prepared, index, vector) for index, vector in enumerate(pending.vectors))
            self._readable(prepared)
            self._progress.counts["copied"] += prepared is not pending.prepared

    def copy(self, prepared: Prepared) -> None:
        """A file whose content the store holds at another place."""
        self._copies.setdefault(_role(prepared), []).append(prepared)
        self._readable(prepared)
        self._progress.counts["copied"] += 1

    @abstractmethod
    def execute(self, prepared: Prepared, action: Action) -> None:
        """A file that gets no new vectors."""

    @abstractmethod
    def _readable(self, prepared: Prepared) -> None:
        """A file that has vectors."""

    @property
    @abstractmethod
    def _n_waiting(self) -> int:
        """Files that are to be written."""

    def commit_if_due(self) -> bool:
        """Write if enough has gathered, or enough time has passed; whether that was so."""
        n_waiting = self._n_waiting
        is_due = n_waiting >= self._commit_every or time.monotonic() - self._last > self._due_s
        if n_waiting and is_due:
            self.commit()
        return bool(n_waiting and is_due)

    def commit(self) -> None:
        """Write what has gathered.

        Raises:
            StorageError: the disk or the database refused; nothing of it is visible then.
        """
        started = time.perf_counter()
        self._complete_copies()
        for role, rows in sorted(self._vectors.items()):
            self._storage.upsert_vectors(role, rows)
        self._vectors.clear()
        self._write_files()
        self._last, self._due_s = time.monotonic(), min(2 * self._due_s, _LATER_AFTER_S)
        self._progress.timings["writing"] += time.perf_counter() - started

    @abstractmethod
    def _write_files(self) -> None:
        """Write what goes with the vectors, which are on disk by now."""

    def _complete_copies(self) -> None:
        for role, copies in self._copies.items():
            gathered = self._vectors.setdefault(role, [])
            sources: dict[str, list[VectorRow]] = {}
            for row in gathered:
                sources.setdefault(row.content_hash, []).append(row)
            contents = {copy.decoded.content_hash or "" for copy in copies}
            sources |= self._storage.vector_rows(role, contents - sources.keys())
            for copy in copies:
                for row in _of_one_place(sources[copy.decoded.content_hash or ""]):
                    gathered.append(dataclasses.replace(row, media_id=copy.found.media_id))
        self._copies.clear()


class Committer(Gathering):
    """Writes what a run over folders found: vectors, thumbnails, and ``media`` rows last."""

    def __init__(self, storage: MultimodalStorage, progress: Progress, commit_every: int) -> None:
        super().__init__(storage, progress, commit_every)
        self._media: dict[str, dict[str, Any]] = {}
        self._kept: dict[str, dict[str, Any]] = {}  # media_id -> what changes of the row that is there
        self._thumbnails: dict[str, bytes] = {}
        self._fingerprints: dict[str, tuple[bytes, bytes]] = {}
        self.contents: Counter[Hashable] = Counter()  # of files that were written with vectors of a new content
        self.readable: set[str] = set()  # their ids
        self.has_written = False

    def record(self, found: ScannedFile) -> None:
        """A file that is as the library has it, but for the numbers that the system has for it."""
        self._kept[found.media_id] = {"file_id": found.file_id, "layout": SCHEMA_VERSION}
        self._progress.count("unchanged")

    def execute(self, prepared: Prepared, action: Action) -> None:
        """A file that gets no new vectors: what ``action`` says of it is written and counted."""
        found = prepared.found
        if action.writes == "row" and action.reason is None:
            self._media[found.media_id] = _indexed_row(prepared)
        elif action.writes == "row":
            decoded = _NOT_DECODED if prepared.unread else prepared.decoded
            self._media[found.media_id] = _media_row(found, decoded, action.reason)
        elif action.writes == "stamp":
            row = _media_row(found, prepared.decoded)
            stamp = {name: row[name] for name in ("size", "modified_ns", "modified", "layout", "real_path", "file_id")}
            # The caption was not read: its stamp stays, so that the next run reads it.
            self._kept[found.media_id] = stamp | {"reason": None}
        elif action.writes == "reason":
            self._kept[found.media_id] = {"reason": action.reason}
        self._progress.count(action.counts_as, found.path, action.reason)

    @property
    def _n_waiting(self) -> int:
        return len(self._media) + len(self._kept)

    def _write_files(self) -> None:
        self._complete_kept()
        if self._thumbnails:
            self._storage.upsert_thumbnails(self._thumbnails)
        if self._fingerprints:
            self._storage.upsert_fingerprints(self._fingerprints)
        if self._media:
            self._storage.upsert_media([self._media[media_id] for media_id in sorted(self._media)])
            self.has_written = True
            self._storage.optimize_meanwhile()
        self._media.clear()
        self._thumbnails.clear()
        self._fingerprints.clear()

    def _readable(self, prepared: Prepared) -> None:
        self._media[prepared.found.media_id] = _indexed_row(prepared)
        decoded = prepared.decoded
        if decoded.content_hash is not None:
            if decoded.thumbnail is not None:
                self._thumbnails[decoded.content_hash] = decoded.thumbnail
            if decoded.fingerprint is not None:
                self._fingerprints[decoded.content_hash] = decoded.fingerprint.parts
        self.contents[prepared.decoded.content_hash] += 1
        self.readable.add(prepared.found.media_id)
        self._progress.count("indexed", prepared.found.path)

    def _complete_kept(self) -> None:
        rows = self._storage.media(sorted(self._kept)).drop_columns(["absolute_path"])
        for row in rows.to_pylist():
            changes = self._kept[row["media_id"]]
            row |= changes
            if "modified" in changes or row["taken"] is None:
                row["taken"] = row["captured_at"] or _by_local_clock(row["modified"])
            self._media[row["media_id"]] = row
        self._kept.clear()


def _of_one_place(rows: Sequence[VectorRow]) -> list[VectorRow]:
    return [row for row in rows if row.media_id == rows[0].media_id]


def _role(prepared: Prepared) -> str:
    return ROLE_OF[prepared.decoded.modality or ""]


def _vector_row(prepared: Prepared, index: int, vector: Any) -> VectorRow:  # noqa: ANN401 - None is impossible here
    windows = prepared.inputs.windows if prepared.inputs is not None else ()
    start, end = windows[index] if windows else (None, None)
    decoded = prepared.decoded
    return VectorRow(
        prepared.found.media_id, decoded.content_hash or "", decoded.modality or "", vector, index, start, end
    )


def _indexed_row(prepared: Prepared) -> dict[str, Any]:
    # Without its stamp, a caption that could not be read is looked for again.
    stamp = None if prepared.caption_unread else prepared.found.caption_stamp
    return _media_row(prepared.found, prepared.decoded) | {"caption": prepared.caption, "caption_stamp": stamp}


def _media_row(found: ScannedFile, decoded: Decoded, reason: str | None = None) -> dict[str, Any]:
    """A row of ``media`` without its caption; ``reason`` makes it a skipped one."""
    modified = _moment(found.modified_ns)
    return {
        "layout": SCHEMA_VERSION,
        "media_id": found.media_id,
        "root_id": found.root.root_id,
        "path": os.fsdecode(found.relative).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"),
        "path_bytes": found.relative,
        "content_hash": decoded.content_hash,
        "size": found.size,
        "modified_ns": found.modified_ns,
        "modified": modified,
        "modality": decoded.modality or found.modality,
        "format": decoded.format,
        "width": decoded.width,
        "height": decoded.height,
        "duration": decoded.duration,
        "sample_rate": decoded.sample_rate,
        "channels": decoded.channels,
        "captured_at": decoded.captured_at,
        "taken": decoded.captured_at or _by_local_clock(modified),
        "camera": decoded.camera,
        "latitude": decoded.latitude,
        "longitude": decoded.longitude,
        "title": decoded.title,
        "artist": decoded.artist,
        "album": decoded.album,
        "description": decoded.description,
        "metadata": sorted(decoded.metadata.items()),
        "trivial": decoded.trivial,
        "state": INDEXED if reason is None else SKIPPED,
        "reason": reason,
        "real_path": found.real_path,
        "file_id": found.file_id,
    }


def _moment(modified_ns: int | None) -> dt.datetime | None:
    """A time that Python can hold, None when the file system's is none."""
    if modified_ns is None:
        return None
    try:
        moment = _EPOCH + dt.timedelta(microseconds=modified_ns // 1000)
    except OverflowError:
        return None
    return moment if moment <= _LATEST else None


def _by_local_clock(moment: dt.datetime | None) -> dt.datetime | None:
    """As a clock on the wall showed it, which is what cameras write too; without a zone."""
    if moment is None:
        return None
    try:
        return moment.astimezone().replace(tzinfo=None)
    except (OverflowError, OSError, ValueError):  # at the ends of the calendar
        return moment.replace(tzinfo=None)
