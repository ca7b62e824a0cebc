"""The page Duplicates: identical files, copies and near ones, side by side. It deletes nothing."""

from __future__ import annotations

import re
from collections import Counter

import streamlit as st

from arrowlens.library import Library
from arrowlens.search import KINDS, DuplicateGroup, DuplicateKind, Duplicates, byte_size
from arrowlens.ui.components import MEANINGS, duplicate_group
from arrowlens.ui.html import counted, empty_state, heading
from arrowlens.ui.session import errors_shown, library_or_stop

PAGE_SIZE = 12  # groups
_ALL = "all"  # a widget takes no None among its options


@st.cache_resource(max_entries=2, show_spinner="Comparing all files with one another…")
def groups_of(_library: Library, path: str, version: str) -> Duplicates:
    """Return all groups, computed once for each revision of a library."""
    return _library.duplicates()


def chosen_kind(word: str | None) -> DuplicateKind | None:
    """Return the kind that a word names; None for all."""
    return next((kind for kind in KINDS if kind == word), None)


def ask(kind: DuplicateKind | None, page: int = 1) -> None:
    """Put what is to be shown into the address, as one step of the browser's history."""
    st.query_params.from_dict(({"kind": kind} if kind else {}) | ({"page": str(page)} if page > 1 else {}))


def show_kinds(groups: list[DuplicateGroup], kind: DuplicateKind | None) -> None:
    """Show the choice of one kind of duplicates."""
    counts = Counter(group.kind for group in groups)
    names = {_ALL: f"All ({len(groups):,})"} | {each: f"{MEANINGS[each][0]} ({counts[each]:,})" for each in KINDS}
    st.session_state.duplicates_kind = kind or _ALL
    st.segmented_control(
        "Kind",
        list(names),
        format_func=names.__getitem__,
        key="duplicates_kind",
        on_change=lambda: ask(chosen_kind(st.session_state.duplicates_kind)),
    )


def show_page(groups: list[DuplicateGroup], kind: DuplicateKind | None) -> None:
    """Show the page of groups that the address names, with buttons to the others."""
    n_pages = -(-len(groups) // PAGE_SIZE)
    asked = st.query_params.get("page", "")
    page = min(max(1, int(asked)), n_pages) if re.fullmatch("[0-9]{1,6}", asked) else 1
    for group in groups[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]:
        st.html(duplicate_group(group))
    if n_pages > 1:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button("Previous", disabled=page == 1, on_click=ask, args=(kind, page - 1))
            st.html(f'<span class="al-quiet">{page} of {n_pages}</span>')
            st.button("Next", disabled=page == n_pages, on_click=ask, args=(kind, page + 1))


library = library_or_stop()
with errors_shown():
    groups = groups_of(library, library.uri, library.revision)
st.html(
    heading(
        "Duplicates",
        f"{counted(len(groups), 'group', 'groups')} · {byte_size(groups.saving)} in identical files and copies",
    )
)
if groups.n_not_compared:
    n_left = counted(groups.n_not_compared, "recording", "recordings")
    st.html(
        f'<span class="al-quiet">Not compared: {n_left}, indexed by an earlier version; run '
        "<code>arrowlens optimize</code> while their files are there.</span>"
    )
if not groups:
    st.html(empty_state("No duplicates", "No file of this library is there twice, or nearly."))
    st.stop()
st.html('<span class="al-quiet">The largest file of each group comes first. Nothing is deleted here.</span>')
only = chosen_kind(st.query_params.get("kind"))
show_kinds(groups, only)
kept = [group for group in groups if only in (None, group.kind)]
if kept:
    show_page(kept, only)
elif only is not None:
    st.html(empty_state(f"None of this kind: {MEANINGS[only][0].lower()}", MEANINGS[only][1]))
