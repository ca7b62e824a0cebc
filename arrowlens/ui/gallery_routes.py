"""What the gallery asks for over HTTP: further results, all that is known of a file, and downloads of several files.

``/results?QUESTION&offset=N&revision=R`` and ``/details/{media_id}`` answer with JSON that no browser keeps. Where the
library has changed since revision R, the answer is ``{"is_outdated": true}``: a place in another list means nothing.
``POST`` to the same address, with a form of ``shown`` (the ids of all results so far, separated by commas), then finds
what was not shown yet, whatever comes and goes. ``POST /export`` takes a form of ``as`` (a word of ``exports.EXPORTS``)
and ``ids``. With a field ``check`` the answer has no content: it says whether there would be a download. ``POST
/favourites`` takes ``ids`` and ``are``, "yes" or "no", and answers with no content; a run does not hold it up.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Collection
from functools import partial
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from arrowlens.errors import ArrowlensError, InputError
from arrowlens.library import Library
from arrowlens.search import Hit, byte_size, printable
from arrowlens.ui.exports import EXPORTS, MAX_BYTES, MAX_FILES, BrokenOffError, json_of, playlist_of, zip_of
from arrowlens.ui.gallery import JSON, RESULTS, batch_of, hit_json
from arrowlens.ui.html import facts_of
from arrowlens.ui.responses import text_response
from arrowlens.ui.search_service import Examples, answer, shared_example
from arrowlens.ui.search_state import Question
from arrowlens.ui.senders import RefusedError
from arrowlens.ui.session import may_ingest, shared_library
from arrowlens.ui.sign_in import read_form
from arrowlens.ui.throttle import FairQueue
from arrowlens.ui.waveform_routes import spectrogram_url

if TYPE_CHECKING:
    from starlette.types import Send

_MAX_OFFSET = 100_000
_MAX_FORM = 32 << 10  # bytes; MAX_FILES ids with commas
_MAX_SHOWN = 36 * _MAX_OFFSET  # bytes of so many ids, with commas as a form writes them
_N_AT_A_TIME = 2  # searches for further results; each takes a core
_NUMBER = re.compile(r"\d{1,6}", re.ASCII)
_MEDIA_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_OUTDATED: JSON = {"is_outdated": True}
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_LOGGER = logging.getLogger(__name__)


def gallery_routes() -> list[Route]:
    """Return the routes of this module."""
    turns = FairQueue(_N_AT_A_TIME)
    return [
        Route(RESULTS, partial(results, turns), methods=["GET", "POST"]),
        Route("/details/{media_id}", details),
        Route("/export", export, methods=["POST"]),
        Route("/favourites", favourites, methods=["POST"]),
    ]


async def results(turns: FairQueue, request: Request) -> Response:
    """Answer with further results of a question; visitors take turns."""
    client = request.client.host if request.client is not None else ""

    async def respond() -> Response:
        form = await read_form(request, _MAX_SHOWN) if request.method == "POST" else {}
        shown = _ids(form.get("shown", ""))
        async with turns.turn(client):
            return JSONResponse(await run_in_threadpool(_results, request, shown), headers=_HEADERS)

    return await _or_refusal(respond())


async def _or_refusal(response: Awaitable[Response]) -> Response:
    """Return a response, or the one line of what went wrong while it was made."""
    try:
        return await response
    except RefusedError as refused:
        return text_response(refused.status, refused.line)
    except InputError as error:
        return text_response(400, str(error))
    except ArrowlensError as error:
        return text_response(503, str(error))


def _results(request: Request, shown: Collection[str]) -> JSON:
    params = {name: request.query_params.getlist(name) for name in request.query_params}
    question = Question.from_params(params)
    written = request.query_params.get("offset", "")
    if not _NUMBER.fullmatch(written) or int(written) > _MAX_OFFSET:
        raise InputError(f"the offset is {written!r:.40}; it is a number up to {_MAX_OFFSET:,}")
    library, offset, token = shared_library(), int(written), request.query_params.get("upload", "")
    upload = shared_example(token) if token else None
    if token and upload is None:
        raise InputError("the example was forgotten; upload it again")
    revision = library.revision
    if not shown and request.query_params.get("revision", revision) != revision:
        return _OUTDATED
    held = {hit.media_id: hit for hit in library.hits([part.value for part in question.parts if part.is_example])}
    page = answer(library, question, Examples(held, upload), 0 if shown else offset, shown)
    # What changed meanwhile is noticed when more is asked for, as of the revision before; a place is not to be trusted.
    if not shown and library.revision != revision:
        return _OUTDATED
    return batch_of(page, question, revision, library.favourite_contents, token)


async def details(request: Request) -> Response:
    """Answer with all that is known of a file, where its content lies, and its texts."""
    try:
        known = await run_in_threadpool(_details, request.path_params["media_id"])
    except ArrowlensError as error:
        return text_response(503, str(error))
    if known is None:
        return text_response(404, "the library holds no such file; search again")
    return JSONResponse(known, headers=_HEADERS)


def _details(media_id: str) -> JSON | None:
    library = shared_library()
    hit = next(iter(library.hits([media_id] if _MEDIA_ID.fullmatch(media_id) else [])), None)
    if hit is None:
        return None
    texts = [text for text in library.texts(hit) if text.source in ("speech", "ocr")]
    return {
        "hit": hit_json(hit, library.favourite_contents),
        "about": facts_of(hit),
        "paths": [printable(str(path)) for path in library.paths(hit) or [hit.path]],
        "texts": [{"source": text.source, "text": printable(text.text), "start": text.start} for text in texts],
        "spectrogram": spectrogram_url(hit) if hit.modality == "audio" else None,
    }


class _Download(StreamingResponse):
    """A stream that ends without its end where it is broken off: the browser says that the download failed."""

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except BrokenOffError as error:
            _LOGGER.warning("a download was broken off: %s", error)


async def export(request: Request) -> Response:
    """Answer with a download of several files."""

    async def respond() -> Response:
        form = await read_form(request, _MAX_FORM)
        return await run_in_threadpool(_export, form.get("as", ""), form.get("ids", ""), "check" in form)

    return await _or_refusal(respond())


async def favourites(request: Request) -> Response:
    """Make files favourites, or take that back."""
    if not may_ingest():
        return text_response(403, "nothing of this library can be changed from here")

    async def respond() -> Response:
        form = await read_form(request, _MAX_FORM)
        await run_in_threadpool(_set_favourites, form.get("ids", ""), form.get("are", ""))
        return Response(status_code=204, headers=_HEADERS)

    return await _or_refusal(respond())


def _set_favourites(ids: str, are: str) -> None:
    if are not in ("yes", "no"):
        raise InputError(f"'are' is {are!r:.20}; it is yes or no")
    library = shared_library()
    library.set_favourites(_hits(library, ids)[0], are == "yes")


def _export(kind: str, ids: str, is_check: bool) -> Response:
    if kind not in EXPORTS:
        raise InputError(f"the form of an export is {kind!r:.20}; it is one of {', '.join(EXPORTS)}")
    library = shared_library()
    hits, gone = _hits(library, ids)
    if kind == "zip" and (size := sum(hit.size or 0 for hit in hits)) > MAX_BYTES:
        raise InputError(f"a ZIP has at most {byte_size(MAX_BYTES)}, not {byte_size(size)}; select fewer files")
    if is_check:
        return Response(status_code=204, headers=_HEADERS)
    content_type, name = EXPORTS[kind]
    headers = {**_HEADERS, "Content-Disposition": f'attachment; filename="{name}"', "Content-Encoding": "identity"}
    if kind == "zip":
        return _Download(zip_of(library, hits, gone), headers=headers, media_type=content_type)
    content = playlist_of(hits, gone) if kind == "m3u" else json_of(hits, gone)
    return Response(content, headers=headers, media_type=content_type)


def _ids(text: str) -> dict[str, None]:
    """Return the media ids of a text, each once, in order; what is none is left out."""
    return dict.fromkeys(media_id for media_id in text.split(",") if _MEDIA_ID.fullmatch(media_id))


def _hits(library: Library, ids: str) -> tuple[list[Hit], list[str]]:
    """Return files, and the ids that the library no longer holds."""
    known = list(_ids(ids))
    if not 0 < len(known) <= MAX_FILES:
        raise InputError(f"{len(known):,} files are selected; at a time it is 1 to {MAX_FILES}")
    hits = library.hits(known)
    if not hits:
        raise InputError("the library holds none of these files; search again")
    held = {hit.media_id for hit in hits}
    return hits, [media_id for media_id in known if media_id not in held]
