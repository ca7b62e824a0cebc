"""Arrowlens finds pictures and recordings by meaning, on your own machine.

>>> from arrowlens import Library
>>> library = Library.open("photos.lens", models="demo")  # doctest: +SKIP

The public names load on first use: importing ``arrowlens`` imports neither torch nor lancedb.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from arrowlens import errors
from arrowlens.errors import ArrowlensError

if TYPE_CHECKING:
    from arrowlens.ingest import IngestReport
    from arrowlens.library import Library
    from arrowlens.search import Hit, Results

__version__ = "0.1.0"
__all__ = ["ArrowlensError", "Hit", "IngestReport", "Library", "Results", "__version__", "errors"]

_NAMES = {
    "ingest": ["IngestReport"],
    "library": ["Library"],
    "search": ["Hit", "Results"],
}
__getattr__, _, _ = lazy_loader.attach(__name__, submod_attrs=_NAMES)


def __dir__() -> list[str]:
    return __all__
