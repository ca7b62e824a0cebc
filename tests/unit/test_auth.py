"""The gate before the page: names of the server, sessions, wrong passwords. Requests go through the real middleware."""

from __future__ import annotations

import asyncio
import hmac
from urllib.parse import urlencode

import pytest
from starlette.responses import PlainTextResponse

from arrowlens.passwords import hash_password
from arrowlens.ui.gate import Gate
from arrowlens.ui.senders import Hosts, Senders
from arrowlens.ui.sign_in import SignIn
from arrowlens.ui.throttle import Attempts
from arrowlens.ui.tokens import SESSION_S, Sessions

PASSWORD = "correct horse"


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


async def inside(scope, receive, send):
    """The application behind the gate."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        await PlainTextResponse("inside")(scope, receive, send)


@pytest.fixture(scope="module")
def password_hash():
    return hash_password(PASSWORD)


@pytest.fixture
def gate(password_hash):
    return guarded_by(password_hash)


def guarded_by(password_hash, *, behind_proxy=False):
    senders = Senders(Hosts("127.0.0.1", ["photos.example"]), behind_proxy)
    return Gate(inside, senders, SignIn(password_hash, "arrowlens-1"))


@pytest.fixture
def open_gate():
    """One without a password."""
    return Gate(inside, Senders(Hosts("127.0.0.1")), None)


def ask(gate, path="/", kind="http", method="GET", form=None, client="192.0.2.1", **headers):
    """Status, headers and body of an answer; of a websocket, the type of the first message."""
    own = {"host": "127.0.0.1:8501"} | ({"origin": "http://127.0.0.1:8501"} if kind == "websocket" else {})
    headers = {
        name: value for name, value in (own | {n.replace("_", "-"): v for n, v in headers.items()}).items() if value
    }
    path, _, query = path.partition("?")
    scope = {
        "type": kind,
        "path": path,
        "query_string": query.encode(),
        "method": "POST" if form is not None else method,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": (client, 5000),
        "server": ("127.0.0.1", 8501),
        "scheme": "ws" if kind == "websocket" else "http",
    }
    body = form if isinstance(form, bytes) else urlencode(form or {}).encode()
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(gate(scope, receive, send))
    if kind == "websocket":
        return sent[0]["type"]
    answer = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answer, b"".join(message.get("body", b"") for message in sent[1:]).decode()


def sign_in(gate, password=PASSWORD, **form):
    return ask(gate, "/login", form={"password": password, **form})


# -- names ------------------------------------------------------------------------------------------------------------


LOCAL = ("127.0.0.1:8501", "localhost:8501", "LOCALHOST.", "[::1]:8501", "photos.example")
FOREIGN = ("evil.example:8501", "127.0.0.1.evil.example", "evil.example@127.0.0.1", "127.0.0.1/evil")


@pytest.mark.parametrize(
    ("bound", "allowed", "refused"),
    [
        ("127.0.0.1", LOCAL, ("192.0.2.7:8501", "localhost:port", "", None)),
        ("192.0.2.7", ("192.0.2.7:8501",), ("192.0.2.8:8501",)),
        ("0.0.0.0", ("192.0.2.8:8501",), ("localhost:port",)),
        ("::", ("[2001:db8::1]:8501",), ("localhost:port",)),
    ],
)
def test_a_server_goes_by_its_address_and_by_names_that_were_given(bound, allowed, refused):
    hosts = Hosts(bound, ["Photos.example"])
    assert [header for header in (*allowed, *LOCAL) if not hosts.allows(header)] == []
    assert [header for header in (*refused, *FOREIGN) if hosts.allows(header)] == []


def test_a_foreign_name_is_refused_even_without_a_password(open_gate):
    gate = open_gate
    assert ask(gate)[2] == "inside"
    status, _, body = ask(gate, host="evil.example")
    assert (status, body) == (421, "this server goes by another name; `arrowlens ui --allowed-host NAME` adds one\n")
    assert ask(gate, "/_stcore/health", host="evil.example")[0] == 421
    assert ask(gate, kind="websocket", host="evil.example") == "websocket.close"
    assert ask(gate, kind="websocket") == "websocket.accept"


# -- signing in -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/static/js/a.js", "/_stcore/upload_file/a/b", "/original/a", "/_stcore/healthy"]
)
def test_without_a_cookie_nothing_is_given_out(gate, path):
    assert ask(gate, path)[::2] == (401, "sign in first, at /login\n")
    assert ask(gate, path, method="PUT")[0] == 401


def test_without_a_cookie_a_page_leads_to_the_login_and_the_websocket_stays_shut(gate):
    status, headers, _ = ask(gate, "/map?kind=image", accept="text/html")
    assert (status, headers["location"]) == (303, "/login?next=%2Fmap%3Fkind%3Dimage")
    assert ask(gate, "/_stcore/stream", kind="websocket") == "websocket.close"
    assert ask(gate, "/_stcore/health")[::2] == (200, "inside")


def test_the_right_password_opens_everything(gate):
    status, headers, _ = sign_in(gate, next="/map?kind=image")
    assert (status, headers["location"]) == (303, "/map?kind=image")
    cookie, *flags = headers["set-cookie"].split("; ")
    assert {flag.lower() for flag in flags} == {"httponly", "samesite=strict", "path=/", f"max-age={SESSION_S}"}
    assert ask(gate, cookie=cookie)[2] == "inside"
    assert ask(gate, "/_stcore/stream", kind="websocket", cookie=cookie) == "websocket.accept"
    assert ask(gate, "/login", cookie=cookie)[0] == 303


def test_the_login_page_fetches_nothing_and_escapes_what_it_repeats(gate):
    status, headers, body = ask(gate, "/login?next=/%22%3E%3Cscript%3E")
    assert status == 200
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "/&quot;&gt;&lt;script&gt;" in body
    assert "<script" not in body
    assert "http" not in body.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "").replace(
        "http%3A//www.w3.org/2000/svg", ""
    )


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nb", ""])
def test_after_the_login_nobody_is_sent_elsewhere(gate, target):
    assert sign_in(gate, next=target)[1]["location"] == "/"


def test_a_wrong_password_is_said_and_slowed_down(gate):
    answers = [sign_in(gate, "wrong")[0] for _ in range(5)]
    assert answers == [401, 401, 401, 401, 429]
    status, headers, body = sign_in(gate)  # the right one waits as well
    assert status == 429
    assert int(headers["retry-after"]) in (1, 2)
    assert 'role="alert"' in body
    assert "set-cookie" not in headers


def test_a_form_from_another_site_or_of_any_size_is_refused(gate):
    refused = ask(gate, "/login", form={"password": PASSWORD}, origin="http://evil.example")
    assert refused[::2] == (403, "this is not for pages of another origin\n")
    assert ask(gate, "/login", form={"password": "x" * 20_000})[0] == 413
    assert ask(gate, "/login", form={"password": PASSWORD}, origin="http://127.0.0.1:8501")[0] == 303


def test_signing_out_ends_this_session_only_for_good(gate):
    mine, other = (sign_in(gate)[1]["set-cookie"].split("; ")[0] for _ in range(2))
    status, headers, _ = ask(gate, "/logout", cookie=mine)
    assert (status, headers["location"]) == (303, "/login")
    assert headers["set-cookie"].startswith(f'{mine.split("=")[0]}=""; ')
    assert "max-age=0" in headers["set-cookie"].lower()
    assert ask(gate, cookie=mine)[0] == 401
    assert ask(gate, "/_stcore/stream", kind="websocket", cookie=mine) == "websocket.close"
    assert ask(gate, cookie=other)[2] == "inside"


def test_who_is_out_gets_to_the_login_and_no_further(gate):
    status, headers, _ = ask(gate, "/logout", accept="text/html")
    assert (status, headers["location"]) == (303, "/login")
    assert "set-cookie" not in headers


def test_sessions_that_were_ended_are_forgotten_when_they_would_have_ended():
    clock = Clock()
    sessions = Sessions(clock)
    for _ in range(3):
        token = sessions.token()
        sessions.end(token)
        assert not sessions.holds(token)
        clock.now += SESSION_S
    assert list(sessions._ended) == [token]


# -- sessions ---------------------------------------------------------------------------------------------------------


def test_a_session_ends():
    clock = Clock()
    sessions = Sessions(clock)
    token = sessions.token()
    clock.now += SESSION_S - 1
    assert sessions.holds(token)
    clock.now += 1
    assert not sessions.holds(token)


def test_a_session_cannot_be_made_or_stretched():
    sessions = Sessions(Clock())
    expiry, nonce, signature = sessions.token().split(".")
    assert sessions.holds(f"{expiry}.{nonce}.{signature}")
    assert not sessions.holds(f"{int(expiry) + 1}.{nonce}.{signature}")
    assert not sessions.holds(f"{expiry}.{nonce}.{'0' * 64}")
    assert not sessions.holds(Sessions(Clock()).token())
    for text in ("", ".", "..", f"{expiry}.{nonce}", "é.ü.ß", "9" * 5000):
        assert not sessions.holds(text)


def test_signatures_are_compared_in_constant_time(monkeypatch):
    sessions = Sessions(Clock())
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(len(b)) or real(a, b))
    assert not sessions.holds("1.2.3")
    assert compared == [64]


# -- attempts ---------------------------------------------------------------------------------------------------------


def test_a_client_waits_twice_as_long_after_each_failure_up_to_a_minute():
    clock = Clock()
    attempts, waits = Attempts(clock), []
    for _ in range(12):
        attempts.failed("a")
        waits.append(attempts.wait("a"))
        clock.now += waits[-1]
        assert attempts.wait("a") == 0
    assert waits == [0, 0, 0, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert attempts.wait("b") == 0
    attempts.succeeded("a")
    attempts.failed("a")
    assert attempts.wait("a") == 0


def test_no_client_waits_for_what_others_did():
    attempts = Attempts(Clock())
    for client in range(1000):
        for _ in range(5):
            attempts.failed(str(client))
    assert attempts.wait("999") > 0
    assert attempts.wait("new") == 0


def test_memory_is_bounded():
    attempts = Attempts(Clock())
    for client in range(3000):
        attempts.failed(str(client))
    assert len(attempts._failures) == 1024
