"""One writer at a time, over processes and threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from arrowlens.errors import LibraryBusyError, StorageError

LOCK_NAME = "writer.lock"


class WriterLock:
    """Held by whoever writes to the library in ``folder``; the system lets go of it when a process dies.

    The holding thread may enter again; everyone else is refused at once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread_lock = threading.RLock()  # a file lock does not tell the threads of a process apart
        self._file_lock = FileLock(folder / LOCK_NAME, timeout=0, thread_local=False)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold the lock for a block.

        Raises:
            LibraryBusyError: another thread or process holds it. StorageError: the folder refuses a lock file.
        """
        if not self._thread_lock.acquire(blocking=False):
            raise LibraryBusyError(_busy(self._folder))
        try:
            with self._held():
                yield
        finally:
            self._thread_lock.release()

    @contextmanager
    def _held(self) -> Iterator[None]:
        try:
            self._file_lock.acquire()
        except Timeout as error:
            raise LibraryBusyError(_busy(self._folder)) from error
        except OSError as error:
            raise StorageError(
                f"{self._folder} cannot be written ({error.strerror}); check that it is there and its permissions"
            ) from error
        try:
            yield
        finally:
            self._file_lock.release()


def _busy(folder: Path) -> str:
    return f"{folder} is being written to by another run; wait until it ends, then try again"
