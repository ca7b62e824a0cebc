"""Getting at a file's bytes, whatever the file is: only regular files, within limits, never hanging."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from arrowlens.errors import MediaError
from arrowlens.media.decoded import AnyPath, Limits

HASH_CHARS = 32
_CHUNK = 1024 * 1024  # bytes

_KINDS = [
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
]

_CHANGED = "the file changed while it was read; try again when nothing writes to it"

_CAUSES = {
    errno.EACCES: "permission denied: the file cannot be opened",
    errno.EPERM: "permission denied: the file cannot be opened",
    errno.ELOOP: "a link that leads back to itself",
    errno.ENAMETOOLONG: "the name is too long for this file system",
}


@contextmanager
def open_regular(path: AnyPath) -> Iterator[BinaryIO]:
    """Open a regular file for reading.

    Its kind is looked at first, since opening alone can hang (a pipe) or act (a device), and again once it is open,
    without waiting, in case it was swapped in between.

    Raises:
        MediaError: it is gone, not a regular file, or not ours to read; the message is one line for a user.
    """
    try:
        _require_regular(os.stat(path))  # noqa: PTH116 - the path may be bytes
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        file = open(os.open(path, flags), "rb")  # noqa: PTH123, SIM115 - takes a descriptor; closed below
    except OSError as error:
        raise MediaError(explain_os_error(error, path)) from error
    except ValueError as error:  # a zero byte in the name
        raise MediaError(f"not a possible path: {error}") from error
    with file:
        _require_regular(os.fstat(file.fileno()))
        yield file


def read_regular(path: bytes, max_bytes: int | None = None) -> bytes:
    """A regular file's bytes.

    Raises:
        MediaError: as ``open_regular``, or it has more than ``max_bytes``.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if max_bytes is not None and size > max_bytes:
            raise MediaError(f"{size / 1e6:,.0f} MB is over the limit of {max_bytes / 1e6:,.0f} MB")
        return file.read()


def read_all(file: BinaryIO, size: int) -> bytes:
    """Read exactly ``size`` bytes from the start.

    Raises:
        MediaError: there are more or fewer, since the file is being written, or reading failed.
    """
    try:
        file.seek(0)
        data = file.read(size + 1)
    except OSError as error:
        raise MediaError(explain_os_error(error)) from error
    if len(data) != size:
        raise MediaError(_CHANGED)
    return data


def hash_bytes(data: bytes) -> str:
    """The content hash of bytes in memory."""
    return hashlib.sha256(data).hexdigest()[:HASH_CHARS]


def hash_stream(file: BinaryIO, size: int) -> str:
    """The content hash of an open file, in constant memory.

    Raises:
        MediaError: it holds more or fewer bytes than ``size``, or reading failed.
    """
    digest, seen = hashlib.sha256(), 0
    try:
        file.seek(0)
        while seen <= size and (chunk := file.read(_CHUNK)):
            digest.update(chunk)
            seen += len(chunk)
    except OSError as error:
        raise MediaError(explain_os_error(error)) from error
    if seen != size:
        raise MediaError(_CHANGED)
    return digest.hexdigest()[:HASH_CHARS]


def hash_file(path: AnyPath, limits: Limits) -> str:
    """The content hash of a regular file, as ``decode`` would report it.

    Raises:
        MediaError: it is gone, not a regular file, over ``limits.max_file_bytes``, not ours to read, or it changes
            meanwhile; the message is one line for a user.
    """
    with open_regular(path) as file:
        before = os.fstat(file.fileno())
        if before.st_size > limits.max_file_bytes:
            raise MediaError(f"{before.st_size:,} bytes is over the limit of {limits.max_file_bytes:,} bytes")
        content_hash = hash_stream(file, before.st_size)
        require_unchanged(file, before)
    return content_hash


def require_unchanged(file: BinaryIO, before: os.stat_result) -> None:
    """Compare an open file with what it was: what was decoded must be what was hashed.

    Raises:
        MediaError: its size or its time of change is another.
    """
    now = os.fstat(file.fileno())
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise MediaError(_CHANGED)


def explain_os_error(error: OSError, path: object = None) -> str:
    """One line for a user about a failed open or read."""
    if isinstance(error, FileNotFoundError):
        if path is not None and os.path.islink(path):  # type: ignore[arg-type]  # noqa: PTH114 - may be bytes
            return "a link to nothing"
        return "the file is gone"
    if error.errno in _CAUSES:
        return _CAUSES[error.errno]
    return f"cannot be read: {error.strerror or error}"


class Tape:
    """A file for a native reader that calls back: an error is kept for later instead of being lost in foreign code.

    Seeking before the start or an input error would otherwise print a traceback from inside the callback, and Ctrl-C
    there would vanish. Call ``check`` after each native call.
    """

    def __init__(self, file: BinaryIO | io.BytesIO) -> None:
        self._file = file
        self._error: BaseException | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; an impossible target leaves the position as it was."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return self._file.tell()
        except BaseException as error:
            self._error = error
            return 0

    def tell(self) -> int:
        """The position in bytes."""
        return self._file.tell()

    def readinto(self, buffer: memoryview) -> int:
        """Read into a buffer; 0 at the end, and after an error."""
        try:
            return self._file.readinto(buffer)  # type: ignore[union-attr]
        except BaseException as error:
            self._error = error
            return 0

    def read(self, size: int = -1) -> bytes:
        """Read bytes; none at the end, and after an error."""
        try:
            return self._file.read(size)
        except BaseException as error:
            self._error = error
            return b""

    def check(self) -> None:
        """Raise what went wrong since the last check.

        Raises:
            MediaError: an input error.
        """
        error, self._error = self._error, None
        if isinstance(error, OSError):
            raise MediaError(explain_os_error(error)) from error
        if error is not None:
            raise error


def _require_regular(status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = next((words for test, words in _KINDS if test(status.st_mode)), "something else")
    raise MediaError(f"not a regular file: it is {kind}")
