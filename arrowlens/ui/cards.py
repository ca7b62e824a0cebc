"""Results as a grid of cards, and one of them in a large view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import streamlit as st

from arrowlens.library import Library
from arrowlens.search import Group, Hit, grouped, printable
from arrowlens.ui.html import (
    counted,
    download_link,
    facts_table,
    film,
    group_title,
    hit_caption,
    large_picture,
    picture,
    plain,
    player,
    relevance_bar,
)
from arrowlens.ui.media import original_url, strip_url, thumbnail_url
from arrowlens.ui.search_state import Grouping, Role
from arrowlens.ui.waveform_routes import spectrogram_url, waveform_url

SHOWN_BY_BROWSERS = ("jpeg", "png", "webp", "gif", "bmp", "avif")
_REFINEMENTS: dict[Role, str] = {"like": "More like this", "unlike": "Less like this"}

Refine = Callable[[Role, Hit], None]
"""Adds a file to the question as an example to come close to ("like"), or to keep away from ("unlike")."""


def show_grid(hits: Sequence[Hit], name: str = "hits", refine: Refine | None = None) -> Hit | None:
    """Show cards in the order of ``hits``; return the one whose large view was just asked for.

    Args:
        hits: files, each once.
        name: of the grid, unique on the page.
        refine: called before the next rerun when a file is chosen as an example; None shows no buttons for that.
    """
    chosen = None
    with st.container(key=f"grid-{name}"):
        for hit in hits:
            with st.container(key=f"hit-{hit.modality}-{name}-{hit.media_id}", gap="xsmall"):
                if show_card(hit, f"{name}-{hit.media_id}", refine):
                    chosen = hit
    return chosen


def show_card(hit: Hit, key: str, refine: Refine | None = None) -> bool:
    """Show one card, a picture or a player; return whether its large view was asked for."""
    st.html(hit_body(hit) + hit_caption(hit))
    is_chosen = st.button(f"Open {plain(hit.path.name)}", key=f"open-{key}")
    if refine is not None:
        st.button(_REFINEMENTS["like"], key=f"near-{key}", on_click=partial(refine, "like", hit))
        st.button(_REFINEMENTS["unlike"], key=f"far-{key}", on_click=partial(refine, "unlike", hit))
    return is_chosen


def hit_body(hit: Hit) -> str:
    """Return the HTML of a file: its thumbnail, or its player."""
    if hit.modality == "image":
        return picture(hit, thumbnail_url(hit))
    if hit.modality == "video":
        return film(hit, original_url(hit.media_id), thumbnail_url(hit), strip_url(hit))
    return player(hit, original_url(hit.media_id), waveform_url(hit), spectrogram_url(hit))


def show_groups(hits: Sequence[Hit], by: Grouping, refine: Refine | None = None) -> Hit | None:
    """Show one grid, or one for each folder or day below its name; return the card that was chosen."""
    if by == "none":
        return show_grid(hits, refine=refine)
    return _first(_group(str(number), group, refine) for number, group in enumerate(grouped(hits, by)))


def _group(name: str, group: Group, refine: Refine | None) -> Hit | None:
    title, folder = "No date", ""
    if isinstance(group.key, Path):
        title, folder = group.key.name or str(group.key), str(group.key)
    elif group.key is not None:
        title = str(group.key)
    st.html(group_title(title, folder, counted(len(group.hits), "result", "results")))
    return show_grid(group.hits, name, refine)


def _first(chosen: Iterable[Hit | None]) -> Hit | None:
    return next((hit for hit in list(chosen) if hit is not None), None)  # a list, so that all groups are shown


def show_large(library: Library, hit: Hit, refine: Refine | None = None) -> None:
    """Show one file in a dialog over the page: the original, what is known of it, and where it lies."""
    st.dialog(plain(hit.path.name), width="large")(_large_view)(library, hit, refine)


def _large_view(library: Library, hit: Hit, refine: Refine | None) -> None:
    if hit.modality != "image":
        st.html(hit_body(hit))
    elif hit.format in SHOWN_BY_BROWSERS:
        st.html(large_picture(hit, original_url(hit.media_id)))
    else:
        st.html(large_picture(hit, thumbnail_url(hit)))
        st.caption(f"A small copy: browsers do not show {hit.format} files.")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.html(download_link(original_url(hit.media_id, download=True)), width="content")
        for role, label in _REFINEMENTS.items() if refine is not None else ():
            if st.button(label, key=f"large-{role}") and refine is not None:
                refine(role, hit)
                st.rerun()
    st.html(relevance_bar(hit) + facts_table(hit))
    paths = library.paths(hit) or [hit.path]
    st.caption("Path" if len(paths) == 1 else f"The same content lies at {len(paths)} paths")
    st.code("\n".join(printable(str(path)) for path in paths), language=None, wrap_lines=True)
