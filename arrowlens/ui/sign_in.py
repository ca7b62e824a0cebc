"""Signing in and out: the login page, its cookies, and limits for guessing."""

from __future__ import annotations

import asyncio
import html
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote

from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import HTMLResponse, Response

from arrowlens.passwords import is_password
from arrowlens.ui.html import ICON
from arrowlens.ui.responses import redirect, text_response
from arrowlens.ui.senders import RefusedError, Sender
from arrowlens.ui.throttle import ConcurrencyLimit, FailedAttempts, FairQueue
from arrowlens.ui.tokens import DEVICE_S, SESSION_S, Devices, Sessions

if TYPE_CHECKING:
    from starlette.types import Scope

LOGIN, LOGOUT = "/login", "/logout"

_MAX_FORM = 16 << 10  # bytes
_MAX_FIELDS = 8
_FORM_S = 10.0  # in which it must come
_MAX, _MAX_PER_CLIENT = 48, 3  # sign-ins at a time, and of one client
_FORM_TYPE = "application/x-www-form-urlencoded"
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none'"
_STYLE = """
:root { color-scheme: light dark; --text: #1f2430; --back: #f6f7f9; --card: #fff; --line: #c5cad3; --accent: #3b5bdb;
  --bad: #b42318; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8eaf0; --back: #0e1117; --card: #1a1f2b; --line: #454d5e; --accent: #4263eb; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem; background: var(--back);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
main { width: 100%; max-width: 22rem; padding: 2rem; border-radius: .9rem; background: var(--card);
  border: 1px solid var(--line); }
header { display: flex; align-items: center; gap: .7rem; margin-bottom: 1.4rem; }
h1 { font-size: 1.35rem; margin: 0; }
label { display: block; font-size: .9rem; margin-bottom: .3rem; }
input, button { width: 100%; padding: .65rem .8rem; border-radius: .5rem; font: inherit; color: inherit; }
input { background: var(--back); border: 1px solid var(--line); }
button { margin-top: 1rem; border: 0; background: var(--accent); color: #fff; font-weight: 600; cursor: pointer; }
input:focus-visible, button:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
[role=alert] { margin: .7rem 0 0; color: var(--bad); font-size: .9rem; }
"""


class SignIn:
    """Checks passwords and remembers who is signed in.

    Wrong passwords are counted by client: by a browser that was signed in before, which its cookie proves, else by
    address. Passwords are hashed one at a time, those of known browsers first, others in turn by client. So guesses
    delay others by a few hashes, and never lock them out.

    Args:
        password_hash: as ``arrowlens.passwords`` makes it.
        cookie: name of the session's cookie.
    """

    def __init__(self, password_hash: str, cookie: str) -> None:
        self._password_hash, self._cookie, self._device_cookie = password_hash, cookie, f"{cookie}-device"
        self._sessions, self._devices, self._attempts = Sessions(), Devices(password_hash), FailedAttempts()
        self._limits = {is_known: ConcurrencyLimit(_MAX, _MAX_PER_CLIENT) for is_known in (True, False)}
        self._turns = FairQueue()
        self._hashing = ThreadPoolExecutor(
            1, "password"
        )  # a thread of its own: other work may occupy all threads of the server

    def is_in(self, scope: Scope) -> bool:
        """Return whether a request comes from somebody who is signed in."""
        return self._sessions.holds(HTTPConnection(scope).cookies.get(self._cookie, ""))

    async def answer(self, request: Request, sender: Sender) -> Response | None:
        """Return the response to somebody who is not signed in, or who signs in or out; None lets the request pass."""
        is_in, path = self.is_in(request.scope), request.url.path
        if path == LOGIN:
            return redirect("/") if is_in else await self._login(request, sender)
        if path == LOGOUT and is_in:
            return self._signed_out(request)
        return None if is_in else _to_login(request)

    async def _login(self, request: Request, sender: Sender) -> Response:
        if request.method in ("GET", "HEAD"):
            return _page(200, _local(request.query_params.get("next", "")))
        if request.method != "POST":
            return text_response(405, "the login page takes GET and POST")
        device = request.cookies.get(self._device_cookie, "")
        is_known = self._devices.holds(device)
        client = device if is_known else sender.client
        with self._limits[is_known].slot(client) as has_slot:
            if not has_slot:
                return _page(429, "/", "Too many attempts at a time. Try again in a few seconds.", 5)
            try:
                form = await read_form(request)
            except RefusedError as refused:
                return text_response(refused.status, refused.line)
            return await self._checked(form, client, sender, is_known=is_known)

    async def _checked(self, form: dict[str, str], client: str, sender: Sender, *, is_known: bool) -> Response:
        target = _local(form.get("next", ""))
        if wait := self._attempts.wait(client):
            return _too_many(target, wait)
        async with self._turns.turn(client, is_known=is_known):
            if wait := self._attempts.wait(client):  # again: guesses that waited together must not all pass
                return _too_many(target, wait)
            loop, password = asyncio.get_running_loop(), form.get("password", "")
            if not await loop.run_in_executor(self._hashing, is_password, password, self._password_hash):
                self._attempts.failed(client)
                return _page(401, target, "That is not the password.")
        self._attempts.succeeded(client)
        return self._signed_in(target, is_secure=sender.scheme == "https")

    def _signed_in(self, target: str, *, is_secure: bool) -> Response:
        response = redirect(target)
        for name, tokens, lifetime_s in (
            (self._device_cookie, self._devices, DEVICE_S),
            (self._cookie, self._sessions, SESSION_S),
        ):
            response.set_cookie(
                name, tokens.token(), max_age=lifetime_s, httponly=True, samesite="strict", secure=is_secure
            )
        return response

    def _signed_out(self, request: Request) -> Response:
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return redirect("/")  # a link on a foreign page
        self._sessions.end(request.cookies[self._cookie])
        response = redirect(LOGIN)
        response.delete_cookie(self._cookie, httponly=True, samesite="strict")
        return response


def _to_login(request: Request) -> Response:
    """Redirect a page to the login page; refuse everything else."""
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return redirect(LOGIN if wanted in ("/", LOGOUT) else f"{LOGIN}?next={quote(wanted, safe='')}")
    return text_response(401, "sign in first, at /login")


def _too_many(target: str, wait: float) -> Response:
    seconds = int(wait) + 1
    return _page(429, target, f"Too many attempts. Try again in {seconds} s.", seconds)


def _page(status: int, target: str, message: str | None = None, retry_after: int | None = None) -> Response:
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return HTMLResponse(_login_html(target, message), status, headers)


def _local(target: str) -> str:
    """Return ``target`` if it is an address of this server, else the first page."""
    is_local = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if is_local else "/"


async def read_form(request: Request, max_bytes: int = _MAX_FORM) -> dict[str, str]:
    """Return the fields of a form.

    Raises:
        RefusedError: it has more than ``max_bytes`` or is malformed, or takes too long.
    """
    if request.headers.get("content-type", _FORM_TYPE).partition(";")[0].strip().lower() != _FORM_TYPE:
        raise RefusedError(400, f"the form is not of type {_FORM_TYPE}")
    try:
        body = await asyncio.wait_for(_body(request, max_bytes), _FORM_S)
    except (TimeoutError, ClientDisconnect):
        raise RefusedError(408, "the rest of the form did not come") from None
    try:
        text = body.decode("ascii")
        if _BAD_ESCAPE.search(text):
            raise ValueError("not an escape")
        fields = parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise RefusedError(400, "the form is malformed") from None
    return {name: values[0] for name, values in fields.items()}


async def _body(request: Request, max_bytes: int) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise RefusedError(413, f"the form has more than {max_bytes:,} bytes")
    return body


def _login_html(target: str, message: str | None) -> str:
    """Return the login page as HTML. It loads nothing: before signing in, Streamlit's files are not served.

    Args:
        target: the address to go to after signing in.
        message: what went wrong.
    """
    wrong = f'<p role="alert" id="wrong">{html.escape(message)}</p>' if message else ""
    described = ' aria-describedby="wrong" aria-invalid="true"' if message else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sign in · Arrowlens</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:image/svg+xml,{quote(ICON)}"><style>{_STYLE}</style></head>
<body><main><header>{ICON.replace("<svg", '<svg aria-hidden="true"', 1)}<h1>Arrowlens</h1></header>
<form method="post" action="{LOGIN}">
<input type="hidden" name="next" value="{html.escape(target)}">
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required autofocus{described}>
{wrong}<button type="submit">Sign in</button></form></main></body></html>
"""
