"""The gallery: results as JSON, which the component in ``frontend/`` draws in the browser, and what is done there."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from arrowlens.modalities import EXTRACTED, MODALITIES, Modality
from arrowlens.search import Hit, grouped, printable
from arrowlens.search.sanitize import as_stored
from arrowlens.ui.exports import MAX_BYTES, MAX_FILES
from arrowlens.ui.html import clock, counted, facts
from arrowlens.ui.media import original_url, strip_url, thumbnail_url
from arrowlens.ui.search_service import Answer
from arrowlens.ui.search_state import Grouping, Question
from arrowlens.ui.waveform_routes import poster_url, waveform_url

KEY = "gallery"
FRONTEND = Path(__file__).parent / "frontend"
SHOWN_BY_BROWSERS = ("jpeg", "png", "webp", "gif", "bmp", "avif")
RESULTS = "/results"

_MAX_LINE = 160  # characters of a text that found a file
_BEFORE = 40  # of them before its first marked word
_WORD = re.compile(r"([^\W_]+)")

JSON = dict[str, Any]
Act = Callable[[JSON], None]
"""Does what was chosen in the gallery: ``type`` is "like", "unlike", "everything", "again" or "forget"."""


def show_gallery(batch: JSON, act: Act, *, may_change: bool, forgotten: JSON | None = None) -> None:
    """Show results.

    Args:
        batch: the first results, as ``batch_of`` gives them; the component asks ``/results`` for further ones.
        act: called before the next rerun with what was chosen. It comes from the browser: check it.
        may_change: whether files can be taken out of the library, and marked as favourites.
        forgotten: the last files that were: their ``ids``, and a ``turn`` that differs each time.
    """
    component = st.components.v2.component(
        "arrowlens.gallery", css=_styles("gallery"), js="gallery.js", isolate_styles=False
    )
    options = {"may_change": may_change, "forgotten": forgotten, "max_files": MAX_FILES, "max_bytes": MAX_BYTES}

    def chosen() -> None:
        action = st.session_state[KEY].get("action")
        if isinstance(action, dict):
            act(action)

    component(key=KEY, data={"batch": batch, "options": options}, on_action_change=chosen)


def show_keys() -> None:
    """Give the page its keys: "/" goes to the search box, which has the focus on load, and "?" shows them all."""
    component = st.components.v2.component("arrowlens.keys", css=_styles("keys"), js="keys.js", isolate_styles=False)
    component(key="keys", height=0)


@cache
def _styles(name: str) -> str:
    return (FRONTEND / f"{name}.css").read_text("utf-8")


def batch_of(
    answer: Answer,
    question: Question,
    revision: str,
    favourites: Collection[str] = (),
    upload: str = "",
    n_files: int | None = None,
) -> JSON:
    """Return results as the component takes them.

    Args:
        answer: to ``question``.
        question: what was asked; its parameters are the identity of the list.
        revision: the library's before it was asked; further results are of the same one, or are found anew.
        favourites: content hashes of the library's favourites.
        upload: the token of an uploaded example that is a part of the question.
        n_files: how many there are in all where nothing is asked; else the matches are counted, where their number is
            known. Of a list the first results say it.
    """
    params = question.to_params() | ({"upload": [upload]} if upload else {})
    n_matches = answer.results.n_matches
    total, n_total = "", None
    if n_files is not None:
        total, n_total = counted(n_files, "file", "files"), n_files
    elif n_matches is not None and not question.everything:
        total, n_total = answer.results.summary, n_matches
    further = urlencode({**params, "offset": [str(answer.end)], "revision": [revision]}, doseq=True)
    return {
        "key": urlencode(params, doseq=True),
        "sections": list(_sections(answer.results, question.group, favourites)),
        "more": f"{RESULTS}?{further}" if answer.has_more else None,
        "folded": answer.is_folded,
        "is_later": answer.is_later,
        "total": total,
        "n_total": n_total,
    }


def _sections(hits: Sequence[Hit], by: Grouping, favourites: Collection[str]) -> Iterator[JSON]:
    """Yield hits by folder or day; without a grouping by modality, the one of the best hit first."""
    noun, plural = "result", "results"
    if by != "none":
        for group in grouped(hits, by):
            title, folder = "No date", ""
            if isinstance(group.key, Path):
                title, folder = group.key.name or str(group.key), str(group.key)
            elif group.key is not None:
                title = str(group.key)
            yield _section(printable(title), printable(folder), (noun, plural), group.hits, favourites)
        return
    found: dict[Modality, list[Hit]] = {}
    for hit in hits:
        found.setdefault(hit.modality, []).append(hit)
    for modality, each in found.items():
        title = MODALITIES[modality].plural.capitalize() if len(found) > 1 else ""
        yield _section(title, "", (noun, plural), each, favourites)


def _section(title: str, detail: str, noun: tuple[str, str], hits: Sequence[Hit], favourites: Collection[str]) -> JSON:
    hits = sorted(hits, key=lambda hit: hit.modality == "audio")  # rows of pictures come before lists of recordings
    return {"title": title, "detail": detail, "noun": noun, "hits": [hit_json(hit, favourites) for hit in hits]}


def hit_json(hit: Hit, favourites: Collection[str] = ()) -> JSON:
    """Return what the component shows of a hit, which is a favourite where its content is among ``favourites``."""
    is_part = hit.start is not None and hit.end is not None
    if is_part and hit.duration and hit.end - hit.start >= hit.duration:  # type: ignore[operator]
        is_part = False
    shown: JSON = {
        "id": hit.media_id,
        "kind": hit.modality,
        "name": printable(hit.path.name),
        "folder": printable(hit.path.parent.name),
        "path": as_stored(str(hit.path)),
        "format": hit.format or "",
        "size": hit.size,
        "width": hit.width,
        "height": hit.height,
        "duration": hit.duration,
        "length": clock(hit.duration) if hit.duration else "",
        "start": hit.start if is_part else None,
        "end": hit.end if is_part else None,
        "facts": facts(hit) + (f" · {hit.cluster_size} alike" if hit.cluster_size > 1 else ""),
        "why": why(hit),
        "meaning": meaning(hit),
        "relevance": None if hit.reason or hit.matches is None else hit.relevance,
        "text": text_parts(hit),
        "is_favourite": hit.content_hash in favourites,
        "original": original_url(hit.media_id),
    }
    if hit.modality == "audio":
        return shown | {"waveform": waveform_url(hit)}
    if hit.modality == "video":
        return shown | {"thumbnail": poster_url(hit), "strip": strip_url(hit)}
    return shown | {"thumbnail": thumbnail_url(hit), "is_shown": hit.format in SHOWN_BY_BROWSERS}


def why(hit: Hit) -> str:
    """Return what found a hit, or how likely it is right; "" where neither is known.

    Of several things at once what is right is often unlikely by each: where it is not known whether a hit matches, a
    percentage would say that it does not.
    """
    is_known = hit.relevance is not None and hit.matches is not None
    return printable(hit.reason) or (f"{hit.relevance:.0%}" if is_known else "")


def meaning(hit: Hit) -> str:
    """Return how like the question a hit is, in words; "" where that is not known."""
    if hit.relevance is None or hit.matches is None:
        return ""
    return f"{hit.relevance:.0%} likely to be right by what it shows; cosine similarity {hit.score:.3f}"


def text_parts(hit: Hit) -> list[tuple[str, bool]]:
    """Return the line that found a hit in parts, with whether each is marked; none where its name or looks did.

    Of a long line it is the part around the first marked word.
    """
    if hit.source not in EXTRACTED and hit.found_by != "text":
        return []
    words = {word for matched in hit.matched_words.values() for word in matched.split()}
    line = _WORD.split(printable(hit.line))
    first = next((place for place, part in enumerate(line) if part in words), 0)
    before = "".join(line[:first])
    if len(before) + sum(map(len, line[first:])) > _MAX_LINE and len(before) > _BEFORE:
        line = [f"…{before[-_BEFORE:]}", *line[first:]]
    parts: list[tuple[str, bool]] = []
    left = _MAX_LINE
    for part in line:
        is_marked = part in words
        shown = part if len(part) <= left else f"{part[:left]}…"
        if parts and parts[-1][1] == is_marked:
            parts[-1] = parts[-1][0] + shown, is_marked
        elif shown:
            parts.append((shown, is_marked))
        left -= len(part)
        if left <= 0:
            break
    return parts
