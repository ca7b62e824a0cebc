"""HTTP responses of one line, for what Streamlit does not answer."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import PlainTextResponse, RedirectResponse, Response

from arrowlens.search import printable


def text_response(
    status: int, text: str, retry_after: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Return one line of text, which browsers do not cache.

    Args:
        status: of HTTP.
        text: the line; control characters and line breaks are replaced.
        retry_after: seconds.
        headers: further ones.
    """
    headers = {"X-Content-Type-Options": "nosniff", **(headers or {}), "Cache-Control": "no-store"}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return PlainTextResponse(f"{printable(' '.join(text.split()))}\n", status, headers)


def redirect(target: str) -> Response:
    """Return a redirection to another address of this server, by GET."""
    return RedirectResponse(target, 303, {"Cache-Control": "no-store"})
