"""The gate before the page: names of the server, sessions, wrong passwords. Requests go through the real middleware."""

from __future__ import annotations

import asyncio
import hmac
import io
from contextlib import ExitStack
from urllib.parse import urlencode

import pytest
from starlette.responses import PlainTextResponse

from arrowlens.passwords import hash_password
from arrowlens.ui.gate import Gate
from arrowlens.ui.senders import Hosts, Senders
from arrowlens.ui.sign_in import SignIn
from arrowlens.ui.throttle import ConcurrencyLimit, FailedAttempts, FairQueue, RateLimitedStream
from arrowlens.ui.tokens import SESSION_S, Devices, Sessions
from tests.support.coroutines import run_coroutine

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

    run_coroutine(gate(scope, receive, send))
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
    for respelled in (f"{signature}!!", f"{signature}=", *(signature[:-1] + letter for letter in "ABCDefgh0123_-")):
        assert respelled == signature or not sessions.holds(f"{expiry}.{nonce}.{respelled}"), "one spelling only"
    for text in ("", ".", "..", f"{expiry}.{nonce}", "é.ü.ß", "9" * 5000):
        assert not sessions.holds(text)


def test_signatures_are_compared_in_constant_time(monkeypatch):
    sessions = Sessions(Clock())
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(len(b)) or real(a, b))
    assert not sessions.holds(Sessions(Clock()).token())
    assert len(set(compared)) == len(compared) == 1


# -- attempts ---------------------------------------------------------------------------------------------------------


def test_a_client_waits_twice_as_long_after_each_failure_up_to_a_minute():
    clock = Clock()
    attempts, waits = FailedAttempts(clock), []
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
    attempts = FailedAttempts(Clock())
    for client in range(1000):
        for _ in range(5):
            attempts.failed(str(client))
    assert attempts.wait("999") > 0
    assert attempts.wait("new") == 0


def test_memory_is_bounded():
    attempts = FailedAttempts(Clock())
    for client in range(3000):
        attempts.failed(str(client))
    assert len(attempts._failures) == 1024


# -- origins ----------------------------------------------------------------------------------------------------------

FOREIGN_ORIGINS = (
    "http://127.0.0.1:19000",
    "http://127.0.0.1",
    "http://localhost:8501",
    "http://evil.example:8501",
    "http://127.0.0.1:8501.evil.example",
    "ftp://127.0.0.1:8501",
    "chrome-extension://abc",
    "null",
)
MALFORMED_ORIGINS = (
    "http://[",
    "http://",
    "127.0.0.1:8501",
    "http://127.0.0.1:8501/",
    "http://a b",
    "http://[::1",
    "é",
)


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("origin", [*FOREIGN_ORIGINS, *MALFORMED_ORIGINS])
def test_a_foreign_origin_gets_no_further(open_gate, kind, origin):
    answer = ask(open_gate, kind=kind, origin=origin)
    if kind == "websocket":
        assert answer == "websocket.close"
    else:
        assert answer[0] == (400 if origin in MALFORMED_ORIGINS else 403)
        assert answer[2].count("\n") == 1


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8501", "http://127.0.0.1:8501"),
        ("LocalHost:8501", "http://localhost:8501"),
        ("[::1]:8501", "http://[::1]:8501"),
        ("photos.example", "https://photos.example"),  # a proxy has the certificate
        ("photos.example:443", "https://photos.example"),
    ],
)
def test_the_pages_own_origin_passes(host, origin):
    gate = Gate(inside, Senders(Hosts("127.0.0.1", ["photos.example"])), None)
    assert ask(gate, host=host, origin=origin)[2] == "inside"
    assert ask(gate, kind="websocket", host=host, origin=origin) == "websocket.accept"


def test_a_websocket_without_an_origin_is_no_browsers(open_gate):
    assert ask(open_gate, kind="websocket", origin="") == "websocket.close"


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_without_an_origin_a_foreign_page_may_link_here_and_embed_nothing(open_gate, site):
    fetched = {"sec_fetch_site": site, "sec_fetch_mode": "no-cors", "sec_fetch_dest": "image"}
    link = {"sec_fetch_site": site, "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert ask(open_gate, "/thumbnail/a", **fetched)[0] == 403
    assert ask(open_gate, **(link | {"sec_fetch_dest": "iframe"}))[0] == 403
    assert ask(open_gate, method="POST", **link)[0] == 403
    assert ask(open_gate, "/?q=car", **link)[0] == 200
    assert ask(open_gate, **(fetched | {"sec_fetch_site": "same-origin"}))[0] == 200


def test_a_foreign_link_signs_nobody_out(gate):
    cookie = sign_in(gate)[1]["set-cookie"].split(";")[0]
    link = {"sec_fetch_site": "same-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert ask(gate, "/logout", cookie=cookie, **link)[1]["location"] == "/"
    assert ask(gate, cookie=cookie)[2] == "inside"


def test_streamlit_sees_the_origin_that_it_compares_letter_by_letter():
    seen = {}

    async def application(scope, receive, send):
        seen.update({name.decode(): value.decode() for name, value in scope["headers"]}, client=scope["client"][0])
        await inside(scope, receive, send)

    gate = Gate(application, Senders(Hosts("127.0.0.1", ["photos.example"]), True), None)
    forwarded = {
        "x_forwarded_host": "Photos.example",
        "x_forwarded_proto": "https",
        "x_forwarded_for": "::7, 192.0.2.9:80",
    }
    assert ask(gate, kind="websocket", origin="https://photos.example", **forwarded) == "websocket.accept"
    assert seen == {"host": "Photos.example", "origin": "https://Photos.example", "client": "192.0.2.9"}
    assert ask(gate, kind="websocket", origin="http://photos.example", **forwarded) == "websocket.close"
    assert ask(gate, **(forwarded | {"x_forwarded_proto": "ftp"}))[0] == 400
    assert ask(gate, **(forwarded | {"x_forwarded_host": "evil.example"}))[0] == 421


@pytest.mark.parametrize("host", ["", "[", "a b", "127.0.0.1:port", "127.0.0.1/x"])
def test_a_host_that_is_none_is_said(open_gate, host):
    assert ask(open_gate, host=host)[::2] == (400, "the Host header is missing or malformed\n")


# -- forms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "headers"),
    [
        (b"&".join(b"a=1" for _ in range(50)), {}),
        (b"password=%zz", {}),
        (b"password=%ff", {}),
        (b"password=\xff", {}),
        (b"{}", {"content_type": "application/json"}),
        (b"password=a", {"origin": "http://["}),
    ],
    ids=["fields", "escape", "not UTF-8", "not ASCII", "JSON", "origin"],
)
def test_a_malformed_sign_in_is_said_in_a_line(gate, form, headers):
    status, _, body = ask(gate, "/login", form=form, **headers)
    assert status == 400
    assert body.count("\n") == 1
    assert ask(gate, "/login", method="DELETE")[0] == 405


# -- fairness ---------------------------------------------------------------------------------------------------------


def test_each_client_waits_for_itself(gate):
    for number in range(30):
        ask(gate, "/login", form={"password": "wrong"}, client=f"198.51.100.{number % 3}")
    assert ask(gate, "/login", form={"password": PASSWORD}, client="198.51.100.1")[0] == 429
    assert ask(gate, "/login", form={"password": PASSWORD}, client="198.51.100.9")[0] == 303


def test_a_known_browser_stays_known_to_the_next_process_and_not_with_another_password(password_hash):
    token = Devices(password_hash).token()
    assert Devices(password_hash).holds(token)
    assert not Devices(hash_password("another horse")).holds(token)
    assert not Sessions().holds(token)


def test_clients_take_turns_and_known_ones_come_first():
    async def run():
        turns, order = FairQueue(), []

        async def take(client, is_known=False):
            async with turns.turn(client, is_known=is_known):
                order.append(client)
                await asyncio.sleep(0)

        waiting = [asyncio.create_task(take(client)) for client in ("a", "a", "a", "b", "c")]
        waiting.append(asyncio.create_task(take("known", is_known=True)))
        await asyncio.sleep(0)
        waiting[2].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.wait_for(take("last"), 1)
        return order

    assert run_coroutine(run()) == ["a", "known", "a", "b", "c", "last"]


def test_slots_are_shared_out():
    slots = ConcurrencyLimit(3, 2)
    with ExitStack() as stack:
        took = [stack.enter_context(slots.slot(client)) for client in ("a", "a", "a", "b", "b")]
        assert took == [True, True, False, True, False]
    assert not slots._taken
    with slots.slot("a") as has_slot:
        assert has_slot


# -- the log ----------------------------------------------------------------------------------------------------------


def test_a_log_is_cut_short_each_minute_and_says_so():
    clock, file = Clock(), io.StringIO()
    stream = RateLimitedStream(file, clock)
    for _ in range(10_000):
        print("Invalid HTTP request received.", file=stream, flush=True)
    assert len(file.getvalue()) < 60_000
    assert file.getvalue().splitlines()[-1] == "arrowlens: the log is too long; the rest of this minute is left out"
    clock.now += 60
    print("more", file=stream)
    assert file.getvalue().splitlines()[-2].endswith("characters of log were left out")
    assert file.getvalue().splitlines()[-1] == "more"
