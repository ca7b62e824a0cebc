"""Waveforms and spectrograms of recordings as PNGs over HTTP, by media id: drawn when they come into sight, then kept.

``/waveform/{media_id}`` is on nothing, so that it suits light and dark; ``/spectrogram/{media_id}`` has low frequencies
at the bottom. Of a recording that cannot be read, a picture with a word to that effect, which takes the same place.
"""

from __future__ import annotations

import io
import threading
from functools import lru_cache

import numpy as np
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from arrowlens.errors import ArrowlensError, MediaError
from arrowlens.search import Hit, printable
from arrowlens.ui.session import shared_library

_HEIGHT = 64  # pixels of a waveform
_COLOUR = (92, 124, 250)
_LEAST_PEAK = 0.02  # of full scale: what is quieter is drawn as quiet
_STOPS = np.array([[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]], float)
_N_KEPT = 512  # drawings of some 10 kB
_KEPT_S, _WORDS_KEPT_S = 86_400, 600  # by browsers; what cannot be read today may be back on its disk soon
_GUARDED = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
_IN_WORDS = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 300 64" width="300" height="64">
<text x="150" y="37" fill="#868e96" font-family="sans-serif" font-size="14" text-anchor="middle">cannot be drawn</text>
</svg>"""
_drawing = threading.Semaphore(2)  # decoding is work for a whole core


def waveform_url(hit: Hit) -> str:
    """Where the waveform of a recording is; another address for another content."""
    return f"/waveform/{hit.media_id}?of={hit.content_hash}"


def spectrogram_url(hit: Hit) -> str:
    """Where the spectrogram of a recording is."""
    return f"/spectrogram/{hit.media_id}?of={hit.content_hash}"


def drawing_routes() -> list[Route]:
    """The routes of this module."""
    return [Route("/waveform/{media_id}", _waveform), Route("/spectrogram/{media_id}", _spectrogram)]


async def _waveform(request: Request) -> Response:
    return await _answer("waveform", request)


async def _spectrogram(request: Request) -> Response:
    return await _answer("spectrogram", request)


async def _answer(kind: str, request: Request) -> Response:
    media_id, content_hash = request.path_params["media_id"], request.query_params.get("of", "")
    try:
        png = await run_in_threadpool(lambda: _drawn(kind, media_id, content_hash))
    except MediaError as error:
        if not await run_in_threadpool(lambda: shared_library().hits([media_id])):
            return _refusal(404, error)
        return Response(_IN_WORDS, media_type="image/svg+xml", headers=_kept_for(_WORDS_KEPT_S))
    except ArrowlensError as error:
        return _refusal(503, error)
    return Response(png, media_type="image/png", headers=_kept_for(_KEPT_S))


def _kept_for(seconds: int) -> dict[str, str]:
    return {**_GUARDED, "Cache-Control": f"private, max-age={seconds}"}


def _refusal(status: int, error: ArrowlensError) -> Response:
    line = printable(" ".join(str(error).split()))
    return PlainTextResponse(f"{line}\n", status, {**_GUARDED, "Cache-Control": "no-store"})


@lru_cache(maxsize=_N_KEPT)
def _drawn(kind: str, media_id: str, content_hash: str) -> bytes:
    """The PNG of a recording; ``content_hash`` only tells its contents apart."""
    library = shared_library()
    with _drawing:
        if kind == "waveform":
            return waveform_png(library.waveform(media_id))
        return spectrogram_png(library.spectrogram(media_id))


def waveform_png(peaks: np.ndarray) -> bytes:
    """(n,) amplitudes from 0 on -> a PNG n pixels wide, transparent around the wave; the loudest fills the height."""
    heights = np.clip(peaks / max(float(peaks.max(initial=0.0)), _LEAST_PEAK), 0.03, 1.0)
    rows = np.abs(np.linspace(-1, 1, _HEIGHT))[:, None]
    pixels = np.zeros((_HEIGHT, len(peaks), 4), np.uint8)
    pixels[..., :3] = _COLOUR
    pixels[..., 3] = np.where(rows <= heights, 255, 0)
    return _png(pixels)


def spectrogram_png(decibels: np.ndarray) -> bytes:
    """(bands, n) dB from -80 to 0, low bands first -> a PNG from black to yellow, low bands at the bottom."""
    places = np.clip(1 + decibels[::-1] / 80, 0, 1) * (len(_STOPS) - 1)
    below = np.minimum(places.astype(int), len(_STOPS) - 2)
    share = (places - below)[..., None]
    return _png(np.rint(_STOPS[below] * (1 - share) + _STOPS[below + 1] * share).astype(np.uint8))


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
