"""When a vector table is indexed, and how it is searched. docs/performance.md has the figures behind the constants."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from lancedb.expr import Expr
    from lancedb.table import LanceTable

VECTORS = "embedding"  # the column
KEYS = ("media_id", "content_hash")  # columns of many values that rows are looked up by
CLASSES = ("state", "modality")  # columns of few values that rows are filtered by
# Below 12,000 rows an exact scan is faster than an index; up to here it is fast enough, and it misses nothing.
MIN_ROWS = 20_000
ROWS_A_PARTITION = 8_192
# Candidates for each result, compared by their full vectors, since distances of IVF_RQ are coarse. An index is named by
# its kind; those of earlier versions, whose codes have half the bits, have the name that LanceDB gives.
INDEX_NAME, REFINE, REFINE_OTHERS = "embedding_rq_1024", 2, 10
MIN_PROBES = 20  # partitions; the neighbours of a text are spread over more of them than those of a picture
MAX_PARTS = 4  # each extension adds one, and every query visits them all
_UNINDEXED_MEANWHILE = 0.04  # of the rows, during a run: an index over a million takes a minute to build
_MIN_CODE = 1024  # bits of a quantised vector
_BITS = (2, 4, 8)  # for each dimension; with one bit, ten candidates had to be read for each result
# Of k-means, which otherwise takes most of the time.
_TRAINING_ROUNDS = 10
_TRAINING_ROWS = 128  # a partition


@dataclasses.dataclass(frozen=True, slots=True)
class IndexState:
    """How a table is stored.

    Attributes:
        n_rows: number of rows.
        n_fragments: files that a scan visits.
        kind: type of the vector index, None for an exact scan.
        n_unindexed: rows that the index does not cover yet.
    """

    n_rows: int
    n_fragments: int
    kind: str | None = None
    n_unindexed: int = 0

    @classmethod
    def of_all(cls, shards: Sequence[Self]) -> Self:
        """Return the state of a table from those of its shards; what a shard without an index holds is not indexed."""
        kinds = [shard.kind for shard in shards if shard.kind is not None]
        n_rows, n_fragments = (sum(getattr(shard, name) for shard in shards) for name in ("n_rows", "n_fragments"))
        if not kinds:
            return cls(n_rows, n_fragments)
        n_unindexed = sum(shard.n_rows if shard.kind is None else shard.n_unindexed for shard in shards)
        return cls(n_rows, n_fragments, kinds[0], n_unindexed)


def nearest(
    table: LanceTable, query: np.ndarray, limit: int, columns: list[str], where: Expr | None = None, exact: bool = False
) -> pa.Table:
    """Return the ``limit`` rows nearest by cosine, with ``_distance``.

    ``exact`` compares all rows; otherwise the index, where there is one, gives candidates that are compared exactly.
    """
    # Without refining, distances are quantised.
    search = _search(table, query, where).refine_factor(candidates_a_row(table))
    if exact:
        search = search.bypass_vector_index()
    search = search.select([*columns, "_distance"])
    return search.limit(limit).to_arrow()


def candidates(table: LanceTable, query: np.ndarray, n: int, where: Expr | None = None) -> np.ndarray:
    """Return the row ids of the ``n`` nearest rows by the index's own, coarse distances: (n or fewer,) uint64.

    They are those of one version of the table. No row is read for that.
    """
    rows = _search(table, query, where).select(["_distance"]).with_row_id(True).limit(n).to_arrow()
    ids: np.ndarray = rows["_rowid"].to_numpy()
    return ids


def candidates_a_row(table: LanceTable) -> int:
    """Return how many candidates are compared exactly for each row that is wanted."""
    return REFINE if _index_name(table) == INDEX_NAME else REFINE_OTHERS


def is_index_used(table: LanceTable, query: np.ndarray) -> bool:
    """Return whether a search like that of ``nearest`` uses the index; LanceDB falls back to a scan silently."""
    return "ANN" in _search(table, query).limit(1).explain_plan()


def index_state(table: LanceTable) -> IndexState:
    """Return how a table is stored."""
    stats: Any = table.stats()  # a dict, whatever lancedb's annotation says
    n_rows, n_fragments = stats["num_rows"], stats["fragment_stats"]["num_fragments"]
    name = _index_name(table)
    index = table.index_stats(name) if name else None
    if index is None:
        return IndexState(n_rows, n_fragments)
    return IndexState(n_rows, n_fragments, index.index_type, index.num_unindexed_rows)


def max_unindexed(min_rows: int) -> int:
    """Return how many rows may be outside an index; each of them is compared with every query."""
    return min_rows // 4


def index_due(
    table: LanceTable, min_rows: int, *, during_run: bool = False
) -> Literal["build", "extend", "drop"] | None:
    """Return what ``keep_index`` would do, None for nothing."""
    n_rows, name = table.count_rows(), _index_name(table)
    if n_rows < min_rows:
        return "drop" if name is not None and n_rows < min_rows // 2 else None
    stats = table.index_stats(name) if name is not None else None
    if stats is None:
        return "build"
    # Partitions that were trained on a much smaller table are too few, and have the wrong centres.
    is_outgrown = stats.num_unindexed_rows > stats.num_indexed_rows // 2
    if is_outgrown or (stats.num_indices or 1) > MAX_PARTS:
        return "build"
    allowed = max(max_unindexed(min_rows), _UNINDEXED_MEANWHILE * n_rows * during_run)
    return "extend" if stats.num_unindexed_rows > allowed else None


def keep_index(table: LanceTable, min_rows: int = MIN_ROWS, *, rebuild: bool = False, during_run: bool = False) -> bool:
    """Build the index of a table that has become large, extend it to new rows, rebuild it when it is outgrown.

    Args:
        min_rows: rows from which on there is an index; it is dropped when less than half of them are left.
        rebuild: build it again in any case.
        during_run: more rows are to come, so do less.

    Returns:
        Whether something was done.
    """
    _drop_earlier(table)
    due = index_due(table, min_rows, during_run=during_run)
    if due == "drop":
        table.drop_index(str(_index_name(table)))
    elif due == "build" or (rebuild and table.count_rows() >= min_rows):
        _build(table)
    elif due == "extend":
        table.optimize()
    return due is not None or rebuild


def keep_lookups(table: LanceTable, min_rows: int = MIN_ROWS) -> bool:
    """Index the columns of a large table that rows are looked up by; return whether that was needed.

    Compaction extends the indexes.
    """
    if table.count_rows() < min_rows:
        return False
    from lancedb.index import Bitmap, BTree

    indexed = {column for index in table.list_indices() for column in index.columns}
    missing = [column for column in (*KEYS, *CLASSES) if column in table.schema.names and column not in indexed]
    for column in missing:
        table.create_index(column, config=BTree() if column in KEYS else Bitmap())
    return bool(missing)


def _build(table: LanceTable) -> None:
    from lancedb.index import IvfRq

    n_dimensions = table.schema.field(VECTORS).type.list_size
    config = IvfRq(
        distance_type="cosine",
        num_partitions=max(1, table.count_rows() // ROWS_A_PARTITION),
        num_bits=next(bits for bits in _BITS if bits * n_dimensions >= _MIN_CODE or bits == _BITS[-1]),
        max_iterations=_TRAINING_ROUNDS,
        sample_rate=_TRAINING_ROWS,
    )
    table.create_index(VECTORS, config=config, replace=True, name=INDEX_NAME)
    _drop_earlier(table)  # afterwards, so that there is always one


def _drop_earlier(table: LanceTable) -> None:
    """Drop the index of an earlier version beside today's; a run that was killed may have left it."""
    names = [index.name for index in table.list_indices() if VECTORS in index.columns]
    for name in names if INDEX_NAME in names else ():
        if name != INDEX_NAME:
            table.drop_index(name)


def _search(table: LanceTable, query: np.ndarray, where: Expr | None = None) -> Any:  # noqa: ANN401 - untyped
    # With another distance type than the index's, LanceDB would scan.
    search = table.search(query, vector_column_name=VECTORS).distance_type("cosine")
    search = search if where is None else search.where(where)  # lancedb filters before it looks for neighbours
    return search.minimum_nprobes(MIN_PROBES).maximum_nprobes(0)  # 0: as many as it takes to fill the limit


def _index_name(table: LanceTable) -> str | None:
    return next((index.name for index in table.list_indices() if VECTORS in index.columns), None)
