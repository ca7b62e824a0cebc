"""The one library that all sessions and routes of this server share."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import lru_cache

import streamlit as st

from arrowlens.errors import ArrowlensError
from arrowlens.library import Library
from arrowlens.ui.html import plain

LIBRARY_VARIABLE = "ARROWLENS_LIBRARY"
DEVICE_VARIABLE = "ARROWLENS_DEVICE"
PRECISION_VARIABLE = "ARROWLENS_PRECISION"
OPEN_VARIABLE = "ARROWLENS_OPEN_TO_ALL"
SIGNED_IN_VARIABLE = "ARROWLENS_SIGNED_IN"

_opening = threading.Lock()  # or two first requests would each load the models


def library_or_stop() -> Library:
    """The library that the server was started for; without one the page says why and ends here."""
    with errors_in_a_line():
        return shared_library()


@contextmanager
def errors_in_a_line() -> Generator[None]:
    """What fails within is said in a line, and the page ends there."""
    try:
        yield
    except ArrowlensError as error:
        st.error(plain(str(error)))
        st.stop()


def shared_library() -> Library:
    """The library that the server was started for, opened once; safe to call from any thread.

    Raises:
        ArrowlensError: as ``Library.open``.
    """
    with _opening:
        return _open(
            os.environ.get(LIBRARY_VARIABLE) or ".arrowlens",
            os.environ.get(DEVICE_VARIABLE) or None,
            os.environ.get(PRECISION_VARIABLE) or "auto",
        )


def close_library() -> None:
    """Let go of the library, if it was opened."""
    with suppress(ArrowlensError):
        if _open.cache_info().currsize:
            shared_library().close()


def is_signed_in() -> bool:
    """Whether visitors got in with a password, and can sign out."""
    return bool(os.environ.get(SIGNED_IN_VARIABLE))


def may_ingest() -> bool:
    """Whether visitors may add folders of this machine: not where everybody on the network gets in unasked."""
    return not os.environ.get(OPEN_VARIABLE)


@lru_cache(maxsize=4)
def _open(path: str, device: str | None, precision: str) -> Library:
    return Library.open(path, device=device, precision=precision, isolate_decoding=True)
