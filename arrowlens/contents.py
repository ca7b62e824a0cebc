"""What a library holds, without asking anything of its models: counts, files, thumbnails, originals, duplicates."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Unpack

import numpy as np

from arrowlens.errors import InputError, MediaError
from arrowlens.media.files import ExactFile, open_regular, read_regular
from arrowlens.modalities import Modality
from arrowlens.search import (
    KINDS,
    DuplicateGroup,
    DuplicateKind,
    EmbeddingMap,
    Hit,
    Member,
    Results,
    ViewOptions,
    draw_map,
    find_duplicates,
    listing,
    make_view,
    parse,
)
from arrowlens.search.where import Where, to_store_filters
from arrowlens.workers.isolated import Call, directly

if TYPE_CHECKING:
    from arrowlens.store import Facets, MultimodalStorage


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

    def __init__(self, storage: MultimodalStorage, call: Call = directly) -> None:
        self._storage = storage
        self._call = call

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

    def folders(self) -> tuple[Path, ...]:
        """The folders that were ingested."""
        return tuple(Path(root.path) for root in self._storage.settings.roots)

    def facets(self, where: Where = (), chosen: Mapping[str, Where] | None = None) -> Facets:
        """What files can be filtered by, with counts: kinds, formats, folders, sizes, lengths, the span of days.

        Args:
            where: conditions that the counted files satisfy.
            chosen: further ones by what they filter by: "kind", "format", "folder", "size", "duration" or "taken". Each
                of these is counted as if nothing were chosen by it: its counts say what another choice would leave.

        Raises:
            InputError: a condition is unusable. StorageError: the database refused.
        """
        from arrowlens.store import FACETS  # deferred: the database, which reading a condition needs none of

        if unknown := sorted(set(chosen or {}) - set(FACETS)):
            raise InputError(f"{unknown[0]!r} is nothing to filter by here; there are {', '.join(FACETS)}")
        conditions = {"": parse(where), **{by: parse(each) for by, each in (chosen or {}).items()}}
        selected = {by: self._storage.select(to_store_filters(each)) for by, each in conditions.items() if each}
        return self._storage.facets(selected.pop("", None), selected)

    def newest(self, k: int = 20, modality: Modality | None = None, **view: Unpack[ViewOptions]) -> Results:
        """The ``k`` files that were taken last, newest first; ``where`` and ``offset`` as for ``search``.

        Raises:
            InputError: ``k`` or a condition is unusable. StorageError: the database refused.
        """
        return listing.newest(self._storage, make_view(k, **view), modality)

    def hits(self, media_ids: Sequence[str]) -> list[Hit]:
        """Files by id, in that order, without scores; what the library does not hold is left out."""
        return listing.hits(self._storage, media_ids)

    def places(self, hit: Hit) -> list[Path]:
        """Where the content of a file lies, by path; the file itself included."""
        if hit.content_hash is None:
            return [hit.path]
        rows = self._storage.media_of(hit.content_hash).to_pylist()
        return sorted(Path(os.fsdecode(row["absolute_path"])) for row in rows)

    def holding(self, content_hash: str) -> list[Hit]:
        """The files that have a content, by path, without scores."""
        rows = self._storage.media_of(content_hash).to_pylist()
        return sorted(self.hits([row["media_id"] for row in rows]), key=lambda hit: hit.path)

    def map(self, modality: Modality | None = None) -> EmbeddingMap:
        """Files as points in a plane, near what is like them; of more than 20,000 files, a sample.

        Args:
            modality: "image" or "audio"; None for both, where ``text_reaches_audio``.

        Raises:
            InputError: both are asked for, and have spaces of their own. StorageError: the database refused.
        """
        return draw_map(self._storage, modality)

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
        """The bytes of a file that the library holds.

        Raises:
            FileChangedError: it is not the file that was indexed. MediaError: the library does not hold it as a picture
            or recording, it cannot be read, or it has more than ``max_bytes``.
        """
        file, name, _ = self._readable(media_id)
        with _naming(name):
            return read_regular(file, max_bytes)

    @contextmanager
    def open_original(self, media_id: str) -> Iterator[Original]:
        """A file that the library holds, open for as long as the context lasts.

        Raises:
            FileChangedError: it is not the file that was indexed. MediaError: the library does not hold it as a picture
            or recording, or it cannot be read.
        """
        exact, name, row = self._readable(media_id)
        with _naming(name), open_regular(exact) as file:
            now = os.fstat(file.fileno())
            yield Original(file, name, row["format"], now.st_size, now.st_mtime_ns)

    def waveform(self, media_id: str, n_columns: int = 600) -> np.ndarray:
        """The largest amplitude in each of ``n_columns`` equal parts of a recording, (n_columns,) float32, 1 at most.

        Raises:
            FileChangedError: it is not the file that was indexed.
            MediaError: the library holds no such recording, or it cannot be decoded.
        """
        from arrowlens.media import waveform  # deferred: decoders, which a search needs none of

        return self._drawn(media_id, waveform.waveform, n_columns)

    def spectrogram(self, media_id: str, n_columns: int = 600) -> np.ndarray:
        """The power of a recording in bands from 0 to 8 kHz, (bands, n_columns) float32 in dB, from -80 to 0.

        Raises:
            FileChangedError, MediaError: as ``waveform``.
        """
        from arrowlens.media import waveform

        return self._drawn(media_id, waveform.spectrogram, n_columns)

    def _drawn(self, media_id: str, draw: Callable[[ExactFile, float, int], np.ndarray], n_columns: int) -> np.ndarray:
        file, name, row = self._readable(media_id)
        with _naming(name):
            return self._call(draw, file, row["duration"] or 0.0, n_columns)

    def _readable(self, media_id: str) -> tuple[ExactFile, str, dict[str, Any]]:
        """A file that was read as a picture or recording: what to open, its name, and its row."""
        rows = self._storage.media([media_id]).to_pylist()
        if not rows:
            raise MediaError(f"the library holds no file {media_id!r}; search again")
        row = rows[0]
        name = Path(os.fsdecode(row["absolute_path"])).name
        if row["format"] is None:
            raise MediaError(f"{name}: it could not be read when it was ingested; `arrowlens skipped` says why")
        return ExactFile.of_row(row), name, row


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Errors of a file with its name in front."""
    try:
        yield
    except MediaError as error:
        raise type(error)(f"{name}: {error}") from error
