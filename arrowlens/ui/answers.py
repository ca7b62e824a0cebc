"""Short answers over HTTP that are not Streamlit's."""

from __future__ import annotations

from starlette.responses import PlainTextResponse, RedirectResponse, Response


def line(status: int, text: str, retry_after: int | None = None) -> Response:
    """A line of text, not to be kept; ``retry_after`` in seconds."""
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return PlainTextResponse(f"{text}\n", status, headers)


def redirect(target: str) -> Response:
    """To another place of this server, by GET."""
    return RedirectResponse(target, 303, {"Cache-Control": "no-store"})
