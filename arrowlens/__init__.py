"""Arrowlens finds pictures and recordings by meaning, on your own machine.

>>> from arrowlens import Library
>>> library = Library.open("photos.lens", models="demo")  # doctest: +SKIP

The public names load on first use: importing ``arrowlens`` imports neither torch nor lancedb.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from arrowlens import errors
from arrowlens.errors import ArrowlensError

if TYPE_CHECKING:
    from arrowlens.ingest import IngestReport
    from arrowlens.library import Library
    from arrowlens.search import Hit, Results

__version__ = "0.1.0"
__all__ = ["ArrowlensError", "Hit", "IngestReport", "Library", "Results", "__version__", "errors"]

_HOMES = {
    "Hit": "arrowlens.search",
    "IngestReport": "arrowlens.ingest",
    "Library": "arrowlens.library",
    "Results": "arrowlens.search",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'arrowlens' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
