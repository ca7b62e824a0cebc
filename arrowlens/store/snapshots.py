"""Tables in memory, as they were at one version.

LanceDB takes about as long for a few rows of a small table as for all of them, and an exact scan through it ten times
as long as the product of a matrix and a vector (docs/performance.md). So tables below the size from which there is an
index are read whole, once for each version; each read looks whether there is a newer one. Of larger ones, an index
names the nearest rows quickly, but it takes LanceDB longer to read these few rows. So they are read whole too, once
they have been asked often enough at one version to pay for it, and where they are not too large.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.store.filters import equals
from arrowlens.store.id_ranges import ALL_IDS, IdRange
from arrowlens.store.identifiers import INDEXED, MEDIA_TABLE
from arrowlens.store.index import candidates_a_row
from arrowlens.store.ranking import DISTANCE
from arrowlens.store.records import media_schema, shown_columns
from arrowlens.store.tables import Shard, Tables
from arrowlens.store.vectors import embedding_array

if TYPE_CHECKING:
    from lancedb.table import LanceTable

MAX_BYTES = 128 * 1024**2  # of a table that is held in memory, of all shards together
MAX_TOTAL = 2 * MAX_BYTES  # of all vectors that are; the rows of ``media`` come on top
_BATCH_ROWS = 8_192
_ROW_BYTES = 176  # of a row of vectors beside its vector: ids, the content's hash, the modality
# Questions to one version of a large table before it is read whole: that takes as long as it saves these many.
N_ASKED = 16
# How long a large table must not have changed before it is read again. A run commits every five seconds: reading the
# table after each commit would keep the searches beside it waiting.
SETTLED_S = 10.0
_MAX_RECENT = 400  # rows of a large table that are remembered between two look-ups
_MAX_SHOWN = 100  # ids of one look-up that may all be shown; of more only a few are, the first of them


class _Versions(Protocol):
    """Tables of a library, or of a shard."""

    def state(self, name: str) -> Hashable:
        """As of ``Tables``."""

    def n_rows(self, name: str) -> int:
        """As of ``Tables``."""


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


_T = TypeVar("_T")
_Held = TypeVar("_Held", bound=_Sized)


@dataclass(slots=True)
class _Snapshot(Generic[_Held]):
    """A version of a table.

    Attributes:
        state: of the table. is_small: whether it is read at once.
        value: what was made of it; None where it was not read, or is too large.
        n_asked: how often it was asked for. is_tried: whether it was to be read whole since.
        settled_s: when it may be, by the monotonic clock.
    """

    state: Hashable
    is_small: bool
    value: _Held | None = None
    n_asked: int = 0
    is_tried: bool = False
    settled_s: float = 0.0


class Snapshots(Generic[_Held]):
    """What was made of tables, until they change; safe to share between threads.

    Args:
        tables: the library's tables, or a shard's.
        max_rows: from which on a table is a large one.
        make: reads the table of a name whole, and is told whether it is a small one; None for a missing table, and
            where that takes too many bytes.
        n_shards: of the library: a shard has its part of ``MAX_TOTAL``.
    """

    def __init__(
        self,
        tables: _Versions,
        max_rows: int,
        make: Callable[[str, bool], _Held | None],
        n_shards: int = 1,
    ) -> None:
        self._tables, self._max_rows, self._make, self._n_shards = tables, max_rows, make, n_shards
        self._held: dict[str, _Snapshot[_Held]] = {}
        self._lock = threading.Lock()

    def of(self, name: str) -> _Held | None:
        """Return what ``make`` gives of the newest version of a table.

        None for a missing table and for one that is too large, and of a large one until it was asked for ``N_ASKED``
        times, and after a change until it stood still for ``SETTLED_S``. It is the same object as long as the table
        does not change.

        Raises:
            StorageError: the database refuses.
        """

        state = self._tables.state(name)  # before the table: what is read may be newer, and is read again then
        with self._lock:  # threads that need the same small table wait for the one that reads it
            held = self._held.pop(name, None)
            if held is None or held.state != state:
                settled_s = 0.0 if held is None else time.monotonic() + SETTLED_S
                held = _Snapshot(state, self._tables.n_rows(name) < self._max_rows, settled_s=settled_s)
                if held.is_small:
                    held.value = self._make(name, True)
            self._held[name] = held  # the last one: what was not asked for longest goes first
            held.n_asked += 1
            is_due = not (held.is_small or held.is_tried or held.n_asked < N_ASKED or time.monotonic() < held.settled_s)
            held.is_tried = held.is_tried or is_due
        if is_due:  # meanwhile others ask the disk
            value = self._make(name, False)
            if self._tables.state(name) == state:  # the index speaks of the rows of this version
                held.value = value
        with self._lock:
            while (
                len(self._held) > 1  # what is asked for now stays, else it would be read again each time
                and sum(each.value.nbytes for each in self._held.values() if each.value is not None)
                > MAX_TOTAL // self._n_shards
            ):
                del self._held[next(iter(self._held))]
        return held.value

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
        matrix: (n, d), as stored: float32 of a small table, which is multiplied whole; float16 of a large one.
        lengths: (n,) float32; stored vectors are rounded, so that they are not quite of length one.
        row_ids: (n,) uint64, ascending: LanceDB's, of this version. order: (n,) int, where these rows stand.
        is_small: whether it is one.
        n_candidates: how many rows of the index stand for one row, since its distances are coarse.
    """

    rows: pa.Table
    matrix: np.ndarray
    lengths: np.ndarray
    row_ids: np.ndarray
    order: np.ndarray
    is_small: bool
    n_candidates: int

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        arrays = (self.rows, self.matrix, self.lengths, self.row_ids, self.order)
        return sum(int(each.nbytes) for each in arrays)

    def nearest(self, query: np.ndarray, limit: int, places: np.ndarray | None, columns: Sequence[str]) -> pa.Table:
        """Return the ``limit`` rows nearest by cosine, in no order, with ``_distance``.

        Args:
            query: (d,) float32 of length one.
            limit: number of rows.
            places: of the rows to choose from; (m,) int. None for all.
            columns: of the result, ``embedding`` among them.
        """
        if places is None:
            distances, places = 1.0 - self.matrix @ query / self.lengths, np.arange(len(self.matrix))
        else:
            distances = 1.0 - self.matrix[places].astype(np.float32, copy=False) @ query / self.lengths[places]
        if limit < len(places):
            best = np.argpartition(distances, limit - 1)[:limit]
            places, distances = places[best], distances[best]
        rows = self.rows.take(pa.array(places)).append_column("embedding", embedding_array(self.matrix[places]))
        return rows.select(list(columns)).append_column(DISTANCE, pa.array(distances, pa.float32()))

    def places_of(self, row_ids: np.ndarray) -> np.ndarray:
        """Return where rows stand, (m,) int; those of another version are omitted."""
        found = np.minimum(np.searchsorted(self.row_ids, row_ids), len(self.row_ids) - 1)
        places: np.ndarray = self.order[found[self.row_ids[found] == row_ids]]
        return places


def held_vectors(tables: Tables, max_rows: int) -> list[Snapshots[Vectors]]:
    """Return what holds the vectors of each shard; together they take what those of one table may.

    Args:
        tables: the library's tables.
        max_rows: of all shards, from which on a table is a large one.
    """
    n_shards = len(tables.shards)

    def of(shard: Shard) -> Snapshots[Vectors]:
        def make(name: str, is_small: bool) -> Vectors | None:
            return shard.read(name, lambda table: read_vectors(table, is_small, MAX_BYTES // n_shards), None)

        return Snapshots(shard, tables.of_shard(max_rows), make, n_shards)

    return [of(shard) for shard in tables.shards]


def read_vectors(table: LanceTable, is_small: bool, max_bytes: int) -> Vectors | None:
    """Read a table whole; None where it takes more than ``max_bytes``, has no rows, or changes meanwhile."""
    n, d = table.count_rows(), table.schema.field("embedding").type.list_size
    matrix_type = np.float32 if is_small else np.float16
    if n * (d * np.dtype(matrix_type).itemsize + _ROW_BYTES) > max_bytes:
        return None
    columns = [name for name in table.schema.names if name not in {"model", "timestamp"}]
    query = table.search().select(columns).with_row_id(True).limit(None)
    matrix, lengths, batches, start = np.empty((n, d), matrix_type), np.empty(n, np.float32), list[pa.RecordBatch](), 0
    for batch in query.to_batches(_BATCH_ROWS):  # straight into the matrix, so that vectors are in memory once
        end = start + len(batch)
        if end > n:
            break  # another version by now
        matrix[start:end] = batch["embedding"].flatten().to_numpy().reshape(-1, d)
        lengths[start:end] = np.linalg.norm(matrix[start:end].astype(np.float32, copy=False), axis=1)
        batches.append(batch.drop_columns(["embedding"]))
        start = end
    else:
        if start == n and n:
            rows = pa.Table.from_batches(batches).combine_chunks()
            row_ids = rows["_rowid"].to_numpy()
            order = np.argsort(row_ids)
            n_candidates = candidates_a_row(table)
            rows = rows.drop_columns(["_rowid"])
            return Vectors(rows, matrix, lengths, row_ids[order], order, is_small, n_candidates)
    return None


@dataclass(frozen=True, slots=True, eq=False)
class _Media:
    """Rows of ``media``.

    Attributes:
        rows: in the order of their ids.
        ids: their ids as bytes; (n,).
    """

    rows: pa.Table
    ids: np.ndarray

    @property
    def nbytes(self) -> int:
        """What they take in memory."""
        return int(self.rows.nbytes + self.ids.nbytes)

    def has(self, columns: Iterable[str]) -> bool:
        """Return whether all of these columns were read."""
        return set(columns) <= set(self.rows.column_names)

    def among(self, column: str, values: Sequence[str], columns: Sequence[str]) -> pa.Table:
        """Return ``columns`` of the rows whose ``column`` is among ``values``."""
        if column != "media_id" or not values or not len(self.ids):
            return _among(self.rows, column, values, columns)
        wanted = _as_bytes(pa.array(set(values), pa.string()))
        places = np.minimum(np.searchsorted(self.ids, wanted), len(self.ids) - 1)
        return self.rows.select(list(columns)).take(pa.array(places[self.ids[places] == wanted]))


class MediaRows:
    """Rows of ``media``: from memory, or of a large table that is not held there by its index on ids.

    Each method raises StorageError when the database refuses.

    Args:
        tables: the library's tables.
        max_rows: from which on a table is a large one.
    """

    def __init__(self, tables: Tables, max_rows: int) -> None:
        self._tables, self._max_rows = tables, max_rows
        self._whole: Snapshots[_Media] = Snapshots(tables, max_rows, self._read_whole)
        self._recent: tuple[Hashable, pa.Table] | None = None  # of a large table
        self._shown = frozenset(shown_columns())

    def all(self, columns: Sequence[str], within: IdRange = ALL_IDS, by: str = "media_id") -> pa.Table:
        """Return the rows whose ``by`` is in a range, by default every row."""
        whole = self._whole.of(MEDIA_TABLE)
        if whole is None or not whole.has([by, *columns]):
            return self._tables.rows(MEDIA_TABLE, columns, media_schema(), within.expression(by))
        return within.rows(whole.rows, by).select(list(columns))

    def having(self, column: str, values: Sequence[str], columns: Sequence[str]) -> pa.Table:
        """Return the rows whose ``column`` is among ``values``.

        Of a table that is not held, the rows of a few ids are read with all ``shown_columns`` and remembered: a search
        first looks whether its candidates are alive, and then shows those very rows.
        """
        whole = self._whole.of(MEDIA_TABLE)
        if whole is not None and whole.has([column, *columns]):
            return whole.among(column, values, columns)
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
        if whole is None or len(whole.rows) >= self._max_rows:
            return self._newest_of_many(limit, modality).select(wanted)
        rows = whole.rows.filter(pc.equal(whole.rows["state"], INDEXED))
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

        of_shards = self._tables.each(MEDIA_TABLE, ask)
        if len(of_shards) < 2:
            return of_shards[0] if of_shards else media_schema().empty_table()
        rows = pa.concat_tables(of_shards, promote_options="default")
        keys = [("taken", "descending")] if "taken" in rows.column_names else []
        return rows.sort_by([*keys, ("media_id", "ascending")]).slice(0, limit)

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

    def _read_whole(self, name: str, is_small: bool) -> _Media | None:
        """Read every row, of a large table the columns that hits show; None where they take over ``MAX_BYTES``."""

        def stored(table: LanceTable) -> int:
            stats: Any = table.stats()  # a dict, whatever lancedb's annotation says
            return int(stats["total_bytes"])

        n_stored = self._tables.each(name, stored)
        if not n_stored:
            return None
        if sum(n_stored) > MAX_BYTES // 2 and not is_small:  # they are compressed
            return None
        columns = media_schema().names if is_small else shown_columns()
        rows = self._tables.rows(name, columns, media_schema())
        rows = rows.sort_by("media_id").combine_chunks()  # rows are taken from one piece much faster
        whole = _Media(rows, _as_bytes(rows["media_id"]))
        return whole if is_small or whole.nbytes <= MAX_BYTES else None


def _as_bytes(texts: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return texts in UTF-8, (n,), which numpy puts in the order that Arrow does."""
    return np.array(texts.cast(pa.binary()).to_pylist(), dtype=bytes)


def _among(rows: pa.Table, column: str, values: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """Return ``columns`` of the rows whose ``column`` is among ``values``."""
    is_wanted = pc.is_in(rows[column], value_set=pa.array(values, rows.schema.field(column).type))
    places = np.flatnonzero(is_wanted.to_numpy())  # of few rows: taking them costs less than filtering every column
    return rows.select(list(columns)).take(pa.array(places))
