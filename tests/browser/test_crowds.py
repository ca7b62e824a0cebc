"""One visitor, or one attacker, cannot take the page down: connections, passwords, questions, uploads, drawings."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from websockets.exceptions import ConnectionClosed

from arrowlens.passwords import hash_password, write_hash
from arrowlens.ui.uploads import MAX_CLIENT, MAX_FILES
from tests.browser.conftest import serving
from tests.browser.visitors import Visitor, ask, errors_in
from tests.support.processes import within

pytestmark = pytest.mark.browser

PASSWORD, OTHER_ADDRESS = "correct horse", "127.0.0.2"
SOON_S = 30.0
FORM = {"Content_Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def guarded(library_path, tmp_path_factory):
    """A server with a password, and its log."""
    base = tmp_path_factory.mktemp("crowds")
    write_hash(base / "password", hash_password(PASSWORD))
    with serving(library_path, "--password-file", base / "password", log=base / "log") as address:
        yield address, base / "log"


def sign_in(address, password=PASSWORD, **headers):
    return ask(address, "/login", "POST", f"password={quote(password)}", **FORM, **headers)


def rss(address):
    """Bytes that the process has in memory which listens on an address."""
    port = urlsplit(address).port
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inode = next(row[9] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(handle.readlink()) == f"socket:[{inode}]" for handle in (process / "fd").iterdir()):
                return int((process / "statm").read_text().split()[1]) * 4096
        except OSError:
            continue
    raise AssertionError("nothing listens there")


# -- connections before the password ----------------------------------------------------------------------------------


@contextmanager
def half_open(address, count, head):
    """So many connections from another address that have sent a part of a request."""
    place = urlsplit(address)
    with ExitStack() as stack:
        opened = []
        for _ in range(count):
            source = (OTHER_ADDRESS, 0)
            connection = socket.create_connection((place.hostname, place.port), 30, source)
            opened.append(stack.enter_context(connection))
            connection.sendall(head)
        yield opened


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ",
        b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 50\r\n\r\npass",
        b"nonsense\r\n\r\n",
    ],
    ids=["nothing", "half a head", "half a form", "nonsense"],
)
def test_1100_connections_without_a_request_stop_nobody_and_fill_no_log(guarded, head):
    address, log = guarded
    before = log.stat().st_size
    with half_open(address, 1100, head) as opened:
        started = time.monotonic()
        assert ask(address, "/_stcore/health")[0] == 200
        assert sign_in(address)[0] == 303
        assert time.monotonic() - started < SOON_S
        assert within(SOON_S, lambda: all(is_closed(connection) for connection in opened))
    assert log.stat().st_size - before < 200_000


def is_closed(connection):
    connection.setblocking(False)
    try:
        while connection.recv(10_000):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def test_a_connection_that_drips_its_head_is_closed(guarded):
    address, _ = guarded
    with half_open(address, 1, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n") as (connection,):
        deadline = time.monotonic() + SOON_S
        while not is_closed(connection):
            assert time.monotonic() < deadline
            try:
                connection.sendall(b"X: y\r\n")
            except OSError:
                break
            time.sleep(0.2)


# -- passwords --------------------------------------------------------------------------------------------------------


def test_an_attacker_locks_himself_out_and_nobody_else(guarded):
    address, _ = guarded
    over, answers = threading.Event(), []

    def attack(number):
        while not over.is_set():
            status, _, _ = ask(address, "/login", "POST", f"password=wrong{number}", OTHER_ADDRESS, **FORM)
            answers.append(status)

    with ThreadPoolExecutor(8) as attackers:
        for number in range(8):
            attackers.submit(attack, number)
        try:
            assert within(SOON_S, lambda: answers.count(429) > 20)
            statuses = []
            for _ in range(20):
                started = time.monotonic()
                statuses.append(sign_in(address)[0])
                assert time.monotonic() - started < SOON_S
        finally:
            over.set()
    assert statuses == [303] * 20
    assert 303 not in answers


def test_a_browser_that_was_signed_in_before_is_not_locked_out_by_its_neighbours(guarded):
    address, _ = guarded
    cookies = [cookie.split(";")[0] for cookie in sign_in(address)[1].get_all("set-cookie")]
    device = next(cookie for cookie in cookies if "-device=" in cookie)
    assert ask(address, "/", Cookie=device)[0] == 401  # it opens nothing
    source = "127.0.0.3"
    failed = [ask(address, "/login", "POST", "password=wrong", source, **FORM)[0] for _ in range(5)]
    assert failed[-1] == 429
    right = f"password={quote(PASSWORD)}"
    assert ask(address, "/login", "POST", right, source, **FORM)[0] == 429
    assert ask(address, "/login", "POST", right, source, **FORM, Cookie=f"{device}0")[0] == 429
    assert ask(address, "/login", "POST", right, source, **FORM, Cookie=device)[0] == 303


# -- questions --------------------------------------------------------------------------------------------------------


def test_a_message_of_ten_megabytes_is_refused_unread(server):
    with Visitor(server) as other:
        assert not errors_in(other.rerun("q=a+bicycle"))  # the first search brings torch and the model
        before = rss(server)
        with pytest.raises(ConnectionClosed):
            ask_at_length(server, "word+" * 2_000_000)
        assert not errors_in(other.rerun("q=a+car"))
    assert rss(server) - before < 300 << 20


def ask_at_length(server, text):
    with Visitor(server) as visitor:
        visitor.send(f"q={text}")
        visitor.rerun("")


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("q=" + "word+" * 100_000, "a text of the question has more than 10,000 characters"),
        ("&".join(["more=a"] * 200), "the question has more than 100 parts"),
    ],
    ids=["text", "parts"],
)
def test_a_question_that_is_too_long_is_one_line(server, query, error):
    with Visitor(server) as visitor:
        shown = errors_in(visitor.rerun(query))
        assert len(shown) == 1
        assert error in shown[0].replace("\\", "")


# -- uploads ----------------------------------------------------------------------------------------------------------


def test_a_session_holds_its_newest_uploads_and_a_client_so_many_bytes(server):
    part = bytes(45 << 20)
    with ExitStack() as stack:
        visitors = [stack.enter_context(Visitor(server)) for _ in range(3)]
        before = rss(server)
        statuses = [visitor.upload(f"file-{turn}", part) for turn in range(6) for visitor in visitors]
        assert set(statuses) == {204, 413}
        assert rss(server) - before < MAX_CLIENT + (300 << 20)
        assert visitors[0].upload("small", b"x") == 204
        assert [visitors[0].upload(f"small-{number}", b"x") for number in range(3 * MAX_FILES)] == [204] * 3 * MAX_FILES
    with Visitor(server) as visitor:  # what ended sessions held is free again, soon after
        assert within(SOON_S, lambda: all(visitor.upload(f"again-{number}", part) == 204 for number in range(2)))
