"""The gate before everything that the server answers: whom it speaks to, and under which name.

An ASGI middleware, so that pages, the websocket, uploads, media and Streamlit's own files are all behind it; only the
health check is open. A request must name a host that this server goes by, or else a foreign page could reach it under a
name of its own (DNS rebinding). Where there is a password, it must also carry the cookie that the login page gives.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from arrowlens.passwords import is_password
from arrowlens.ui.login import login_page

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEALTH = "/_stcore/health"
LOGIN, LOGOUT = "/login", "/logout"
SESSION_S = 7 * 24 * 3600

_MAX_FORM = 16 << 10  # bytes
_MAX_WAITING = 8  # attempts at a time; each takes a third of a second
_MAX_CLIENTS = 1024
_FREE_FAILURES = 3
_LONGEST_WAIT_S = 60.0
_BURST, _FAILURES_A_SECOND = 20, 1.0  # of all clients together
_HEADERS = {"X-Frame-Options": "SAMEORIGIN", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none'"


class Hosts:
    """The names that a server goes by: the address it is bound to, localhost, and those that its owner gave.

    Bound to all addresses, it also goes by any address in figures: a foreign page has a name.
    """

    def __init__(self, bound: str, names: Iterable[str] = ()) -> None:
        self._names = {name.lower().strip("[].") for name in ("localhost", bound, *names)}
        address = _address(bound)
        self._any_address = address is not None and address.is_unspecified

    def allows(self, header: str | None) -> bool:
        """Whether the value of a Host header names this server."""
        try:
            parts = urlsplit(f"//{header}")
            _ = parts.port  # raises where it is none
        except ValueError:
            return False
        name = (parts.hostname or "").rstrip(".")
        if header is None or parts.username is not None or parts.path or parts.query or parts.fragment or not name:
            return False
        address = _address(name)
        return name in self._names or (address is not None and (self._any_address or address.is_loopback))


class Sessions:
    """Tokens that say until when their bearer is signed in; signed with a key that ends with the process."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._key = secrets.token_bytes(32)
        self._clock = clock
        self._ended: dict[str, int] = {}  # tokens that were signed out, and when they would have ended

    def token(self) -> str:
        """A new one, for ``SESSION_S`` seconds."""
        body = f"{int(self._clock()) + SESSION_S}.{secrets.token_hex(16)}"
        return f"{body}.{self._sign(body)}"

    def holds(self, token: str) -> bool:
        """Whether a token is one of ours, and not over."""
        body, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), self._sign(body).encode()):
            return False
        return token not in self._ended and int(body.partition(".")[0]) > self._clock()

    def end(self, token: str) -> None:
        """Sign its bearer out; ``token`` is one that ``holds``."""
        now = self._clock()
        self._ended = {each: until for each, until in self._ended.items() if until > now}
        self._ended[token] = int(token.partition(".")[0])

    def _sign(self, body: str) -> str:
        return hmac.new(self._key, body.encode("utf-8", "replace"), "sha256").hexdigest()


class Attempts:
    """How long wrong passwords have to wait: each client for itself, and all of them together; in bounded memory."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()  # how many, and until when to wait
        self._left, self._filled = float(_BURST), clock()

    def wait(self, client: str) -> float:
        """Seconds until a client may try again; 0 when it may now."""
        now = self._clock()
        self._left = min(_BURST, self._left + (now - self._filled) * _FAILURES_A_SECOND)
        self._filled = now
        _, until = self._failures.get(client, (0, 0.0))
        return max(0.0, until - now, (1 - self._left) / _FAILURES_A_SECOND)

    def failed(self, client: str) -> None:
        """Count a wrong password: from the fourth on, each one doubles the wait, up to a minute."""
        n_failures = self._failures.pop(client, (0, 0.0))[0] + 1
        wait = min(_LONGEST_WAIT_S, 2.0 ** min(n_failures - _FREE_FAILURES, 8)) if n_failures > _FREE_FAILURES else 0
        self._failures[client] = n_failures, self._clock() + wait
        if len(self._failures) > _MAX_CLIENTS:
            self._failures.popitem(last=False)
        self._left -= 1

    def succeeded(self, client: str) -> None:
        """Forget what a client did wrong."""
        self._failures.pop(client, None)


class Gate:
    """The middleware. Without a password only the Host header is looked at."""

    def __init__(self, app: ASGIApp, hosts: Hosts, password_hash: str | None, cookie: str) -> None:
        self._app, self._hosts, self._password_hash, self._cookie = app, hosts, password_hash, cookie
        self._sessions, self._attempts = Sessions(), Attempts()
        self._checking, self._n_waiting = asyncio.Lock(), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = await self._refusal(scope, receive)
        if refusal is None:
            await self._app(scope, receive, _with_headers(send) if scope["type"] == "http" else send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refusal(scope, receive, _with_headers(send))

    async def _refusal(self, scope: Scope, receive: Receive) -> Response | None:
        """What a request gets instead of the page; None when it may pass."""
        hosts = Headers(scope=scope).getlist("host")
        if len(hosts) != 1 or not self._hosts.allows(hosts[0]):
            return _line(421, "this server goes by another name; `arrowlens ui --allowed-host NAME` adds one")
        if self._password_hash is None or scope["path"] == HEALTH:
            return None
        token = HTTPConnection(scope).cookies.get(self._cookie, "")
        is_in = self._sessions.holds(token)
        if scope["type"] == "websocket":
            return None if is_in else _line(403, "sign in first, at /login")
        request = Request(scope, receive)
        if scope["path"] == LOGIN:
            return _redirect("/") if is_in else await self._login(request)
        if scope["path"] == LOGOUT and is_in:
            return self._signed_out(token)
        return None if is_in else _to_login(request)

    async def _login(self, request: Request) -> Response:
        if request.method in ("GET", "HEAD"):
            return _page(200, _local(request.query_params.get("next", "")))
        if request.method != "POST" or not _from_here(request):
            return _line(403, "sign in on this server's own page")
        form = await _form(request)
        if form is None:
            return _line(413, "a form of that size is none of ours")
        target = _local(form.get("next", ""))
        client = _client(request)
        if self._n_waiting >= _MAX_WAITING:
            return _page(429, target, "Too many attempts at a time. Try again in a few seconds.", 5)
        self._n_waiting += 1
        try:
            async with self._checking:  # or many guesses at a time would get past the wait
                wait = self._attempts.wait(client)
                if wait:
                    seconds = int(wait) + 1
                    return _page(429, target, f"Too many attempts. Try again in {seconds} s.", seconds)
                if not await run_in_threadpool(is_password, form.get("password", ""), self._password_hash or ""):
                    self._attempts.failed(client)
                    return _page(401, target, "That is not the password.")
                self._attempts.succeeded(client)
        finally:
            self._n_waiting -= 1
        return self._signed_in(request, target)

    def _signed_in(self, request: Request, target: str) -> Response:
        response = _redirect(target)
        response.set_cookie(
            self._cookie,
            self._sessions.token(),
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    def _signed_out(self, token: str) -> Response:
        self._sessions.end(token)
        response = _redirect(LOGIN)
        response.delete_cookie(self._cookie, httponly=True, samesite="strict")
        return response


def _to_login(request: Request) -> Response:
    """A page that is opened becomes the login page; anything else is refused in a line."""
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return _redirect(LOGIN if wanted in ("/", LOGOUT) else f"{LOGIN}?next={quote(wanted, safe='')}")
    return _line(401, "sign in first, at /login")


def _page(status: int, target: str, message: str | None = None, retry_after: int | None = None) -> Response:
    headers = {"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": "no-store"}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return HTMLResponse(login_page(LOGIN, target, message), status, headers)


def _line(status: int, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status, {"Cache-Control": "no-store"})


def _redirect(target: str) -> Response:
    return RedirectResponse(target, 303, {"Cache-Control": "no-store"})


def _local(target: str) -> str:
    """A place on this server, whatever was asked for."""
    is_local = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if is_local else "/"


def _from_here(request: Request) -> bool:
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers["host"]


async def _form(request: Request) -> dict[str, str] | None:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM:
            return None
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=8)
    return {name: values[0] for name, values in fields.items()}


def _client(request: Request) -> str:
    """Whom to hold to account: an address, of IPv6 the whole network of a household."""
    host = request.client.host if request.client is not None else ""
    address = _address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return host


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
