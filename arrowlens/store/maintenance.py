"""Keeping a table small on disk and quick to read: when it is compacted, and how nothing can be lost by it.

A merge leaves a fragment, a version and, for the keys that it inserted, some 70 kB beside them; a deletion leaves the
row's bytes where they are and a note that it is gone. Compaction writes rows into few files without the deleted ones,
pruning removes the files of earlier versions.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arrowlens.store.fsync import Durable
from arrowlens.store.index import VECTORS, index_due, keep_index, keep_lookup
from arrowlens.store.words import WORDS, keep_words

if TYPE_CHECKING:
    from lancedb.table import LanceTable

MAX_FRAGMENTS = 8  # each merge leaves one; every query visits them all
MAX_FRAGMENTS_MEANWHILE = 64  # during a run, which would else write everything again with every eighth merge
MAX_FRAGMENTS_EVER = 512
_MAX_WASTE = 0.1  # of what the rows take
_SLACK = 64 * 1024  # bytes
_FOR_EVER = dt.timedelta(days=36_500)
# A search that reads an earlier version meanwhile finds its files gone, and reads the new one.
_AT_ONCE = dt.timedelta(milliseconds=1)


@dataclasses.dataclass(frozen=True, slots=True)
class TableStats:
    """How a table lies on disk.

    Attributes:
        n_rows: rows. n_fragments: files that a scan visits. n_largest: rows of the largest fragment.
        n_wasted: bytes that the newest version does not need; its indexes are left out.
        n_needed: bytes of its rows. has_deleted: whether deleted rows are still there.
        n_versions: versions on disk; earlier ones may hold what was removed since.
    """

    n_rows: int
    n_fragments: int
    n_largest: int
    n_wasted: int
    n_needed: int
    has_deleted: bool
    n_versions: int = 1

    @property
    def is_wasteful(self) -> bool:
        """Whether deleted rows are still there, or more bytes than a tenth of what the rows take."""
        return self.has_deleted or self.n_wasted > _SLACK + _MAX_WASTE * self.n_needed

    @property
    def is_compaction_due(self) -> bool:
        """After a run: deleted rows go, and so does what would add up over many small runs."""
        return self.is_wasteful or self.n_fragments > MAX_FRAGMENTS

    @property
    def is_compaction_due_meanwhile(self) -> bool:
        """During a run: once the rows have doubled, so that each is written again a few times only."""
        has_doubled = self.n_rows >= 2 * self.n_largest
        limit = MAX_FRAGMENTS_MEANWHILE if has_doubled else MAX_FRAGMENTS_EVER
        return self.n_fragments > limit


def shape_of(table: LanceTable, folder: Path) -> TableStats:
    """How the table in ``folder`` lies there."""
    stats: Any = table.stats()  # a dict, whatever lancedb's annotation says
    fragments = stats["fragment_stats"]
    needed = stats["total_bytes"]
    on_disk = sum(_n_bytes(folder / part) for part in ("data", "_versions", "_transactions", "_deletions"))
    return TableStats(
        n_rows=stats["num_rows"],
        n_fragments=fragments["num_fragments"],
        n_largest=fragments["lengths"]["max"],
        n_wasted=max(0, on_disk - needed),
        n_needed=needed,
        has_deleted=_has_deleted(folder),
        n_versions=len(manifests(folder)),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Upkeep:
    """Keeps one table small and quick. Only the holder of the writer lock may do this.

    Attributes:
        table: the table. folder: where it lies. durable: makes what is written safe.
        index_from: rows from which on vectors are indexed.
    """

    table: LanceTable
    folder: Path
    durable: Durable
    index_from: int

    def after_run(self, *, thorough: bool, purge: bool = False) -> None:
        """Index and compact if there is cause; if ``thorough``, build the vector index anew and compact in any case.

        Args:
            purge: rows were deleted: compact.
        """
        has_words = WORDS in self.table.schema.names
        self._keep_indexes(anew=thorough)
        if has_words:
            keep_words(self.table)
        if thorough or purge or shape_of(self.table, self.folder).is_compaction_due:
            has_words_of_deleted = has_words and _has_deleted(self.folder)
            self._compact()
            if _has_deleted(self.folder):
                self._purge()
                self._keep_indexes()
            if has_words_of_deleted:
                keep_words(self.table, anew=True)
                self._compact()

    def rebuild_indexes(self) -> None:
        """Delete every index and build anew, from the rows, those that the table is to have."""
        for index in self.table.list_indices():
            self.table.drop_index(index.name)
        self._keep_indexes(anew=True)
        if WORDS in self.table.schema.names:
            keep_words(self.table, anew=True)
        self._compact()

    def during_run(self) -> None:
        """A run of hours adds as many rows as it takes to make searches slow: index and compact what is far gone."""
        self._keep_indexes(during_run=True)
        if shape_of(self.table, self.folder).is_compaction_due_meanwhile:
            self._compact()

    @property
    def is_due(self) -> bool:
        """Whether ``after_run`` has something to do."""
        has_vectors = VECTORS in self.table.schema.names
        is_index_due = has_vectors and index_due(self.table, self.index_from) is not None
        return is_index_due or shape_of(self.table, self.folder).is_compaction_due

    def _keep_indexes(self, *, anew: bool = False, during_run: bool = False) -> None:
        names, has_changed = self.table.schema.names, False
        if VECTORS in names:
            has_changed = keep_index(self.table, self.index_from, anew=anew, during_run=during_run)
        if WORDS in names:  # of media, whose rows every result is looked up in
            has_changed = keep_lookup(self.table, names[0], self.index_from)
        if has_changed:
            self.durable.sync(self.folder)

    def _compact(self) -> None:
        """Join fragments, extend indexes, drop every version but the newest.

        Leftovers of killed runs are deleted too. Nothing is deleted before what replaces it is safe from a loss of
        power.
        """
        self.table.optimize(cleanup_older_than=_FOR_EVER)
        self.durable.sync(self.folder)
        self._forget_versions()
        self.table.optimize(cleanup_older_than=_AT_ONCE, delete_unverified=True)

    def _forget_versions(self) -> None:
        """Delete the manifests of all versions but the newest, so that what only they name belongs to no version.

        Lance prunes versions by their age, and would keep those that were written while the clock was ahead. Files of
        no version it deletes whatever their age.
        """
        newest = manifest_of(self.folder, int(self.table.version))
        for manifest in manifests(self.folder) if newest is not None else ():
            if manifest != newest:
                manifest.unlink()

    def _purge(self) -> None:
        """Compact a table that lance leaves alone since few of its rows are deleted.

        It joins small fragments, deleted rows or not, but only several of them: writing one row anew makes a second
        one. Where that is not enough (fragments of a million rows), all rows are written anew.
        """
        key, other = self.table.schema.names[:2]
        first = self.table.search().select([key]).limit(1).to_arrow()[key].to_pylist()
        for where in (_is(key, first[0]) if first else None, None):
            self.table.update(where=where, values_sql={other: other})
            self._compact()
            if not _has_deleted(self.folder):
                return


def manifests(folder: Path) -> list[Path]:
    """The manifests of a table's versions."""
    return [path for path in (folder / "_versions").glob("*.manifest") if path.stem.isdecimal()]


def manifest_of(folder: Path, version: int) -> Path | None:
    """The manifest of a version, by either of the names that lance gives them; None where there is none."""
    names = (f"{2**64 - 1 - version:020d}.manifest", f"{version}.manifest")
    return next((path for name in names if (path := folder / "_versions" / name).exists()), None)


def _is(column: str, value: str) -> Any:  # noqa: ANN401 - lancedb is not typed
    from lancedb.expr import col, lit

    return col(column) == lit(value)


def _has_deleted(folder: Path) -> bool:
    """Whether versions on disk note deleted rows; those of pruned versions are gone."""
    return next((folder / "_deletions").glob("*"), None) is not None


def _n_bytes(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.iterdir())
    except FileNotFoundError:
        return 0
