"""Keeps tables small on disk and quick to read: when they are compacted, and why nothing is lost.

Each merge adds a fragment, a version and some 70 kB for the keys that it inserted. A deletion only notes that a row is
gone; its bytes stay. Compaction rewrites rows into few files without the deleted ones, and pruning removes the files of
earlier versions.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from arrowlens.store.filters import equals
from arrowlens.store.fulltext import WORDS, keep_words
from arrowlens.store.index import VECTORS, index_due, keep_index, keep_lookups
from arrowlens.store.location import Location
from arrowlens.store.state import LibraryState
from arrowlens.store.tables import Shard, Tables, translated

if TYPE_CHECKING:
    from lancedb.table import LanceTable

MAX_FRAGMENTS = 8  # each merge leaves one; every query visits them all
MAX_FRAGMENTS_MEANWHILE = 64  # during a run, which otherwise would rewrite everything with every eighth merge
MAX_FRAGMENTS_EVER = 512
_MAX_WASTE = 0.1  # of the bytes of the rows
_SLACK = 64 * 1024  # bytes
_FOR_EVER = dt.timedelta(days=36_500)
# A search that is reading an earlier version finds its files gone, and reads the new version.
_AT_ONCE = dt.timedelta(milliseconds=1)


@dataclasses.dataclass(frozen=True, slots=True)
class TableStats:
    """How a table lies on disk.

    Attributes:
        n_rows: number of rows.
        n_fragments: files that a scan visits.
        n_largest: rows of the largest fragment.
        n_wasted: bytes that the newest version does not need, indexes aside.
        n_needed: bytes of its rows.
        has_deleted: whether deleted rows are still on disk.
        n_versions: versions on disk; earlier ones may hold rows that were deleted since.
        retained_until: in a bucket, when the last of the earlier versions may be deleted; None where there is none.
        is_pruning_due: whether one of them may be deleted now.
    """

    n_rows: int
    n_fragments: int
    n_largest: int
    n_wasted: int
    n_needed: int
    has_deleted: bool
    n_versions: int = 1
    retained_until: dt.datetime | None = None
    is_pruning_due: bool = False

    @classmethod
    def of_all(cls, shards: Sequence[Self]) -> Self:
        """Return how the tables of a name lie in the shards: rows and bytes of all, files of the one that has most."""
        ends = [shard.retained_until for shard in shards if shard.retained_until is not None]
        return cls(
            n_rows=sum(shard.n_rows for shard in shards),
            n_fragments=max(shard.n_fragments for shard in shards),
            n_largest=max(shard.n_largest for shard in shards),
            n_wasted=sum(shard.n_wasted for shard in shards),
            n_needed=sum(shard.n_needed for shard in shards),
            has_deleted=any(shard.has_deleted for shard in shards),
            n_versions=max(shard.n_versions for shard in shards),
            retained_until=max(ends, default=None),
            is_pruning_due=any(shard.is_pruning_due for shard in shards),
        )

    @property
    def is_wasteful(self) -> bool:
        """Whether deleted rows are still on disk, or wasted bytes exceed a tenth of those of the rows.

        In a bucket bytes that earlier versions need are no waste before their time is over.
        """
        if self.has_deleted or self.retained_until is not None:
            return self.has_deleted or self.is_pruning_due
        return self.n_wasted > _SLACK + _MAX_WASTE * self.n_needed

    @property
    def is_compaction_due(self) -> bool:
        """After a run: when there is waste, or many small runs have left many fragments."""
        return self.is_wasteful or self.n_fragments > MAX_FRAGMENTS

    @property
    def is_compaction_due_meanwhile(self) -> bool:
        """During a run: only once the rows have doubled, so that each is rewritten a few times in all."""
        has_doubled = self.n_rows >= 2 * self.n_largest
        limit = MAX_FRAGMENTS_MEANWHILE if has_doubled else MAX_FRAGMENTS_EVER
        return self.n_fragments > limit


def table_stats(table: LanceTable, location: Location, name: str) -> TableStats:
    """How the table of this name lies at a location."""
    stats: Any = table.stats()  # a dict, whatever lancedb's annotation says
    fragments = stats["fragment_stats"]
    needed = stats["total_bytes"] - sum(index.size_bytes or 0 for index in table.list_indices())
    parts = [location.sizes(f"{location.folder(name)}/{part}") for part in ("data", "_versions", "_transactions")]
    on_disk = sum(sum(sizes.values()) for sizes in (*parts, _deletions(location, name)))
    superseded = location.superseded(name).values()
    ends = [written + location.retention for written in superseded] if location.retention is not None else []
    return TableStats(
        n_rows=stats["num_rows"],
        n_fragments=fragments["num_fragments"],
        n_largest=fragments["lengths"]["max"],
        n_wasted=max(0, on_disk - needed),
        n_needed=needed,
        has_deleted=_has_deleted(table, location, name),
        n_versions=len(_versions(location, name)),
        retained_until=max(ends, default=None),
        is_pruning_due=bool(ends) and min(ends) < location.now(),
    )


class Maintenance:
    """Keeps the tables of a library small and quick. No row changes, whatever fails.

    Each method raises LibraryBusyError when somebody else writes, and StorageError when the disk or database refuses.

    Args:
        tables: the library's tables. state: takes the writer lock.
        index_from: rows of a vector table from which on it is indexed; smaller ones are scanned.
    """

    def __init__(self, tables: Tables, state: LibraryState, index_from: int) -> None:
        self._tables, self._state, self._index_from = tables, state, index_from

    def optimize(self, *, thorough: bool = True) -> None:
        """Compact the tables, rebuild their indexes, drop old versions, and purge deleted rows.

        Args:
            thorough: False leaves alone what is in good shape, so that it costs little after each ingest.
        """
        with self._state.writing():
            for name in self._tables.names():
                self.optimize_table(name, thorough=thorough)

    def optimize_table(self, name: str, *, thorough: bool) -> None:
        """``optimize`` for one table; the caller holds the writer lock."""

        def after_run(table: _TableMaintenance) -> None:
            # A file of which all rows are deleted is gone from the newest version, not from the disk.
            table.after_run(thorough=thorough, purge=name in table.shard.deleted_from)
            table.shard.deleted_from.discard(name)

        self._each(name, after_run)

    def optimize_meanwhile(self) -> None:
        """Index tables that have grown, and compact those in too many parts, during a run.

        Cheap enough to call after each commit.
        """
        with self._state.writing():
            for name in self._tables.names():
                self._each(name, _TableMaintenance.during_run)

    def rebuild_indexes(self) -> None:
        """Build the indexes of all tables again from their rows, whatever state they are in."""
        with self._state.writing():
            for name in self._tables.names():
                self._each(name, _TableMaintenance.rebuild_indexes, "indexing")
                for shard in self._tables.shards:
                    shard.forget(name)  # what the handle read of the indexes before

    def needs_optimizing(self) -> bool:
        """Return whether ``optimize(thorough=False)`` has something to do: an interrupted run leaves it behind."""
        for shard in self._tables.shards:
            for name in shard.names():
                with translated(f"{shard.location.uri}: reading {name}"):
                    table = self._table(shard, name)
                    if table is not None and table.is_due:
                        return True
        return False

    def stats(self) -> dict[str, TableStats]:
        """Return how each table lies on disk, by its name."""
        stats: dict[str, list[TableStats]] = {}
        for shard in self._tables.shards:
            for name in shard.names():
                ask = functools.partial(table_stats, location=shard.location, name=name)
                if (of_table := shard.read(name, ask, None)) is not None:
                    stats.setdefault(name, []).append(of_table)
        return {name: TableStats.of_all(stats[name]) for name in sorted(stats)}

    def retained(self) -> tuple[int, dt.datetime | None]:
        """Return how many bytes of earlier versions are kept, and until when; 0 and None in a folder."""
        if self._tables.location.retention is None:
            return 0, None
        kept = [of_table for of_table in self.stats().values() if of_table.retained_until is not None]
        until = max((of_table.retained_until for of_table in kept if of_table.retained_until), default=None)
        return sum(of_table.n_wasted for of_table in kept), until

    def _each(self, name: str, act: Callable[[_TableMaintenance], None], doing: str = "compacting") -> None:
        for shard in self._tables.shards:  # one after the other: building an index takes all cores, and memory
            with translated(f"{shard.location.uri}: {doing} {name}"):
                table = self._table(shard, name)
                if table is not None:
                    shard.retried(functools.partial(act, table))
                    shard.secure(name)

    def _table(self, shard: Shard, name: str) -> _TableMaintenance | None:
        table = shard.table(name)
        # So that a library of a size has an index, or has none, however it is divided.
        index_from = self._tables.of_shard(self._index_from)
        return None if table is None else _TableMaintenance(table, name, shard, index_from)


@dataclasses.dataclass(frozen=True, slots=True)
class _TableMaintenance:
    """Keeps one table small and quick. Only the holder of the writer lock may do this.

    Attributes:
        table: the table. name: its name. shard: where it lies.
        index_from: rows from which on vectors are indexed.
    """

    table: LanceTable
    name: str
    shard: Shard
    index_from: int

    def after_run(self, *, thorough: bool, purge: bool = False) -> None:
        """Index and compact where that is due.

        Args:
            thorough: rebuild the vector index and compact in any case.
            purge: rows were deleted; compact in any case.
        """
        has_words = WORDS in self.table.schema.names
        self._keep_indexes(rebuild=thorough)
        if has_words:
            keep_words(self.table)
        if thorough or purge or self._stats().is_compaction_due:
            has_words_of_deleted = has_words and self._has_deleted()
            self._compact()
            if self._has_deleted():
                self._purge()
                self._keep_indexes()
            if has_words_of_deleted:
                keep_words(self.table, rebuild=True)
                self._compact()

    def rebuild_indexes(self) -> None:
        """Drop every index, and build those that the table should have from its rows."""
        for index in self.table.list_indices():
            self.table.drop_index(index.name)
        self._keep_indexes(rebuild=True)
        if WORDS in self.table.schema.names:
            keep_words(self.table, rebuild=True)
        self._compact()

    def during_run(self) -> None:
        """Index and compact what would make searches slow before a run of hours ends."""
        self._keep_indexes(during_run=True)
        if self._stats().is_compaction_due_meanwhile:
            self._compact()

    @property
    def is_due(self) -> bool:
        """Whether ``after_run`` has something to do."""
        has_vectors = VECTORS in self.table.schema.names
        is_index_due = has_vectors and index_due(self.table, self.index_from) is not None
        return is_index_due or self._stats().is_compaction_due

    def _keep_indexes(self, *, rebuild: bool = False, during_run: bool = False) -> None:
        names, has_changed = self.table.schema.names, False
        if VECTORS in names:
            has_changed = keep_index(self.table, self.index_from, rebuild=rebuild, during_run=during_run)
        has_changed = keep_lookups(self.table, self.index_from) or has_changed
        if has_changed:
            self.shard.location.sync(self.name)

    def _compact(self) -> None:
        """Join fragments, extend indexes, and drop every version but the newest and the leftovers of killed runs.

        Nothing is deleted before its replacement has reached the disk. Where versions are retained, so is what no
        version names yet, for a week: a writer that is at work may be about to name it.
        """
        location = self.shard.location
        if location.retention is not None:
            ahead = dt.datetime.now(dt.UTC) - location.now()  # lance goes by this machine's clock
            self.table.optimize(cleanup_older_than=max(location.retention + ahead, _AT_ONCE))
            return
        self.table.optimize(cleanup_older_than=_FOR_EVER)
        self.shard.location.sync(self.name)
        self._forget_versions()
        self.table.optimize(cleanup_older_than=_AT_ONCE, delete_unverified=True)

    def _forget_versions(self) -> None:
        """Delete the manifests of all versions but the newest, so that lance deletes the files of those versions.

        Lance prunes versions by age, and would keep versions that were written while the clock was ahead. Files that
        belong to no version are deleted whatever their age.
        """
        newest = self.shard.manifest(self.name)
        for manifest in _versions(self.shard.location, self.name) if newest is not None else ():
            if manifest != newest:
                self.shard.location.remove(manifest)

    def _purge(self) -> None:
        """Compact a table that lance leaves alone because few of its rows are deleted.

        Lance joins small fragments in any case, but needs two of them: rewriting one row makes the second. If that is
        not enough (fragments of a million rows), all rows are rewritten.
        """
        key, other = self.table.schema.names[:2]
        first = self.table.search().select([key]).limit(1).to_arrow()[key].to_pylist()
        for where in (equals(key, first[0]) if first else None, None):
            self.table.update(where=where, values_sql={other: other})
            self._compact()
            if not self._has_deleted():
                return

    def _stats(self) -> TableStats:
        return table_stats(self.table, self.shard.location, self.name)

    def _has_deleted(self) -> bool:
        return _has_deleted(self.table, self.shard.location, self.name)


def _versions(location: Location, table: str) -> list[str]:
    """The manifests of a table's versions; lance may have others."""
    return [name for name in location.manifests(table) if name.rpartition("/")[2].removesuffix(".manifest").isdecimal()]


def _has_deleted(table: LanceTable, location: Location, name: str) -> bool:
    """Whether deleted rows are in the files of the newest version; or of any other, where none is retained."""
    if not _deletions(location, name):
        return False
    if location.retention is None:
        return True
    return int(table.list_versions()[-1]["metadata"]["total_deletion_files"]) > 0


def _deletions(location: Location, table: str) -> dict[str, int]:
    """The files of versions on disk that note deleted rows; those of pruned versions are gone."""
    return location.sizes(f"{location.folder(table)}/_deletions")
