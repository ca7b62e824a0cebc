"""Open connections: few in all, and none for long that sends no whole request.

uvicorn has a limit for requests, and none for connections that are open without one, nor a time for their headers.
"""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING, Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import h11

MAX_OPEN = 512
BACKLOG = 128  # connections that the system accepts before this process sees them; each of them is an open file, too

_MAX_WAITING_EACH = 32
_PATIENCE_S = 10.0
_FILES = 2048  # that the process may open: connections, tables, pictures that are sent, workers' pipes


class Lobby:
    """Connections whose next request has not come yet, by client; when there are too many, the oldest are closed.

    A browser sends its request at once, so it is never the oldest for long, however many others wait.

    Args:
        most_open: connections of all clients, with those at work. most_waiting: of one client.
        patience_s: seconds for the head of a request, from when the connection is open or the last answer was sent.
    """

    def __init__(self, most_open: int, most_waiting: int, patience_s: float = _PATIENCE_S) -> None:
        self._most_open, self._most_waiting, self._patience_s = most_open, most_waiting, patience_s
        self._timers: dict[LimitedProtocol, asyncio.TimerHandle] = {}  # the oldest first
        self._waiting: dict[str, dict[LimitedProtocol, None]] = {}  # the oldest of each client first

    def enter(self, connection: LimitedProtocol) -> None:
        """Have a connection wait; one that waits already does so since it came."""
        if connection in self._timers:
            return
        own = self._waiting.setdefault(connection.client_host, {})
        own[connection] = None
        self._timers[connection] = connection.loop.call_later(self._patience_s, self._close, connection)
        if len(own) > self._most_waiting:
            self._close(next(iter(own)))
        elif len(connection.connections) > self._most_open:
            self._close(next(iter(self._timers)))

    def leave(self, connection: LimitedProtocol) -> None:
        """Its request has come, or it is closed."""
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
    """uvicorn's HTTP with a lobby."""

    lobby: ClassVar[Lobby]

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*arguments, **named)
        self._is_websocket = False

    @property
    def client_host(self) -> str:
        """The address at the other end of the socket."""
        return self.client[0] if self.client else ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        super().connection_made(transport)
        self.lobby.enter(self)

    def data_received(self, data: bytes) -> None:
        """Wait on, until the head of a request is whole."""
        super().data_received(data)
        self._wait_or_work()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._wait_or_work()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """From here on the connection belongs to another protocol."""
        self._is_websocket = True
        self.lobby.leave(self)
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self.lobby.leave(self)
        super().connection_lost(exc)

    def _wait_or_work(self) -> None:
        if self._is_websocket or self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.lobby.leave(self)
        else:
            self.lobby.enter(self)


def limited_protocol(*, behind_proxy: bool) -> type[LimitedProtocol]:
    """The protocol of a server. Behind a proxy all connections are the proxy's, so that none has a limit of its own."""
    most_open = min(MAX_OPEN, _raise_file_limit() // 4)
    lobby = Lobby(most_open, most_open if behind_proxy else _MAX_WAITING_EACH)
    return type("ServerProtocol", (LimitedProtocol,), {"lobby": lobby})


def _raise_file_limit() -> int:
    """Let the process open some files more, where the system does; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return _FILES if soft == resource.RLIM_INFINITY else soft
