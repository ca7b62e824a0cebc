"""Run the web page: Streamlit in a process of its own, bound to one address and telling nobody."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType

import arrowlens
from arrowlens.cli.output import note
from arrowlens.errors import ArrowlensError

INTERRUPTED = 130
MAX_UPLOAD_MB = 50
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(library: Path, options: argparse.Namespace) -> int:
    """Serve the page on ``options.host`` and ``options.port`` until it is stopped.

    Raises:
        ArrowlensError: the address cannot be listened on.
    """
    _check_address(options.host, options.port)
    if options.host not in _LOOPBACK:
        note(f"arrowlens: anyone who reaches {options.host} sees this library: there is no password yet")
    given = {"ARROWLENS_LIBRARY": str(library), "ARROWLENS_PRECISION": options.precision}
    if options.device is not None:
        given["ARROWLENS_DEVICE"] = options.device
    page = Path(arrowlens.__file__).parent / "ui" / "app.py"
    command = [sys.executable, "-m", "streamlit", "run", str(page), *_settings(options.host, options.port)]
    # In a process group of its own: a terminal's Ctrl-C reaches only this process, which then ends the server in order.
    server = subprocess.Popen(command, env={**os.environ, **given}, process_group=0)

    def end(_number: int, _frame: FrameType | None) -> None:
        server.terminate()

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    try:
        return server.wait()
    except KeyboardInterrupt:
        server.terminate()
        server.wait()
        return INTERRUPTED


def _settings(host: str, port: int) -> list[str]:
    """Streamlit's options; on the command line, where no file of the user's overrides them."""
    settings = {
        "server.address": host,
        "server.port": port,
        "server.headless": "true",
        "server.enableCORS": "true",
        "server.enableXsrfProtection": "true",
        "server.enableStaticServing": "false",
        "server.maxUploadSize": MAX_UPLOAD_MB,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "theme.light.primaryColor": "#3b5bdb",  # each on its own: a colour for both would switch dark mode off
        "theme.dark.primaryColor": "#748ffc",
    }
    return [f"--{name}={value}" for name, value in settings.items()]


def _check_address(host: str, port: int) -> None:
    """Streamlit would search for another port, or end in a traceback."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ArrowlensError(
            f"cannot listen on {host}:{port} ({error.strerror}); stop what uses it, or name another with --port"
        ) from error
