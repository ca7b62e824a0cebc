"""Files that satisfy conditions, and how the nearest among them are found: however few they are, none is missed.

Vector tables do not hold what conditions are about. One scan of ``media`` selects the files; then either the vectors
of just these are compared, or, when they are many, rows are fetched nearest first until enough of them are selected.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from arrowlens.store.filters import Condition, columns_of, equals, expression, holds, is_among, is_compared_later
from arrowlens.store.ranking import first_limit, is_live
from arrowlens.store.schema import INDEXED

if TYPE_CHECKING:
    from lancedb.expr import Expr
    from lancedb.table import LanceTable

EXACT = 2_000  # selected files whose vectors are all compared, past any index
# Fetching a row by nearness costs as much as selecting so many files by their ids (measured, 100,000 x 512).
_FILES_A_ROW = 16
KEYS = pa.schema([pa.field("media_id", pa.string()), pa.field("content_hash", pa.string())])


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """The searchable files that satisfy conditions.

    Attributes:
        files: ``media_id, content_hash``, ordered by id.
        n_files: files in the library, selected or not.
        version: of ``media`` that was asked.
    """

    files: pa.Table
    n_files: int
    version: int = 0

    def __len__(self) -> int:
        return int(self.files.num_rows)

    def holds(self, rows: pa.Table) -> np.ndarray:
        """Which vector rows (media_id, content_hash) are of selected files, (n,) bool."""
        return is_live(rows["media_id"], rows["content_hash"], self.files)


@dataclasses.dataclass(frozen=True, slots=True)
class FetchPlan:
    """How the rows of a vector table are fetched.

    Attributes:
        limit: rows of the first fetch.
        where: keeps rows; None keeps all. exact: past any index.
    """

    limit: int
    where: Expr | None = None
    exact: bool = False

    def kept_to(self, modality: str) -> FetchPlan:
        """The same for one kind of files."""
        kind = equals("modality", modality)
        return dataclasses.replace(self, where=kind if self.where is None else self.where & kind)

    @classmethod
    def at(cls, source: str, k: int, among: Selection | None) -> FetchPlan:
        """For ``k`` files among all or selected ones; ``source`` is the column with the media's id."""
        limit, where, exact = first_limit(k), None, False
        if among is not None:
            limit_among_all = limit * among.n_files // max(1, len(among))
            if len(among) <= _FILES_A_ROW * limit_among_all:
                where, exact = is_among(source, among.files["media_id"].to_pylist()), len(among) <= EXACT
            else:
                limit = limit_among_all
        return cls(limit, where, exact)


NOTHING = Selection(KEYS.empty_table(), 0)


def select(table: LanceTable, conditions: Sequence[Condition]) -> Selection:
    """Return the searchable files of ``media`` that satisfy all conditions, as ``store.filters`` explains them."""
    held = set(table.schema.names)
    version, n_files = int(table.version), table.count_rows()  # before the rows: a write in between outdates them
    here = [condition for condition in conditions if held.issuperset(columns_of([condition]))]
    missing = [condition for condition in conditions if condition not in here]  # null in a table of an earlier layout
    if not all(op in ("!=", "without") for _, op, _ in missing):
        return dataclasses.replace(NOTHING, n_files=n_files, version=version)
    wanted, later = expression(here), [condition for condition in here if is_compared_later(condition)]
    where = equals("state", INDEXED) if wanted is None else equals("state", INDEXED) & wanted
    rows = table.search().where(where).select([*KEYS.names, *columns_of(later)]).limit(None).to_arrow()
    for condition in later:
        rows = rows.filter(pa.array(holds(rows, condition)))
    return Selection(rows.select(KEYS.names).sort_by("media_id"), n_files, version)
