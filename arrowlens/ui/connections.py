"""Limits of open connections: how many there are, and how long one may take to send the head of a request.

uvicorn limits requests only: neither the connections without one, nor the time that headers take.
"""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING, Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import h11

MAX_OPEN = 512
BACKLOG = 128  # connections that the system accepts before this process does; each is an open file

_MAX_IDLE_PER_CLIENT = 32
_HEAD_S = 10.0
_MAX_FILES = 2048  # that the process may open: connections, tables, originals being sent, pipes of processes


class IdleConnections:
    """Connections without a request, by client. When there are too many, the oldest are closed.

    A browser sends its request at once, so its connection is never among the oldest, however many others wait.

    Args:
        max_open: connections of all clients, those with a request included.
        max_idle_per_client: connections of one client without a request.
        head_s: seconds in which the head of a request must come, from the connection or the last response on.
    """

    def __init__(self, max_open: int, max_idle_per_client: int, head_s: float = _HEAD_S) -> None:
        self._max_open, self._max_idle_per_client, self._head_s = max_open, max_idle_per_client, head_s
        self._timers: dict[LimitedProtocol, asyncio.TimerHandle] = {}  # the oldest first
        self._waiting: dict[str, dict[LimitedProtocol, None]] = {}  # the oldest of each client first

    def enter(self, connection: LimitedProtocol) -> None:
        """Add a connection; one that is already here keeps its time."""
        if connection in self._timers:
            return
        own = self._waiting.setdefault(connection.client_host, {})
        own[connection] = None
        self._timers[connection] = connection.loop.call_later(self._head_s, self._close, connection)
        if len(own) > self._max_idle_per_client:
            self._close(next(iter(own)))
        elif len(connection.connections) > self._max_open:
            self._close(next(iter(self._timers)))

    def leave(self, connection: LimitedProtocol) -> None:
        """Remove a connection whose request has come, or that was closed."""
        timer = self._timers.pop(connection, None)
        if timer is None:
            return
        timer.cancel()
        own = self._waiting[connection.client_host]
        del own[connection]
        if not own:
            del self._waiting[connection.client_host]

    def _close(self, connection: LimitedProtocol) -> None:
        self.leave(connection)
        connection.transport.abort()


class LimitedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, with limits for connections without a request."""

    idle: ClassVar[IdleConnections]

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*arguments, **named)
        self._is_websocket = False

    @property
    def client_host(self) -> str:
        """The address of the peer."""
        return self.client[0] if self.client else ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection as idle."""
        super().connection_made(transport)
        self.idle.enter(self)

    def data_received(self, data: bytes) -> None:
        """Count the connection as busy once the head of a request is whole."""
        super().data_received(data)
        self._wait_or_work()

    def on_response_complete(self) -> None:
        """Count the connection as idle again."""
        super().on_response_complete()
        self._wait_or_work()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over to the websocket protocol, which has limits of its own."""
        self._is_websocket = True
        self.idle.leave(self)
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.idle.leave(self)
        super().connection_lost(exc)

    def _wait_or_work(self) -> None:
        if self._is_websocket or self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.idle.leave(self)
        else:
            self.idle.enter(self)


def limited_protocol(*, behind_proxy: bool) -> type[LimitedProtocol]:
    """Return a protocol with limits. Behind a proxy, all connections are the proxy's: there is no limit per client."""
    max_open = min(MAX_OPEN, _raise_file_limit() // 4)
    idle = IdleConnections(max_open, max_open if behind_proxy else _MAX_IDLE_PER_CLIENT)
    return type("ServerProtocol", (LimitedProtocol,), {"idle": idle})


def _raise_file_limit() -> int:
    """Raise the limit of open files, as far as the system allows; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(_MAX_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return _MAX_FILES if soft == resource.RLIM_INFINITY else soft
