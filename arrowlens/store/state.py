"""The settings of a library as they are on disk now, and every change to them under the writer lock."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path

from arrowlens.errors import InputError, LibraryNotFoundError, StorageError
from arrowlens.store.lock import LOCK_NAME, WriterLock
from arrowlens.store.schema import MEDIA_TABLE, SCHEMA_VERSION, media_schema
from arrowlens.store.settings import (
    SETTINGS_NAME,
    ModelRecord,
    Root,
    Settings,
    copy_of_settings,
    is_settings_file,
    read_settings,
    relative_to,
    restore_settings,
    write_settings,
)
from arrowlens.store.tables import Tables


def restored(path: str | os.PathLike[str]) -> bool:
    """Put back lost or damaged settings of a library from their copy; says whether that was needed.

    Raises:
        LibraryNotFoundError: no library there. LibraryBusyError: somebody writes to it.
        StorageError: there is no copy, or the disk refused.
    """
    folder = Path(path).expanduser().absolute()
    try:
        if read_settings(folder) is not None:
            return False
    except StorageError:
        with WriterLock(folder)():
            return restore_settings(folder)
    raise LibraryNotFoundError(f"no library at {folder}; `arrowlens ingest FOLDER` makes one")


class LibraryState:
    """The settings of one library, shared by the parts of its storage. Safe to share between threads.

    Args:
        path: the library's folder, absolute.
        tables: the library's tables, for upgrades and for dropping tables of earlier models.
        create: make a library where there is none.

    Raises:
        LibraryNotFoundError, LibraryVersionError, StorageError: as ``MultimodalStorage``.
    """

    def __init__(self, path: Path, tables: Tables, create: bool) -> None:
        self.path = path
        settings = read_settings(path)
        if settings is None and not create:
            raise LibraryNotFoundError(f"no library at {path}; `arrowlens ingest FOLDER` makes one")
        self._lock = WriterLock(path)
        self._tables = tables
        self._settings = settings or self._created()
        self._settings_stamp = self._stamp()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Make this thread the one writer for a block; a library of an earlier layout is upgraded first.

        Raises:
            LibraryBusyError: another thread or process holds it. StorageError: the disk or the database refused.
        """
        with self._lock():
            if self.settings.schema_version < SCHEMA_VERSION:
                self._upgrade()
            if not copy_of_settings(self.path).exists():  # of a library that an earlier Arrowlens made
                write_settings(self.path, self.settings)
            yield

    @property
    def settings(self) -> Settings:
        """Layout, models, windows and folders; as they are on disk now.

        Raises:
            LibraryVersionError, StorageError: another process has replaced or damaged them.
        """
        stamp = self._stamp()
        if stamp != self._settings_stamp:
            settings = read_settings(self.path)
            if settings is None:
                raise StorageError(f"the library {self.path} is gone; open it again")
            if settings.retired != self._settings.retired:
                self._tables.close()  # a table that comes again is another one
            self._settings, self._settings_stamp = settings, stamp
        return self._settings

    def bind_models(self, models: Mapping[str, ModelRecord]) -> None:
        """Remember the models by role, or check them against those remembered.

        Raises:
            ModelMismatchError: the library holds vectors of others. LibraryBusyError, StorageError: as for writing.
        """
        if self.settings.with_models(models) != self.settings:
            with self.writing():
                self.save(self.settings.with_models(models))

    def add_root(self, folder: str | os.PathLike[str]) -> Root:
        """The root that holds an absolute folder; a new one unless a registered one contains it.

        Raises:
            LibraryBusyError, StorageError: as for writing.
        """
        path = os.fsdecode(folder)
        if not os.path.isabs(path):  # noqa: PTH117 - a name that is not UTF-8 is no use to pathlib
            raise InputError(f"{path} is not an absolute path")
        with self.writing():
            self.save(self.settings.with_root(path))
        root = self.settings.root_of(path)
        assert root is not None
        return root

    def add_mounts(self, paths: Iterable[str]) -> None:
        """Remember where disks were mounted.

        Raises:
            LibraryBusyError, StorageError: as for writing.
        """
        with self.writing():
            mounts = tuple(sorted({*self.settings.mounts, *paths}))
            self.save(dataclasses.replace(self.settings, mounts=mounts))

    def forget_mounts(self, paths: Iterable[str]) -> None:
        """Forget places where disks were mounted: what lies there belongs to the folder around.

        Raises:
            LibraryBusyError, StorageError: as for writing.
        """
        with self.writing():
            mounts = tuple(sorted({*self.settings.mounts} - {*paths}))
            self.save(dataclasses.replace(self.settings, mounts=mounts))

    def forget_roots(self, kept: Set[str]) -> None:
        """Forget the roots that are not among ``kept`` (ids), and mounted disks that no other root has to do with.

        Raises:
            LibraryBusyError, StorageError: as for writing.
        """
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
            ModelMismatchError: two models cannot be told apart. LibraryBusyError, StorageError: as for writing.
        """
        with self.writing():
            self.save(self.settings.changing_to(models))
            self.drop_retired()

    def finish_change(self) -> None:
        """Put the next models in use, for every reader at once; then drop the tables of the earlier ones.

        Raises:
            LibraryBusyError, StorageError: as for writing.
        """
        with self.writing():
            assert self.settings.next_models, "nothing was begun"
            self.save(self.settings.changed())
            self.drop_retired()

    def drop_retired(self) -> None:
        """Drop the tables of earlier models, also those whose drop was interrupted; the caller holds the writer lock.

        Raises:
            StorageError: the disk refused.
        """
        if self.settings.retired:
            for name in self.settings.retired:
                self._tables.drop(name)
            self.save(self.settings.without_retired())

    def _created(self) -> Settings:
        """Make a library in a folder that is missing or empty; a killed attempt does not stand in the way."""
        require_usable(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self.path} cannot be made ({error.strerror}); check its parent folder") from error
        with self._lock():
            settings = read_settings(self.path) or Settings()  # another process may have been quicker
            write_settings(self.path, settings)
        return settings

    def _upgrade(self) -> None:
        """From version 1 or 2: columns of ``media``. The settings come last: what is cut off is done again."""
        self._tables.recover(MEDIA_TABLE)
        self._tables.add_columns(MEDIA_TABLE, media_schema())
        self.save(dataclasses.replace(self.settings, schema_version=SCHEMA_VERSION))

    def save(self, settings: Settings) -> None:
        """Replace the settings; the caller holds the writer lock.

        Raises:
            StorageError: the disk refused.
        """
        if settings != self.settings:
            write_settings(self.path, settings)
            self._settings, self._settings_stamp = settings, self._stamp()

    def _stamp(self) -> tuple[int, int] | None:
        try:
            stat = (self.path / SETTINGS_NAME).stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns


def require_usable(path: Path) -> None:
    """Check that a library can be made at an absolute path, without making anything.

    Raises:
        LibraryNotFoundError: the folder holds other things. StorageError: it cannot be made, read or written.
    """
    try:
        strangers = [entry.name for entry in os.scandir(path) if not _is_ours(entry.name)]
    except FileNotFoundError:
        strangers = []
    except OSError as error:
        cause = f"cannot be made ({error.strerror})" if isinstance(error, PermissionError) else "cannot be read"
        detail = "" if isinstance(error, PermissionError) else f" ({error.strerror})"
        raise StorageError(f"{path} {cause}{detail}; name a folder that is yours to write to") from error
    if strangers:
        raise LibraryNotFoundError(
            f"{path} holds other things ({min(strangers)!r}) and no library; name a new or an empty folder"
        )
    parent = next(place for place in (path, *path.parents) if place.exists() or place.is_symlink())
    if not os.access(parent, os.W_OK | os.X_OK):
        cause = "it is a link to nothing" if not parent.exists() else "Permission denied"
        raise StorageError(f"{path} cannot be made ({cause}); check the permissions of {parent}")


def _is_ours(name: str) -> bool:
    return name == LOCK_NAME or is_settings_file(name)
