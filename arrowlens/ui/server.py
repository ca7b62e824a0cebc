"""The web server of ``arrowlens ui``, a process of its own: Streamlit's pages, and routes for media and waveforms."""

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
from arrowlens.ui.gallery_routes import gallery_routes
from arrowlens.ui.gate import Gate
from arrowlens.ui.ingest_jobs import close_ingest_runs
from arrowlens.ui.media import media_routes
from arrowlens.ui.senders import Hosts, Senders
from arrowlens.ui.session import SIGNED_IN_VARIABLE, close_library, shared_library
from arrowlens.ui.sign_in import SignIn
from arrowlens.ui.streamlit_config import MAX_MESSAGE, configure, inline_scripts
from arrowlens.ui.throttle import RateLimitedStream
from arrowlens.ui.uploads import UploadLimits
from arrowlens.ui.waveform_routes import drawing_routes

HOST_VARIABLE = "ARROWLENS_HOST"
PORT_VARIABLE = "ARROWLENS_PORT"
NAMES_VARIABLE = "ARROWLENS_ALLOWED_HOSTS"  # separated by blanks
PASSWORD_VARIABLE = "ARROWLENS_PASSWORD_HASH"
PROXY_VARIABLE = "ARROWLENS_BEHIND_PROXY"

_MAX_HEAD = 32 << 10  # bytes of a request without its body; its address holds a whole question
_PING_S = 30.0


def build_app(senders: Senders, sign_in: SignIn | None = None) -> App:
    """Return the whole ASGI application; Streamlit must be configured before.

    Args:
        senders: reads and checks the sender of a request.
        sign_in: asks for the password; None lets everybody in.
    """
    gate = Middleware(Gate, senders=senders, sign_in=sign_in, scripts=inline_scripts())
    routes = [*media_routes(), *drawing_routes(), *gallery_routes()]
    script = Path(__file__).with_name("app.py")
    return App(script, routes=routes, middleware=[gate, Middleware(UploadLimits)], lifespan=_lifespan)


def server_config(app: App, host: str, port: int, *, behind_proxy: bool) -> uvicorn.Config:
    """Return uvicorn's options. ``Senders`` reads proxy headers: uvicorn would trust those from this machine."""
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
    """Open the library in the background; at shutdown stop runs, let them store what they have, and close it.

    An error of opening is shown by the first page.
    """

    def open_library() -> None:
        with suppress(ArrowlensError):
            shared_library()

    threading.Thread(target=open_library, name="open-library", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        _close_upon(number)
    yield
    await run_in_threadpool(close_ingest_runs)
    await run_in_threadpool(close_library)


def _close_upon(number: signal.Signals) -> None:
    """Have a signal close the library first: uvicorn waits for responses, and one may hang in a decoder."""
    inherited = signal.getsignal(number)

    def end(received: int, frame: FrameType | None) -> None:
        threading.Thread(target=close_library, name="close-library", daemon=True).start()
        if callable(inherited):
            inherited(received, frame)

    signal.signal(number, end)


def main() -> None:
    """Serve until a signal ends it. The variables come from the command line, which has checked them."""
    sys.stderr = cast("TextIO", RateLimitedStream(sys.stderr))
    host, port = os.environ[HOST_VARIABLE], int(os.environ[PORT_VARIABLE])
    hosts = Hosts(host, os.environ.get(NAMES_VARIABLE, "").split())
    behind_proxy = bool(os.environ.get(PROXY_VARIABLE))
    password_hash = os.environ.pop(PASSWORD_VARIABLE, None)  # decoding processes need not know it
    os.environ[SIGNED_IN_VARIABLE] = "1" if password_hash is not None else ""
    cookie = f"arrowlens-{port}"  # browsers share cookies between the ports of a host
    configure(host, port)
    app = build_app(Senders(hosts, behind_proxy), SignIn(password_hash, cookie) if password_hash is not None else None)
    uvicorn.Server(server_config(app, host, port, behind_proxy=behind_proxy)).run()


if __name__ == "__main__":
    main()
