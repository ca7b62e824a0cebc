"""LanceDB's tables: opened, read, merged and deleted from, with its errors translated.

Every handle asks for the newest version at each use, so that another process's writes are seen at once.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.errors import StorageError
from arrowlens.store.filters import is_among
from arrowlens.store.fulltext import WORDS, keep_words
from arrowlens.store.id_ranges import IdRange, equal_ranges, id_ranges, range_of
from arrowlens.store.identifiers import CONTENT_TABLES
from arrowlens.store.importing import import_lancedb
from arrowlens.store.location import SHARDS_NAME, Location

if TYPE_CHECKING:
    from lancedb.expr import Expr
    from lancedb.table import LanceTable

_T = TypeVar("_T")
_Part = TypeVar("_Part")
_FOREIGN = (RuntimeError, OSError, ValueError, TypeError, KeyError, pa.ArrowException)  # what lancedb raises
_ATTEMPTS = 4
_READ_ATTEMPTS = 8
_IDS_A_FILTER = 5_000
_AT_ONCE = 8  # shards that are asked at the same time: each keeps more than one core busy, but a bucket answers slowly
_BATCH_ROWS = 8_192  # of a table that is read whole; with the 1,024 below that takes two to four times as long
_ENVIRONMENT = {
    # Without these a compaction of 50,000 thumbnails takes a gigabyte; searches are not slower.
    "LANCE_DEFAULT_BATCH_SIZE": "1024",
    "LANCE_DEFAULT_IO_BUFFER_SIZE": str(32 * 1024**2),
    "LANCEDB_LOG": "error",  # its warnings go to the user's terminal, where they help nobody
}
# What lance says of a truncated file.
_CUT_OFF = ("fill whole buffer", "file size is too small", "for object of size", "decode protobuf")
_SOURCE_LINE = re.compile(r",? /\S+\.rs:\d+:\d+")  # a place in lance's source


class Shard:
    """The tables of one shard, or of a library that is not divided; safe to share between threads.

    A table is created with its first rows; before that it reads as empty. Each method raises StorageError when the disk
    or the database refuses.

    Args:
        location: where they lie.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self._lock = threading.Lock()
        self._database: Any = None
        self._open: dict[str, LanceTable] = {}
        self._counted: dict[str, tuple[Hashable, int]] = {}
        self.deleted_from: set[str] = set()  # tables with deleted rows that are not purged yet

    def names(self) -> list[str]:
        """Return the names of the tables, sorted; lancedb is not imported for that."""
        try:
            return self.location.tables()
        except OSError as error:
            raise StorageError(
                f"{self.location.uri} cannot be read ({error.strerror}); check the permissions"
            ) from error

    def read(self, name: str, ask: Callable[[LanceTable], _T], empty: _T) -> _T:
        """Return what ``ask`` gets from a table, or ``empty`` when there is no such table.

        A file that vanishes meanwhile was pruned after a compaction: ``ask`` is called again, on the newer version.
        """
        for attempt in range(_READ_ATTEMPTS):
            with translated(f"{self.location.uri}: reading {name}"):
                try:
                    table = self.table(name)
                    return empty if table is None else ask(table)
                except _FOREIGN as error:
                    if attempt + 1 == _READ_ATTEMPTS or not _is_vanished(error):
                        raise
                    self.forget(name)
        raise AssertionError("unreachable")

    def version(self, name: str) -> int:
        """Return the number of the newest version of a table, 0 for a missing one; it grows with every change."""
        return self.read(name, lambda table: int(table.version), 0)

    def n_rows(self, name: str) -> int:
        """Return the number of rows of a table, 0 for a missing one; the database counts each version once."""
        state = self.state(name)  # before it is counted: what is counted may be newer, and is counted again then
        counted = self._counted.get(name)
        if counted is None or counted[0] != state:
            counted = self._counted[name] = (state, self.read(name, lambda table: int(table.count_rows()), 0))
        return counted[1]

    def rows(self, name: str, columns: Sequence[str], schema: pa.Schema, where: Expr | None = None) -> pa.Table:
        """Return ``columns`` of the rows that satisfy ``where``; no rows for a missing table."""
        empty = schema.empty_table().select(list(columns))
        return self.read(name, lambda table: rows_of(table, columns, schema, where), empty)

    def rows_with(
        self, name: str, column: str, values: Sequence[str], columns: Sequence[str], schema: pa.Schema
    ) -> pa.Table:
        """Return ``columns`` of the rows whose ``column`` is among ``values``."""
        parts = [self.rows(name, columns, schema, is_among(column, part)) for part in _parts(values)]
        return pa.concat_tables(parts) if parts else schema.empty_table().select(list(columns))

    def merge(self, name: str, key: str, rows: pa.Table) -> None:
        """Insert rows, replacing those with the same ``key``, which must differ within ``rows``; idempotent."""
        if rows.num_rows == 0:
            return
        with translated(f"{self.location.uri}: writing {name}"):
            table = self.table(name)
            if table is None:
                table = self._create(name, rows.schema)
            merge = table.merge_insert(key).when_matched_update_all().when_not_matched_insert_all()
            # With an index on the key, concurrent merges write duplicates; the scan costs nothing.
            merge = merge.use_index(False)
            self.retried(lambda: merge.execute(rows))
            self.secure(name)

    def add_columns(self, name: str, schema: pa.Schema) -> None:
        """Add the columns of ``schema`` that a table lacks, null in every row; a missing table stays missing."""
        with translated(f"{self.location.uri}: upgrading {name}"):
            table = self.table(name)
            if table is None:
                return
            held = set(table.schema.names)
            missing = [field for field in schema if field.name not in held]
            if missing:
                self.retried(lambda: table.add_columns(missing))
                self.secure(name)

    def delete(self, name: str, column: str, values: Sequence[str]) -> None:
        """Delete the rows whose ``column`` is among ``values``."""
        with translated(f"{self.location.uri}: deleting from {name}"):
            table = self.table(name)
            for part in _parts(values) if table is not None else ():
                assert table is not None
                self.deleted_from.add(name)
                self._delete_part(table, column, part)
            self.secure(name)

    def remove_duplicates(self, name: str, key: str, values: Sequence[str]) -> None:
        """Keep one of the rows with the same ``key``, for keys among ``values``; the newest of them is not known."""
        schema = self.read(name, lambda table: table.schema, None)
        rows = self.rows_with(name, key, values, schema.names, schema)
        first = pc.index_in(pa.array(sorted(set(values))), value_set=rows[key])
        self.delete(name, key, values)
        self.merge(name, key, rows.take(pc.drop_null(first)))

    def drop(self, name: str) -> None:
        """Delete a table, in one step for readers; finish a drop that was interrupted."""
        with translated(f"{self.location.uri}: deleting {name}"):
            self.location.drop(name)
        self.forget(name)

    def recover(self, name: str) -> bool:
        """Restore the newest version of a table if it cannot be read; return whether that was needed.

        The copy of its manifest is tried first. Otherwise a power failure came between writing and syncing the version,
        and the version before it is the newest again.

        Raises:
            StorageError: neither version can be read.
        """
        if self.location.is_durable:
            return False
        try:
            self.read(name, _read_keys, 0)
        except StorageError:
            if self._restore_manifest(name):
                return True
            manifests = self.location.manifests(name)
            if len(manifests) < 2:
                raise
            newest = manifests[0]
            aside = newest.removesuffix("manifest") + "damaged"
            self.location.rename(newest, aside)
            self.forget(name)
            try:
                self.read(name, _read_keys, 0)
            except StorageError:
                self.location.rename(aside, newest)
                self.forget(name)
                raise
            self.location.remove(aside)
            return True
        return False

    def secure(self, name: str) -> None:
        """Wait until a table is on the disk; then keep a copy of its newest manifest.

        Raises:
            OSError: the disk refused.
        """
        if self.location.is_durable:
            return
        self.location.sync(name)
        newest = self.manifest(name)
        if newest is not None:
            self.location.keep_copy(newest)

    def state(self, name: str) -> Hashable:
        """Return what changes with every change of a table, None for a missing one; lancedb is not asked.

        It differs, too, where a table was dropped and one of its name was made again.
        """
        with translated(f"{self.location.uri}: reading {name}"):
            manifests = self.location.manifests(name)
            return (*manifests, self.location.tag(manifests[0])) if manifests else None

    def manifest(self, name: str) -> str | None:
        """Return the name of the manifest of a table's newest version, None for a missing table."""
        table = self.table(name)
        if table is None:
            return None
        version = int(table.version)
        files = {f"{2**64 - 1 - version:020d}.manifest", f"{version}.manifest"}  # either of the names that lance gives
        return next((each for each in self.location.manifests(name) if each.rpartition("/")[2] in files), None)

    def _restore_manifest(self, name: str) -> bool:
        """Replace the newest manifest by its copy; return whether the table can be read by that.

        A copy of an earlier version is no use here: files of that version may have been pruned since.
        """
        newest, kept = next(iter(self.location.manifests(name)), None), self.location.kept_manifest(name)
        if kept is None:
            return False
        target = f"{self.location.folder(name)}/_versions/{kept.rpartition('/')[2]}"
        if newest is not None and target > newest:
            return False
        with translated(f"{self.location.uri}: restoring {name}"):
            damaged, copied = self.location.read(target), self.location.read(kept)
            if copied is None or (damaged is not None and damaged[0] == copied[0]):
                return False
            self.location.write(target, copied[0])
            self.forget(name)
            try:
                self.read(name, _read_keys, 0)
            except StorageError:
                if damaged is None:
                    self.location.remove(target)
                else:
                    self.location.write(target, damaged[0])
                self.forget(name)
                return False
            return True

    def table(self, name: str) -> LanceTable | None:
        """Return the handle of a table, None when there is no such table yet."""
        with self._lock:
            if name not in self._open:
                if not self.location.manifests(name):
                    return None
                self._open[name] = self._connected().open_table(name)
            return self._open[name]

    def forget(self, name: str) -> None:
        """Open a table again at its next use."""
        with self._lock:
            self._open.pop(name, None)

    def retried(self, write: Callable[[], _T]) -> _T:
        """Return what ``write`` returns; call it again when another commit came in between."""
        for attempt in range(_ATTEMPTS):
            self.location.require_writer()
            try:
                return write()
            except _FOREIGN as error:
                if attempt + 1 == _ATTEMPTS or "conflict" not in str(error).lower():
                    raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close all tables."""
        with self._lock:
            self._open.clear()
            self._database = None

    def _delete_part(self, table: LanceTable, column: str, part: Sequence[str]) -> None:
        self.retried(lambda: table.delete(is_among(column, part)))

    def _create(self, name: str, schema: pa.Schema) -> LanceTable:
        self.location.require_writer()
        with self._lock:
            table: LanceTable = self._connected().create_table(name, schema=schema, exist_ok=True)
            if WORDS in schema.names:
                keep_words(table)  # now, so that rows are found by words before the first maintenance
            self._open[name] = table
            return table

    def _connected(self) -> Any:  # noqa: ANN401 - lancedb is not typed
        if self._database is None:
            for variable, value in _ENVIRONMENT.items():
                os.environ.setdefault(variable, value)
            lancedb, options = import_lancedb(), self.location.storage_options
            self._database = lancedb.connect(
                self.location.uri,
                read_consistency_interval=dt.timedelta(0),
                storage_options=None if options is None else dict(options),
            )
        return self._database


class Tables:
    """The tables of one library, each divided between its shards; safe to share between threads.

    A row lies in the shard whose range holds its key: the id of a file, or a content hash. Keys are hashes, so that
    shards grow alike. Each method asks the shards that it concerns, several at once, and waits for all of them; it
    raises StorageError when the disk or the database refuses.

    Args:
        location: where the library lies.

    Attributes:
        shards: one for a library that is not divided, whose tables lie in the library's own folder.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self.divide(1)

    def divide(self, n_shards: int) -> None:
        """Use the tables of this many shards, as the settings say; before any table is used."""
        self._ranges = equal_ranges(n_shards)
        folders = [f"{SHARDS_NAME}/{number:03d}" for number in range(n_shards)]
        is_divided = n_shards > 1
        self.shards = [Shard(self.location.child(each)) if is_divided else Shard(self.location) for each in folders]

    def names(self) -> list[str]:
        """Return the names of the tables, sorted; lancedb is not imported for that."""
        return sorted({name for names in self.together(self.shards, Shard.names) for name in names})

    def each(self, name: str, ask: Callable[[LanceTable], _T]) -> list[_T]:
        """Return what ``ask`` gets from a table, of each shard that has it; ``ask`` may be called again."""
        nothing: list[_T] = []
        answers = self.together(self.shards, lambda shard: shard.read(name, lambda table: [ask(table)], nothing))
        return [answer for of_shard in answers for answer in of_shard]

    def n_rows(self, name: str) -> int:
        """Return the number of rows of a table."""
        return sum(self.together(self.shards, lambda shard: shard.n_rows(name)))

    def version(self, name: str) -> int:
        """Return a number that grows with every change of a table, 0 for a missing one."""
        return sum(self.each(name, lambda table: int(table.version)))

    def rows(self, name: str, columns: Sequence[str], schema: pa.Schema, where: Expr | None = None) -> pa.Table:
        """Return ``columns`` of the rows that satisfy ``where``; no rows for a missing table.

        Columns that were added to ``schema`` after the table was made are null.
        """
        return joined(self.each(name, lambda table: rows_of(table, columns, schema, where)), columns, schema)

    def rows_with(
        self, name: str, column: str, values: Sequence[str], columns: Sequence[str], schema: pa.Schema
    ) -> pa.Table:
        """Return ``columns`` of the rows whose ``column`` is among ``values``."""
        parts = self.together(
            self._holding(name, column, values),
            lambda part: part[0].rows_with(name, column, part[1], columns, schema),
        )
        return joined([rows for rows in parts if rows.num_rows], columns, schema)

    def id_ranges(self, names: Iterable[str]) -> list[IdRange]:
        """Divide all ids into ranges of which none holds many rows of any of these tables."""
        return id_ranges(max(map(self.n_rows, names), default=0))

    def merge(self, name: str, key: str, rows: pa.Table) -> None:
        """Insert rows, replacing those with the same ``key``, which must differ within ``rows``; idempotent."""
        if len(self.shards) == 1:
            self.shards[0].merge(name, key, rows)
            return
        numbers = np.array([range_of(self._ranges, value) for value in rows[key].to_pylist()], np.int64)
        parts = [(self.shards[number], np.flatnonzero(numbers == number)) for number in np.unique(numbers)]
        self.together(parts, lambda part: part[0].merge(name, key, rows.take(pa.array(part[1]))))

    def add_columns(self, name: str, schema: pa.Schema) -> None:
        """Add the columns of ``schema`` that a table lacks, null in every row; a missing table stays missing."""
        self.together(self.shards, lambda shard: shard.add_columns(name, schema))

    def delete(self, name: str, column: str, values: Sequence[str]) -> None:
        """Delete the rows whose ``column`` is among ``values``."""
        self.together(self._holding(name, column, values), lambda part: part[0].delete(name, column, part[1]))

    def remove_duplicates(self, name: str, key: str, values: Sequence[str]) -> None:
        """Keep one of the rows with the same ``key``, for keys among ``values``; the newest of them is not known."""
        for shard, of_shard in self._holding(name, key, values):
            shard.remove_duplicates(name, key, of_shard)

    def drop(self, name: str) -> None:
        """Delete a table, in one step for the readers of each shard; finish a drop that was interrupted."""
        self.together(self.shards, lambda shard: shard.drop(name))

    def recover(self, name: str) -> bool:
        """Restore the newest version of a table where it cannot be read; return whether that was needed.

        Raises:
            StorageError: neither it nor the version before can be read in one of the shards.
        """
        return sum(shard.recover(name) for shard in self.shards) > 0

    def state(self, name: str) -> Hashable:
        """Return what changes with every change of a table, None for a missing one; lancedb is not asked."""
        states = [shard.state(name) for shard in self.shards]
        return states[0] if len(states) == 1 else tuple(states) if any(states) else None

    def close(self) -> None:
        """Close all tables."""
        for shard in self.shards:
            shard.close()

    def _holding(self, name: str, column: str, values: Sequence[str]) -> list[tuple[Shard, Sequence[str]]]:
        """The shards that may hold rows whose ``column`` is among ``values``, each with its own values."""
        if len(self.shards) == 1 or not _is_of_key(name, column):
            return [(shard, values) for shard in self.shards]
        by_shard: dict[int, list[str]] = {}
        for value in values:
            by_shard.setdefault(range_of(self._ranges, value), []).append(value)
        return [(self.shards[number], of_shard) for number, of_shard in sorted(by_shard.items())]

    def of_shard(self, n_rows: int) -> int:
        """Return how many of a number of rows are one shard's, rounded up."""
        return -(-n_rows // len(self.shards))

    @staticmethod
    def together(parts: Sequence[_Part], act: Callable[[_Part], _T]) -> list[_T]:
        """Return what ``act`` gives for each of several parts, such as shards, at the same time.

        The threads are new ones each time: what is asked may ask all shards itself, and would wait for its own thread.
        """
        if len(parts) < 2:
            return [act(part) for part in parts]
        with ThreadPoolExecutor(min(len(parts), _AT_ONCE), "shard") as pool:
            return list(pool.map(act, parts))


def rows_of(table: LanceTable, columns: Sequence[str], schema: pa.Schema, where: Expr | None = None) -> pa.Table:
    """Return ``columns`` of the rows of a table that satisfy ``where``; those of ``schema`` that it lacks are null."""
    held = set(table.schema.names)
    query = table.search().select([column for column in columns if column in held])
    query = (query if where is None else query.where(where)).limit(None)
    rows = query.to_batches(_BATCH_ROWS).read_all()
    for column in columns:
        if column not in held:
            rows = rows.append_column(schema.field(column), pa.nulls(len(rows), schema.field(column).type))
    return rows.select(list(columns))


def joined(parts: Sequence[pa.Table], columns: Sequence[str], schema: pa.Schema) -> pa.Table:
    """Return the rows of several shards as one table; no rows where there are none."""
    if len(parts) == 1:
        return parts[0]
    return pa.concat_tables(parts, promote_options="default") if parts else schema.empty_table().select(list(columns))


def _is_of_key(name: str, column: str) -> bool:
    """Whether the values of a column begin as the key of their row does: its shard is known from them."""
    return column != "content_hash" or name in CONTENT_TABLES


def _read_keys(table: LanceTable) -> int:
    """Opens every file of a table."""
    return int(table.search().select(table.schema.names[:1]).limit(None).to_arrow().num_rows)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Translate errors of lancedb and of the system; the one place that does.

    Raises:
        StorageError: with the first line of the cause and a cure.
    """
    try:
        yield
    except _FOREIGN as error:
        if isinstance(error, StorageError):
            raise
        lines = _SOURCE_LINE.sub("", str(error)).strip().splitlines() or [type(error).__name__]
        raise StorageError(f"{doing} failed ({lines[0][:300]}); {_cure(str(error))}") from error


def _cure(message: str) -> str:
    message = message.lower()
    if "no space" in message or "file too large" in message or "quota" in message:
        return "free disk space, then run again"
    if "permission denied" in message or "read-only" in message:
        return "check the folder's permissions"
    if "not found" in message or "no such file" in message:
        return "the library lacks files; restore it from a backup or index into a new one"
    if any(sign in message for sign in _CUT_OFF):
        return "a write did not reach the disk whole; `arrowlens ingest` takes it back; so does `doctor --repair`"
    return "check the disk, then run again"


def _is_vanished(error: BaseException) -> bool:
    message = str(error).lower()
    return "not found" in message or "no such file" in message


def repeated(keys: pa.ChunkedArray) -> list[str]:
    """Return the keys that are there more than once."""
    counts = keys.value_counts()
    values: list[str] = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    return values


def _parts(values: Sequence[str]) -> list[Sequence[str]]:
    return [values[start : start + _IDS_A_FILTER] for start in range(0, len(values), _IDS_A_FILTER)]
