"""Where media files come from: what lies there, and the bytes of one file.

A listing tells each file's version, and a file is read in exactly that version. Decoding processes, which may run on
another machine, fetch for themselves what was not read ahead. Folders are here, buckets in ``bucket.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol

from arrowlens.errors import MediaError
from arrowlens.ingest.walk import ScannedFile, Walk, walk
from arrowlens.media.decoded import AnyPath
from arrowlens.media.files import ExactFile, bounded_ns, explain_os_error, file_id_of, open_regular
from arrowlens.store import Settings


@dataclass(frozen=True, slots=True)
class Fetched:
    """One version of a file, to be decoded.

    Attributes:
        path: what a decoder opens; with ``data`` or ``opened``, a name only.
        data: the bytes, of a source whose files are not on this machine.
        opened: opens this version, seekable, where the bytes are too many to be held in memory.
        file_id: device and inode of the file; None where there are none.
    """

    path: AnyPath
    data: bytes | None = None
    opened: Callable[[], AbstractContextManager[BinaryIO]] | None = None
    file_id: str | None = None


class Source(Protocol):
    """A place with media files. Picklable."""

    def walk(self, settings: Settings) -> Walk:
        """List the files below the roots that ``settings`` has."""

    def look(self, file: ScannedFile) -> ScannedFile:
        """Return the file with the size and the time that it has now.

        Raises:
            MediaError: it is gone, not a regular file, or not readable; the message is one line for a user.
        """

    def fetch(self, file: ScannedFile) -> Fetched | None:
        """Get exactly the version that ``file.stamp`` names; None when there is another one now.

        Raises:
            MediaError: as ``look``.
        """

    def read_ahead(self, files: Iterable[ScannedFile]) -> Iterator[ScannedFile]:
        """Yield files, in any order, with the ``content`` of those that this machine has to wait for.

        A file whose version is not there any more, or that cannot be read, comes without: ``fetch`` gives the reason.
        """

    def open(self, path: bytes) -> AbstractContextManager[BinaryIO]:
        """Open a file of this source, a caption for example, as it is now; seekable.

        Raises:
            MediaError: as ``look``.
        """


@dataclass(frozen=True, slots=True)
class FolderSource:
    """Folders on this machine.

    Attributes:
        scopes: the folders to walk, of ``resolve_folders``.
        library: the library's own folder, which is passed over; None for one in a bucket.
    """

    scopes: tuple[str, ...]
    library: Path | None

    def walk(self, settings: Settings) -> Walk:
        """List the files below ``scopes``, whose roots are registered in ``settings``."""
        return walk(self.scopes, settings, self.library)

    def look(self, file: ScannedFile) -> ScannedFile:
        """Return the file as it is now at its real path, by ``lstat``; errors as of ``Source``."""
        path = file.real_path or file.path
        try:
            status = os.lstat(path)
        except OSError as error:
            raise MediaError(explain_os_error(error, path)) from error
        ExactFile(path).require(status)
        modified_ns = bounded_ns(status.st_mtime_ns)
        return replace(file, size=status.st_size, modified_ns=modified_ns, file_id=file_id_of(status))

    def fetch(self, file: ScannedFile) -> Fetched | None:
        """Get the version listed: opening it follows no link, and fails once the file is another one."""
        if file.size is None:  # the walk could not look at it; opening it gives the reason
            return Fetched(file.path)
        now = self.look(file)
        if now.stamp != file.stamp:
            return None
        return Fetched(
            ExactFile(file.real_path or file.path, now.file_id, now.size, now.modified_ns), file_id=now.file_id
        )

    def read_ahead(self, files: Iterable[ScannedFile]) -> Iterator[ScannedFile]:
        """Yield files as they are: decoders read a disk themselves."""
        return iter(files)

    def open(self, path: bytes) -> AbstractContextManager[BinaryIO]:
        """Open a file by its real path; errors as of ``Source``."""
        return open_regular(ExactFile(path))
