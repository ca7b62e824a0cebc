"""The options of Streamlit in this server. Files and environment variables cannot change them."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from pathlib import Path
from typing import Any

from streamlit import config, file_util

MAX_UPLOAD_MB = 50
MAX_MESSAGE = 1 << 20  # bytes of a websocket message from a browser, which holds the state of all widgets

_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def configure(host: str, port: int) -> None:
    """Set Streamlit's options for this process.

    Files (``.streamlit`` in the working folder, the home or beside the program) and variables are ignored: they could
    open the page to other origins, serve a folder, or have it ask another host.
    """
    for name in [name for name in os.environ if name.startswith("STREAMLIT_")]:
        del os.environ[name]
    config.get_config_files = _no_files  # no option turns off config.toml and secrets.toml
    config.get_config_options(force_reparse=True, options_from_flags=settings(host, port))


def settings(host: str, port: int) -> dict[str, Any]:
    """Return the options that differ from Streamlit's defaults, and those on which security depends."""
    return {
        "global.developmentMode": False,
        "server.address": host,
        "server.port": port,
        "browser.serverAddress": host,
        "server.headless": True,
        "server.baseUrlPath": "",
        "server.enableCORS": True,
        "server.corsAllowedOrigins": [],
        "server.enableXsrfProtection": True,
        "server.enableStaticServing": False,
        "server.enableAgentApi": False,
        "server.maxUploadSize": MAX_UPLOAD_MB,
        "server.maxWidgetStateSize": 1,
        "server.fileWatcherType": "none",
        "client.allowedOrigins": [],
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "logger.hideWelcomeMessage": True,  # it asks another host for this machine's public address
        "logger.level": "warning",
        "secrets.files": [],
        "theme.light.primaryColor": "#3b5bdb",  # one colour for both would switch dark mode off
        "theme.dark.primaryColor": "#748ffc",
    }


def inline_scripts() -> list[str]:
    """Return the hashes of the inline scripts of Streamlit's page, as a Content-Security-Policy lists them."""
    page = Path(file_util.get_static_dir(), "index.html").read_text("utf-8")
    return [f"sha256-{_sha256(script)}" for script in _SCRIPT.findall(page)]


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _no_files(file_name: str) -> list[str]:
    return []
