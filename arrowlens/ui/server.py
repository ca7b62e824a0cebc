"""The web server: Streamlit's pages and the routes beside them. Started by ``arrowlens ui`` as a process of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from streamlit.starlette import App

from arrowlens.errors import ArrowlensError
from arrowlens.ui.drawings import drawing_routes
from arrowlens.ui.media import media_routes
from arrowlens.ui.session import shared_library

HOST_VARIABLE = "ARROWLENS_HOST"
PORT_VARIABLE = "ARROWLENS_PORT"
MAX_UPLOAD_MB = 50


def build_app() -> App:
    """The whole application as ASGI."""
    return App(Path(__file__).with_name("app.py"), routes=[*media_routes(), *drawing_routes()], lifespan=_open_early)


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
async def _open_early(_app: App) -> AsyncIterator[None]:
    """Open the library while nobody waits for it; what is wrong with it is for the first page to say."""

    def open_library() -> None:
        with suppress(ArrowlensError):
            shared_library()

    threading.Thread(target=open_library, name="open-library", daemon=True).start()
    yield


def main() -> None:
    """Serve until a signal ends it; the command line has checked what the environment says."""
    build_app().run(config=settings(os.environ[HOST_VARIABLE], int(os.environ[PORT_VARIABLE])))


if __name__ == "__main__":
    main()
