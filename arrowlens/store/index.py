"""When a vector table gets an index, and how it is asked."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from lancedb.expr import Expr
    from lancedb.table import LanceTable

# Below this an exact scan answers in well under 100 ms on two cores.
MIN_ROWS = 50_000
ROWS_A_PARTITION = 4_096
REFINE = 10  # candidates a result whose full vectors are compared: IVF_RQ's own distances are coarse
MIN_PROBES = 20
MAX_DELTAS = 4
_MAX_UNINDEXED = 0.2


@dataclasses.dataclass(frozen=True, slots=True)
class IndexState:
    """How a table is stored.

    Attributes:
        n_rows: rows. n_fragments: files that a scan visits.
        kind: type of the vector index, None for an exact scan. n_unindexed: rows that it does not cover yet.
    """

    n_rows: int
    n_fragments: int
    kind: str | None = None
    n_unindexed: int = 0


def nearest(
    table: LanceTable, query: np.ndarray, limit: int, columns: list[str], where: Expr | None = None, exact: bool = False
) -> pa.Table:
    """The ``limit`` rows nearest by cosine, with ``_distance``: exact without an index or if asked, else refined."""
    search = table.search(query, vector_column_name="embedding").distance_type("cosine")
    search = search.minimum_nprobes(MIN_PROBES).maximum_nprobes(0)  # 0: as many as it takes to fill the limit
    if where is not None:
        search = search.where(where)  # lancedb filters before it looks for neighbours
    if exact:
        search = search.bypass_vector_index()
    return search.refine_factor(REFINE).select([*columns, "_distance"]).limit(limit).to_arrow()


def index_state(table: LanceTable) -> IndexState:
    """What there is, without changing it."""
    stats: Any = table.stats()  # a dict, whatever lancedb's annotation says
    n_rows, n_fragments = stats["num_rows"], stats["fragment_stats"]["num_fragments"]
    name = _index_name(table)
    index = table.index_stats(name) if name else None
    if index is None:
        return IndexState(n_rows, n_fragments)
    return IndexState(n_rows, n_fragments, index.index_type, index.num_unindexed_rows)


def keep_index(table: LanceTable) -> None:
    """Build the vector index where the table has become large, and rebuild it where too much lies beside it."""
    n_rows = table.count_rows()
    if n_rows < MIN_ROWS:
        return
    name = _index_name(table)
    stats = table.index_stats(name) if name is not None else None
    if stats is not None:
        deltas = stats.num_indices or 1
        if stats.num_unindexed_rows <= _MAX_UNINDEXED * n_rows and deltas <= MAX_DELTAS:
            return
    from lancedb.index import IvfRq

    table.create_index(
        "embedding",
        config=IvfRq(distance_type="cosine", num_partitions=max(1, n_rows // ROWS_A_PARTITION)),
        replace=True,
    )


def _index_name(table: LanceTable) -> str | None:
    return next((index.name for index in table.list_indices() if "embedding" in index.columns), None)
