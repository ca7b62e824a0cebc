"""Small tables in memory, as they were at one version.

LanceDB takes about as long for a few rows of a small table as for all of them, and an exact scan through it ten times
as long as the product of a matrix and a vector (docs/performance.md). So tables below the size from which there is an
index are read whole, once for each version; each read looks whether there is a newer one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.store.filters import equals
from arrowlens.store.id_ranges import ALL_IDS, IdRange
from arrowlens.store.identifiers import INDEXED, MEDIA_TABLE
from arrowlens.store.ranking import DISTANCE
from arrowlens.store.records import media_schema, shown_columns
from arrowlens.store.tables import Tables
from arrowlens.store.vectors import embedding_array, embedding_matrix

if TYPE_CHECKING:
    from lancedb.expr import Expr
    from lancedb.table import LanceTable

_T = TypeVar("_T")
MAX_BYTES = 128 * 1024**2  # of a table that is held in memory
MAX_TABLES = 4
_MAX_RECENT = 400  # rows of a large table that are remembered between two look-ups
_MAX_SHOWN = 100  # ids of one look-up that may all be shown; of more only a few are, the first of them


class Snapshots(Generic[_T]):
    """What was made of small tables, until they change; safe to share between threads.

    Args:
        tables: the library's tables.
        max_rows: from which on a table is a large one.
        make: reads a table whole.
    """

    def __init__(self, tables: Tables, max_rows: int, make: Callable[[LanceTable], _T]) -> None:
        self._tables, self._max_rows, self._make = tables, max_rows, make
        self._held: dict[str, tuple[Hashable, _T | None]] = {}
        self._lock = threading.Lock()

    def of(self, name: str) -> _T | None:
        """Return what ``make`` gives of the newest version of a table; None for a large or a missing one.

        Raises:
            StorageError: the database refuses.
        """

        def ask(table: LanceTable) -> _T | None:
            return self._make(table) if table.count_rows() < self._max_rows else None

        state = self._tables.state(name)  # before the table: what is read may be newer, and is read again then
        with self._lock:  # threads that need the same table wait for the one that reads it
            held = self._held.pop(name, None)
            if held is None or held[0] != state:
                held = (state, self._tables.read(name, ask, None))
            self._held[name] = held  # the last one: what was not asked for longest goes first
            while len(self._held) > MAX_TABLES:
                del self._held[next(iter(self._held))]
            return held[1]

    def clear(self) -> None:
        """Let go of all memory."""
        with self._lock:
            self._held.clear()


class Latest(Generic[_T]):
    """What was last made of some tables, until they change; safe to share between threads."""

    def __init__(self) -> None:
        self._held: tuple[Hashable, _T] | None = None

    def get(self, version: Hashable, make: Callable[[], _T]) -> _T:
        """Return what ``make`` gives for a version, which was asked for before anything is read."""
        held = self._held  # another thread may replace it
        if held is None or held[0] != version:
            held = self._held = (version, make())
        return held[1]


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """All rows of a table of vectors.

    Attributes:
        rows: their other columns.
        matrix: (n, d) float32, as stored.
        lengths: (n,) float32; stored vectors are rounded, so that they are not quite of length one.
    """

    rows: pa.Table
    matrix: np.ndarray
    lengths: np.ndarray

    @classmethod
    def read(cls, table: LanceTable) -> Self | None:
        """Read a table; None where it takes more than ``MAX_BYTES``."""
        if 4 * table.count_rows() * table.schema.field("embedding").type.list_size > MAX_BYTES:
            return None
        columns = [name for name in table.schema.names if name not in {"model", "timestamp"}]
        rows = table.search().select(columns).limit(None).to_arrow()
        matrix = embedding_matrix(rows["embedding"])
        return cls(rows.drop_columns(["embedding"]), matrix, np.linalg.norm(matrix, axis=1))

    def nearest(self, query: np.ndarray, limit: int, kept: np.ndarray | None, columns: Sequence[str]) -> pa.Table:
        """Return the ``limit`` rows nearest by cosine, in no order, with ``_distance``.

        Args:
            query: (d,) float32 of length one.
            limit: number of rows.
            kept: (n,) bool, the rows to choose from; None for all.
            columns: of the result, ``embedding`` among them.
        """
        distances = 1.0 - self.matrix @ query / self.lengths
        places = np.arange(len(distances)) if kept is None else np.flatnonzero(kept)
        if limit < len(places):
            places = places[np.argpartition(distances[places], limit - 1)[:limit]]
        rows = self.rows.take(pa.array(places)).append_column("embedding", embedding_array(self.matrix[places]))
        return rows.select(list(columns)).append_column(DISTANCE, pa.array(distances[places], pa.float32()))


class MediaRows:
    """Rows of ``media``: of a small table from memory, of a large one by its index on ids.

    Each method raises StorageError when the database refuses.

    Args:
        tables: the library's tables.
        max_rows: from which on a table is a large one.
    """

    def __init__(self, tables: Tables, max_rows: int) -> None:
        self._tables = tables
        self._whole: Snapshots[pa.Table] = Snapshots(tables, max_rows, lambda _: self._read_all())
        self._recent: tuple[Hashable, pa.Table] | None = None  # of a large table
        self._shown = frozenset(shown_columns())

    def all(self, columns: Sequence[str], within: IdRange = ALL_IDS, by: str = "media_id") -> pa.Table:
        """Return the rows whose ``by`` is in a range, by default every row."""
        whole = self._whole.of(MEDIA_TABLE)
        if whole is None:
            return self._read(columns, within.expression(by))
        return within.rows(whole, by).select(list(columns))

    def having(self, column: str, values: Sequence[str], columns: Sequence[str]) -> pa.Table:
        """Return the rows whose ``column`` is among ``values``.

        Of a large table, the rows of a few ids are read with all ``shown_columns`` and remembered: a search first looks
        whether its candidates are alive, and then shows those very rows.
        """
        whole = self._whole.of(MEDIA_TABLE)
        if whole is not None:
            return _among(whole, column, values, columns)
        is_shown = self._shown.issuperset(columns)
        if column != "media_id" or not is_shown or len(values) > _MAX_SHOWN:
            return self._tables.rows_with(MEDIA_TABLE, column, values, columns, media_schema())
        return _among(self._with_recent(values), column, values, columns)

    def newest(self, limit: int, modality: str | None = None) -> pa.Table:
        """Return ``media_id, content_hash`` of the searchable files that were taken last, newest first.

        Files of one time stand in the order of their ids, those without a time last. The database puts a large table in
        order.

        Args:
            limit: number of rows.
            modality: "image", "audio" or "video" returns only files of that modality.
        """
        whole, wanted = self._whole.of(MEDIA_TABLE), ["media_id", "content_hash"]
        if whole is None:
            return self._newest_of_many(limit, modality).select(wanted)
        rows = whole.filter(pc.equal(whole["state"], INDEXED))
        if modality is not None:
            rows = rows.filter(pc.equal(rows["modality"], modality))
        rows = rows.select([*wanted, "taken"]).sort_by([("taken", "descending"), ("media_id", "ascending")])
        return rows.slice(0, limit).select(wanted)

    def _newest_of_many(self, limit: int, modality: str | None) -> pa.Table:
        from lancedb.query import ColumnOrdering

        def ask(table: LanceTable) -> pa.Table:
            where = equals("state", INDEXED)
            if modality is not None:
                where &= equals("modality", modality)
            # LanceDB refuses to order by what it is not to return. Tables of the first layouts have no ``taken``.
            columns = [name for name in ("media_id", "content_hash", "taken") if name in table.schema.names]
            order = [ColumnOrdering(column_name="taken", ascending=False)] if "taken" in columns else []
            order.append(ColumnOrdering(column_name="media_id"))
            return table.search().where(where).select(columns).order_by(order).limit(limit).to_arrow()

        return self._tables.read(MEDIA_TABLE, ask, media_schema().empty_table())

    def clear(self) -> None:
        """Let go of all memory."""
        self._whole.clear()
        self._recent = None

    def _with_recent(self, ids: Sequence[str]) -> pa.Table:
        state = self._tables.state(MEDIA_TABLE)
        recent, schema = self._recent, pa.schema([media_schema().field(name) for name in shown_columns()])
        rows = (
            recent[1] if recent is not None and recent[0] == state else pa.Table.from_batches([], schema)
        )  # ``empty_table`` would import pandas
        known = set(rows["media_id"].to_pylist())
        missing = [media_id for media_id in ids if media_id not in known]
        if missing:
            read = self._tables.rows_with(MEDIA_TABLE, "media_id", missing, schema.names, schema)
            if len(rows) + len(read) > _MAX_RECENT:
                rows = _among(rows, "media_id", ids, schema.names)
            rows = pa.concat_tables([rows, read]).combine_chunks()
            # They may be of a newer version than the one that they are kept for: then the next look-up reads again.
            self._recent = (state, rows)
        return rows

    def _read_all(self) -> pa.Table:
        return self._read(media_schema().names).combine_chunks()  # rows are taken from one piece much faster

    def _read(self, columns: Sequence[str], where: Expr | None = None) -> pa.Table:
        return self._tables.rows(MEDIA_TABLE, columns, media_schema(), where)


def _among(rows: pa.Table, column: str, values: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """Return ``columns`` of the rows whose ``column`` is among ``values``."""
    is_wanted = pc.is_in(rows[column], value_set=pa.array(values, rows.schema.field(column).type))
    places = np.flatnonzero(is_wanted.to_numpy())  # of few rows: taking them costs less than filtering every column
    return rows.select(list(columns)).take(pa.array(places))
