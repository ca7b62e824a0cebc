"""Signing in and out: the login page, the cookies that it gives, and how guessing is slowed down."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote

from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import HTMLResponse, Response

from arrowlens.passwords import is_password
from arrowlens.ui.answers import line, redirect
from arrowlens.ui.login import login_page
from arrowlens.ui.senders import RefusedError, Sender
from arrowlens.ui.throttle import Attempts, Places, Turns
from arrowlens.ui.tokens import DEVICE_S, SESSION_S, Devices, Sessions

if TYPE_CHECKING:
    from starlette.types import Scope

LOGIN, LOGOUT = "/login", "/logout"

_MAX_FORM = 16 << 10  # bytes
_MAX_FIELDS = 8
_FORM_S = 10.0  # to send it
_MOST, _MOST_EACH = 48, 3  # sign-ins at a time: of all clients, of each
_FORM_TYPE = "application/x-www-form-urlencoded"
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none'"


class SignIn:
    """Lets in who knows the password.

    Wrong passwords are counted by client: a browser that was signed in before, which its cookie says, or else an
    address. Passwords are hashed one at a time, browsers that were signed in before first, others in turn. So guesses
    cost others a few hashes of time and never the right to try.

    Args:
        password_hash: as ``arrowlens.passwords`` makes it. cookie: name of the session's cookie.
    """

    def __init__(self, password_hash: str, cookie: str) -> None:
        self._password_hash, self._cookie, self._device_cookie = password_hash, cookie, f"{cookie}-device"
        self._sessions, self._devices, self._attempts = Sessions(), Devices(password_hash), Attempts()
        self._places = {is_known: Places(_MOST, _MOST_EACH) for is_known in (True, False)}
        self._turns = Turns()
        self._hashing = ThreadPoolExecutor(1, "password")  # other work may take all threads of the server

    def is_in(self, scope: Scope) -> bool:
        """Whether a request comes from somebody who is signed in."""
        return self._sessions.holds(HTTPConnection(scope).cookies.get(self._cookie, ""))

    async def answer(self, request: Request, sender: Sender) -> Response | None:
        """The login page, or what else a request gets instead of what it asks for; None when it may pass."""
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
            return line(405, "the login page takes GET and POST")
        device = request.cookies.get(self._device_cookie, "")
        is_known = self._devices.holds(device)
        client = device if is_known else sender.client
        with self._places[is_known].place(client) as has_place:
            if not has_place:
                return _page(429, "/", "Too many attempts at a time. Try again in a few seconds.", 5)
            try:
                form = await _form(request)
            except RefusedError as refused:
                return line(refused.status, refused.line)
            return await self._checked(form, client, sender, is_known=is_known)

    async def _checked(self, form: dict[str, str], client: str, sender: Sender, *, is_known: bool) -> Response:
        target = _local(form.get("next", ""))
        if wait := self._attempts.wait(client):
            return _too_many(target, wait)
        async with self._turns.turn(client, is_known=is_known):
            if wait := self._attempts.wait(client):  # or many guesses at a time would get past it
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
    """A page that is opened becomes the login page; anything else is refused in a line."""
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return redirect(LOGIN if wanted in ("/", LOGOUT) else f"{LOGIN}?next={quote(wanted, safe='')}")
    return line(401, "sign in first, at /login")


def _too_many(target: str, wait: float) -> Response:
    seconds = int(wait) + 1
    return _page(429, target, f"Too many attempts. Try again in {seconds} s.", seconds)


def _page(status: int, target: str, message: str | None = None, retry_after: int | None = None) -> Response:
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return HTMLResponse(login_page(LOGIN, target, message), status, headers)


def _local(target: str) -> str:
    """A place on this server, whatever was asked for."""
    is_local = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if is_local else "/"


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form.

    Raises:
        RefusedError: it is too large or malformed, or does not come.
    """
    if request.headers.get("content-type", _FORM_TYPE).partition(";")[0].strip().lower() != _FORM_TYPE:
        raise RefusedError(400, f"the form is not of type {_FORM_TYPE}")
    try:
        body = await asyncio.wait_for(_body(request), _FORM_S)
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


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM:
            raise RefusedError(413, f"the form has more than {_MAX_FORM:,} bytes")
    return body
