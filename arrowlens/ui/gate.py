"""The checks that every request passes first: its host, its origin, whether it is signed in, and limits per client.

An ASGI middleware in front of pages, the websocket, uploads, media and Streamlit's own files. A request must name a
host of this server, or a page of another site could reach it under a name of its own (DNS rebinding), and must not come
from a page of another origin (``senders``). Where there is a password, it must also carry the cookie that the login
page gives (``sign_in``); only the health check is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request

from arrowlens.ui.responses import text_response
from arrowlens.ui.senders import RefusedError, Sender, Senders, as_seen_by_browser
from arrowlens.ui.sign_in import SignIn
from arrowlens.ui.throttle import ConcurrencyLimit

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEALTH = "/_stcore/health"

_BODY_S = 30.0  # that may pass until the next bytes of a request's body
_MAX, _MAX_PER_CLIENT = 256, 64  # requests at a time, and as many websockets
_HEADERS = {
    "X-Frame-Options": "SAMEORIGIN",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Gate:
    """The middleware.

    Args:
        app: what is behind it.
        senders: reads and checks the sender of a request.
        sign_in: asks for the password; None where there is none.
        scripts: hashes of the inline scripts that may run, as a Content-Security-Policy lists them.
    """

    def __init__(self, app: ASGIApp, senders: Senders, sign_in: SignIn | None, scripts: Sequence[str] = ()) -> None:
        self._app, self._senders, self._sign_in, self._scripts = app, senders, sign_in, tuple(scripts)
        self._limits = {kind: ConcurrencyLimit(_MAX, _MAX_PER_CLIENT) for kind in ("http", "websocket")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            sender = self._senders.read(scope)
        except RefusedError as refused:
            await _refuse(text_response(refused.status, refused.line), scope, receive, send)
            return
        scope = as_seen_by_browser(scope, sender)
        if scope["type"] == "http":
            send, receive = self._with_headers(send, sender), _within_time(receive)
        refusal = await self._unless_signed_in(scope, receive, sender)
        if refusal is not None:
            await _refuse(refusal, scope, receive, send)
            return
        with self._limits[scope["type"]].slot(sender.client) as has_slot:
            if has_slot:
                await self._pass_on(scope, receive, send)
            else:
                await _refuse(text_response(429, "too many requests at a time; try again", 1), scope, receive, send)

    async def _unless_signed_in(self, scope: Scope, receive: Receive, sender: Sender) -> Response | None:
        if self._sign_in is None or scope["path"] == HEALTH:
            return None
        if scope["type"] == "websocket":
            return None if self._sign_in.is_in(scope) else text_response(403, "sign in first, at /login")
        return await self._sign_in.answer(Request(scope, receive), sender)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_answered = False

        async def sending(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except ClientDisconnect:  # the body did not come, or stopped coming
            if not is_answered:
                await text_response(408, "the rest of the request did not come")(scope, receive, send)

    def _with_headers(self, send: Send, sender: Sender) -> Send:
        fixed = {**_HEADERS, "Content-Security-Policy": _policy(sender.host, self._scripts)}

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in fixed.items():
                    headers.setdefault(name, value)
            await send(message)

        return sending


async def _refuse(refusal: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        await refusal(scope, receive, send)


def _within_time(receive: Receive) -> Receive:
    """Return ``receive`` with a time limit: a body that stops coming counts as a disconnected client."""
    is_whole = False

    async def receiving() -> Any:  # noqa: ANN401 - a message
        nonlocal is_whole
        if is_whole:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), _BODY_S)
        except TimeoutError:
            message = {"type": "http.disconnect"}
        is_whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    return receiving


def _policy(host: str, scripts: Sequence[str]) -> str:
    """Return the Content-Security-Policy: nothing from another host, and no script made of text."""
    inline = "".join(f" '{script}'" for script in scripts)
    # For browsers whose 'self' does not cover websockets; a policy cannot name an IPv6 address.
    sockets = "" if "[" in host else f" ws://{host} wss://{host}"
    return (
        f"default-src 'self'; script-src 'self'{inline}; style-src 'self' 'unsafe-inline'; "
        f"connect-src 'self' data: blob:{sockets}; img-src 'self' data: blob:; media-src 'self' data: blob:; "
        "font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
        "frame-ancestors 'self'"
    )
