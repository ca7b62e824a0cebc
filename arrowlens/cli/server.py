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

from arrowlens.cli.output import note
from arrowlens.errors import ArrowlensError

INTERRUPTED = 130
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(library: Path, options: argparse.Namespace) -> int:
    """Serve the page on ``options.host`` and ``options.port`` until it is stopped.

    Raises:
        ArrowlensError: the address cannot be listened on.
    """
    _check_address(options.host, options.port)
    if options.host not in _LOOPBACK:
        note(f"arrowlens: anyone who reaches {options.host} sees this library: there is no password yet")
    given = {
        "ARROWLENS_LIBRARY": str(library),
        "ARROWLENS_PRECISION": options.precision,
        "ARROWLENS_HOST": options.host,
        "ARROWLENS_PORT": str(options.port),
    }
    if options.device is not None:
        given["ARROWLENS_DEVICE"] = options.device
    command = [sys.executable, "-P", "-m", "arrowlens.ui.server"]  # -P: nothing of the current folder is imported
    note(f"arrowlens: {address(options.host, options.port)} (Ctrl-C ends it)")
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


def address(host: str, port: int) -> str:
    """What to type into a browser on this machine."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


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
