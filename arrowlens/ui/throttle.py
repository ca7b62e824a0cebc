"""What one client may use up at a time, and how long wrong passwords have to wait; in bounded memory."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

_MAX_CLIENTS = 1024
_FREE_FAILURES = 3
_LONGEST_WAIT_S = 60.0


class Places:
    """A number of places, of which one client has a part only.

    Args:
        most: taken at a time by all clients. most_each: by one of them.
    """

    def __init__(self, most: int, most_each: int) -> None:
        self._most, self._most_each = most, most_each
        self._taken: Counter[str] = Counter()

    @contextmanager
    def place(self, client: str) -> Iterator[bool]:
        """Hold a place; gives False where there is none."""
        if self._taken[client] >= self._most_each or self._taken.total() >= self._most:
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


class Turns:
    """So many things at a time. Clients that are known come first; within each group clients take turns.

    One that asks a hundred times waits a hundred rounds; one that asks once waits at most one.
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
                if not called.cancelled():  # it was called as it left
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


class Attempts:
    """How long a client that gave wrong passwords has to wait; no client waits for what another one did."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()  # how many, and until when to wait

    def wait(self, client: str) -> float:
        """Seconds until a client may try again; 0 when it may now."""
        _, until = self._failures.get(client, (0, 0.0))
        return max(0.0, until - self._clock())

    def failed(self, client: str) -> None:
        """Count a wrong password: from the fourth on, each one doubles the wait, up to a minute."""
        n_failures = self._failures.pop(client, (0, 0.0))[0] + 1
        wait = min(_LONGEST_WAIT_S, 2.0 ** min(n_failures - _FREE_FAILURES, 8)) if n_failures > _FREE_FAILURES else 0
        self._failures[client] = n_failures, self._clock() + wait
        if len(self._failures) > _MAX_CLIENTS:
            self._failures.popitem(last=False)

    def succeeded(self, client: str) -> None:
        """Forget what a client did wrong."""
        self._failures.pop(client, None)
