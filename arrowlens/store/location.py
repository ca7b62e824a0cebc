"""Where a library lies: the one place in the store that touches files and objects.

A ``Location`` is a folder (``LocalLocation``) or a prefix in a bucket (``ObjectLocation``). Small files have names
(keys), are read and written whole, and ``replace`` writes one only if its tag is still the one that was read. How a
table is dropped or made durable, and how the one writer is held, is the location's own affair.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from arrowlens.addresses import scheme_of
from arrowlens.errors import InputError, LibraryBusyError, LibraryNotFoundError, StorageError
from arrowlens.store.identifiers import is_table_name

SETTINGS_NAME = "library.json"
LOCK_NAME = "writer.lock"
MARKS_NAME = "marks.json"
SHARDS_NAME = "shards"
_PATIENCE_S = 10.0  # with others that change a small file
_COPIES = "copies"  # in a folder of its own, so that neither lance nor an earlier Arrowlens takes a copy for the file
COPY_OF_SETTINGS = f"{_COPIES}/{SETTINGS_NAME}"
_PARTIAL = ".partial"  # one writer at a time: the name needs nothing random
# What an interrupted creation may leave. Shards are not among it: without settings nothing says how many there are.
_OURS = {SETTINGS_NAME, SETTINGS_NAME + _PARTIAL, LOCK_NAME, _COPIES}


class Location(Protocol):
    """Where a library lies. Names are relative to it, with slashes: ``library.json``, ``media.lance/data/x.lance``.

    Methods raise ``OSError`` when a disk refuses and StorageError when a bucket does, unless they say otherwise.
    """

    @property
    def uri(self) -> str:
        """The address, for lancedb and for people: an absolute folder, or ``s3://bucket/prefix``."""

    @property
    def path(self) -> Path | None:
        """The folder, absolute; None in a bucket."""

    @property
    def storage_options(self) -> Mapping[str, str] | None:
        """How lancedb reaches the bucket, None for a folder. Holds credentials: neither log nor store it."""

    @property
    def is_durable(self) -> bool:
        """Whether what was written is whole and stays.

        Buckets promise that. Of a disk, a loss of power may take parts of the last files, so that second copies of the
        settings and manifests are kept. In a bucket they would be a further request for each commit, and of no use.
        """

    @property
    def retention(self) -> dt.timedelta | None:
        """How long earlier versions of tables are kept, None where they are deleted at once.

        A process on this machine that dies takes its writes with it. One on another machine may be paused in the middle
        of a merge, and go on later: lance finds out what was merged meanwhile from the versions in between. Without
        them it writes the same ids again, silently.
        """

    def child(self, name: str) -> Location:
        """Return the location of a part of the library; its writer is the library's."""

    def require_usable(self) -> None:
        """Check that a library can be made here, without making anything.

        Raises:
            LibraryNotFoundError: the place holds other things. StorageError: it cannot be made, read or written.
        """

    def create(self) -> None:
        """Prepare the place for a library.

        Raises:
            StorageError: that is refused.
        """

    def writer(self) -> AbstractContextManager[None]:
        """Be the one writer for a block. The holding thread may enter again; all others are refused at once.

        Raises:
            LibraryBusyError: another thread or process is the writer. StorageError: the place refuses.
        """

    def require_writer(self) -> None:
        """Check, before each write, that this process is still the writer.

        Raises:
            LibraryBusyError: it was paused for so long that another one may be.
        """

    def read(self, name: str) -> tuple[bytes, str] | None:
        """Return the content of a file and its tag, None when there is no such file."""

    def tag(self, name: str) -> str | None:
        """Return what changes whenever the content of a file does, None when there is no such file."""

    def write(self, name: str, content: bytes) -> None:
        """Replace a file in one step; it is there to stay when this returns."""

    def replace(self, name: str, content: bytes, expected_tag: str | None) -> str | None:
        """``write`` if the file is still the one that was read; return its new tag.

        Args:
            name: of the file.
            content: all of it.
            expected_tag: of the file as it was read, None when there was none.

        Raises:
            LibraryBusyError: somebody else replaced it.
        """

    def update(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        """Replace a file by what a function makes of it; others may do so at once, and need not be the writer.

        Args:
            name: of the file.
            change: gets the content, None when there is no such file; may be called several times.

        Raises:
            LibraryBusyError: others change it all the time.
        """

    def rename(self, name: str, new_name: str) -> None:
        """Give a file another name."""

    def remove(self, name: str) -> None:
        """Delete a file."""

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return the bytes of every file below a folder, by name; none for a missing folder."""

    def tables(self) -> list[str]:
        """Return the names of the tables, sorted."""

    def manifests(self, table: str) -> list[str]:
        """Return the names of the manifests of a table's versions, the newest first, for lance counts them down.

        There is none before a table was committed: while it is made, or if that was interrupted.
        """

    def folder(self, table: str) -> str:
        """Return the name of a table's folder.

        Raises:
            StorageError: it is not the name of a table.
        """

    def drop(self, table: str) -> None:
        """Delete a table, in one step for whoever reads; a missing one too, for a drop may have been interrupted."""

    def sync(self, table: str) -> None:
        """Wait until everything of a table is there to stay."""

    def keep_copy(self, name: str) -> None:
        """Keep a second copy of the settings or of a table's newest manifest; nothing where that is durable."""

    def kept_manifest(self, table: str) -> str | None:
        """Return the name of the copy of a table's newest manifest, None when there is none."""

    def superseded(self, table: str) -> dict[str, dt.datetime]:
        """Return when each earlier version of a table was written, by manifest; empty where none is retained."""

    def now(self) -> dt.datetime:
        """Return the time by the clock that ``superseded`` goes by."""


def location_at(address: str | os.PathLike[str], storage_options: Mapping[str, str] | None = None) -> Location:
    """Return the location with an address.

    Args:
        address: a folder, or ``s3://bucket/prefix``.
        storage_options: for a bucket, over those of the environment (``AWS_...``): ``endpoint``, ``region``, ...

    Raises:
        InputError: an address or option that nothing understands, or the extra ``s3`` is not installed.
    """
    if (scheme := scheme_of(address)) is None:
        if storage_options:
            raise InputError(f"{os.fspath(address)} is a folder; storage options are for libraries in a bucket")
        return LocalLocation(address)
    if scheme != "s3":
        raise InputError(f"a library cannot be at {os.fspath(address)!r}; name a folder, or s3://BUCKET/PREFIX")
    from arrowlens.store.object_location import ObjectLocation  # deferred: obstore, an extra

    return ObjectLocation(os.fspath(address), storage_options)


def table_folder(uri: str, table: str) -> str:
    """As ``Location.folder``."""
    if not is_table_name(table):  # a name may come from a file: it must not lead out of the library
        raise StorageError(f"{uri}: {table!r:.80} is not a table; restore library.json from a backup")
    return f"{table}.lance"


class LocalLocation:
    """A library's folder.

    Args:
        path: the folder; it need not exist.

    Attributes:
        path: the folder, absolute. uri: the same, as a text.
    """

    storage_options = None
    is_durable = False
    retention = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().absolute()  # lancedb resolves relative paths later, from another folder
        self.uri = str(self.path)
        self._safe: dict[str, set[str]] = {}  # files of each table that have reached the disk; they never change
        self._thread_lock = threading.RLock()  # a file lock does not tell the threads of a process apart
        self._file_lock = FileLock(self.path / LOCK_NAME, timeout=0, thread_local=False)

    # -- the place itself -----------------------------------------------------------------------------------------

    def child(self, name: str) -> LocalLocation:
        """Return the location of a folder of the library; its writer is who holds the library's lock."""
        return LocalLocation(self.path / name)

    def require_usable(self) -> None:
        """Check that a library can be made here, without making anything.

        Raises:
            LibraryNotFoundError: the folder holds other things. StorageError: it cannot be made, read or written.
        """
        path = self.path
        try:
            others = [entry.name for entry in os.scandir(path) if entry.name not in _OURS]
        except FileNotFoundError:
            others = []
        except OSError as error:
            cause = f"cannot be made ({error.strerror})" if isinstance(error, PermissionError) else "cannot be read"
            detail = "" if isinstance(error, PermissionError) else f" ({error.strerror})"
            raise StorageError(f"{path} {cause}{detail}; name a folder that is yours to write to") from error
        if others:
            raise LibraryNotFoundError(
                f"{path} holds other things ({min(others)!r}) and no library; name a new or an empty folder"
            )
        parent = next(place for place in (path, *path.parents) if place.exists() or place.is_symlink())
        if not os.access(parent, os.W_OK | os.X_OK):
            cause = "it is a link to nothing" if not parent.exists() else "Permission denied"
            raise StorageError(f"{path} cannot be made ({cause}); check the permissions of {parent}")

    def create(self) -> None:
        """Make the folder and its parents.

        Raises:
            StorageError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self.path} cannot be made ({error.strerror}); check its parent folder") from error

    @contextlib.contextmanager
    def writer(self) -> Iterator[None]:
        """Hold the writer lock for a block; the system lets go of it when a process dies.

        The holding thread may enter again; every other thread and process is refused at once.

        Raises:
            LibraryBusyError: another thread or process holds it. StorageError: the folder refuses a lock file.
        """
        busy = f"{self.path} is being written to by another run; wait until it ends, then try again"
        if not self._thread_lock.acquire(blocking=False):
            raise LibraryBusyError(busy)
        try:
            try:
                self._file_lock.acquire()
            except Timeout as error:
                raise LibraryBusyError(busy) from error
            except OSError as error:
                raise StorageError(
                    f"{self.path} cannot be written ({error.strerror}); check that it is there and its permissions"
                ) from error
            try:
                yield
            finally:
                self._file_lock.release()
        finally:
            self._thread_lock.release()

    def require_writer(self) -> None:
        """Do nothing: the system keeps the lock as long as the process lives."""

    # -- small files ----------------------------------------------------------------------------------------------

    def read(self, name: str) -> tuple[bytes, str] | None:
        """Return the content of a file and its tag, None when there is no such file."""
        try:
            with (self.path / name).open("rb") as file:
                return file.read(), _tag(os.fstat(file.fileno()))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def tag(self, name: str) -> str | None:
        """Return what changes whenever a file is replaced, None when it cannot be reached."""
        try:
            return _tag((self.path / name).stat())
        except OSError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Replace a file in one step; it is on the disk when this returns."""
        path = self.path / name
        partial = path.with_name(path.name + _PARTIAL)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)

    def replace(self, name: str, content: bytes, expected_tag: str | None) -> str | None:
        """``write`` if the file is still the one that was read; return its new tag.

        Args:
            expected_tag: of the file as it was read, None when there was none.

        Raises:
            LibraryBusyError: somebody else replaced it.
        """
        if self.tag(name) != expected_tag:  # nothing comes in between: the caller holds the writer lock
            raise LibraryBusyError(f"{self.path / name} was changed by another run; try again")
        self.write(name, content)
        return self.tag(name)

    def update(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        """Replace a file by what a function makes of it, with a lock of its own; see ``Location``."""
        try:
            with FileLock(self.path / f"{name}.lock", timeout=_PATIENCE_S, thread_local=False, is_singleton=False):
                stored = self.read(name)
                self.write(name, change(None if stored is None else stored[0]))
        except Timeout as error:
            raise LibraryBusyError(f"{self.path / name} is being changed by others; try again") from error
        except OSError as error:
            raise StorageError(
                f"{self.path / name} cannot be written ({error.strerror}); free space or check permissions"
            ) from error

    def rename(self, name: str, new_name: str) -> None:
        """Give a file another name."""
        (self.path / name).rename(self.path / new_name)

    def remove(self, name: str) -> None:
        """Delete a file."""
        (self.path / name).unlink()

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return the bytes of every file below a folder, by name; none for a missing folder."""
        sizes = {}
        for parent, _, names in os.walk(self.path / folder):
            for name in names:
                path = os.path.join(parent, name)  # noqa: PTH118 - thousands of files
                with contextlib.suppress(OSError):  # a run at work has just replaced it
                    sizes[os.path.relpath(path, self.path)] = os.lstat(path).st_size
        return sizes

    # -- tables ---------------------------------------------------------------------------------------------------

    def tables(self) -> list[str]:
        """Return the names of the tables, sorted."""
        try:
            names = [name.removesuffix(".lance") for name in os.listdir(self.path) if name.endswith(".lance")]  # noqa: PTH208
        except FileNotFoundError:
            return []
        return sorted(name for name in names if is_table_name(name) and self.manifests(name))

    def manifests(self, table: str) -> list[str]:
        """Return the names of the manifests of a table's versions, the newest first, for lance counts them down.

        There is none before a table was committed: while it is made, or if that was interrupted.
        """
        folder = f"{self.folder(table)}/_versions"
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return sorted(f"{folder}/{name}" for name in os.listdir(self.path / folder) if name.endswith(".manifest"))  # noqa: PTH208
        return []

    def folder(self, table: str) -> str:
        """Return the name of a table's folder.

        Raises:
            StorageError: it is not the name of a table.
        """
        return table_folder(self.uri, table)

    def drop(self, table: str) -> None:
        """Delete a table, in one step for whoever reads; a missing one too, for a drop may have been interrupted."""
        folder, doomed = self.path / self.folder(table), self.path / f"{table}.dropped"
        for _ in range(2):  # first what an earlier drop left behind
            if doomed.exists():
                shutil.rmtree(doomed)
            if folder.exists():
                folder.rename(doomed)
        self._safe.pop(table, None)  # files of the same names may come again
        shutil.rmtree(self.path / _COPIES / table, ignore_errors=True)
        _sync_folder(self.path)

    def sync(self, table: str) -> None:
        """Wait until everything of a table is on the disk; lance leaves that to the system, which takes its time."""
        safe = self._safe.get(table, set())
        present: set[str] = set()
        for parent, _, names in os.walk(self.path / self.folder(table)):
            paths = [os.path.join(parent, name) for name in names]  # noqa: PTH118 - many
            new = [path for path in paths if path not in safe]
            present.update(paths)
            for path in new:
                _sync(path)
            if new:
                _sync_folder(parent)
        self._safe[table] = present

    # -- second copies of the two files without which a library cannot be read: its settings, its tables' manifests --

    def copy_of(self, name: str) -> str:
        """Return the name of the copy of the settings, or of a manifest ``TABLE.lance/_versions/NAME``."""
        folder, _, file = name.rpartition("/")
        return "/".join(filter(None, (_COPIES, folder.partition(".lance")[0], file)))

    def keep_copy(self, name: str) -> None:
        """Copy a file that has reached the disk, and delete the copies of files that it replaces.

        So a copy holds nothing that the file itself does not hold: what was removed leaves both.
        """
        copy = self.copy_of(name)
        (self.path / copy).parent.mkdir(parents=True, exist_ok=True)
        self.write(copy, (self.path / name).read_bytes())
        for other in (self.path / copy).parent.iterdir():
            if other != self.path / copy and other.is_file():
                other.unlink()

    def kept_manifest(self, table: str) -> str | None:
        """Return the name of the copy of a table's newest manifest, None when there is none."""
        return min((name for name in self.sizes(f"{_COPIES}/{table}") if name.endswith(".manifest")), default=None)

    # -- earlier versions, of which none is retained --

    def superseded(self, table: str) -> dict[str, dt.datetime]:
        """Return nothing: a new version replaces the earlier ones at once."""
        return {}

    def now(self) -> dt.datetime:
        """Return the time of this machine."""
        return dt.datetime.now(dt.UTC)


def _tag(status: os.stat_result) -> str:
    return f"{status.st_ino}-{status.st_mtime_ns}"


def _sync(path: str | Path) -> None:
    """Wait until a file or folder is on the disk; one that is gone need not be."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: str | Path) -> None:
    """The same for the names in a folder, where the file system can do that."""
    with contextlib.suppress(OSError):
        _sync(path)
