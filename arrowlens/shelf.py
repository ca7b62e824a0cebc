"""What a library shows of its files without asking a model: counts, places, thumbnails, originals, outlines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import numpy as np

from arrowlens.errors import MediaError
from arrowlens.media.files import read_regular
from arrowlens.search import Hit, Member, Results, ViewOptions, listing, parse, view_of
from arrowlens.search.filters import Where, lowered
from arrowlens.search.results import Modality

if TYPE_CHECKING:
    from arrowlens.store import Facets, MultimodalStorage

_T = TypeVar("_T")


class Shelf:
    """The part of ``Library`` that shows files."""

    _storage: MultimodalStorage

    @property
    def version(self) -> int:
        """A number that grows with every change of what the library holds, whoever makes it; quickly read."""
        return self._storage.media_version()

    def facets(self, where: Where = ()) -> Facets:
        """What files can be filtered by, with counts: kinds, formats, folders, sizes, lengths, the span of days.

        Args:
            where: conditions that the counted files satisfy.

        Raises:
            InputError: a condition is unusable. StorageError: the database refused.
        """
        conditions = parse(where)
        return self._storage.facets(self._storage.select(lowered(conditions)) if conditions else None)

    def newest(self, k: int = 20, modality: Modality | None = None, **view: Unpack[ViewOptions]) -> Results:
        """The ``k`` files that were taken last, newest first; ``where`` and ``offset`` as for ``search``.

        Raises:
            InputError: ``k`` or a condition is unusable. StorageError: the database refused.
        """
        return listing.newest(self._storage, view_of(k, **view), modality)

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

    def thumbnails(self, hits: Iterable[Hit | Member]) -> dict[str, bytes]:
        """JPEGs of at most 320 pixels by ``media_id``; hits without one (recordings) are left out."""
        hashes = {hit.media_id: hit.content_hash for hit in hits if hit.content_hash is not None}
        stored = self._storage.thumbnails(sorted(set(hashes.values())))
        return {media_id: stored[content] for media_id, content in hashes.items() if content in stored}

    def original(self, media_id: str, max_bytes: int | None = None) -> bytes:
        """The bytes of a file that the library holds, as it is on disk now.

        Raises:
            MediaError: the library does not hold it, it cannot be read, or it has more than ``max_bytes``.
        """
        return self._read(media_id, lambda path, _row: read_regular(path, max_bytes))

    def waveform(self, media_id: str, n_columns: int = 600) -> np.ndarray:
        """The largest amplitude in each of ``n_columns`` equal parts of a recording, (n_columns,) float32, 1 at most.

        Raises:
            MediaError: the library holds no such recording, or it cannot be decoded.
        """
        from arrowlens.media import outlines  # deferred: decoders, which a search needs none of

        return self._read(media_id, lambda path, row: outlines.waveform(path, row["duration"] or 0.0, n_columns))

    def spectrogram(self, media_id: str, n_columns: int = 600) -> np.ndarray:
        """The power of a recording in bands from 0 to 8 kHz, (bands, n_columns) float32 in dB, from -80 to 0.

        Raises:
            MediaError: as ``waveform``.
        """
        from arrowlens.media import outlines

        return self._read(media_id, lambda path, row: outlines.spectrogram(path, row["duration"] or 0.0, n_columns))

    def _read(self, media_id: str, read: Callable[[bytes, dict[str, Any]], _T]) -> _T:
        rows = self._storage.media([media_id]).to_pylist()
        if not rows:
            raise MediaError(f"the library holds no file {media_id!r}; search again")
        path = rows[0]["absolute_path"]
        try:
            return read(path, rows[0])
        except MediaError as error:
            raise MediaError(f"{Path(os.fsdecode(path)).name}: {error}") from error
