"""Waveforms and spectrograms of recordings as PNGs over HTTP, by media id; drawn on request, then cached.

Threads of their own draw them, a few at a time, and clients take turns: a page full of long recordings holds up no
other request, and the drawings of other visitors by one drawing at most. ``/waveform/{media_id}`` has a transparent
background, which suits light and dark; ``/spectrogram/{media_id}`` has low frequencies at the bottom. A recording that
cannot be read gets an image of the same size that says so.
"""

from __future__ import annotations

import asyncio
import io
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from arrowlens.errors import ArrowlensError, FileChangedError, MediaError
from arrowlens.search import Hit
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
_N_AT_A_TIME = 2  # each takes a whole core, and uploads are decoded as well


def waveform_url(hit: Hit) -> str:
    """Return the address of a recording's waveform, which changes with the content."""
    return f"/waveform/{hit.media_id}?of={hit.content_hash}"


def spectrogram_url(hit: Hit) -> str:
    """Return the address of a recording's spectrogram, which changes with the content."""
    return f"/spectrogram/{hit.media_id}?of={hit.content_hash}"


def drawing_routes() -> list[Route]:
    """Return the routes of this module."""
    drawings = Drawings()
    return [Route(f"/{kind}/{{media_id}}", partial(drawings.answer, kind)) for kind in _KINDS]


class Drawings:
    """Answers with drawings, and caches them by id and content as the library has them, whatever an address says."""

    def __init__(self) -> None:
        self._cache: OrderedDict[tuple[str, str, str | None], bytes] = OrderedDict()  # by kind, media id and content
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
            png = await self._drawn(kind, hits[0], client)
        except FileChangedError as error:
            return _refusal(410, str(error))
        except MediaError:
            return Response(_ERROR_IMAGE, media_type="image/svg+xml", headers=_cached_for(_ERROR_CACHED_S))
        except ArrowlensError as error:
            return _refusal(503, str(error))
        return Response(png, media_type="image/png", headers=_cached_for(_CACHED_S))

    async def _drawn(self, kind: str, hit: Hit, client: str) -> bytes:
        key = (kind, hit.media_id, hit.content_hash)
        if key not in self._cache:
            async with self._turns.turn(client):
                if key not in self._cache:  # another request may have drawn it meanwhile
                    draw = partial(_KINDS[kind], hit.media_id)
                    self._cache[key] = await asyncio.get_running_loop().run_in_executor(self._threads, draw)
            while len(self._cache) > _N_CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]


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


_KINDS: dict[str, Callable[[str], bytes]] = {
    "waveform": lambda media_id: waveform_png(shared_library().waveform(media_id)),
    "spectrogram": lambda media_id: spectrogram_png(shared_library().spectrogram(media_id)),
}
