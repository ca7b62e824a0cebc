"""From nearest rows to best files: exact scores, one row for each file, one file for equal content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.store.loops import look_deeper
from arrowlens.store.vectors import embedding_matrix

DISTANCE = "_distance"
# Largest error of LanceDB's distance: kernels differ by processor, and some sum in float16.
SLACK = 2e-3
GROWTH = 4  # of the limit of rows, when it was not enough
_FEW = 10_000  # rows that may be asked for without counting them

RESULT_SCHEMA = pa.schema(
    [
        pa.field("media_id", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("start", pa.float64()),
        pa.field("end", pa.float64()),
        pa.field("content_hash", pa.string()),
    ]
)


def best_files(
    fetch: Callable[[int], pa.Table],
    n_rows: Callable[[], int],
    alive: Callable[[pa.Table], np.ndarray],
    query: np.ndarray,
    k: int,
    limit: int | None = None,
    few_alive: bool = False,
    with_vectors: bool = False,
) -> pa.Table:
    """The ``k`` best files in ``RESULT_SCHEMA``, best first, equal scores by id.

    Windows, copies and rows of deleted files take places among the nearest rows. So rows are fetched until there are
    ``k`` files and no row beyond can score as high as the last of them, or until there are no more rows.

    Args:
        fetch: a limit -> the nearest rows: media_id, content_hash, start, end, embedding, _distance (cosine).
        n_rows: counts the rows that there are.
        alive: some of those rows -> (n,) bool, whether the row's file is searchable with that content.
        query: (d,) float32 of length one.
        k: number of files, at least 1.
        limit: of the first fetch.
        few_alive: check all rows at once instead of only those among the best.
        with_vectors: add the column ``embedding``, as stored, and ``embedding_id`` where ``fetch`` gives it.
    """

    def read(rows: pa.Table, is_whole: bool) -> pa.Table | None:
        if few_alive:
            living = rows.filter(pa.array(alive(rows)))
            best = _best_alive(living, lambda rest: np.ones(rest.num_rows, dtype=bool), query, k)
        else:
            best = _best_alive(rows, alive, query, k)
        best = best if with_vectors else best.select(RESULT_SCHEMA.names)
        nearest_unseen = 1.0 - (pc.max(rows[DISTANCE]).as_py() or 0.0) + SLACK
        is_enough = best.num_rows == k and best["score"][k - 1].as_py() > nearest_unseen
        return best if is_whole or is_enough else None

    return look_deeper(at_most(n_rows, fetch), read, limit or first_limit(k), GROWTH)


def nearest_of_all(shards: Sequence[pa.Table], limit: int) -> pa.Table:
    """Return the ``limit`` nearest of the rows that shards gave, each its nearest, with ``_distance``.

    Args:
        shards: at least one; at most ``limit`` rows of each.
        limit: number of rows.
    """
    if len(shards) == 1:
        return shards[0]
    rows = pa.concat_tables(shards, promote_options="default")  # those from memory may be null by their schema
    nearest = pc.sort_indices(rows[DISTANCE])[:limit]
    return rows.take(nearest)


def in_turns(shards: Sequence[pa.Table], key: str, first: str | None = None) -> pa.Table:
    """Return the rows of rankings whose scores cannot be compared, by their ranks: the first of each, then the second.

    Args:
        shards: of each its ranking, at least one.
        key: column by which rows of one rank are put in order.
        first: boolean column; rows where it is true come before all others.
    """
    rows = pa.concat_tables(shards)
    ranks = pa.array(np.concatenate([np.arange(len(shard)) for shard in shards]))
    keys: list[tuple[str, Literal["ascending", "descending"]]] = [("_rank", "ascending"), (key, "ascending")]
    keys = [(first, "descending"), *keys] if first is not None else keys
    return rows.take(pc.sort_indices(rows.append_column("_rank", ranks), sort_keys=keys))


def at_most(n_rows: Callable[[], int], fetch: Callable[[int], pa.Table]) -> Callable[[int], tuple[pa.Table, bool]]:
    """Return ``fetch`` for ``look_deeper``, never with a much larger limit than there are rows.

    LanceDB allocates memory for as many rows as a limit says, and ten times that to refine. Rows that are added after
    the counting may push out others: then the limit is reached, and the next fetch counts again.

    Args:
        n_rows: counts the rows that there are.
        fetch: a limit -> at most so many rows, the best.
    """

    def fetch_capped(limit: int) -> tuple[pa.Table, bool]:
        cap = limit if limit <= _FEW else min(limit, n_rows() + 1)
        rows = fetch(cap)
        return rows, rows.num_rows < cap

    return fetch_capped


def first_limit(k: int) -> int:
    """Return the rows to fetch for ``k`` files: some more, for copies and windows, but each takes time."""
    return 2 * k + 12


def is_live(media_ids: pa.ChunkedArray, content_hashes: pa.ChunkedArray, media: pa.Table) -> np.ndarray:
    """Return which pairs of id and content are among the rows of ``media``, (n,) bool."""
    pairs = pc.binary_join_element_wise(media_ids, content_hashes, "-")
    known = pc.binary_join_element_wise(media["media_id"], media["content_hash"], "-")
    live: np.ndarray = pc.is_in(pairs, value_set=known.combine_chunks()).to_numpy(zero_copy_only=False)
    return live


def exact_scores(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Return the cosines of (n, d) and (d,), (n,) float32.

    They are summed in float64 row by row and rounded once, so that equal vectors have equal scores in any batch.
    """
    wide = vectors.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(axis=1))
    scores: np.ndarray = ((wide * query.astype(np.float64)).sum(axis=1) / lengths).astype(np.float32)
    return scores


def _best_alive(rows: pa.Table, alive: Callable[[pa.Table], np.ndarray], query: np.ndarray, k: int) -> pa.Table:
    """The best row of each file, the first file of each content, at most ``k``, with ``embedding``.

    Only these candidates are checked: nearly all are alive, and each check is a look-up in ``media``. The loop replaces
    candidates that are not; it ends, because each round checks rows that were not checked before.
    """
    scores = exact_scores(embedding_matrix(rows["embedding"]), query)
    ids, starts = rows["media_id"].to_pylist(), rows["start"].to_pylist()
    order = sorted(range(len(ids)), key=lambda row: (-scores[row], ids[row], starts[row] or 0.0))
    contents = rows["content_hash"].to_pylist()
    known: dict[int, bool] = {}
    while True:
        chosen: dict[str, int] = {}  # a file has one content: one row a content leaves one row a file
        for row in order:
            if known.get(row, True) and len(chosen) < k:
                chosen.setdefault(contents[row], row)
        unchecked = [row for row in chosen.values() if row not in known]
        if not unchecked:
            break
        known.update(zip(unchecked, alive(rows.take(pa.array(unchecked, pa.int64()))).tolist(), strict=True))
    best = list(chosen.values())
    table = rows.take(pa.array(best, pa.int64()))
    columns = [table[name] for name in ("media_id", "start", "end", "content_hash")]
    columns.insert(1, pa.array(scores[best], pa.float32()))
    result = pa.table(columns, schema=RESULT_SCHEMA)
    for name in ("embedding", "embedding_id"):
        if name in table.column_names:
            result = result.append_column(name, table[name])
    return result
