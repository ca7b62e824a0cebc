"""Pools of worker processes. A function that crashes or hangs its process costs its own item, with the reason.

``Workers(step, ...)`` describes the processes of a run; each thread of the run opens one with ``workers.open()`` and
calls it as it would call the step. ``CallPool`` runs any function for whoever asks. A process starts with its first
item.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

from arrowlens.errors import MEMORY_REASON, ArrowlensError, MediaError, WorkerError
from arrowlens.workers.process import (
    ORDINARY_BYTES,
    ClosedError,
    CrashError,
    LostError,
    MemoryLimitError,
    WorkerProcess,
    start_worker,
)
from arrowlens.workers.resources import Spent

_TICK_S = 0.25
_LARGE = 64 * 1024**2  # bytes of a result that keeps others waiting until it is used


class Result(Protocol):
    """The result of a step."""

    @property
    def needs_room(self) -> bool:
        """Whether the item was left alone, since it takes much memory; ``Step.alone`` takes it."""

    @property
    def n_bytes(self) -> int:
        """The bytes that it takes in memory, about."""


_Item = TypeVar("_Item")
_Result = TypeVar("_Result", bound=Result)
_Taken = TypeVar("_Taken", contravariant=True)
_Given = TypeVar("_Given", bound=Result, covariant=True)


class Step(Protocol[_Taken, _Given]):
    """What a worker does with an item. Picklable."""

    def __call__(self, item: _Taken, /) -> _Given:
        """Work on an item beside others; a result that ``needs_room`` asks for ``alone``."""

    def alone(self, item: _Taken, /) -> _Given:
        """Work on an item while no other one takes much memory."""

    def content(self, item: _Taken, /) -> str | None:
        """Return what identifies an item that took its process along; None when it cannot be had."""

    def lost(self, item: _Taken, reason: str, content: str | None, /) -> _Given:
        """Return the result for such an item. Called outside of the worker."""


class Workers(Generic[_Item, _Result]):
    """The worker processes of one run. Safe between threads.

    Attributes:
        step: what they do.
        limit_s: seconds that an item may take.
        patience: how many times as many seconds an item may take.
        spent: seconds they worked, together; the caller's, who reads it while they work.
        max_bytes: that a worker may hold for a large item.
        ordinary_bytes: that it may hold for any other.
        closing: set when nobody waits for results any more.
    """

    def __init__(
        self,
        step: Step[_Item, _Result],
        limit_s: float,
        spent: Spent,
        max_bytes: int,
        patience: Callable[[_Item], float] = lambda _: 1.0,
        ordinary_bytes: int = ORDINARY_BYTES,
    ) -> None:
        self.patience = patience
        self.spent, self.max_bytes, self.ordinary_bytes = spent, max_bytes, ordinary_bytes
        self.step, self.limit_s = step, limit_s
        self.closing = threading.Event()
        self._room, self._lock = threading.Lock(), threading.Lock()
        self._unused: _Result | None = None  # a large result, for which the room is held
        self._pids: set[int] = set()

    @property
    def pids(self) -> list[int]:
        """Process ids of those that run now."""
        with self._lock:
            return sorted(self._pids)

    def count_in(self, pid: int) -> None:
        """Note that a worker has started."""
        with self._lock:
            self._pids.add(pid)

    def count_out(self, pid: int) -> None:
        """Note that a worker has ended."""
        with self._lock:
            self._pids.discard(pid)

    def add(self, spent: Spent) -> None:
        """Add the seconds that a worker spent."""
        with self._lock:
            self.spent.busy += spent.busy
            self.spent.idle += spent.idle

    def acquire_large_file_slot(self) -> None:
        """Wait until nothing else takes much memory."""
        while not self._room.acquire(timeout=_TICK_S):
            if self.closing.is_set():
                raise ClosedError

    def release_large_file_slot(self, result: _Result | None) -> None:
        """Free the slot; for a large ``result`` only once it is ``used``."""
        if result is not None and result.n_bytes > _LARGE:
            self._unused = result
        else:
            self._room.release()

    def used(self, result: _Result) -> None:
        """Note that a result is no longer needed; whoever uses one calls this."""
        if result is self._unused:
            self._unused = None
            self._room.release()

    def close(self) -> None:
        """Have workers drop what they are working on, so that a run can end at once."""
        self.closing.set()

    @contextmanager
    def open(self) -> Iterator[_Worker[_Item, _Result]]:
        """Provide a worker for the calling thread, which must outlive it: some systems end it with the thread."""
        worker = _Worker(self)
        try:
            yield worker
        except ClosedError:
            pass
        finally:
            worker.close()


class _Worker(Generic[_Item, _Result]):
    """``worker(item) -> result`` in a process; starts another one where it is lost."""

    def __init__(self, workers: Workers[_Item, _Result]) -> None:
        self._workers = workers
        self._process: WorkerProcess | None = None

    def __call__(self, item: _Item) -> _Result:
        try:
            return self._work(item)
        except LostError as lost:
            return self._blame(item, str(lost))

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._workers.count_out(self._process.pid)
            self._process.kill()
            self._process = None

    def _work(self, item: _Item) -> _Result:
        try:
            at_first: _Result = self._ask("__call__", item)
            if not at_first.needs_room:
                return at_first
        except (CrashError, MemoryLimitError):
            pass  # the crash may have been caused by a lack of memory: try again, alone
        self._workers.acquire_large_file_slot()
        result: _Result | None = None
        try:
            result = self._ask("alone", item, self._workers.max_bytes)
        finally:
            self._workers.release_large_file_slot(result)
        return result

    def _blame(self, item: _Item, reason: str) -> _Result:
        """Return the result of an item that took its worker along, with its content so that the next run skips it."""
        try:
            content = self._ask("content", item)
        except LostError:
            content = None
        return self._workers.step.lost(item, reason, content)

    def _ask(self, method: str, item: _Item, max_bytes: int | None = None) -> Any:  # noqa: ANN401 - as the step's methods
        max_bytes = self._workers.ordinary_bytes if max_bytes is None else max_bytes
        if self._process is None:
            self._process = start_worker(self._workers.step, self._workers.closing)
            self._workers.count_in(self._process.pid)
        limit_s = self._workers.limit_s * self._workers.patience(item)
        try:
            result, spent = self._process.ask(method, (item,), limit_s, max_bytes)
        except (LostError, ClosedError, WorkerError):
            self.close()
            raise
        self._workers.add(spent)
        return result


class Caller:
    """The step of a ``CallPool``: calls any function."""

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        """Return a function's result and None, or None and the error that it raised on purpose."""
        try:
            return function(*arguments, **named), None
        except ArrowlensError as error:
            return None, error


class CallPool:
    """Threads that each own a process. They stay, since some systems end a process with the thread that started it.

    Args:
        limit_s: seconds that a call may take.
        max_bytes: that a process may hold for a large file; for others it is ``ORDINARY_BYTES``.
        n_processes: how many calls go on at once.
    """

    def __init__(self, limit_s: float, max_bytes: int, n_processes: int) -> None:
        self._limit_s, self._max_bytes = limit_s, max_bytes
        self._closing = threading.Event()
        self._threads = ThreadPoolExecutor(n_processes, "decode")
        self._processes: dict[int, WorkerProcess] = {}  # by thread, each of which sees its own only
        self._room = threading.Lock()  # held for a large file

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:  # noqa: ANN401 - as the function
        """Return what a function returns; errors as of ``isolated.Isolated``."""
        try:
            result, error = self._threads.submit(self._answer, function, arguments, named).result()
        except (ClosedError, CancelledError, RuntimeError) as error:  # RuntimeError: closed before it was submitted
            if not self._closing.is_set():
                raise
            raise WorkerError("the library was closed before the file was decoded; ask again") from error
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """End the processes, busy ones too: who waits for a result gets an error."""
        self._closing.set()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes.values():
            process.kill()

    def _answer(self, *request: object) -> tuple[Any, Any]:
        try:
            try:
                answer = self._ask(request, ORDINARY_BYTES)
                if not _is_out_of_memory(answer):
                    return answer
            except (CrashError, MemoryLimitError):  # a crash may have been while the process was idle
                pass
            with self._room:
                return self._ask(request, self._max_bytes)
        except LostError as lost:
            raise MediaError(str(lost)) from lost

    def _ask(self, request: tuple[object, ...], max_bytes: int) -> tuple[Any, Any]:
        thread = threading.get_ident()
        if thread not in self._processes:
            self._processes[thread] = start_worker(Caller(), self._closing)
        try:
            answer, _ = self._processes[thread].ask("call", request, self._limit_s, max_bytes)
        except BaseException:
            self._processes.pop(thread).kill()
            raise
        result: tuple[Any, Any] = answer
        return result


def _is_out_of_memory(answer: tuple[Any, Any]) -> bool:
    """Return whether a function says that it had too little memory: in its error, or in what it decoded."""
    result, error = answer
    decoded = getattr(result, "decoded", result)  # of a file that was prepared for a model
    return MEMORY_REASON in f"{error} {getattr(decoded, 'reason', None)}"
