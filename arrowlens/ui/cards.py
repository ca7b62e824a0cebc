"""Results as a grid of cards, for every page that shows some."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import streamlit as st

from arrowlens.search import Group, Hit, grouped
from arrowlens.ui.html import counted, group_title, hit_caption, picture, plain, player
from arrowlens.ui.media import original_url, thumbnail_url
from arrowlens.ui.search_state import Grouping, Role
from arrowlens.ui.waveform_routes import spectrogram_url, waveform_url

Refine = Callable[[Role, Hit], None]
"""Takes up a file as an example to come close to, or to keep away from."""


def show_grid(hits: Sequence[Hit], name: str = "hits", refine: Refine | None = None) -> Hit | None:
    """Cards in the order of ``hits``; returns the one that was just chosen to be seen large.

    Args:
        hits: files, each once. name: of the grid, unique on the page.
        refine: called before the next run when one of them is to be an example; without it cards offer no such thing.
    """
    chosen = None
    with st.container(key=f"grid-{name}"):
        for hit in hits:
            with st.container(key=f"hit-{hit.modality}-{name}-{hit.media_id}", gap="xsmall"):
                if show_card(hit, f"{name}-{hit.media_id}", refine):
                    chosen = hit
    return chosen


def show_card(hit: Hit, key: str, refine: Refine | None = None) -> bool:
    """One card, picture or player; whether it is to be seen large."""
    st.html(hit_body(hit) + hit_caption(hit))
    is_chosen = st.button(f"Open {plain(hit.path.name)}", key=f"open-{key}")
    if refine is not None:
        st.button("More like this", key=f"near-{key}", on_click=partial(refine, "like", hit))
        st.button("Less like this", key=f"far-{key}", on_click=partial(refine, "unlike", hit))
    return is_chosen


def hit_body(hit: Hit) -> str:
    """HTML of a file: its thumbnail, or its player."""
    if hit.modality == "image":
        return picture(hit, thumbnail_url(hit))
    return player(hit, original_url(hit.media_id), waveform_url(hit), spectrogram_url(hit))


def show_groups(hits: Sequence[Hit], by: Grouping, refine: Refine | None = None) -> Hit | None:
    """One grid, or one for each folder or day under its name; returns the card that was chosen."""
    if by == "none":
        return show_grid(hits, refine=refine)
    return _first(_group(str(number), group, refine) for number, group in enumerate(grouped(hits, by)))


def _group(name: str, group: Group, refine: Refine | None) -> Hit | None:
    called, place = "No date", ""
    if isinstance(group.key, Path):
        called, place = group.key.name or str(group.key), str(group.key)
    elif group.key is not None:
        called = str(group.key)
    st.html(group_title(called, place, counted(len(group.hits), "result", "results")))
    return show_grid(group.hits, name, refine)


def _first(found: Iterable[Hit | None]) -> Hit | None:
    return next((hit for hit in list(found) if hit is not None), None)
