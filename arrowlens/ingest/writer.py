"""Writes outcomes to the store, some hundred at a time: vectors, thumbnails, and ``media`` rows last."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from arrowlens.ingest.prepare import Prepared
from arrowlens.ingest.progress import Progress
from arrowlens.ingest.step import Outcome
from arrowlens.ingest.walk import ScannedFile
from arrowlens.media import Decoded
from arrowlens.modalities import ROLE_OF, SOUND_MISSING
from arrowlens.store import INDEXED, MEDIA_LAYOUT, SKIPPED, MultimodalStorage, VectorRow, strip_key

# A killed run loses the work of so many seconds; the first files can be found sooner.
_FIRST_AFTER_S, _LATER_AFTER_S = 1.0, 5.0
_ON_DISK, _IN_A_BUCKET = 4096, 32_000  # files between two commits
_MOST_WAITING = 100_000  # vectors in memory: 200 MB of 512 dimensions
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LATEST = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)
_NOT_DECODED = Decoded(modality=None, reason="")


class Writer(ABC):
    """Gathers what outcomes say is to be written, and writes it when it is enough.

    Args:
        storage: the library.
        progress: is told of each file.
        commit_every: files between two commits at most, as of ``IngestOptions``.
    """

    def __init__(self, storage: MultimodalStorage, progress: Progress, commit_every: int | None) -> None:
        self._storage, self._progress = storage, progress
        self._is_on_disk = storage.path is not None
        self._commit_every = commit_every or (_ON_DISK if self._is_on_disk else _IN_A_BUCKET)
        self._last, self._due_s = time.monotonic(), _FIRST_AFTER_S
        self._vectors: dict[str, list[VectorRow]] = {}
        self._copies: dict[str, list[Prepared]] = {}  # by role: files that get the vectors of equal content

    def execute(self, outcome: Outcome) -> None:
        """Do what an outcome says, with the next commit."""
        prepared, vectors = outcome.prepared, outcome.vectors
        if outcome.action.writes != "vectors":
            self._execute(outcome)
            return
        for role, matrix in vectors.items():
            if matrix is None:
                self._copies.setdefault(role, []).append(prepared)
            else:
                self._vectors.setdefault(role, []).extend(_vector_rows(prepared, role, matrix))
        self._count_readable(prepared)
        self._progress.counts["copied"] += all(matrix is None for matrix in vectors.values())

    @abstractmethod
    def _execute(self, outcome: Outcome) -> None:
        """Do what the outcome of a file says that gets no new vectors."""

    @abstractmethod
    def _count_readable(self, prepared: Prepared) -> None:
        """Count a file that gets vectors."""

    @property
    @abstractmethod
    def _n_waiting(self) -> int:
        """Files that are to be written."""

    def commit_if_due(self) -> bool:
        """Write if there are enough files, or enough time has passed; return whether it wrote."""
        n_waiting = self._n_waiting
        is_late = self._is_on_disk and time.monotonic() - self._last > self._due_s
        is_full = sum(map(len, self._vectors.values())) >= _MOST_WAITING
        is_due = n_waiting >= self._commit_every or is_late or is_full
        if n_waiting and is_due:
            self.commit()
        return bool(n_waiting and is_due)

    def commit(self) -> None:
        """Write all that waits.

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
        """Give copies the vectors of equal content: of what is about to be written, else of the library."""
        for role, copies in self._copies.items():
            gathered = self._vectors.setdefault(role, [])
            sources: dict[str, list[VectorRow]] = {}
            for row in gathered:
                sources.setdefault(row.content_hash, []).append(row)
            contents = {copy.decoded.content_hash or "" for copy in copies}
            sources |= self._storage.vector_rows(role, contents - sources.keys())
            for copy in copies:
                media_id, modality = copy.file.media_id, copy.decoded.modality or ""
                gathered += [
                    dataclasses.replace(row, media_id=media_id, modality=modality)
                    for row in _of_one_place(sources[copy.decoded.content_hash or ""])
                ]
        self._copies.clear()


class LibraryWriter(Writer):
    """Writes what a run over folders gave: vectors, thumbnails, and ``media`` rows last.

    Attributes:
        contents: of the files that got vectors of a new content, how many have which content.
        readable: the ids of these files.
        has_written: whether there was anything to write.
    """

    def __init__(self, storage: MultimodalStorage, progress: Progress, commit_every: int | None) -> None:
        super().__init__(storage, progress, commit_every)
        self._media: dict[str, dict[str, Any]] = {}
        self._kept: dict[str, dict[str, Any]] = {}  # media_id -> what changes of the row that is there
        self._thumbnails: dict[str, bytes] = {}
        self._fingerprints: dict[str, tuple[bytes, bytes]] = {}
        self.contents: Counter[Hashable] = Counter()
        self.readable: set[str] = set()
        self.has_written = False

    def record(self, file: ScannedFile) -> None:
        """Record the new device and inode of a file that is otherwise as the library has it."""
        self._kept[file.media_id] = {"file_id": file.file_id, "layout": MEDIA_LAYOUT}
        self._progress.count("unchanged")

    def _execute(self, outcome: Outcome) -> None:
        prepared, action = outcome.prepared, outcome.action
        file = prepared.file
        if action.writes == "row" and action.reason is None:
            self._media[file.media_id] = _indexed_row(prepared)
            self._progress.count_missing_sound(prepared.decoded.sound_missing)
        elif action.writes == "row":
            decoded = _NOT_DECODED if prepared.unread else prepared.decoded
            self._media[file.media_id] = _media_row(file, decoded, action.reason)
        elif action.writes == "stamp":
            row = _media_row(file, prepared.decoded)
            stamp = {name: row[name] for name in ("size", "modified_ns", "modified", "layout", "real_path", "file_id")}
            # The caption was not read: its stamp stays, so that the next run reads it.
            self._kept[file.media_id] = stamp | {"reason": None}
        elif action.writes == "reason":
            self._kept[file.media_id] = {"reason": action.reason}
        self._progress.count(action.counts_as, file.path, action.reason)

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
            if self._is_on_disk:  # in a bucket, a run compacts once, in the end
                self._storage.optimize_meanwhile()
        self._media.clear()
        self._thumbnails.clear()
        self._fingerprints.clear()

    def _count_readable(self, prepared: Prepared) -> None:
        decoded, media_id = prepared.decoded, prepared.file.media_id
        self._media[media_id] = _indexed_row(prepared)
        if decoded.content_hash is not None:
            if decoded.thumbnail is not None:
                self._thumbnails[decoded.content_hash] = decoded.thumbnail
            if decoded.strip is not None:
                self._thumbnails[strip_key(decoded.content_hash)] = decoded.strip
            if decoded.fingerprint is not None:
                self._fingerprints[decoded.content_hash] = decoded.fingerprint.parts
        self.contents[decoded.content_hash] += 1
        self.readable.add(media_id)
        self._progress.count_missing_sound(decoded.sound_missing)
        self._progress.count("indexed", prepared.file.path)

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


def _vector_rows(prepared: Prepared, role: str, vectors: np.ndarray) -> list[VectorRow]:
    """Return a row for each vector of (n_segments, d) that a role's model made."""
    decoded, media_id = prepared.decoded, prepared.file.media_id
    (windows,) = (inputs.windows for inputs in prepared.inputs if ROLE_OF[inputs.modality] == role)
    times = windows or ((None, None),)
    return [
        VectorRow(media_id, decoded.content_hash or "", decoded.modality or "", vector, index, start, end)
        for index, (vector, (start, end)) in enumerate(zip(vectors, times, strict=True))
    ]


def _indexed_row(prepared: Prepared) -> dict[str, Any]:
    # Without its stamp, a caption that could not be read is looked for again.
    stamp = None if prepared.caption_unread else prepared.file.caption_stamp
    return _media_row(prepared.file, prepared.decoded) | {"caption": prepared.caption, "caption_stamp": stamp}


def _media_row(file: ScannedFile, decoded: Decoded, reason: str | None = None) -> dict[str, Any]:
    """Return a row of ``media`` without its caption; ``reason`` makes it a skipped one."""
    modified = _moment(file.modified_ns)
    return {
        "layout": MEDIA_LAYOUT,
        "media_id": file.media_id,
        "root_id": file.root.root_id,
        "path": os.fsdecode(file.relative).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"),
        "path_bytes": file.relative,
        "content_hash": decoded.content_hash,
        "size": file.size,
        "modified_ns": file.modified_ns,
        "modified": modified,
        "modality": decoded.modality or file.modality,
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
        "metadata": sorted(_metadata(decoded).items()),
        "trivial": decoded.trivial,
        "state": INDEXED if reason is None else SKIPPED,
        "reason": reason,
        "real_path": file.real_path,
        "file_id": file.file_id,
    }


def _metadata(decoded: Decoded) -> dict[str, str]:
    return decoded.metadata | ({} if decoded.sound_missing is None else {SOUND_MISSING: decoded.sound_missing})


def _moment(modified_ns: int | None) -> dt.datetime | None:
    """Return the time of nanoseconds since 1970; None for one that Python cannot hold."""
    if modified_ns is None:
        return None
    try:
        moment = _EPOCH + dt.timedelta(microseconds=modified_ns // 1000)
    except OverflowError:
        return None
    return moment if moment <= _LATEST else None


def _by_local_clock(moment: dt.datetime | None) -> dt.datetime | None:
    """Return the local time without a zone, which is what cameras write, too."""
    if moment is None:
        return None
    try:
        return moment.astimezone().replace(tzinfo=None)
    except (OverflowError, OSError, ValueError):  # at the ends of the calendar
        return moment.replace(tzinfo=None)
