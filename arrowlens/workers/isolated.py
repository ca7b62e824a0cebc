"""Calls functions in this process, or in a worker process, where a crash or a hang is an error of one call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from arrowlens.workers.pool import CallPool

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Call(Protocol):
    """Calls a function of a module with its arguments, and returns or raises what it does."""

    def __call__(self, function: Callable[_P, _T], /, *arguments: _P.args, **named: _P.kwargs) -> _T:
        """Return what the function returns."""


def directly(function: Callable[_P, _T], /, *arguments: _P.args, **named: _P.kwargs) -> _T:
    """Call a function in this process, which ends if a decoder crashes."""
    return function(*arguments, **named)


class Isolated:
    """``isolated(function, *arguments)``: the function's result, from a worker process, within a time limit.

    Function, arguments and result are picklable. Processes start when they are needed and stay until ``close``, after
    which this can be used again. Safe between threads.

    Args:
        limit_s: seconds that a call may take, the wait for an idle process apart.
        max_bytes: that a process may hold for a large file; one such file is decoded at a time.
        n_processes: how many calls go on at once; further ones wait.
    """

    def __init__(self, limit_s: float, max_bytes: int, n_processes: int = 3) -> None:
        self._limit_s, self._max_bytes, self._n_processes = limit_s, max_bytes, n_processes
        self._lock = threading.Lock()
        self._pool: CallPool | None = None

    def __call__(self, function: Callable[_P, _T], /, *arguments: _P.args, **named: _P.kwargs) -> _T:
        """Return what ``function`` returns.

        Raises:
            MediaError: the decoder crashed or took too long; says so.
            WorkerError: no process can be started, or the function raised what it never should.
            ArrowlensError: as the function.
        """
        from arrowlens.workers.pool import CallPool  # deferred: most searches decode nothing

        with self._lock:
            pool = self._pool = self._pool or CallPool(self._limit_s, self._max_bytes, self._n_processes)
        result: _T = pool.call(function, arguments, named)
        return result

    def allow(self, max_bytes: int) -> None:
        """Allow a process another amount of memory, in bytes, from now on; who waits for a result gets an error."""
        if max_bytes != self._max_bytes:
            self._max_bytes = max_bytes
            self.close()

    def close(self) -> None:
        """End the processes, busy ones too: who waits for a result gets an error."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
