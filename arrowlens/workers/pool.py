"""Decoding in processes of its own: a decoder that crashes or hangs costs its file, and is named.

``Workers(step, limit_s)`` describes them; each thread of the run opens one with ``workers.open()`` and calls it as it
would call the step. A worker starts with its first file.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from arrowlens.errors import WorkerError
from arrowlens.ingest.prepare import Prepared
from arrowlens.ingest.walk import ScannedFile
from arrowlens.media import Decoded, Limits
from arrowlens.workers.process import (
    ORDINARY_BYTES,
    ClosedError,
    CrashError,
    LostError,
    MemoryLimitError,
    WorkerProcess,
    large_bytes,
    started,
)
from arrowlens.workers.resources import Spent

_TICK_S = 0.25
_LARGE = 64 * 1024**2  # bytes of a result that keeps others waiting until it is used


class Step(Protocol):
    """What a worker does with a file; picklable."""

    def __call__(self, found: ScannedFile) -> Prepared:
        """Decode and prepare it beside others; a result that ``needs_room`` asks for ``alone``."""

    def alone(self, found: ScannedFile) -> Prepared:
        """The same while no other file takes much memory."""

    def content(self, found: ScannedFile) -> str | None:
        """Its content hash, None when it cannot be had."""


class Workers:
    """The worker processes of one run; safe between threads.

    Attributes:
        step, limit_s: as given. closing: nobody waits for results any more.
        max_bytes: that a worker may hold for a large file; for others it is ``ORDINARY_BYTES``.
        spent: seconds they worked, together; the caller's, who reads it while they work.
    """

    def __init__(self, step: Step, limit_s: float, spent: Spent, max_bytes: int = large_bytes(Limits())) -> None:
        self.spent, self.max_bytes = spent, max_bytes
        self.step, self.limit_s = step, limit_s
        self.closing = threading.Event()
        self._room, self._lock = threading.Lock(), threading.Lock()
        self._unused: Prepared | None = None  # a large result, for which the room is held
        self._pids: set[int] = set()

    @property
    def pids(self) -> list[int]:
        """Process ids of those that run now."""
        with self._lock:
            return sorted(self._pids)

    def count_in(self, pid: int) -> None:
        """A worker runs from now on."""
        with self._lock:
            self._pids.add(pid)

    def count_out(self, pid: int) -> None:
        """A worker runs no more."""
        with self._lock:
            self._pids.discard(pid)

    def add(self, spent: Spent) -> None:
        """Seconds that a worker spent."""
        with self._lock:
            self.spent.busy += spent.busy
            self.spent.idle += spent.idle

    def acquire_large_file_slot(self) -> None:
        """Wait until nothing else takes much memory."""
        while not self._room.acquire(timeout=_TICK_S):
            if self.closing.is_set():
                raise ClosedError

    def leave_room(self, result: Prepared | None) -> None:
        """Let others take it; for a large ``result`` only once it is ``used``."""
        if result is not None and result.n_bytes > _LARGE:
            self._unused = result
        else:
            self._room.release()

    def used(self, result: Prepared) -> None:
        """Say that a result is done with; every result's user does."""
        if result is self._unused:
            self._unused = None
            self._room.release()

    def close(self) -> None:
        """Have workers drop what they are at; for the end of a run that does not wait for it."""
        self.closing.set()

    @contextmanager
    def open(self) -> Iterator[_Decoder]:
        """A worker for the calling thread, which must outlive it: some systems end it with the thread."""
        decoder = _Decoder(self)
        try:
            yield decoder
        except ClosedError:
            pass
        finally:
            decoder.close()


class _Decoder:
    """``decoder(found) -> Prepared`` in a process, whatever becomes of it."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._process: WorkerProcess | None = None

    def __call__(self, found: ScannedFile) -> Prepared:
        try:
            return self._decode(found)
        except LostError as lost:
            return self._blame(found, str(lost))

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._workers.count_out(self._process.pid)
            self._process.kill()
            self._process = None

    def _decode(self, found: ScannedFile) -> Prepared:
        try:
            prepared: Prepared = self._ask("__call__", found)
            if not prepared.needs_room:
                return prepared
        except (CrashError, MemoryLimitError):
            pass  # a crash may have been for want of memory: once more, alone
        self._workers.acquire_large_file_slot()
        result: Prepared | None = None
        try:
            result = self._ask("alone", found, self._workers.max_bytes)
        finally:
            self._workers.leave_room(result)
        return result

    def _blame(self, found: ScannedFile, reason: str) -> Prepared:
        """A file that took its worker with it, known by its content so that the next run leaves it alone."""
        try:
            content = self._ask("content", found)
        except LostError:
            content = None
        decoded = Decoded(found.modality, reason, content, found.size or 0)  # type: ignore[arg-type]
        return Prepared(found, decoded, unread=content is None)

    def _ask(self, method: str, found: ScannedFile, max_bytes: int = ORDINARY_BYTES) -> Any:  # noqa: ANN401 - as the step's methods
        if self._process is None:
            self._process = started(self._workers.step, self._workers.closing)
            self._workers.count_in(self._process.pid)
        try:
            result, spent = self._process.ask(method, (found,), self._workers.limit_s, max_bytes)
        except (LostError, ClosedError, WorkerError):
            self.close()
            raise
        self._workers.add(spent)
        return result
