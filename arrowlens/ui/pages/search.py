"""Search: a text or an example, and what is like it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import streamlit as st

from arrowlens.errors import ArrowlensError
from arrowlens.library import MEDIA_SUFFIXES, Library
from arrowlens.search import Hit, Results, printable
from arrowlens.search.results import Modality
from arrowlens.ui.look import counted, empty_state, heading, hit_caption, plain
from arrowlens.ui.session import library_or_stop

PAGE_SIZE = 24  # fills rows of 2, 3, 4, 6 and 8
MAX_PLAYER_BYTES = 64 << 20  # a player holds the whole recording in the server's memory
MIME_TYPES = {"mp3": "audio/mpeg", "ogg": "audio/ogg", "opus": "audio/ogg", "flac": "audio/flac", "wav": "audio/wav"}
KINDS: dict[str, Modality | None] = {"All": None, "Pictures": "image", "Sounds": "audio"}


def ask(library: Library) -> Results | None:
    """The widgets of the query, and its results; None while nothing is asked."""
    words, example = st.columns([3, 2], vertical_alignment="top")
    upload = example.file_uploader(
        "Search with a picture or a sound", type=[suffix.lstrip(".") for suffix in MEDIA_SUFFIXES]
    )
    text = words.text_input("Search by words", placeholder="a red bicycle", disabled=upload is not None, key="words")
    kind = None
    if library.text_reaches_audio and upload is None:
        kind = KINDS[words.segmented_control("Kind", list(KINDS), default="All", label_visibility="collapsed") or "All"]
    query = (upload.file_id if upload else text, kind)
    if st.session_state.get("query") != query:
        st.session_state.update(query=query, shown=PAGE_SIZE)
    k = st.session_state.shown + 1  # one more tells whether there are more
    if upload is not None:
        return library.search_by_upload(upload.getvalue(), name=upload.name, k=k)
    return library.search(text, k=k, modality=kind) if text.strip() else None


def show(library: Library, results: Results) -> None:
    """Pictures as a grid, recordings as players, each best first; then a button for more."""
    shown = results[: st.session_state.shown]
    pictures = [hit for hit in shown if hit.modality == "image"]
    sounds = [hit for hit in shown if hit.modality == "audio"]
    told = f"{counted(len(shown), 'result', 'results')} in {results.took_ms:.0f} ms"
    if results.matches is False:
        told += ". Nothing here really matches; these are the nearest there are."
    st.html(f'<span class="al-quiet">{told}</span>')
    show_pictures(library, pictures)
    show_sounds(library, sounds)
    if len(results) > len(shown) and st.button("More results"):
        st.session_state.shown += PAGE_SIZE
        st.rerun()


def show_pictures(library: Library, hits: Sequence[Hit]) -> None:
    """A grid of stored thumbnails; originals are not read."""
    if not hits:
        return
    thumbnails = library.thumbnails(hits)
    with st.container(key="pictures"):
        for hit in hits:
            with st.container(key=f"hit-{hit.media_id}", gap="xsmall"):
                if hit.media_id in thumbnails:
                    st.image(thumbnails[hit.media_id], width="stretch", alt=printable(hit.path.name))
                st.html(hit_caption(hit))


def show_sounds(library: Library, hits: Sequence[Hit]) -> None:
    """Players that start where the query was heard."""
    if not hits:
        return
    with st.container(key="sounds"):
        for hit in hits:
            with st.container(key=f"hit-{hit.media_id}", gap="xsmall"):
                show_player(library, hit)
                st.html(hit_caption(hit))


def show_player(library: Library, hit: Hit) -> None:
    """One recording, read by its id; why not, where it cannot be played."""
    try:
        recording = library.original(hit.media_id, max_bytes=MAX_PLAYER_BYTES)
    except ArrowlensError as error:
        st.warning(plain(str(error)))
        return
    st.audio(recording, format=MIME_TYPES.get(hit.format or "", "audio/wav"), start_time=int(hit.start or 0))


def show_empty_library(library: Library) -> None:
    """What to do before anything can be found."""
    st.html(
        empty_state(
            "This library is empty",
            f"Fill it with: arrowlens ingest FOLDER --library {shlex.quote(printable(str(library.path)))}",
        )
    )


library = library_or_stop()
status = library.status()
st.html(
    heading(
        "Arrowlens",
        f"{counted(status.images, 'picture', 'pictures')} · {counted(status.audio, 'recording', 'recordings')}",
    )
)
try:
    results = ask(library)
except ArrowlensError as error:
    st.error(plain(str(error)))
else:
    if results:
        show(library, results)
    elif not status.images + status.audio:
        show_empty_library(library)
    elif results is not None:
        st.html(empty_state("Nothing of that kind here", "Other words, or another kind, may find something."))
