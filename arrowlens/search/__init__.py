"""A question in, results out.

``Searcher`` asks the store with a provider's vectors; ``Hit`` and ``Results`` are what comes back; ``printable`` makes
a file's name safe to show.
"""

from __future__ import annotations

from arrowlens.search.display import printable
from arrowlens.search.results import Hit, Results, result_schema
from arrowlens.search.searcher import Searcher

__all__ = ["Hit", "Results", "Searcher", "printable", "result_schema"]
