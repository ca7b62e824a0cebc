"""The filters in the sidebar of the search page, with counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import streamlit as st

from arrowlens.addresses import as_path
from arrowlens.library import Library
from arrowlens.search import byte_size, printable
from arrowlens.store import DURATION_EDGES, SIZE_EDGES, Facets, root_id_of
from arrowlens.ui.html import clock, plain
from arrowlens.ui.search_state import NAMED, Question

_INDENT = "\u2003"  # a browser shows several of these, and one of several blanks
_MOST_NAMES = 500
_SOURCES = {"ocr": "read in pictures", "speech": "heard"}
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
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.subheader("Filters", anchor=False, width="content")
            if question.is_filtered:
                st.button("Clear all", on_click=change, kwargs=_NO_FILTERS)
        _favourites(library, question, change)
        _folders(library, question, counts, change)
        _days(question, counts, change)
        _formats(question, counts, change)
        _bucket("size", "Size of the file", SIZE_EDGES, counts.sizes, question.size, byte_size, change)
        if sum(counts.durations) or question.length is not None:
            _bucket("length", "Length", DURATION_EDGES, counts.durations, question.length, clock, change)
        for name, (label, counted, written) in _named(counts).items():
            _name(name, label, counted, getattr(question, name), written, change)
        if counts.n_placed or question.placed:
            _placed(question, counts, change)


_FILTERS = ("root", "folder", "since", "until", "formats", "size", "length", *NAMED, "placed", "favourites")
_NO_FILTERS = {name: getattr(Question(), name) for name in _FILTERS}


def _favourites(library: Library, question: Question, change: Change) -> None:
    """Show the choice of favourites only, where there are some."""
    if not library.favourite_contents and not question.favourites:
        return
    st.session_state.favourites = question.favourites
    st.toggle("★ Favourites only", key="favourites", on_change=lambda: change(favourites=st.session_state.favourites))


def _folders(library: Library, question: Question, counts: Facets, change: Change) -> None:
    """Show the choice of a folder; those within another are indented below it."""
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
        if not folder:
            return f"{printable(str(as_path(root)))} ({counts.roots.get(root_id_of(root), 0):,})"
        *above, name = folder.split("/")
        return f"{_INDENT * len(above)}{printable(name)} ({counts.folders.get(folder, 0):,})"

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


def _named(counts: Facets) -> dict[str, tuple[str, Mapping[str, int], Callable[[str], str]]]:
    """Return label, counts by value and what is shown of a value for each of ``NAMED``."""
    return {
        "camera": ("Camera", counts.cameras, printable),
        "artist": ("Artist", counts.artists, printable),
        "album": ("Album", counts.albums, printable),
        "source": ("Text", counts.sources, lambda source: _SOURCES.get(source, source)),
        "language": ("Language of the text", counts.languages, printable),
    }


def _name(
    name: str, label: str, counts: Mapping[str, int], value: str, written: Callable[[str], str], change: Change
) -> None:
    """Show a choice of one of the values that files have; nothing where none has one."""
    options = ["", *list(counts)[:_MOST_NAMES]]
    options += [value] if value not in options else []
    if len(options) == 1:
        return
    key = f"filter-{name}"
    st.session_state[key] = value
    st.selectbox(
        label,
        options,
        format_func=lambda each: f"{written(each)} ({counts.get(each, 0):,})" if each else "Any",
        key=key,
        on_change=lambda: change(**{name: st.session_state[key]}),
    )


def _placed(question: Question, counts: Facets, change: Change) -> None:
    st.session_state.placed = question.placed
    st.checkbox(
        f"With a place ({counts.n_placed:,})",
        key="placed",
        on_change=lambda: change(placed=st.session_state.placed),
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
