"""How results draw themselves in notebooks: a table with thumbnails inside it; nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from arrowlens.search.sanitize import printable

if TYPE_CHECKING:
    from arrowlens.search.results import Hit

MOST_SHOWN = 50
_IMAGE = '<img alt="" style="max-width: 160px; max-height: 120px" src="data:image/jpeg;base64,{}">'


def hits_html(hits: Sequence[Hit], thumbnails: Mapping[str, bytes], caption: str = "") -> str:
    """Return hits as an HTML table, a row each; of more than 50 the first.

    Args:
        hits: in their order.
        thumbnails: JPEGs by ``media_id``; files without one have none.
        caption: a line about all of them.
    """
    rows = "".join(_row(hit, thumbnails.get(hit.media_id)) for hit in hits[:MOST_SHOWN])
    n_more = len(hits) - MOST_SHOWN
    more = f"<p>{n_more:,} more</p>" if n_more > 0 else ""
    return f"<table><caption>{escape(caption)}</caption>{rows}</table>{more}"


def _row(hit: Hit, thumbnail: bytes | None) -> str:
    image = "" if thumbnail is None else _IMAGE.format(base64.b64encode(thumbnail).decode("ascii"))
    relevance = "" if hit.relevance is None else f"{hit.relevance:.0%}"
    moment = "" if hit.start is None or hit.end is None else f"{hit.start:.0f} to {hit.end:.0f} s"
    about = [hit.modality, relevance, moment, hit.reason, hit.line]
    told = " · ".join(escape(printable(each)) for each in about if each)
    name, folder = (escape(printable(str(part))) for part in (hit.path.name, hit.path.parent))
    return f"<tr><td>{image}</td><td><b>{name}</b><br>{folder}<br>{told}</td></tr>"
