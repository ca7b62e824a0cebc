"""Model sets to choose from, and what the page offers where there is no library yet: to make one."""

from __future__ import annotations

from functools import cache

import streamlit as st

from arrowlens.errors import ArrowlensError
from arrowlens.library import DEFAULT_MODELS
from arrowlens.models import SET_ROLES, AvailableModel, available
from arrowlens.search import byte_size, printable
from arrowlens.ui.html import heading, plain
from arrowlens.ui.ingest_jobs import folder_of, making
from arrowlens.ui.session import create_library, is_library_missing, library_address

_PURPOSES = {
    "demo": "small, to try things out: drawings, sounds and everyday English words",
    "base": "pictures by English words, recordings by their sound",
    "standard": "pictures by words of many languages, recordings by English words",
    "fast": "as standard, with less work for each picture",
    "best": "as standard, with the best vectors for pictures, and much more work",
    "speech": "pictures by words of many languages, recordings by their sound",
}


@cache
def _available() -> tuple[AvailableModel, ...]:
    """Read once: models that come later are those of a run, after which sizes matter no more."""
    return tuple(available())


def set_text(name: str) -> str:
    """Return what a set of models is for, and how much it downloads, as "demo: small, ... (bundled)"."""
    models = [model for model in _available() if model.set_name == name]
    missing = [model for model in models if model.state == "downloadable"]
    state = "bundled" if name == "demo" else "on this machine"
    if missing:
        sizes = [model.n_bytes for model in missing]
        known = sum(size for size in sizes if size is not None)
        state = f"downloads {byte_size(known)}" if None not in sizes else "downloads some gigabytes, size unverified"
    return f"{name}: {_PURPOSES[name]} ({state})"


def choose_models(label: str, key: str) -> str:
    """Show the choice of a set of models; return its name."""
    names = list(SET_ROLES)
    return st.selectbox(label, names, index=names.index(DEFAULT_MODELS), format_func=set_text, key=key)


def offer_library() -> None:
    """Show a form that makes the library which the server was started for, or how far that is."""
    st.html(heading("Arrowlens", "pictures, recordings and films, found by what is in them"))
    place = st.empty()
    if making.is_going:
        is_begun = True
    else:
        with place.container():
            is_begun = _show_form()
    if is_begun:
        place.empty()
        st.fragment(_show_making, run_every=1.0)()


def _show_form() -> bool:
    """Show the form; return whether the library is being made by now."""
    st.subheader("Make a library", anchor=False)
    st.markdown(
        plain(
            f"There is none at {printable(library_address())} yet. It will hold what is needed to find your files "
            "again; the files themselves stay where they are."
        )
    )
    if making.error is not None:
        st.error(plain(making.error))
    with st.form("new-library", border=False):
        text = st.text_input("Folder of this server's disk to read", placeholder="/home/me/Pictures", key="new-folder")
        models = choose_models("Models", "new-models")
        is_asked = st.form_submit_button("Make the library", type="primary")
    if not is_asked:
        return False
    try:
        making.start(lambda on_progress: create_library(models, on_progress), folder_of(text))
    except ArrowlensError as error:
        st.error(plain(str(error)))
        return False
    return True


def _show_making() -> None:
    """Show how far it is, then the page Library, where its first run is; a fragment that reruns each second."""
    if making.is_going:
        st.html('<span class="al-quiet">Making the library; it goes on when this page is closed.</span>')
        st.progress(0, text=plain(making.step or "Loading the models…"))
    elif is_library_missing():
        st.rerun()
    else:
        st.switch_page("views/library.py")
