"""The files behind the hits: read, opened and drawn as they were indexed, from a disk or a bucket."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

from arrowlens.addresses import as_path, is_bucket
from arrowlens.errors import MediaError
from arrowlens.media.files import ExactFile, open_regular, read_regular

if TYPE_CHECKING:
    from arrowlens.ingest.bucket import StoredObject
    from arrowlens.store import MultimodalStorage
    from arrowlens.workers.isolated import Call

_AT_ONCE = 4 * 1024**2  # bytes of an object


@dataclasses.dataclass(frozen=True, slots=True)
class Original:
    """A file of the library, open for reading.

    Attributes:
        file: at its start.
        name: without its folder; bytes that are not UTF-8 are surrogates.
        format: "jpeg", "wav", ..., as it was when the file was indexed.
        size: bytes, now.
        modified_ns: nanoseconds since 1970, now.
    """

    file: BinaryIO
    name: str
    format: str
    size: int
    modified_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class OriginalFile:
    """A file that the library holds as a picture, recording or film.

    Attributes:
        file: on a disk, or in a bucket; opened only as the file that was indexed.
        name: without its folder, which errors begin with.
        row: its columns in ``media``.
    """

    file: ExactFile | StoredObject
    name: str
    row: Mapping[str, Any]

    @classmethod
    def of(cls, storage: MultimodalStorage, media_id: str) -> Self:
        """Return the file of a row.

        Raises:
            MediaError: there is no such row, or its file could not be read when it was ingested.
            StorageError: the database refused.
        """
        rows = storage.media([media_id]).to_pylist()
        if not rows:
            raise MediaError(f"the library holds no file {media_id!r}; search again")
        row = rows[0]
        name = as_path(row["absolute_path"]).name
        if row["format"] is None:
            raise MediaError(f"{name}: it could not be read when it was ingested; `arrowlens skipped` says why")
        address = os.fsdecode(row["absolute_path"])
        if not is_bucket(address):
            return cls(ExactFile.of_row(row), name, row)
        from arrowlens.ingest.bucket import StoredObject  # deferred: few libraries have such files

        return cls(StoredObject.of_row(address, row), name, row)

    def read(self, max_bytes: int | None = None) -> bytes:
        """Return its bytes.

        Raises:
            FileChangedError: it is not the file that was indexed.
            MediaError: it cannot be read, or has more than ``max_bytes``.
        """
        with self._naming():
            return read_regular(self.file, max_bytes) if isinstance(self.file, ExactFile) else self.file.read(max_bytes)

    @contextmanager
    def open(self) -> Iterator[Original]:
        """Open it for as long as the context lasts; errors as ``read``."""
        with self._naming():
            if not isinstance(self.file, ExactFile):
                with self.file.open() as file:
                    yield Original(file, self.name, self.row["format"], self.row["size"], self.row["modified_ns"])
                return
            with open_regular(self.file) as file:
                now = os.fstat(file.fileno())
                yield Original(file, self.name, self.row["format"], now.st_size, now.st_mtime_ns)

    def moment(self, start: float, end: float, decode: Call) -> bytes:
        """Return the thumbnail of a moment of a film, in seconds, decoded by ``decode``; errors as ``read``."""
        from arrowlens.media.films import read_moment  # deferred: decoders, which a search needs none of

        file = self.file
        opened = partial(open_regular, file) if isinstance(file, ExactFile) else file.open
        with self._naming():
            return decode(read_moment, opened, start, end)

    def draw(self, draw: Callable[[ExactFile, float, int], np.ndarray], n_columns: int, decode: Call) -> np.ndarray:
        """Return what ``draw`` makes of it, its seconds and ``n_columns``, run by ``decode``; errors as ``read``."""
        with self._naming():
            if isinstance(self.file, ExactFile):
                return decode(draw, self.file, self.row["duration"] or 0.0, n_columns)
            with tempfile.NamedTemporaryFile() as copy:
                with self.file.open() as source:
                    shutil.copyfileobj(source, copy, _AT_ONCE)
                copy.flush()
                local = ExactFile(os.fsencode(os.path.realpath(copy.name)))
                return decode(draw, local, self.row["duration"] or 0.0, n_columns)

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except MediaError as error:
            raise type(error)(f"{self.name}: {error}") from error
