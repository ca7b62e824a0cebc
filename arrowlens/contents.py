"""What a library holds, without asking anything of its models: its version, thumbnails, originals and duplicates."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from arrowlens.errors import MediaError
from arrowlens.media.files import open_regular, read_regular
from arrowlens.search import KINDS, DuplicateGroup, DuplicateKind, Hit, Member, find_duplicates

if TYPE_CHECKING:
    from arrowlens.store import MultimodalStorage


@dataclasses.dataclass(frozen=True, slots=True)
class Original:
    """A file of the library, open for reading.

    Attributes:
        file: at its start. name: without its folder; bytes that are not UTF-8 are surrogates.
        format: "jpeg", "wav", ...: what the library knows its content to be.
        size: bytes. modified_ns: of the file as it is now, in nanoseconds since 1970.
    """

    file: BinaryIO
    name: str
    format: str
    size: int
    modified_ns: int


class LibraryContents:
    """The part of ``Library`` that gives out what is stored."""

    def __init__(self, storage: MultimodalStorage) -> None:
        self._storage = storage

    @property
    def version(self) -> str:
        """Another text after every change of what the library holds, by whichever process; for caches.

        Raises:
            StorageError: the database refused.
        """
        return self._storage.version

    def duplicates(self, *kinds: DuplicateKind) -> list[DuplicateGroup]:
        """Groups of files that are there twice, or nearly, as of the last ingest; nothing is deleted, no model loaded.

        Args:
            kinds: "identical", "copy", "near"; none for all. See ``arrowlens.search.DuplicateGroup``.

        Returns:
            By kind, then by the bytes that could be saved, most first.

        Raises:
            InputError: an unknown kind. StorageError: the database refused.
        """
        return find_duplicates(self._storage, kinds or KINDS)

    def thumbnails(self, hits: Iterable[Hit | Member]) -> dict[str, bytes]:
        """JPEGs of at most 320 pixels by ``media_id``; hits without one (recordings) are left out."""
        hashes = {hit.media_id: hit.content_hash for hit in hits if hit.content_hash is not None}
        stored = self._storage.thumbnails(sorted(set(hashes.values())))
        return {media_id: stored[content] for media_id, content in hashes.items() if content in stored}

    def thumbnail(self, content_hash: str) -> bytes | None:
        """The JPEG of at most 320 pixels of a content; None for recordings, and for what the library does not hold.

        Raises:
            StorageError: the database refused.
        """
        return self._storage.thumbnails([content_hash]).get(content_hash)

    def original(self, media_id: str, max_bytes: int | None = None) -> bytes:
        """The bytes of a file that the library holds, as it is on disk now.

        Raises:
            MediaError: the library does not hold it, it cannot be read, or it has more than ``max_bytes``.
        """
        path, _ = self._place(media_id)
        try:
            return read_regular(path, max_bytes)
        except MediaError as error:
            raise MediaError(f"{Path(os.fsdecode(path)).name}: {error}") from error

    @contextmanager
    def open_original(self, media_id: str) -> Iterator[Original]:
        """A file that the library holds, as it is on disk now, open for as long as the context lasts.

        Raises:
            MediaError: the library does not hold it as a picture or recording, or it cannot be read.
        """
        path, format_name = self._place(media_id)
        name = Path(os.fsdecode(path)).name
        if format_name is None:
            raise MediaError(f"{name}: it could not be read when it was ingested; `arrowlens skipped` says why")
        try:
            with open_regular(path) as file:
                now = os.fstat(file.fileno())
                yield Original(file, name, format_name, now.st_size, now.st_mtime_ns)
        except MediaError as error:
            raise MediaError(f"{name}: {error}") from error

    def _place(self, media_id: str) -> tuple[bytes, str | None]:
        rows = self._storage.media([media_id]).to_pylist()
        if not rows:
            raise MediaError(f"the library holds no file {media_id!r}; search again")
        path: bytes = rows[0]["absolute_path"]
        return path, rows[0]["format"]
