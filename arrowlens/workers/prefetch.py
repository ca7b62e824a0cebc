"""Reads ahead: threads work through a list while their results are used."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Generic, Self, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

MAX_WAITING = 256  # results; a commit must not leave the threads without work
_TICK_S = 0.1
MAX_BYTES = 256 * 1024**2  # of the results that wait, beside those that are being made


class ReadAhead(Generic[_Item, _Result]):
    """Yields the results of a step over items, each as soon as it is there; an iterator and a context manager.

    A thread begins nothing while ``MAX_WAITING`` results wait, or ``MAX_BYTES`` of them.

    Args:
        open_step: each thread opens a step of its own and closes it in the end.
        items: what the steps are called with.
        n_threads: how many threads work.
        size: gives the bytes of a result.
        stop: once it is set, there are no more results.
    """

    def __init__(
        self,
        open_step: Callable[[], AbstractContextManager[Callable[[_Item], _Result]]],
        items: Iterable[_Item],
        n_threads: int,
        size: Callable[[_Result], int],
        stop: threading.Event,
    ) -> None:
        self._open_step, self._items, self._size, self._stop = open_step, iter(items), size, stop
        self._changed, self._taking = threading.Condition(), threading.Lock()
        self._waiting: deque[_Result] = deque()
        self._n_bytes = 0
        self._failure: BaseException | None = None
        self._closed = False
        names = [f"decode-{number}" for number in range(n_threads)]
        self._threads = [threading.Thread(target=self._work, name=name) for name in names]
        self._n_alive = len(self._threads)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[_Result]:
        return self

    def __next__(self) -> _Result:
        with self._changed:
            while not self._waiting and self._failure is None and self._n_alive and not self._stop.is_set():
                self._changed.wait(_TICK_S)
            if self._failure is not None:
                raise self._failure
            if not self._waiting or self._stop.is_set():
                raise StopIteration
            result = self._waiting.popleft()
            self._n_bytes -= self._size(result)
            self._changed.notify_all()
            return result

    def close(self) -> None:
        """Begin nothing more, and wait for the threads; what they hold is dropped."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _work(self) -> None:
        try:
            with self._open_step() as step:
                while (item := self._next_item()) is not None:
                    self._add(step(item[0]))
        except BaseException as error:
            with self._changed:
                self._failure = self._failure or error
        finally:
            with self._changed:
                self._n_alive -= 1
                self._changed.notify_all()

    def _next_item(self) -> tuple[_Item] | None:
        with self._changed:
            while not self._closed and (len(self._waiting) >= MAX_WAITING or self._n_bytes >= MAX_BYTES):
                self._changed.wait()
            if self._closed or self._failure is not None:
                return None
        with self._taking:  # not the lock of the results: an item may have to be waited for, too
            return next(((item,) for item in self._items), None)

    def _add(self, result: _Result) -> None:
        with self._changed:
            self._waiting.append(result)
            self._n_bytes += self._size(result)
            self._changed.notify_all()
