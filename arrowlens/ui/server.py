"""The web server: Streamlit's pages and the routes beside them. Started by ``arrowlens ui`` as a process of its own."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TextIO, cast

import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from streamlit.starlette import App

from arrowlens.errors import ArrowlensError
from arrowlens.ui.connections import BACKLOG, limited_protocol
from arrowlens.ui.framework import MAX_MESSAGE, configure, inline_scripts
from arrowlens.ui.gate import Gate
from arrowlens.ui.ingest_jobs import close_runs
from arrowlens.ui.media import media_routes
from arrowlens.ui.senders import Hosts, Senders
from arrowlens.ui.session import SIGNED_IN_VARIABLE, close_library, shared_library
from arrowlens.ui.sign_in import SignIn
from arrowlens.ui.sparing import SparingStream
from arrowlens.ui.uploads import UploadLimits
from arrowlens.ui.waveform_routes import drawing_routes

HOST_VARIABLE = "ARROWLENS_HOST"
PORT_VARIABLE = "ARROWLENS_PORT"
NAMES_VARIABLE = "ARROWLENS_ALLOWED_HOSTS"  # with blanks between
PASSWORD_VARIABLE = "ARROWLENS_PASSWORD_HASH"
PROXY_VARIABLE = "ARROWLENS_BEHIND_PROXY"

_MAX_HEAD = 32 << 10  # bytes of a request without its body; a question stands in it
_PING_S = 30.0


def build_app(senders: Senders, sign_in: SignIn | None = None) -> App:
    """The whole application as ASGI; Streamlit is configured by then.

    Args:
        senders: tells who asks. sign_in: asks for the password; None lets everybody in.
    """
    gate = Middleware(Gate, senders=senders, sign_in=sign_in, scripts=inline_scripts())
    routes = [*media_routes(), *drawing_routes()]
    script = Path(__file__).with_name("app.py")
    return App(script, routes=routes, middleware=[gate, Middleware(UploadLimits)], lifespan=_lifespan)


def server_config(app: App, host: str, port: int, *, behind_proxy: bool) -> uvicorn.Config:
    """The web server's options; ``Senders`` reads the headers of a proxy, not uvicorn, which trusts this machine."""
    return uvicorn.Config(
        app,
        host,
        port,
        http=limited_protocol(behind_proxy=behind_proxy),
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE,
        ws_ping_interval=_PING_S,
        ws_ping_timeout=_PING_S,
        ws_per_message_deflate=False,
        h11_max_incomplete_event_size=_MAX_HEAD,
        backlog=BACKLOG,
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level="warning",
        use_colors=False,
    )


@asynccontextmanager
async def _lifespan(_app: App) -> AsyncIterator[None]:
    """Open the library while nobody waits for it; in the end let a run store what it has, and end what decodes.

    What is wrong with the library is for the first page to say.
    """

    def open_library() -> None:
        with suppress(ArrowlensError):
            shared_library()

    threading.Thread(target=open_library, name="open-library", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        _close_upon(number)
    yield
    await run_in_threadpool(close_runs)
    await run_in_threadpool(close_library)


def _close_upon(number: signal.Signals) -> None:
    """Have a signal end what decodes before the web server waits for its answers to be sent: one may hang."""
    inherited = signal.getsignal(number)

    def end(received: int, frame: FrameType | None) -> None:
        threading.Thread(target=close_library, name="close-library", daemon=True).start()
        if callable(inherited):
            inherited(received, frame)

    signal.signal(number, end)


def main() -> None:
    """Serve until a signal ends it; the command line has checked what the environment says."""
    sys.stderr = cast("TextIO", SparingStream(sys.stderr))
    host, port = os.environ[HOST_VARIABLE], int(os.environ[PORT_VARIABLE])
    hosts = Hosts(host, os.environ.get(NAMES_VARIABLE, "").split())
    behind_proxy = bool(os.environ.get(PROXY_VARIABLE))
    password_hash = os.environ.pop(PASSWORD_VARIABLE, None)  # the processes that decode need not know it
    os.environ[SIGNED_IN_VARIABLE] = "1" if password_hash is not None else ""
    cookie = f"arrowlens-{port}"  # a browser keeps cookies by host, whatever the port
    configure(host, port)
    app = build_app(Senders(hosts, behind_proxy), SignIn(password_hash, cookie) if password_hash is not None else None)
    uvicorn.Server(server_config(app, host, port, behind_proxy=behind_proxy)).run()


if __name__ == "__main__":
    main()
