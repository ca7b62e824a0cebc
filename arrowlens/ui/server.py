"""The web server: Streamlit's pages and the routes beside them. Started by ``arrowlens ui`` as a process of its own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import FrameType

from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from streamlit.starlette import App

from arrowlens.errors import ArrowlensError
from arrowlens.ui.auth import Gate, Hosts
from arrowlens.ui.drawings import drawing_routes
from arrowlens.ui.media import media_routes
from arrowlens.ui.runs import close_runs
from arrowlens.ui.session import SIGNED_IN_VARIABLE, close_library, shared_library

HOST_VARIABLE = "ARROWLENS_HOST"
PORT_VARIABLE = "ARROWLENS_PORT"
NAMES_VARIABLE = "ARROWLENS_ALLOWED_HOSTS"  # with blanks between
PASSWORD_VARIABLE = "ARROWLENS_PASSWORD_HASH"
MAX_UPLOAD_MB = 50


def build_app(host: str, port: int, names: Iterable[str] = (), password_hash: str | None = None) -> App:
    """The whole application as ASGI.

    Args:
        host, port: what it is bound to. names: that it goes by besides.
        password_hash: as ``arrowlens.passwords`` makes it; None lets everybody in.
    """
    cookie = f"arrowlens-{port}"  # a browser keeps cookies by host, whatever the port
    gate = Middleware(Gate, hosts=Hosts(host, names), password_hash=password_hash, cookie=cookie)
    routes = [*media_routes(), *drawing_routes()]
    return App(Path(__file__).with_name("app.py"), routes=routes, middleware=[gate], lifespan=_lifespan)


def settings(host: str, port: int) -> dict[str, str | int | bool]:
    """Streamlit's options, over those of any file or variable of the user's."""
    return {
        "server.address": host,
        "server.port": port,
        "server.headless": True,
        "server.baseUrlPath": "",
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        "server.enableStaticServing": False,
        "server.enableAgentApi": False,
        "server.maxUploadSize": MAX_UPLOAD_MB,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "logger.hideWelcomeMessage": True,  # it asks another host for this machine's public address
        "theme.light.primaryColor": "#3b5bdb",  # each on its own: a colour for both would switch dark mode off
        "theme.dark.primaryColor": "#748ffc",
    }


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
    host, port = os.environ[HOST_VARIABLE], int(os.environ[PORT_VARIABLE])
    names = os.environ.get(NAMES_VARIABLE, "").split()
    password_hash = os.environ.pop(PASSWORD_VARIABLE, None)  # the processes that decode need not know it
    os.environ[SIGNED_IN_VARIABLE] = "1" if password_hash is not None else ""
    build_app(host, port, names, password_hash).run(config=settings(host, port))


if __name__ == "__main__":
    main()
