"""Decoding for a server: a decoder that crashes or hangs is an error of one request, and the server goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from arrowlens.errors import ArrowlensError, MediaError, WorkerError
from arrowlens.media import Limits
from arrowlens.media.decoded import MEMORY_REASON
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

_P = ParamSpec("_P")
_T = TypeVar("_T")
_N_PROCESSES = 3
_LARGE_BYTES = large_bytes(Limits())


class Guard:
    """``guard(function, *arguments)``: the function's result, from a worker process, within a time limit.

    Function, arguments and result are picklable. Processes start when they are needed and stay until ``close``, after
    which the guard can be used again. Safe between threads.

    Args:
        limit_s: seconds that a call may take, the wait for an idle process apart.
        n_processes: how many calls go on at once; further ones wait.
    """

    def __init__(self, limit_s: float = Limits().max_decode_s, n_processes: int = _N_PROCESSES) -> None:
        self._limit_s, self._n_processes = limit_s, n_processes
        self._lock = threading.Lock()
        self._pool: _Pool | None = None

    def __call__(self, function: Callable[_P, _T], /, *arguments: _P.args, **named: _P.kwargs) -> _T:
        """What ``function`` gives.

        Raises:
            MediaError: the decoder crashed or took too long; says so. WorkerError: no process can be started, or the
            function raised what it never should. ArrowlensError: as the function.
        """
        with self._lock:
            pool = self._pool = self._pool or _Pool(self._limit_s, self._n_processes)
        result: _T = pool.call(function, arguments, named)
        return result

    def close(self) -> None:
        """End the processes, also those that are at something: who waits for it gets an error."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()


class Caller:
    """What a worker does: ``arrowlens.workers.worker`` calls its methods."""

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        """A function's result and None, or None and the error that it raised on purpose."""
        try:
            return function(*arguments, **named), None
        except ArrowlensError as error:
            return None, error


class _Pool:
    """Threads that each own a process: where processes end with the thread that started them, these stay."""

    def __init__(self, limit_s: float, n_processes: int) -> None:
        self._limit_s = limit_s
        self._closing = threading.Event()
        self._threads = ThreadPoolExecutor(n_processes, "decode")
        self._processes: dict[int, WorkerProcess] = {}  # by thread, each of which sees its own only
        self._room = threading.Lock()  # held for a large file

    def call(self, *request: object) -> Any:  # noqa: ANN401 - as the function
        try:
            result, error = self._threads.submit(self._answer, *request).result()
        except (ClosedError, CancelledError, RuntimeError) as error:  # RuntimeError: closed before it was submitted
            if not self._closing.is_set():
                raise
            raise WorkerError("the library was closed before the file was decoded; ask again") from error
        if error is not None:
            raise error
        return result

    def close(self) -> None:
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
                return self._ask(request, _LARGE_BYTES)
        except LostError as lost:
            raise MediaError(str(lost)) from lost

    def _ask(self, request: tuple[object, ...], max_bytes: int) -> tuple[Any, Any]:
        thread = threading.get_ident()
        if thread not in self._processes:
            self._processes[thread] = started(Caller(), self._closing)
        try:
            answer, _ = self._processes[thread].ask("call", request, self._limit_s, max_bytes)
        except BaseException:
            self._processes.pop(thread).kill()
            raise
        found: tuple[Any, Any] = answer
        return found


def _is_out_of_memory(answer: tuple[Any, Any]) -> bool:
    """Whether a function says that it had too little memory: in its error, or in what it decoded."""
    result, error = answer
    decoded = getattr(result, "decoded", result)  # of a file that was prepared for a model
    return MEMORY_REASON in f"{error} {getattr(decoded, 'reason', None)}"
