"""The one library that all sessions and routes of this server share, and how its errors are shown."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING

import streamlit as st

from arrowlens.addresses import absolute
from arrowlens.errors import ArrowlensError, LibraryNotFoundError
from arrowlens.library import Library
from arrowlens.ui.html import plain

if TYPE_CHECKING:
    from arrowlens.conversion import OnProgress

LIBRARY_VARIABLE = "ARROWLENS_LIBRARY"
OPTIONS_VARIABLE = "ARROWLENS_STORAGE_OPTIONS"  # as JSON; holds credentials
NO_REPLICA_VARIABLE = "ARROWLENS_NO_REPLICA"
DEVICE_VARIABLE = "ARROWLENS_DEVICE"
PRECISION_VARIABLE = "ARROWLENS_PRECISION"
OPEN_VARIABLE = "ARROWLENS_OPEN_TO_ALL"
SIGNED_IN_VARIABLE = "ARROWLENS_SIGNED_IN"

_opening = threading.Lock()  # so that two first requests do not both load the models


def library_or_stop() -> Library:
    """Return the shared library; where it cannot be opened, show why and stop the page."""
    with errors_shown():
        return shared_library()


@contextmanager
def errors_shown() -> Generator[None]:
    """Show an error that is raised within as one line, and stop the page."""
    try:
        yield
    except ArrowlensError as error:
        st.error(plain(str(error)))
        st.stop()


def shared_library() -> Library:
    """Return the library that the server was started for, opened once. Thread-safe.

    Raises:
        ArrowlensError: as ``Library.open``.
    """
    with _opening:
        return _open(
            os.environ.get(LIBRARY_VARIABLE) or ".arrowlens",
            os.environ.get(DEVICE_VARIABLE) or None,
            os.environ.get(PRECISION_VARIABLE) or "auto",
            os.environ.get(OPTIONS_VARIABLE) or "{}",
            not os.environ.get(NO_REPLICA_VARIABLE),
        )


def library_address() -> str:
    """Return where the library lies that the server was started for: an absolute path, or an address in a bucket."""
    return absolute(os.environ.get(LIBRARY_VARIABLE) or ".arrowlens")


def is_library_missing() -> bool:
    """Return whether there is no library yet where the server was started for one."""
    try:
        shared_library()
    except LibraryNotFoundError:
        return True
    except ArrowlensError:
        return False  # the page shows it
    return False


def create_library(models: str, on_progress: OnProgress) -> Library:
    """Make the library that the server was started for, where there is none, and return the shared one.

    Args:
        models: as for ``Library.open``.
        on_progress: called with each step of downloading and converting models.

    Raises:
        ArrowlensError: as ``Library.open``.
    """
    options = json.loads(os.environ.get(OPTIONS_VARIABLE) or "{}")
    Library.open(library_address(), models, create=True, on_progress=on_progress, storage_options=options).close()
    return shared_library()


def close_library() -> None:
    """Close the library, if it was opened."""
    with suppress(ArrowlensError):
        if _open.cache_info().currsize:
            shared_library().close()


def is_signed_in() -> bool:
    """Return whether visitors sign in with a password, and can sign out."""
    return bool(os.environ.get(SIGNED_IN_VARIABLE))


def may_ingest() -> bool:
    """Return whether visitors may add folders of this machine: not where the network gets in without a password."""
    return not os.environ.get(OPEN_VARIABLE)


@lru_cache(maxsize=4)
def _open(path: str, device: str | None, precision: str, storage_options: str, replica: bool) -> Library:
    options = json.loads(storage_options)
    return Library.open(
        path, device=device, precision=precision, isolate_decoding=True, storage_options=options, replica=replica
    )
