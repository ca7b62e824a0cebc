"""The filters in the sidebar of the search page, with counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import streamlit as st

from arrowlens.addresses import as_path
from arrowlens.library import Library
from arrowlens.search import byte_size, printable
from arrowlens.store import DURATION_EDGES, SIZE_EDGES, Facets, root_id_of
from arrowlens.ui.html import clock, plain
from arrowlens.ui.search_state import Question

_ANY = -1  # a widget takes no None among its options

Change = Callable[..., None]
"""Takes new values of fields of ``Question``, by name."""


@st.cache_data(show_spinner=False, max_entries=32)
def facets(_library: Library, path: str, version: str, chosen: dict[str, list[str]]) -> Facets:
    """Return counts of the library's files, computed once for each revision; conditions are text, so that they hash."""
    return _library.facets(chosen=chosen)


def show_filters(library: Library, question: Question, counts: Facets, change: Change) -> None:
    """Show the filters of ``question`` in the sidebar.

    Args:
        library: whose folders can be chosen.
        question: what is asked now.
        counts: of files; each filter's own are counted without that filter.
        change: called before the next rerun with new values of the question's fields.
    """
    with st.sidebar:
        st.subheader("Filters")
        _folders(library, question, counts, change)
        _days(question, counts, change)
        _formats(question, counts, change)
        _bucket("size", "Size of the file", SIZE_EDGES, counts.sizes, question.size, byte_size, change)
        if sum(counts.durations) or question.length is not None:
            _bucket("length", "Length", DURATION_EDGES, counts.durations, question.length, clock, change)
        if question.is_filtered:
            st.button("Clear filters", on_click=change, kwargs=_NO_FILTERS)


_FILTERS = ("root", "folder", "since", "until", "formats", "size", "length")
_NO_FILTERS = {name: getattr(Question(), name) for name in _FILTERS}


def _folders(library: Library, question: Question, counts: Facets, change: Change) -> None:
    roots = [root for root in library.folders() if counts.roots.get(root_id_of(str(root)))]
    options: list[tuple[str, str]] = [("", "")]
    options += [(str(root), "") for root in roots] if len(roots) > 1 else []
    options += [("", folder) for folder in counts.folders]
    here = (question.root, question.folder)
    options += [here] if here not in options else []

    def label(option: tuple[str, str]) -> str:
        root, folder = option
        if option == ("", ""):
            return f"All folders ({sum(counts.roots.values()):,})"
        count = counts.folders.get(folder, 0) if folder else counts.roots.get(root_id_of(root), 0)
        return f"{printable(folder or str(as_path(root)))} ({count:,})"

    def choose() -> None:
        root, folder = st.session_state.folder
        change(root=root, folder=folder)

    st.session_state.folder = here
    st.selectbox("Folder", options, format_func=label, key="folder", on_change=choose)


def _days(question: Question, counts: Facets, change: Change) -> None:
    first, last = counts.earliest, counts.latest
    days = [day for day in (first, last, question.since, question.until) if day is not None]
    if not days:
        return

    def choose() -> None:
        change(since=st.session_state.since, until=st.session_state.until)

    st.session_state.update(since=question.since, until=question.until)
    for label, key in (("Taken from", "since"), ("Taken until", "until")):
        st.date_input(label, None, key=key, min_value=min(days), max_value=max(days), on_change=choose)


def _formats(question: Question, counts: Facets, change: Change) -> None:
    options = [*counts.formats, *(each for each in question.formats if each not in counts.formats)]
    if not options:
        return

    def choose() -> None:
        change(formats=tuple(st.session_state.formats))

    st.session_state.formats = list(question.formats)
    st.pills(
        "Format",
        options,
        selection_mode="multi",
        format_func=lambda name: plain(f"{name} {counts.formats.get(name, 0):,}"),
        key="formats",
        on_change=choose,
    )


def _bucket(
    name: str,
    label: str,
    edges: Sequence[int],
    counts: Sequence[int],
    value: int | None,
    written: Callable[[Any], str],
    change: Change,
) -> None:
    """Show a choice of one of the intervals between edges."""
    texts = [f"under {written(edges[0])}"]
    texts += [f"{written(low)} – {written(high)}" for low, high in pairwise(edges)]
    texts.append(f"{written(edges[-1])} and more")

    def option_label(option: int) -> str:
        return "Any" if option == _ANY else f"{texts[option]} ({counts[option]:,})"

    def choose() -> None:
        place = st.session_state[key]
        change(**{name: None if place == _ANY else place})

    options = [_ANY, *(place for place in range(len(texts)) if counts[place] or place == value)]
    key = f"filter-{name}"
    st.session_state[key] = _ANY if value is None else value
    st.selectbox(label, options, format_func=option_label, key=key, on_change=choose)
