"""Thumbnails and originals over HTTP, by their ids in the library: no path ever comes from the client.

``/thumbnail/{content_hash}`` never changes and can be cached for good; ``/original/{media_id}`` is the file as it is on
disk now, with range requests, and with ``?download=1`` an attachment. Only pictures, recordings and films are sent,
each under its own content type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from arrowlens.errors import ArrowlensError, FileChangedError, MediaError
from arrowlens.search import Hit, Member, printable
from arrowlens.store import strip_key
from arrowlens.ui.responses import text_response
from arrowlens.ui.session import shared_library

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from arrowlens.originals import Original

CONTENT_TYPES = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "tiff": "image/tiff",
    "jpeg2000": "image/jp2",
    "pnm": "image/x-portable-anymap",
    "heic": "image/heic",
    "avif": "image/avif",
    "raw": "application/octet-stream",  # no browser shows one
    "wav": "audio/wav",
    "aiff": "audio/aiff",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "m4a": "audio/mp4",
    "aac": "audio/aac",
    "mp4": "video/mp4",
    "mkv": "video/x-matroska",
    "webm": "video/webm",
    "avi": "video/x-msvideo",
    "mpegts": "video/mp2t",
}

_CHUNK = 1 << 18  # bytes read at a time
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_UNQUOTABLE = re.compile(r"[^A-Za-z0-9 ._()+-]")
_NO_SCRIPT = "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'"
_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": _NO_SCRIPT,
    "Cross-Origin-Resource-Policy": "same-origin",
}


def thumbnail_url(item: Hit | Member) -> str:
    """Return the address of the thumbnail of a picture or a film; recordings have none."""
    return f"/thumbnail/{item.content_hash}"


def strip_url(hit: Hit) -> str:
    """Return the address of the strip of a film's shots."""
    return f"/thumbnail/{strip_key(hit.content_hash or '')}"


def original_url(media_id: str, *, download: bool = False) -> str:
    """Return the address of a file, to be shown and played, or as an attachment with its own name."""
    return f"/original/{media_id}?download=1" if download else f"/original/{media_id}"


def media_routes() -> list[Route]:
    """Return the routes of this module."""
    return [Route("/thumbnail/{content_hash}", thumbnail), Route("/original/{media_id}", original)]


async def thumbnail(request: Request) -> Response:
    """Answer with the stored JPEG of a content."""
    content_hash = request.path_params["content_hash"]
    try:
        jpeg = await run_in_threadpool(lambda: shared_library().thumbnail(content_hash))
    except ArrowlensError as error:
        return _refusal(503, str(error))
    if jpeg is None:
        return _refusal(404, "the library holds no such thumbnail; search again")
    headers = {**_SAFE_HEADERS, "ETag": f'"{content_hash}"', "Cache-Control": "private, max-age=31536000, immutable"}
    if _has_current(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(jpeg, media_type="image/jpeg", headers=headers)


async def original(request: Request) -> Response:
    """Answer with a file of the library, or the range of it that is asked for."""
    stack = ExitStack()
    try:
        opened = await run_in_threadpool(lambda: _opened(stack, request.path_params["media_id"]))
    except FileChangedError as error:
        return _refusal(410, str(error))
    except MediaError as error:
        return _refusal(404, str(error))
    except ArrowlensError as error:
        return _refusal(503, str(error))
    with ExitStack() as failing:
        failing.callback(stack.close)
        response = _original_response(request, opened, stack)
        if isinstance(response, _FileResponse):
            failing.pop_all()  # the response closes the file, once it is sent
        return response


class _Span(NamedTuple):
    """Bytes of a file, from ``start`` to before ``end``."""

    start: int
    end: int


class _FileResponse(StreamingResponse):
    """A part of an open file, which is closed however sending it ends."""

    def __init__(self, opened: Original, span: _Span, stack: ExitStack, status: int, headers: dict[str, str]) -> None:
        super().__init__(_chunks(opened, span), status, headers, CONTENT_TYPES[opened.format])
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._stack:
            await super().__call__(scope, receive, send)


def _opened(stack: ExitStack, media_id: str) -> Original:
    opened = stack.enter_context(shared_library().open_original(media_id))
    if opened.format not in CONTENT_TYPES:
        stack.close()
        raise MediaError(
            f"{opened.name}: {opened.format} is not a format of pictures, recordings or films; only these are sent"
        )
    return opened


def _original_response(request: Request, opened: Original, stack: ExitStack) -> Response:
    etag = f'"{opened.modified_ns:x}-{opened.size:x}"'
    headers = {
        **_SAFE_HEADERS,
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Accept-Ranges": "bytes",
        "Content-Encoding": "identity",  # Streamlit would compress some types, and a range would be one of other bytes
        "Content-Disposition": _disposition(opened.name, attachment=request.query_params.get("download") == "1"),
    }
    if _has_current(request, etag):
        return Response(status_code=304, headers=headers)
    wanted = request.headers.get("range", "")
    span = _span(wanted, opened.size) if request.headers.get("if-range", etag) == etag else None
    if span is not None and span.start >= span.end:
        headers["Content-Range"] = f"bytes */{opened.size}"
        return Response(status_code=416, headers=headers)
    status = 200 if span is None else 206
    if span is not None:
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{opened.size}"
    span = span or _Span(0, opened.size)
    headers["Content-Length"] = str(span.end - span.start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=CONTENT_TYPES[opened.format])
    return _FileResponse(opened, span, stack, status, headers)


def _chunks(opened: Original, span: _Span) -> Iterator[bytes]:
    opened.file.seek(span.start)
    left = span.end - span.start
    while left and (chunk := opened.file.read(min(_CHUNK, left))):
        left -= len(chunk)
        yield chunk


def _span(wanted: str, size: int) -> _Span | None:
    """Return the bytes that a Range header asks for, empty where it asks beyond the end; None for the whole file.

    Several ranges, and anything that is not a range of bytes, give the whole file, as RFC 9110 (14.2) allows.
    """
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or match[0] == "bytes=-":
        return None
    if not match[1]:
        return _Span(max(0, size - int(match[2])), size)
    start, end = int(match[1]), int(match[2]) + 1 if match[2] else size
    return None if end <= start and match[2] else _Span(start, min(end, size))


def _disposition(name: str, *, attachment: bool) -> str:
    """Return a Content-Disposition (RFC 6266): the name in ASCII for old clients, and in full, made printable."""
    shown = printable(name)
    plain = _UNQUOTABLE.sub("_", shown)
    return f"{'attachment' if attachment else 'inline'}; filename=\"{plain}\"; filename*=UTF-8''{quote(shown, safe='')}"


def _has_current(request: Request, etag: str) -> bool:
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return etag in known or known == ["*"]


def _refusal(status: int, message: str) -> Response:
    return text_response(status, message, headers=_SAFE_HEADERS)
