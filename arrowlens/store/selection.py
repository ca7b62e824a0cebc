"""Files that satisfy conditions, and how the nearest of them are found: all of them, however few they are.

Vector tables lack the columns of conditions. One scan of ``media`` selects the files. If they are few, only their
vectors are compared; if they are many, the nearest rows are fetched until enough of them are selected.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa

from arrowlens.store.filters import Condition, columns_of, equals, expression, holds, is_among, is_compared_later
from arrowlens.store.identifiers import INDEXED
from arrowlens.store.ranking import first_limit, is_live

if TYPE_CHECKING:
    from lancedb.expr import Expr
    from lancedb.table import LanceTable

EXACT = 2_000  # selected files up to which all their vectors are compared, without an index
# Fetching one nearest row costs as much as selecting this many files by their ids (measured, 100,000 x 512).
_FILES_A_ROW = 16
KEYS = pa.schema([pa.field("media_id", pa.string()), pa.field("content_hash", pa.string())])


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """The searchable files that satisfy conditions.

    Attributes:
        files: ``media_id, content_hash``, ordered by id.
        n_files: all files in the library.
    """

    files: pa.Table
    n_files: int

    def __len__(self) -> int:
        return int(self.files.num_rows)

    @classmethod
    def of_all(cls, shards: Sequence[Self]) -> Self:
        """Return the selection from a library by those from its shards."""
        if len(shards) == 1:
            return shards[0]
        if not shards:
            return cls(pa.Table.from_batches([], schema=KEYS), 0)  # ``empty_table`` would import pandas
        files = pa.concat_tables([shard.files.cast(KEYS) for shard in shards]).sort_by("media_id")
        return cls(files, sum(shard.n_files for shard in shards))

    def holds(self, rows: pa.Table) -> np.ndarray:
        """Return which vector rows (media_id, content_hash) are of selected files, (n,) bool."""
        return is_live(rows["media_id"], rows["content_hash"], self.files)


@dataclasses.dataclass(frozen=True, slots=True)
class FetchPlan:
    """How the rows of a vector table are fetched.

    Attributes:
        limit: rows of the first fetch.
        where: condition for rows; None for all rows.
        exact: compare all vectors, without an index.
    """

    limit: int
    where: Expr | None = None
    exact: bool = False

    def kept_to(self, modality: str) -> FetchPlan:
        """Return the same plan for files of one modality."""
        where = equals("modality", modality)
        return dataclasses.replace(self, where=where if self.where is None else self.where & where)

    @classmethod
    def at(cls, source: str, k: int, among: Selection | None) -> FetchPlan:
        """Return the plan for ``k`` files among all or selected ones; ``source`` is the column of the media id."""
        limit, where, exact = first_limit(k), None, False
        if among is not None:
            limit_among_all = limit * among.n_files // max(1, len(among))
            if len(among) <= _FILES_A_ROW * limit_among_all:
                where, exact = is_among(source, among.files["media_id"].to_pylist()), len(among) <= EXACT
            else:
                limit = limit_among_all
        return cls(limit, where, exact)


def select(table: LanceTable, conditions: Sequence[Condition]) -> Selection:
    """Return the searchable files of ``media`` that satisfy all conditions, as ``store.filters`` explains them."""
    held = set(table.schema.names)
    n_files = table.count_rows()
    here = [condition for condition in conditions if held.issuperset(columns_of([condition]))]
    missing = [condition for condition in conditions if condition not in here]  # null in a table of an earlier layout
    if not all(op in ("!=", "without") for _, op, _ in missing):
        return Selection(pa.Table.from_batches([], schema=KEYS), n_files)  # ``empty_table`` would import pandas
    wanted, later = expression(here), [condition for condition in here if is_compared_later(condition)]
    where = equals("state", INDEXED) if wanted is None else equals("state", INDEXED) & wanted
    rows = table.search().where(where).select([*KEYS.names, *columns_of(later)]).limit(None).to_arrow()
    for condition in later:
        rows = rows.filter(pa.array(holds(rows, condition)))
    return Selection(rows.select(KEYS.names).sort_by("media_id"), n_files)
