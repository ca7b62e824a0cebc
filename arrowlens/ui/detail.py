"""One file, large: what it shows or sounds like, what is known of it, where it lies, and where to go from it."""

from __future__ import annotations

import streamlit as st

from arrowlens.library import Library
from arrowlens.search import Hit, printable
from arrowlens.ui.cards import Refine, hit_body
from arrowlens.ui.html import about, download_link, large_picture, plain, relevance_bar
from arrowlens.ui.media import original_url, thumbnail_url

SHOWN_BY_BROWSERS = ("jpeg", "png", "webp", "gif", "bmp", "avif")


def show_large(library: Library, hit: Hit, refine: Refine | None = None) -> None:
    """A dialog over the page; the original is loaded for it alone."""
    st.dialog(plain(hit.path.name), width="large")(_contents)(library, hit, refine)


def _contents(library: Library, hit: Hit, refine: Refine | None) -> None:
    if hit.modality == "audio":
        st.html(hit_body(hit))
    elif hit.format in SHOWN_BY_BROWSERS:
        st.html(large_picture(hit, original_url(hit.media_id)))
    else:
        st.html(large_picture(hit, thumbnail_url(hit)))
        st.caption(f"A small copy: browsers do not show {hit.format} files.")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.html(download_link(original_url(hit.media_id, download=True)), width="content")
        for role, label in (("like", "More like this"), ("unlike", "Less like this")) if refine is not None else ():
            if st.button(label, key=f"large-{role}") and refine is not None:
                refine("like" if role == "like" else "unlike", hit)
                st.rerun()
    st.html(relevance_bar(hit) + about(hit))
    places = library.paths(hit) or [hit.path]
    st.caption("Where it lies" if len(places) == 1 else f"The same content lies in {len(places)} places")
    st.code("\n".join(printable(str(place)) for place in places), language=None, wrap_lines=True)
