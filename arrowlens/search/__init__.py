"""A question in, results out.

``Searcher`` asks the store with a provider's vectors: a ``Query`` (a text, or several parts with weights) or an
``Example`` (a picture or a recording), and a ``View`` (how many results, from where on, which conditions files must
satisfy). ``Hit`` and ``Results`` are what comes back; ``grouping`` orders and groups them; ``printable`` makes a file's
name safe to show. ``relevance`` says what a score is worth. ``find_duplicates`` compares all files with one another;
``draw_map`` lays them out in a plane.
"""

from __future__ import annotations

from arrowlens.deprecation import with_renamed_names
from arrowlens.embedding import Example
from arrowlens.search.duplicates import (
    KINDS,
    DuplicateGroup,
    DuplicateKind,
    Duplicates,
    Member,
    complete_fingerprints,
    find_duplicates,
)
from arrowlens.search.grouping import Group, by_date, grouped
from arrowlens.search.projection import EmbeddingMap, Point, draw_map
from arrowlens.search.query import Mode, Query, View, as_tuple
from arrowlens.search.results import Hit, Results, result_schema
from arrowlens.search.sanitize import byte_size, printable
from arrowlens.search.searcher import Searcher
from arrowlens.search.where import FILTER_COLUMNS, Condition, parse

__all__ = [
    "FILTER_COLUMNS",
    "KINDS",
    "Condition",
    "DuplicateGroup",
    "DuplicateKind",
    "Duplicates",
    "EmbeddingMap",
    "Example",
    "Group",
    "Hit",
    "Member",
    "Mode",
    "Point",
    "Query",
    "Results",
    "Searcher",
    "View",
    "as_tuple",
    "by_date",
    "byte_size",
    "complete_fingerprints",
    "draw_map",
    "find_duplicates",
    "grouped",
    "parse",
    "printable",
    "result_schema",
]

_RENAMED = {"Atlas": "EmbeddingMap", "listed": "as_tuple"}
__getattr__ = with_renamed_names(__name__, _RENAMED)
