"""Duplicates: files that are there twice, or nearly, side by side. Nothing is ever deleted here."""

from __future__ import annotations

from collections import Counter

import streamlit as st

from arrowlens.library import Library
from arrowlens.search import KINDS, DuplicateGroup, DuplicateKind, byte_size
from arrowlens.ui.look import counted, empty_state, heading
from arrowlens.ui.panels import MEANINGS, duplicate_group
from arrowlens.ui.session import errors_in_a_line, library_or_stop

PAGE_SIZE = 12  # groups


@st.cache_resource(max_entries=2, show_spinner="Comparing all files with one another…")
def groups_of(_library: Library, path: str, version: str) -> list[DuplicateGroup]:
    """All groups; found once for each version of a library."""
    return _library.duplicates()


def chosen_kind(groups: list[DuplicateGroup]) -> DuplicateKind | None:
    """The widget that keeps one kind; None for all."""
    counts = Counter(group.kind for group in groups)
    names = {"All": f"All ({len(groups):,})"} | {kind: f"{MEANINGS[kind][0]} ({counts[kind]:,})" for kind in KINDS}
    given = st.query_params.get("kind")
    chosen = st.segmented_control(
        "Kind", list(names), default=given if given in KINDS else "All", format_func=names.__getitem__, key="kind"
    )
    kind = next((kind for kind in KINDS if kind == chosen), None)
    if kind is None:
        st.query_params.pop("kind", None)
    elif given != kind:
        st.query_params["kind"] = kind
    return kind


def show_page(groups: list[DuplicateGroup], kind: DuplicateKind | None) -> None:
    """One page of groups, with buttons to the others."""
    n_pages = -(-len(groups) // PAGE_SIZE)
    if st.session_state.get("duplicates_kind") != kind:
        st.session_state.update(duplicates_kind=kind, duplicates_page=0)
    number = min(st.session_state.setdefault("duplicates_page", 0), n_pages - 1)
    for group in groups[number * PAGE_SIZE : (number + 1) * PAGE_SIZE]:
        st.html(duplicate_group(group))
    if n_pages > 1:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button("Previous", disabled=number == 0, on_click=turn_to, args=(number - 1,))
            st.html(f'<span class="al-quiet">{number + 1} of {n_pages}</span>')
            st.button("Next", disabled=number == n_pages - 1, on_click=turn_to, args=(number + 1,))


def turn_to(number: int) -> None:
    """Show another page."""
    st.session_state.duplicates_page = number


library = library_or_stop()
with errors_in_a_line():
    found = groups_of(library, str(library.path), library.version)
saving = byte_size(sum(group.saving for group in found))
st.html(heading("Duplicates", f"{counted(len(found), 'group', 'groups')} · {saving} beside the first of each"))
if not found:
    st.html(empty_state("No duplicates", "No file of this library is there twice, or nearly."))
    st.stop()
st.html('<span class="al-quiet">The largest file of each group comes first. Nothing is deleted here.</span>')
only = chosen_kind(found)
kept = [group for group in found if only in (None, group.kind)]
if kept:
    show_page(kept, only)
elif only is not None:
    st.html(empty_state(f"None of this kind: {MEANINGS[only][0].lower()}", MEANINGS[only][1]))
