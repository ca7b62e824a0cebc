"""The one library that all sessions of this server share."""

from __future__ import annotations

import os

import streamlit as st

from arrowlens.errors import ArrowlensError
from arrowlens.library import Library
from arrowlens.ui.look import plain

LIBRARY_VARIABLE = "ARROWLENS_LIBRARY"
DEVICE_VARIABLE = "ARROWLENS_DEVICE"
PRECISION_VARIABLE = "ARROWLENS_PRECISION"


def library_or_stop() -> Library:
    """The library that the server was started for; without one the page says why and ends here."""
    try:
        return _open(
            os.environ.get(LIBRARY_VARIABLE) or ".arrowlens",
            os.environ.get(DEVICE_VARIABLE) or None,
            os.environ.get(PRECISION_VARIABLE) or "auto",
        )
    except ArrowlensError as error:
        st.error(plain(str(error)))
        st.stop()


@st.cache_resource(show_spinner="Opening the library…", max_entries=4)
def _open(path: str, device: str | None, precision: str) -> Library:
    return Library.open(path, device=device, precision=precision)
