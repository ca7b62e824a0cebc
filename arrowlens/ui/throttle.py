"""Limits per client: requests at a time, turns at slow work, wrong passwords; and a limit for the log."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TextIO

_MAX_CLIENTS = 1024
_FREE_FAILURES = 3
_LONGEST_WAIT_S = 60.0
_LOG_SPAN_S = 60.0
_MAX_LOGGED = 50_000  # characters in a span of time; a traceback has some 5,000


class ConcurrencyLimit:
    """A number of slots, of which one client can hold a part only.

    Args:
        max_total: held by all clients at a time.
        max_per_client: held by one of them.
    """

    def __init__(self, max_total: int, max_per_client: int) -> None:
        self._max_total, self._max_per_client = max_total, max_per_client
        self._taken: Counter[str] = Counter()

    @contextmanager
    def slot(self, client: str) -> Iterator[bool]:
        """Hold a slot; yield False where none is free."""
        if self._taken[client] >= self._max_per_client or self._taken.total() >= self._max_total:
            self._forget_if_gone(client)
            yield False
            return
        self._taken[client] += 1
        try:
            yield True
        finally:
            self._taken[client] -= 1
            self._forget_if_gone(client)

    def _forget_if_gone(self, client: str) -> None:
        if not self._taken[client]:
            del self._taken[client]


class FairQueue:
    """Lets so many tasks work at a time. Known clients come first; within each group, clients take turns.

    A client with a hundred tasks waits a hundred rounds; one with a single task waits at most one.
    """

    def __init__(self, n_at_a_time: int = 1) -> None:
        self._lines: dict[bool, OrderedDict[str, deque[asyncio.Future[None]]]] = {
            is_known: OrderedDict() for is_known in (True, False)
        }
        self._n_free = n_at_a_time

    @asynccontextmanager
    async def turn(self, client: str, *, is_known: bool = False) -> AsyncIterator[None]:
        """Wait for a turn, and hold it."""
        if self._n_free:
            self._n_free -= 1
        else:
            called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._lines[is_known].setdefault(client, deque()).append(called)
            try:
                await called
            except asyncio.CancelledError:
                if not called.cancelled():  # it was called just as it gave up
                    self._call_next()
                raise
        try:
            yield
        finally:
            self._call_next()

    def _call_next(self) -> None:
        for line in self._lines.values():
            while line:
                client, waiting = next(iter(line.items()))
                called = waiting.popleft()
                line.move_to_end(client)
                if not waiting:
                    del line[client]
                if not called.done():
                    called.set_result(None)
                    return
        self._n_free += 1


class FailedAttempts:
    """How long a client has to wait after wrong passwords. Clients are counted one by one, the latest 1,024 of them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()  # their number, and until when to wait

    def wait(self, client: str) -> float:
        """Return the seconds until a client may try again; 0 when it may now."""
        _, until = self._failures.get(client, (0, 0.0))
        return max(0.0, until - self._clock())

    def failed(self, client: str) -> None:
        """Count a wrong password. From the fourth on, each one doubles the wait, up to a minute."""
        n_failures = self._failures.pop(client, (0, 0.0))[0] + 1
        wait = min(_LONGEST_WAIT_S, 2.0 ** min(n_failures - _FREE_FAILURES, 8)) if n_failures > _FREE_FAILURES else 0
        self._failures[client] = n_failures, self._clock() + wait
        if len(self._failures) > _MAX_CLIENTS:
            self._failures.popitem(last=False)

    def succeeded(self, client: str) -> None:
        """Forget the wrong passwords of a client."""
        self._failures.pop(client, None)


class RateLimitedStream:
    """Writes to another stream, up to so many characters a minute; it counts and reports what it leaves out.

    It replaces ``sys.stderr``, so that no logger can fill a disk.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._lock = threading.RLock()  # a signal's handler may write while its thread does
        self._started, self._n_written, self._n_left_out = clock(), 0, 0

    def write(self, text: str) -> int:
        """Write a text, or leave it out and return its length all the same."""
        with self._lock:
            now = self._clock()
            if now - self._started >= _LOG_SPAN_S:
                left_out, self._started, self._n_written, self._n_left_out = self._n_left_out, now, 0, 0
                if left_out:
                    self._stream.write(f"arrowlens: {left_out:,} characters of log were left out\n")
            if self._n_left_out or self._n_written + len(text) > _MAX_LOGGED:
                if not self._n_left_out:
                    self._stream.write("arrowlens: the log is too long; the rest of this minute is left out\n")
                self._n_left_out += len(text)
                return len(text)
            self._n_written += len(text)
            return self._stream.write(text)

    def __getattr__(self, name: str) -> object:
        """Return the stream's own attribute."""
        return getattr(self._stream, name)
