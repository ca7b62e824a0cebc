"""The settings of a library as they are on disk now, and every change to them under the writer lock."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager

import pyarrow as pa

from arrowlens.addresses import scheme_of
from arrowlens.errors import InputError, LibraryNotFoundError, StorageError
from arrowlens.store.fulltext import WORD_COLUMNS, WORDS, words_of
from arrowlens.store.identifiers import MEDIA_TABLE, SCHEMA_VERSION
from arrowlens.store.location import SETTINGS_NAME, Location, location_at
from arrowlens.store.records import media_schema
from arrowlens.store.settings import (
    MAX_SHARDS,
    ModelRecord,
    Root,
    RouteCalibration,
    Settings,
    has_copy,
    is_number_of_shards,
    read_settings,
    relative_to,
    restore_settings,
    write_settings,
)
from arrowlens.store.tables import Tables


def restored(path: str | os.PathLike[str], storage_options: Mapping[str, str] | None = None) -> bool:
    """Restore lost or damaged settings of a library from their copy; return whether that was needed.

    Raises:
        LibraryNotFoundError: no library there. LibraryBusyError: somebody writes to it.
        StorageError: there is no copy, or the disk refused.
    """
    location = location_at(path, storage_options)
    try:
        if read_settings(location) is not None:
            return False
    except StorageError:
        with location.writer():
            return restore_settings(location)
    raise LibraryNotFoundError(f"no library at {location.uri}; `arrowlens ingest FOLDER` makes one")


class LibraryState:
    """The settings of one library, shared by the parts of its storage. Safe to share between threads.

    Each changing method raises LibraryBusyError when somebody else writes, and StorageError when the disk refuses.

    Args:
        location: where the library lies.
        tables: the library's tables, for upgrades and for dropping tables of earlier models.
        create: make a library where there is none.
        n_shards: of the library that is made, or that is there; None for one, or for whatever is there.

    Raises:
        InputError, LibraryNotFoundError, LibraryVersionError, StorageError: as ``MultimodalStorage``.
    """

    def __init__(self, location: Location, tables: Tables, create: bool, n_shards: int | None = None) -> None:
        if n_shards is not None and not is_number_of_shards(n_shards):
            raise InputError(f"a library cannot have {n_shards} shards; name a power of two, from 1 to {MAX_SHARDS}")
        self.location, self._tables = location, tables
        stored = read_settings(location)
        if stored is None and not create:
            raise LibraryNotFoundError(f"no library at {location.uri}; `arrowlens ingest FOLDER` makes one")
        # With their tag; replaced at once, for other threads read it.
        self._stored = stored or self._created(Settings(n_shards=n_shards or 1))
        n_there = self._stored[0].n_shards
        if n_shards not in (None, n_there):
            raise InputError(
                f"{location.uri} was made with {n_there} shard{'s' * (n_there > 1)}, not {n_shards}, and keeps "
                f"{'them' if n_there > 1 else 'it'}; leave the number out, or name a new library"
            )
        tables.divide(n_there)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Make this thread the one writer for a block; a library of an earlier layout is upgraded first.

        Raises:
            LibraryBusyError: another thread or process holds it. StorageError: the disk or the database refused.
        """
        with self.location.writer():
            if self.settings.schema_version < SCHEMA_VERSION:
                self._upgrade()
            if not self.location.is_durable and not has_copy(self.location):
                self._write(*self._current())
            yield

    @property
    def settings(self) -> Settings:
        """Layout, models, windows and folders; as they are on disk now.

        Raises:
            LibraryVersionError, StorageError: another process has replaced or damaged them.
        """
        return self._current()[0]

    def bind_models(self, models: Mapping[str, ModelRecord]) -> None:
        """Remember the models by role, or check them against those remembered.

        Raises:
            ModelMismatchError: the library holds vectors of others.
        """
        if self.settings.with_models(models) != self.settings:
            with self.writing():
                self.save(self.settings.with_models(models))

    def save_calibrations(self, calibrations: Mapping[str, RouteCalibration]) -> None:
        """Remember calibrations by route; those of models that are no longer in use are forgotten."""
        with self.writing():
            self.save(self.settings.with_calibrations(calibrations))

    def add_root(self, folder: str | os.PathLike[str]) -> Root:
        """Return the root that contains an absolute folder or the address of a prefix, a new one where none does.

        Raises:
            InputError: it is relative.
        """
        path = os.fsdecode(folder)
        if scheme_of(path) is None and not os.path.isabs(path):  # noqa: PTH117 - a name that is not UTF-8 is no use to pathlib
            raise InputError(f"{path} is not an absolute path")
        with self.writing():
            self.save(self.settings.with_root(path))
        root = self.settings.root_of(path)
        assert root is not None
        return root

    def add_mounts(self, paths: Iterable[str]) -> None:
        """Remember where disks were mounted."""
        with self.writing():
            mounts = tuple(sorted({*self.settings.mounts, *paths}))
            self.save(dataclasses.replace(self.settings, mounts=mounts))

    def forget_mounts(self, paths: Iterable[str]) -> None:
        """Forget places where disks were mounted: what lies there belongs to the folder around."""
        with self.writing():
            mounts = tuple(sorted({*self.settings.mounts} - {*paths}))
            self.save(dataclasses.replace(self.settings, mounts=mounts))

    def forget_roots(self, kept: Set[str]) -> None:
        """Forget all roots but those with the ids ``kept``, and the mounts that have nothing to do with those."""
        with self.writing():
            roots = tuple(root for root in self.settings.roots if root.root_id in kept)
            mounts = tuple(
                mount
                for mount in self.settings.mounts
                if any(relative_to(mount, root.path) is not None or root.relative(mount) is not None for root in roots)
            )
            self.save(dataclasses.replace(self.settings, roots=roots, mounts=mounts))

    def begin_change(self, models: Mapping[str, ModelRecord]) -> None:
        """Start a migration to these models. Vectors of an interrupted migration to them are reused.

        An empty mapping gives up a migration. Tables of other next models are dropped.

        Raises:
            ModelMismatchError: two models cannot be told apart.
        """
        with self.writing():
            self.save(self.settings.changing_to(models))
            self.drop_retired()

    def finish_change(self) -> None:
        """Put the next models in use, for every reader at once; then drop the tables of the earlier ones."""
        with self.writing():
            assert self.settings.next_models, "nothing was begun"
            self.save(self.settings.changed())
            self.drop_retired()

    def drop_retired(self) -> None:
        """Drop the tables of earlier models, also where that was interrupted; the caller holds the writer lock."""
        if self.settings.retired:
            for name in self.settings.retired:
                self._tables.drop(name)
            self.save(self.settings.without_retired())

    def _created(self, settings: Settings) -> tuple[Settings, str | None]:
        """Make a library in a folder that is missing or empty; an interrupted attempt does not stand in the way."""
        self.location.require_usable()
        self.location.create()
        with self.location.writer():
            stored = read_settings(self.location)  # another process may have been quicker
            return stored or (settings, write_settings(self.location, settings, None))

    def _upgrade(self) -> None:
        """Add the columns that ``media`` lacks, and the numerals of number words to what the full-text index holds.

        Settings come last: an interrupted upgrade is done again.
        """
        self._tables.recover(MEDIA_TABLE)
        self._tables.add_columns(MEDIA_TABLE, media_schema())
        schema = media_schema()
        rows = self._tables.rows(MEDIA_TABLE, ["media_id", *WORD_COLUMNS, WORDS], schema).to_pylist()
        changed = [row["media_id"] for row in rows if words_of(row) != row[WORDS]]
        rows = self._tables.rows_with(MEDIA_TABLE, "media_id", changed, schema.names, schema).to_pylist()
        renewed = pa.Table.from_pylist([{**row, WORDS: words_of(row)} for row in rows], schema=schema)
        self._tables.merge(MEDIA_TABLE, "media_id", renewed)
        self.save(dataclasses.replace(self.settings, schema_version=SCHEMA_VERSION))

    def save(self, settings: Settings) -> None:
        """Replace the settings; the caller holds the writer lock."""
        current, tag = self._current()
        if settings != current:
            self._write(settings, tag)

    def _current(self) -> tuple[Settings, str | None]:
        """The settings on disk and their tag."""
        settings, tag = self._stored
        if self.location.tag(SETTINGS_NAME) == tag:
            return settings, tag
        stored = read_settings(self.location)
        if stored is None:
            raise StorageError(f"the library {self.location.uri} is gone; open it again")
        if stored[0].n_shards != settings.n_shards:
            raise StorageError(f"another library was made at {self.location.uri}; open it again")
        if stored[0].retired != settings.retired:
            self._tables.close()  # a table that comes again is another one
        self._stored = stored
        return stored

    def _write(self, settings: Settings, expected_tag: str | None) -> None:
        self._stored = settings, write_settings(self.location, settings, expected_tag)
