"""Limits of uploads: a session keeps its newest files, each client and all together so many bytes.

An ASGI middleware behind ``Gate``. It counts the files that Streamlit holds, so that what Streamlit drops no longer
counts: an upload that was replaced, and those of a session that has ended.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from typing import TYPE_CHECKING

from streamlit import runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx

from arrowlens.ui.responses import text_response
from arrowlens.ui.streamlit_config import MAX_UPLOAD_MB

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

MAX_FILES = 4  # of a session
MAX_SESSION = 2 * MAX_UPLOAD_MB << 20  # bytes
MAX_CLIENT = 4 * MAX_UPLOAD_MB << 20
MAX_ALL = 8 * MAX_UPLOAD_MB << 20

_UPLOAD = re.compile(r"/_stcore/upload_file/([^/]+)/([^/]+)")
_GRACE_S = 10.0
_FRAME = 1 << 20  # bytes that a form may have beside its file


class UploadLimits:
    """The middleware.

    Args:
        app: what is behind it.
        grace_s: seconds after which the files of a session are dropped whose websocket is closed.
    """

    def __init__(self, app: ASGIApp, grace_s: float = _GRACE_S) -> None:
        self._app, self._grace_s = app, grace_s
        self._clients: dict[str, str] = {}  # by session
        self._coming: Counter[str] = Counter()  # bytes on their way, by client
        self._inactive: dict[str, float] = {}  # sessions with files and no websocket, and since when

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Make room for an upload, or refuse it."""
        match = _UPLOAD.fullmatch(scope.get("path", ""))
        if scope["type"] == "websocket":
            await self._until_closed(scope, receive, send)
        elif scope["type"] == "http" and scope["method"] == "PUT" and match is not None:
            await self._upload(match[1], scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _upload(self, session: str, scope: Scope, receive: Receive, send: Send) -> None:
        size = _size(scope)
        client = scope["client"][0] if scope.get("client") else ""
        if not runtime.get_instance().is_active_session(session):
            await text_response(400, "there is no such session; reload the page")(scope, receive, send)
            return
        _make_room(session, size)
        held = self._held()
        if held[client] + size > MAX_CLIENT or held.total() + size > MAX_ALL:
            await text_response(413, "too much is uploaded at the moment; close other tabs or try later")(
                scope, receive, send
            )
            return
        self._clients[session] = client
        self._coming[client] += size
        try:
            await self._app(scope, receive, send)
        finally:
            self._coming[client] -= size
            if not self._coming[client]:
                del self._coming[client]

    def _held(self) -> Counter[str]:
        """Return bytes by client, of uploads that are held and of those that are on their way."""
        files = _sizes()
        self._clients = {session: client for session, client in self._clients.items() if session in files}
        held = Counter(self._coming)
        for session, sizes in files.items():
            held[self._clients.get(session, "")] += sum(sizes.values())
        return held

    async def _until_closed(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            if runtime.exists():
                self._drop_inactive()
                asyncio.get_running_loop().call_later(self._grace_s, self._drop_inactive)

    def _drop_inactive(self) -> None:
        server, now = runtime.get_instance(), time.monotonic()
        gone = {session for session in _sizes() if not server.is_active_session(session)}
        self._inactive = {session: self._inactive.get(session, now) for session in gone}
        for session, since in self._inactive.items():
            if now - since >= self._grace_s:
                _files().remove_session_files(session)


def drop_upload(file_id: str) -> None:
    """Drop an uploaded file of the session whose page is running."""
    context = get_script_run_ctx(suppress_warning=True)
    if context is not None and isinstance(context.uploaded_file_mgr, MemoryUploadedFileManager):
        context.uploaded_file_mgr.remove_file(context.session_id, file_id)


def _files() -> MemoryUploadedFileManager:
    files = runtime.get_instance().uploaded_file_mgr
    assert isinstance(files, MemoryUploadedFileManager)
    return files


def _sizes() -> dict[str, dict[str, int]]:
    """Return the bytes of the files that Streamlit holds, oldest first, by session and file."""
    held = {session: dict(files) for session, files in list(_files().file_storage.items())}
    return {session: {file_id: len(file.data) for file_id, file in files.items()} for session, files in held.items()}


def _make_room(session: str, size: int) -> None:
    """Drop the oldest files of a session until there is room for one more."""
    sizes = _sizes().get(session, {})
    while sizes and (len(sizes) >= MAX_FILES or sum(sizes.values()) + size > MAX_SESSION):
        oldest = next(iter(sizes))
        del sizes[oldest]
        _files().remove_file(session, oldest)


def _size(scope: Scope) -> int:
    """Return the bytes of a request's body: its Content-Length, or the limit where it has none."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    most = (MAX_UPLOAD_MB << 20) + _FRAME
    return min(most, int(lengths[0])) if lengths and lengths[0].isdigit() and len(lengths[0]) < 20 else most
