"""Reads texts in the files of a run, once their vectors are written: a search works before it is over.

What was read of a content is remembered with the program that read it, also that there was no text, or why it could not
be read. A run that is stopped or killed loses what it read since its last commit.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.errors import MediaError
from arrowlens.ingest.prepare import patience
from arrowlens.ingest.progress import IngestOptions, Progress
from arrowlens.ingest.source import Source
from arrowlens.ingest.walk import ScannedFile
from arrowlens.media import Limits, decode
from arrowlens.memory import trim_memory
from arrowlens.modalities import MODALITIES, SAMPLE_RATE
from arrowlens.store import INDEXED, MediaText, MultimodalStorage, Reading
from arrowlens.texts import MOST_SHOTS, TextReader
from arrowlens.workers.pool import Workers
from arrowlens.workers.prefetch import ReadAhead
from arrowlens.workers.resources import Spent

_ON_DISK_S, _IN_A_BUCKET_S = 5.0, 300.0  # between two commits; each stays in a bucket for a day
_FILM_SIDE = 720  # pixels of the shorter side of a film's pictures


@dataclasses.dataclass(frozen=True, slots=True)
class Unread:
    """A file that is to be read.

    Attributes:
        file: as the walk saw it.
        content_hash: what the library holds of it.
        modality: of its content.
        duration: seconds; None for a picture.
    """

    file: ScannedFile
    content_hash: str
    modality: str
    duration: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class TextsRead:
    """What reading a file gave.

    Attributes:
        item: the file.
        texts: none where there is no text.
        reason: why it could not be read; None where it was.
        is_lasting: whether reading the same content again would give the same.
        needs_room, n_bytes: as ``workers.pool.Result`` has them.
    """

    item: Unread
    texts: tuple[MediaText, ...] = ()
    reason: str | None = None
    is_lasting: bool = True
    needs_room: bool = False
    n_bytes: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class ReadingStep:
    """``step(item) -> TextsRead``: decodes a file and reads its texts. Picklable; never raises for a bad file.

    Attributes:
        source: where the files come from.
        reader: finds the texts.
        limits: what a file may be at most.
    """

    source: Source
    reader: TextReader
    limits: Limits

    def __call__(self, item: Unread) -> TextsRead:
        """Read a file."""
        try:
            fetched = self.source.fetch(item.file)
        except MediaError as error:
            return TextsRead(item, reason=str(error), is_lasting=False)
        if fetched is None:
            return TextsRead(item, reason="the file has changed since it was indexed", is_lasting=False)
        limits, min_side = self.limits, self.reader.min_side
        if item.modality == "video":
            limits, min_side = dataclasses.replace(limits, max_shots=min(limits.max_shots, MOST_SHOTS)), _FILM_SIDE
        decoded = decode(
            fetched.path,
            limits,
            data=fetched.data,
            opened=fetched.opened,
            name=os.fsdecode(item.file.path),
            thumbnail=False,
            min_side=min_side,
            sample_rate=SAMPLE_RATE,
            sound=self.reader.reads == "audio",
            frames=self.reader.reads == "image",
        )
        is_same = decoded.content_hash == item.content_hash
        if decoded.reason is not None:
            return TextsRead(item, reason=decoded.reason, is_lasting=is_same)
        if not is_same:
            return TextsRead(item, reason="the file has changed since it was indexed", is_lasting=False)
        try:
            return TextsRead(item, tuple(self.reader.extract(decoded)))
        except Exception as error:  # any error costs this file only
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            return TextsRead(item, reason=f"its text cannot be read ({cause})")

    def limit_s(self, item: Unread) -> float:
        """Return the seconds that a file may take; a film is decoded as long as for its vectors, and then read."""
        decode_s, read_s = self.limits.max_decode_s, self.reader.limit_s(item.duration)
        return decode_s * patience(item.file) + read_s if item.modality == "video" else max(decode_s, read_s)

    def alone(self, item: Unread) -> TextsRead:
        """Read a file that took its process along, in another one."""
        return self(item)

    def content(self, item: Unread) -> str | None:
        """Return the content hash that the library has."""
        return item.content_hash

    def lost(self, item: Unread, reason: str, content: str | None) -> TextsRead:
        """Return the result for a file that took its process along twice."""
        return TextsRead(item, reason=reason)


def unread_files(
    storage: MultimodalStorage, files: Iterable[ScannedFile], reader: TextReader, *, retry: bool = False
) -> list[Unread]:
    """Return the files whose content a reader has not read yet, one for each content, in their order.

    Args:
        storage: the library.
        files: those of a walk; what the library does not hold of them is left out.
        reader: what is to read them.
        retry: include files that it could not read.
    """
    readings = storage.readings()
    known = readings.filter(pc.equal(readings["source"], reader.source))
    known = known.filter(pc.equal(known["engine"], reader.engine))
    known = known.filter(pc.is_null(known["reason"])) if retry else known
    done = set(known["content_hash"].to_pylist())
    rows = storage.all_media(["media_id", "content_hash", "modality", "state", "duration"])
    rows = rows.filter(pc.and_(pc.equal(rows["state"], INDEXED), _is_read(rows["modality"], reader)))
    held = {row["media_id"]: row for row in rows.to_pylist()}
    unread = []
    for file in files:
        row = held.get(file.media_id)
        if row is not None and row["content_hash"] not in done:
            done.add(row["content_hash"])
            unread.append(Unread(file, row["content_hash"], row["modality"], row["duration"]))
    return unread


def _is_read(modalities: pa.ChunkedArray, reader: TextReader) -> pa.ChunkedArray:
    """Return which modalities a reader finds texts in."""
    wanted = [name for name, info in MODALITIES.items() if reader.reads in info.inputs]
    return pc.is_in(modalities, value_set=pa.array(wanted, pa.string()))


def read_texts(
    storage: MultimodalStorage,
    source: Source,
    files: Sequence[ScannedFile],
    reader: TextReader,
    options: IngestOptions,
    progress: Progress,
    stop: threading.Event,
) -> int:
    """Read the texts of files that were not read yet, and write them.

    Args:
        storage: the library; the caller holds the writer lock.
        source: where the files come from.
        files: those of the walk.
        reader: finds the texts.
        options: of the run.
        progress: is told of each file.
        stop: once it is set, what is under way is dropped, and what was read is written.

    Returns:
        The number of files that were read.

    Raises:
        LibraryBusyError, StorageError: as for writing. WorkerError: no process can be started.
    """
    todo = unread_files(storage, files, reader, retry=options.retry)
    progress.start_texts(reader.source, len(todo), sum(item.duration or 0.0 for item in todo))
    if not todo or stop.is_set():
        return 0
    step = ReadingStep(source, reader, options.limits)
    workers = Workers(step, 1.0, Spent(), reader.max_bytes, step.limit_s, ordinary_bytes=reader.max_bytes)
    n_processes = min(reader.n_processes, options.n_workers)
    ahead = ReadAhead[Unread, TextsRead](workers.open, todo, n_processes, lambda read: read.n_bytes, stop)
    waiting: list[Reading] = []
    n_read, last = 0, time.monotonic()
    due_s = _IN_A_BUCKET_S if storage.path is None else _ON_DISK_S
    with ahead as results:
        try:
            for read in results:
                if read.is_lasting:
                    waiting.append(Reading(read.item.content_hash, read.texts, read.reason))
                n_read += read.reason is None
                progress.count_text(read.item.file.path, read.item.duration or 0.0, read.reason)
                if time.monotonic() - last > due_s:
                    _commit(storage, reader, waiting)
                    last = time.monotonic()
        finally:
            workers.close()
    _commit(storage, reader, waiting)
    return n_read


def _commit(storage: MultimodalStorage, reader: TextReader, waiting: list[Reading]) -> None:
    if waiting:
        storage.replace_texts(reader.source, reader.engine, waiting)
        if storage.path is not None:
            storage.optimize_meanwhile()
        waiting.clear()
        trim_memory()
