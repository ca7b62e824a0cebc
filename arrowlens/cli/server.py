"""Run the web page: Streamlit in a process of its own, bound to one address and telling nobody."""

from __future__ import annotations

import argparse
import http
import http.client
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import time
from getpass import getpass
from pathlib import Path
from types import FrameType

from arrowlens.cli.output import note
from arrowlens.errors import ArrowlensError, InputError
from arrowlens.passwords import checked_hash, hash_password, read_hash, write_hash

INTERRUPTED = 130
PASSWORD_VARIABLE = "ARROWLENS_PASSWORD_HASH"
_ANSWER_S, _LOOK_S = 5.0, 0.1  # how long the server may take for an answer, and until it is asked again


def set_password(path: Path) -> None:
    """Ask for a password twice, and keep its hash in a file; from a pipe it is read once.

    Raises:
        InputError: it is too short, the two differ, or the file cannot be written.
    """
    if sys.stdin.isatty():
        password = getpass("New password: ")
        if getpass("The same again: ") != password:
            raise InputError("the two passwords differ; nothing was written")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    write_hash(path, hash_password(password))
    note(f"arrowlens: the password's hash is in {path}; start with --password-file {path}")


def serve(library: str, options: argparse.Namespace) -> int:
    """Serve the page on ``options.host`` and ``options.port`` until it is stopped.

    Raises:
        ArrowlensError: the address cannot be listened on, or others could reach it without a password.
    """
    _check_address(options.host, options.port)
    password_hash = _password_hash(options)
    given = {
        "ARROWLENS_LIBRARY": library,
        "ARROWLENS_STORAGE_OPTIONS": json.dumps(dict(options.storage_option)),
        "ARROWLENS_NO_REPLICA": "" if options.replica else "1",
        "ARROWLENS_PRECISION": options.precision,
        "ARROWLENS_HOST": options.host,
        "ARROWLENS_PORT": str(options.port),
        "ARROWLENS_ALLOWED_HOSTS": " ".join(options.allowed_host),
        "ARROWLENS_BEHIND_PROXY": "1" if options.behind_proxy else "",
    }
    inherited = {name: value for name, value in os.environ.items() if name != PASSWORD_VARIABLE}
    if password_hash is not None:
        given[PASSWORD_VARIABLE] = password_hash
    if password_hash is None and is_reached_by_others(options):
        given["ARROWLENS_OPEN_TO_ALL"] = "1"
    if options.device is not None:
        given["ARROWLENS_DEVICE"] = options.device
    command = [sys.executable, "-P", "-m", "arrowlens.ui.server"]  # -P: nothing of the current folder is imported
    # In a process group of its own: a terminal's Ctrl-C reaches only this process, which then ends the server in order.
    server = subprocess.Popen(command, env={**inherited, **given}, process_group=0)

    def end(_number: int, _frame: FrameType | None) -> None:
        server.terminate()

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    try:
        if _answers(server, options):
            note(f"arrowlens: {address(options.host, options.port)} (Ctrl-C ends it)")
        status = server.wait()
        return 0 if status == -signal.SIGTERM else status  # the server ends itself with the signal once it has closed
    except KeyboardInterrupt:
        server.terminate()
        server.wait()
        return INTERRUPTED


def _answers(server: subprocess.Popen[bytes], options: argparse.Namespace) -> bool:
    """Wait until the server answers; return whether it does, and has not ended before."""
    while server.poll() is None:
        connection = http.client.HTTPConnection(_reached(options.host), options.port, timeout=_ANSWER_S)
        try:
            connection.request("GET", "/_stcore/health")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return True
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(_LOOK_S)
    return False


def _password_hash(options: argparse.Namespace) -> str | None:
    """Of the password that the page asks for; None for none.

    Raises:
        InputError: there is none though others could reach the page, or it is no hash.
    """
    is_open = is_reached_by_others(options)
    if options.no_auth:
        if is_open:
            place = f"{options.host} or what passes requests on to it" if _is_loopback(options.host) else options.host
            note(f"arrowlens: anyone who reaches {place} sees this library: there is no password (--no-auth)")
        return None
    if options.password_file is not None:
        return read_hash(options.password_file)
    if given := os.environ.get(PASSWORD_VARIABLE):
        try:
            return checked_hash(given)
        except InputError as error:
            raise InputError(f"{PASSWORD_VARIABLE}: {error}") from error
    if not is_open:
        return None
    reason = f"other machines can reach {options.host}"
    if _is_loopback(options.host):
        reason = "--allowed-host and --behind-proxy are for a page that other machines reach"
    raise InputError(
        f"{reason}, and there is no password: make one with "
        "`arrowlens ui --set-password FILE` and start with --password-file FILE, or let everybody in with --no-auth"
    )


def is_reached_by_others(options: argparse.Namespace) -> bool:
    """Whether visitors may come from other machines: directly, or through a proxy or a tunnel on this one."""
    return not _is_loopback(options.host) or bool(options.allowed_host) or options.behind_proxy


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def address(host: str, port: int) -> str:
    """What to type into a browser on this machine."""
    reached = _reached(host)
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


def _reached(host: str) -> str:
    """Where a server answers that listens on a host, or on all of them."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


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
