"""Waveforms and spectrograms of recordings and moments of films over HTTP, by media id; made on request, then cached.

Threads of their own draw them, a few at a time, and clients take turns: a page full of long recordings holds up no
other request, and the drawings of other visitors by one drawing at most. ``/waveform/{media_id}`` has a transparent
background, which suits light and dark; ``/spectrogram/{media_id}`` has low frequencies at the bottom;
``/poster/{media_id}?start=1.5&end=4`` shows a moment of a film, in seconds. A recording that cannot be read gets an
image of the same size that says so, and a film its stored thumbnail.
"""

from __future__ import annotations

import asyncio
import io
import re
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from arrowlens.errors import ArrowlensError, FileChangedError, InputError, MediaError
from arrowlens.search import Hit
from arrowlens.ui.media import thumbnail_url
from arrowlens.ui.responses import text_response
from arrowlens.ui.session import shared_library
from arrowlens.ui.throttle import FairQueue

_HEIGHT = 64  # pixels of a waveform
_COLOUR = (92, 124, 250)
_LEAST_PEAK = 0.02  # of full scale: quieter recordings are not stretched to the full height
_STOPS = np.array([[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]], float)
_N_CACHED = 512  # drawings of some 10 kB
_CACHED_S, _ERROR_CACHED_S = 86_400, 600  # in browsers; a file that cannot be read may be back soon
_SAFE_HEADERS = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
_ERROR_IMAGE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 300 64" width="300" height="64">
<text x="150" y="37" fill="#868e96" font-family="sans-serif" font-size="14" text-anchor="middle">cannot be drawn</text>
</svg>"""
_SECONDS = re.compile(r"\d{1,7}(\.\d{1,6})?", re.ASCII)
_Key = tuple[str, str, str | None, float | None, float | None]  # kind, media id, content, seconds of a moment
_N_AT_A_TIME = 2  # each takes a whole core, and uploads are decoded as well


def waveform_url(hit: Hit) -> str:
    """Return the address of a recording's waveform, which changes with the content."""
    return f"/waveform/{hit.media_id}?of={hit.content_hash}"


def spectrogram_url(hit: Hit) -> str:
    """Return the address of a recording's spectrogram, which changes with the content."""
    return f"/spectrogram/{hit.media_id}?of={hit.content_hash}"


def poster_url(hit: Hit) -> str:
    """Return the address of a picture of the moment of a film that was found, which changes with the content."""
    if hit.start is None or hit.end is None:
        return thumbnail_url(hit)
    return f"/poster/{hit.media_id}?start={hit.start:.2f}&end={hit.end:.2f}&of={hit.content_hash}"


def drawing_routes() -> list[Route]:
    """Return the routes of this module."""
    drawings = Drawings()
    return [Route(f"/{kind}/{{media_id}}", partial(drawings.answer, kind)) for kind in _KINDS]


class Drawings:
    """Answers with drawings, and caches them by id and content as the library has them, whatever an address says."""

    def __init__(self) -> None:
        self._cache: OrderedDict[_Key, bytes] = OrderedDict()
        self._turns = FairQueue(_N_AT_A_TIME)
        self._threads = ThreadPoolExecutor(_N_AT_A_TIME, "draw")

    async def answer(self, kind: str, request: Request) -> Response:
        """Answer with the drawing of the recording that an address names."""
        media_id = request.path_params["media_id"]
        client = request.client.host if request.client is not None else ""
        try:
            hits = await run_in_threadpool(lambda: shared_library().hits([media_id]))
            if not hits:
                return _refusal(404, f"the library holds no file {media_id!r:.60}; search again")
            hit = _at_moment(hits[0], request.query_params) if kind == "poster" else hits[0]
            image = await self._drawn(kind, hit, client)
        except InputError as error:
            return _refusal(400, str(error))
        except FileChangedError as error:
            return _refusal(410, str(error))
        except MediaError:
            return Response(_ERROR_IMAGE, media_type="image/svg+xml", headers=_cached_for(_ERROR_CACHED_S))
        except ArrowlensError as error:
            return _refusal(503, str(error))
        return Response(image, media_type=_KINDS[kind].media_type, headers=_cached_for(_CACHED_S))

    async def _drawn(self, kind: str, hit: Hit, client: str) -> bytes:
        key = (kind, hit.media_id, hit.content_hash, hit.start, hit.end)
        if key not in self._cache:
            async with self._turns.turn(client):
                if key not in self._cache:  # another request may have drawn it meanwhile
                    draw = partial(_KINDS[kind].draw, hit)
                    self._cache[key] = await asyncio.get_running_loop().run_in_executor(self._threads, draw)
            while len(self._cache) > _N_CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]


def _at_moment(hit: Hit, params: QueryParams) -> Hit:
    """The hit with the seconds of an address.

    Raises:
        InputError: they are none.
    """
    times = []
    for name in ("start", "end"):
        text = params.get(name, "")
        if _SECONDS.fullmatch(text) is None:
            raise InputError(f"{name}={text!r:.40} is no number of seconds; write start=1.5&end=4")
        times.append(float(text))
    return replace(hit, start=times[0], end=max(times))


def _poster(hit: Hit) -> bytes:
    jpeg = shared_library().poster(hit)
    if jpeg is None:
        raise MediaError(f"{hit.path.name}: a recording has no pictures")
    return jpeg


def _cached_for(seconds: int) -> dict[str, str]:
    return {**_SAFE_HEADERS, "Cache-Control": f"private, max-age={seconds}"}


def _refusal(status: int, message: str) -> Response:
    return text_response(status, message, headers=_SAFE_HEADERS)


def waveform_png(peaks: np.ndarray) -> bytes:
    """Return a PNG, n pixels wide, of (n,) amplitudes from 0 on; the loudest fills the height."""
    heights = np.clip(peaks / max(float(peaks.max(initial=0.0)), _LEAST_PEAK), 0.03, 1.0)
    rows = np.abs(np.linspace(-1, 1, _HEIGHT))[:, None]
    pixels = np.zeros((_HEIGHT, len(peaks), 4), np.uint8)
    pixels[..., :3] = _COLOUR
    pixels[..., 3] = np.where(rows <= heights, 255, 0)
    return _png(pixels)


def spectrogram_png(decibels: np.ndarray) -> bytes:
    """Return a PNG, n pixels wide, of (bands, n) dB from -80 to 0, low bands first; they come out at the bottom."""
    places = np.clip(1 + decibels[::-1] / 80, 0, 1) * (len(_STOPS) - 1)
    below = np.minimum(places.astype(int), len(_STOPS) - 2)
    share = (places - below)[..., None]
    return _png(np.rint(_STOPS[below] * (1 - share) + _STOPS[below + 1] * share).astype(np.uint8))


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class _Kind(NamedTuple):
    draw: Callable[[Hit], bytes]
    media_type: str = "image/png"


_KINDS = {
    "waveform": _Kind(lambda hit: waveform_png(shared_library().waveform(hit.media_id))),
    "spectrogram": _Kind(lambda hit: spectrogram_png(shared_library().spectrogram(hit.media_id))),
    "poster": _Kind(_poster, "image/jpeg"),
}
