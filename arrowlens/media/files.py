"""Getting at a file's bytes, whatever the file is: only regular files, within limits, never hanging."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from arrowlens.errors import FileChangedError, MediaError
from arrowlens.media.decoded import AnyPath, Limits
from arrowlens.modalities import modality_of

HASH_CHARS = 32
_INT64_MAX = 2**63 - 1
_CHUNK = 1024 * 1024  # bytes

_KINDS = [
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
]

_OPENING = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_REPLACED = "changed since it was indexed; run `arrowlens ingest` on its folder"
_CHANGED = "the file changed while it was read; try again when nothing writes to it"

_CAUSES = {
    errno.EACCES: "permission denied: the file cannot be opened",
    errno.EPERM: "permission denied: the file cannot be opened",
    errno.ELOOP: "a link that leads back to itself",
    errno.ENAMETOOLONG: "the name is too long for this file system",
}


@dataclass(frozen=True, slots=True)
class ExactFile(os.PathLike[bytes]):
    """A file by its real path: ``open_regular`` follows no link on the way to it, and opens no other file there.

    Attributes:
        path: absolute and real, as ``os.path.realpath`` gives it.
        file_id: as ``file_id_of`` gives it. size: bytes. modified_ns: nanoseconds since 1970. What is None may be any.
    """

    path: bytes
    file_id: str | None = None
    size: int | None = None
    modified_ns: int | None = None

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> ExactFile:
        """The file that was read for a row of ``MultimodalStorage.media``.

        A row of a layout before 3 does not say where its file really lay, and which file it was: it counts as the file
        at its path, of its size and time, if there is no link in that path.
        """
        return cls(row["real_path"] or row["absolute_path"], row["file_id"], row["size"], row["modified_ns"])

    def __fspath__(self) -> bytes:
        return self.path

    def require(self, status: os.stat_result) -> None:
        """Compare the file with what was recorded.

        Raises:
            FileChangedError: it is another file, has another size or time of change, or is a link.
            MediaError: nothing was recorded, and it is not a regular file.
        """
        now = (file_id_of(status), status.st_size, bounded_ns(status.st_mtime_ns))
        recorded = (self.file_id, self.size, self.modified_ns)
        if recorded == (None, None, None) and not stat.S_ISLNK(status.st_mode):
            _require_regular(status)
        elif not stat.S_ISREG(status.st_mode) or any(
            old is not None and old != new for old, new in zip(recorded, now, strict=True)
        ):
            raise FileChangedError(_REPLACED)


def file_id_of(status: os.stat_result) -> str:
    """A file's device and inode: equal for two paths to one file."""
    return f"{status.st_dev}:{status.st_ino}"


def bounded_ns(nanoseconds: int) -> int:
    """A time as 64 bits can hold it."""
    return max(-_INT64_MAX, min(_INT64_MAX, nanoseconds))


@contextmanager
def open_regular(path: AnyPath) -> Iterator[BinaryIO]:
    """Open a regular file for reading.

    Its kind is looked at first, since opening alone can hang (a pipe) or act (a device), and again once it is open,
    without waiting, in case it was swapped in between.

    Args:
        path: links in it are followed, unless it is an ``ExactFile``.

    Raises:
        FileChangedError: an ``ExactFile`` is another file now, or is reached by a link.
        MediaError: it is gone, not a regular file, or not ours to read; the message is one line for a user.
    """
    try:
        if isinstance(path, ExactFile):
            descriptor = _open_exact(path)
        else:
            _require_regular(os.stat(path))  # noqa: PTH116 - the path may be bytes
            descriptor = os.open(path, _OPENING)
        file = open(descriptor, "rb")  # noqa: PTH123, SIM115 - takes a descriptor; closed below
    except OSError as error:
        raise MediaError(explain_os_error(error, path)) from error
    except ValueError as error:  # a zero byte in the name
        raise MediaError(f"not a possible path: {error}") from error
    with file:
        _require_regular(os.fstat(file.fileno()))
        yield file


def read_regular(path: AnyPath, max_bytes: int | None = None) -> bytes:
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
        MediaError: it is gone, not a regular file, over the limit of bytes, not ours to read, or it changes meanwhile;
            the message is one line for a user.
    """
    with open_regular(path) as file:
        before = os.fstat(file.fileno())
        most = limits.max_film_bytes if modality_of(path) == "video" else limits.max_file_bytes
        if before.st_size > most:
            raise MediaError(f"{before.st_size:,} bytes is over the limit of {most:,} bytes")
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


class NativeFileAdapter:
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


def _open_exact(file: ExactFile) -> int:
    """Open each folder of the path by itself, so that none of them can be a link, and then the file."""
    name = os.path.basename(file.path)  # noqa: PTH119 - bytes
    folder = _open_folder(os.path.dirname(file.path))  # noqa: PTH120 - bytes
    try:
        file.require(os.stat(name, dir_fd=folder, follow_symlinks=False))
        descriptor = os.open(name, _OPENING | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileChangedError(_REPLACED) from error
        raise
    finally:
        os.close(folder)
    try:
        file.require(os.fstat(descriptor))
    except FileChangedError:
        os.close(descriptor)
        raise
    return descriptor


def _open_folder(path: bytes) -> int:
    """A descriptor of a folder of which no component is a link."""
    # O_PATH needs no permission to list a folder, as opening a file by its path needs none; macOS has no such flag.
    flags = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    folder = os.open(b"/", flags)
    try:
        for name in filter(None, path.split(b"/")):
            inner = os.open(name, flags, dir_fd=folder)
            os.close(folder)
            folder = inner
    except OSError as error:
        os.close(folder)
        if error.errno in (errno.ELOOP, errno.ENOTDIR):  # a link, or a file
            raise FileChangedError(_REPLACED) from error
        raise
    return folder


def _require_regular(status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = next((words for test, words in _KINDS if test(status.st_mode)), "something else")
    raise MediaError(f"not a regular file: it is {kind}")
