"""Which addresses ask for a password before the page starts, and where it then comes from."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from arrowlens.cli.parser import build_parser
from arrowlens.cli.server import _answers, _password_hash, address
from arrowlens.errors import InputError
from arrowlens.passwords import hash_password, write_hash


@pytest.fixture
def hash_of(monkeypatch):
    monkeypatch.delenv("ARROWLENS_PASSWORD_HASH", raising=False)
    return lambda line: _password_hash(build_parser().parse_args(["ui", *line.split()]))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "::1"])
def test_this_machine_needs_none(hash_of, host):
    assert hash_of(f"--host {host}") is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "photos.example"])
def test_others_need_one_or_are_told_to_do_without(hash_of, host, capsys):
    with pytest.raises(InputError, match=f"other machines can reach {host}, .*--set-password FILE.*--no-auth"):
        hash_of(f"--host {host}")
    assert hash_of(f"--host {host} --no-auth") is None
    assert "there is no password" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--allowed-host photos.example", "--behind-proxy"])
def test_what_is_passed_on_to_this_machine_needs_one_too(hash_of, option, tmp_path, capsys):
    with pytest.raises(
        InputError, match=r"for a page that other machines reach, and there is no password: .*--no-auth"
    ):
        hash_of(option)
    assert hash_of(f"{option} --no-auth") is None
    assert "there is no password" in capsys.readouterr().err
    write_hash(tmp_path / "p", hash_password("correct horse"))
    assert hash_of(f"{option} --password-file {tmp_path / 'p'}") is not None


def test_it_comes_from_a_file_or_from_the_environment(hash_of, tmp_path, monkeypatch):
    stored = hash_password("correct horse")
    write_hash(tmp_path / "p", stored)
    assert hash_of(f"--host 0.0.0.0 --password-file {tmp_path / 'p'}") == stored
    assert hash_of(f"--password-file {tmp_path / 'p'}") == stored
    monkeypatch.setenv("ARROWLENS_PASSWORD_HASH", stored)
    assert hash_of("--host 0.0.0.0") == stored
    assert hash_of("--host 0.0.0.0 --no-auth") is None
    monkeypatch.setenv("ARROWLENS_PASSWORD_HASH", "my password itself")
    with pytest.raises(InputError, match="ARROWLENS_PASSWORD_HASH: that is no hash") as refused:
        hash_of("--host 127.0.0.1")
    assert "my password" not in str(refused.value)


def test_the_address_is_one_that_a_browser_takes():
    assert address("127.0.0.1", 80) == "http://127.0.0.1:80"
    assert address("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert address("::", 80) == "http://[::1]:80"


def test_the_address_is_told_once_the_server_answers():
    asked: list[str] = []

    class Health(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(503 if len(asked) < 3 else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with (
        HTTPServer(("127.0.0.1", 0), Health) as server,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as process,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = build_parser().parse_args(["ui", "--host", "0.0.0.0", "--port", str(server.server_port)])
        assert _answers(process, options)
        assert asked == 3 * ["/_stcore/health"]
        server.shutdown()
        server.server_close()
        process.communicate(b"\n")
        started = time.monotonic()
        assert not _answers(process, options)  # it has ended
        assert time.monotonic() - started < 5
