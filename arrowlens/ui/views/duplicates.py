"""The page Duplicates: identical files, copies and near ones, side by side. It deletes no file."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable

import streamlit as st

from arrowlens.errors import ArrowlensError
from arrowlens.library import Library
from arrowlens.search import KINDS, DuplicateGroup, DuplicateKind, Duplicates, Member, byte_size
from arrowlens.ui.components import MEANINGS, duplicate_group
from arrowlens.ui.html import counted, empty_state, heading, plain
from arrowlens.ui.session import errors_shown, library_or_stop, may_ingest

PAGE_SIZE = 50  # groups
_ALL = "all"  # a widget takes no None among its options


@st.cache_resource(max_entries=2, show_spinner="Comparing all files with one another…")
def groups_of(_library: Library, path: str, version: str, distinct: list[tuple[str, str]]) -> Duplicates:
    """Return all groups, computed once for each revision of a library and for what was said to be no duplicate."""
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


def show_page(library: Library, groups: list[DuplicateGroup], kind: DuplicateKind | None) -> None:
    """Show the page of groups that the address names, and the choice of another."""
    n_pages = -(-len(groups) // PAGE_SIZE)
    asked = st.query_params.get("page", "")
    page = min(max(1, int(asked)), n_pages) if re.fullmatch("[0-9]{1,6}", asked) else 1
    for group in groups[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]:
        st.html(duplicate_group(group))
        if group.kind != "identical" and may_ingest():
            show_distinct(library, group)
    if n_pages > 1:
        st.session_state.duplicates_page = page
        st.pagination(n_pages, key="duplicates_page", on_change=lambda: ask(kind, st.session_state.duplicates_page))


def show_distinct(library: Library, group: DuplicateGroup) -> None:
    """Show what says of a file that it is no duplicate of the first one of its group."""
    with st.container(horizontal=True, gap="small"):
        for member in group.files[1:]:
            name = "" if len(group.files) == 2 else f": {member.path.name}"
            st.button(
                plain(f"Not a duplicate{name}"),
                key=f"distinct-{group.best.media_id}-{member.media_id}",
                on_click=set_distinct,
                args=(library, group.best, member, True),
                help="Remembered in the library; the two are not shown together again.",
            )


def set_distinct(library: Library, one: Member, other: Member, are: bool) -> None:
    """Remember that two files are no duplicates, or take that back."""
    try:
        library.set_not_duplicates(one, other, are)
    except ArrowlensError as error:
        st.toast(plain(str(error)))
    else:
        st.session_state.distinct = (one, other) if are else None


def show_take_back(library: Library) -> None:
    """Show what takes back the last word of this session."""
    last: tuple[Member, Member] | None = st.session_state.get("distinct")
    if last is not None:
        st.button(
            plain(f"Take back: {last[0].path.name} and {last[1].path.name} are no duplicates"),
            on_click=set_distinct,
            args=(library, *last, False),
        )


def could_go(groups: Iterable[DuplicateGroup], kind: DuplicateKind | None) -> list[bytes]:
    """Return the paths of all files but the first of each group; near ones only where they alone are shown."""
    return [
        os.fsencode(member.path)
        for group in groups
        if group.kind != "near" or kind == "near"
        for member in group.files[1:]
    ]


def show_export(groups: list[DuplicateGroup], kind: DuplicateKind | None) -> None:
    """Show the download of the files that could go, a path a line."""
    paths = could_go(groups, kind)
    lines = [path for path in paths if b"\n" not in path]
    if lines:
        st.download_button(
            f"List of {counted(len(lines), 'file', 'files')} that could go",
            b"".join(path + b"\n" for path in lines),
            "could-go.txt",
            "text/plain",
            on_click="ignore",
            help="Paths, one a line: all but the first of each group. Nothing is deleted.",
        )
    if len(lines) < len(paths):
        n_left = counted(len(paths) - len(lines), "file has", "files have")
        st.html(f'<span class="al-quiet">{n_left} a line break in the name and cannot be in the list.</span>')


library = library_or_stop()
with errors_shown():
    groups = groups_of(library, library.uri, library.revision, library.not_duplicates())
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
show_take_back(library)
if not groups:
    st.html(empty_state("No duplicates", "No file of this library is there twice, or nearly."))
    st.stop()
st.html('<span class="al-quiet">The largest file of each group comes first. Nothing is deleted here.</span>')
only = chosen_kind(st.query_params.get("kind"))
show_kinds(groups, only)
kept = [group for group in groups if only in (None, group.kind)]
if kept:
    show_export(kept, only)
    show_page(library, kept, only)
elif only is not None:
    st.html(empty_state(f"None of this kind: {MEANINGS[only][0].lower()}", MEANINGS[only][1]))
