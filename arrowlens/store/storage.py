"""``MultimodalStorage``: a library on disk. Open, upsert, delete, query."""

from __future__ import annotations

import copy
import datetime as dt
import operator
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from arrowlens.modalities import TextSource
from arrowlens.store.facets import Facets, Statistics
from arrowlens.store.filters import Condition
from arrowlens.store.fulltext import Matching
from arrowlens.store.health import Health
from arrowlens.store.id_ranges import ALL_IDS, IdRange
from arrowlens.store.index import MIN_ROWS, IndexState
from arrowlens.store.location import location_at
from arrowlens.store.maintenance import Maintenance, TableStats
from arrowlens.store.marks import MarkStore
from arrowlens.store.model_tables import ModelTables, StoredVectors
from arrowlens.store.object_location import ObjectLocation
from arrowlens.store.queries import Queries
from arrowlens.store.records import FileText, MediaText, Reading
from arrowlens.store.replica import Replica
from arrowlens.store.selection import Selection
from arrowlens.store.settings import ModelRecord, Root, RouteCalibration, Settings
from arrowlens.store.standalone import query_named, store_named
from arrowlens.store.state import LibraryState
from arrowlens.store.tables import Tables
from arrowlens.store.vectors import VectorRow
from arrowlens.store.writer import StrPath, Writer


class MultimodalStorage:
    """Media, thumbnails and vectors of one library. Safe to share between threads; a context manager.

    A facade: each method is one call of a part, whose docstring says more. Readers need no lock and see what other
    processes write. Every writing method takes the writer lock for its own duration; ``writing()`` holds it over
    several.

    Args:
        storage_path: the library's folder, or ``s3://bucket/prefix``.
        create: make a library where there is none; the folder must then be missing or empty.
        index_from: rows of a vector table from which on an index is kept; below, all are compared.
        storage_options: how to reach a bucket, over what the environment says (``AWS_...``); never stored.
        n_shards: parts that the tables of a new library are divided into, a power of two up to 256; None for one. Of a
            library that is there it only has to agree.

    Attributes:
        path: the library's folder, None in a bucket. uri: its address. health: measurements for ``arrowlens doctor``.
        marks: favourites, saved questions and what is no duplicate; changed without the writer lock.

    Raises:
        InputError: the number of shards is unusable, or another than the library's.
        LibraryNotFoundError: no library there and ``create`` is False, or the folder holds other things.
        LibraryVersionError: a newer Arrowlens wrote it. StorageError: the disk refused.
    """

    def __init__(
        self,
        storage_path: StrPath,
        create: bool = True,
        *,
        index_from: int = MIN_ROWS,
        storage_options: Mapping[str, str] | None = None,
        n_shards: int | None = None,
    ) -> None:
        self._location = location_at(storage_path, storage_options)
        self.path, self.uri = self._location.path, self._location.uri
        self.index_from = index_from
        self._tables = Tables(self._location)
        self._state = LibraryState(self._location, self._tables, create, n_shards)
        self._maintenance = Maintenance(self._tables, self._state, index_from)
        self.marks = MarkStore(self._location)
        self._original: MultimodalStorage | None = None  # of a replica, which lacks what few questions need
        self._use_models(operator.attrgetter("models"))

    def _use_models(self, models_of: Callable[[Settings], Mapping[str, ModelRecord]]) -> None:
        self._vectors = ModelTables(self._tables, self._state, models_of)
        self._queries = Queries(self._tables, self._state, self._vectors, self.index_from, self.marks)
        self._writer = Writer(self._tables, self._state, self._queries, self._maintenance)
        self.health = Health(self._tables, self._queries, self._vectors)

    def building(self) -> Self:
        """Return the same library with the vectors of the next models, which a migration builds.

        Lock, settings and tables are shared; reading, writing and searching vectors knows the next models only.
        """
        storage = copy.copy(self)
        storage._use_models(operator.attrgetter("next_models"))
        return storage

    def replica(self, folder: Path) -> Replica | None:
        """Return the copy, below a folder, of what a library in a bucket is searched by; None for one in a folder."""
        if not isinstance(self._location, ObjectLocation):
            return None
        return Replica(self._location, folder)

    def opened_replica(self, path: Path) -> MultimodalStorage:
        """Return the copy of this library in a folder, to be read; it takes thumbnails and fingerprints from here."""
        storage = MultimodalStorage(path, create=False, index_from=self.index_from)
        storage._original, storage.marks = self, self.marks
        storage._use_models(operator.attrgetter("models"))
        return storage

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the tables; using the storage again opens them again."""
        self._tables.close()
        self._queries.close()

    # -- settings: LibraryState -----------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """Layout, models, windows and folders, as they are on disk now."""
        return self._state.settings

    @property
    def models(self) -> Mapping[str, ModelRecord]:
        """The models by role whose vectors this storage reads and writes."""
        return self._vectors.models

    def writing(self) -> AbstractContextManager[None]:
        """``with storage.writing():`` makes this thread the one writer for a block."""
        return self._state.writing()

    def bind_models(self, models: Mapping[str, ModelRecord]) -> None:
        """Remember the models by role, or check them against those remembered (ModelMismatchError)."""
        self._state.bind_models(models)

    def save_calibrations(self, calibrations: Mapping[str, RouteCalibration]) -> None:
        """Remember calibrations by route; those of models that are no longer in use are forgotten."""
        self._state.save_calibrations(calibrations)

    def begin_change(self, models: Mapping[str, ModelRecord]) -> None:
        """Start a migration to these models. Vectors of an interrupted migration to them are reused."""
        self._state.begin_change(models)

    def finish_change(self) -> None:
        """Put the next models in use, and drop the tables of the earlier ones."""
        self._state.finish_change()

    def add_root(self, folder: StrPath) -> Root:
        """Return the root that holds an absolute folder, a new one where none does."""
        return self._state.add_root(folder)

    def add_mounts(self, paths: Iterable[str]) -> None:
        """Remember where disks were mounted."""
        self._state.add_mounts(paths)

    def forget_mounts(self, paths: Iterable[str]) -> None:
        """Forget places where disks were mounted: what lies there belongs to the folder around."""
        self._state.forget_mounts(paths)

    # -- vectors: ModelTables -------------------------------------------------------------------------------------

    def upsert_vectors(self, role: str, rows: Sequence[VectorRow]) -> None:
        """Write vectors of a role's model, before the thumbnails and ``media`` rows of their contents."""
        self._vectors.upsert(role, rows)

    def delete_vectors(self, role: str, embedding_ids: Sequence[str]) -> None:
        """Delete single vectors, such as those of a caption that changed."""
        self._vectors.delete(role, embedding_ids)

    def vectors(self, role: str, digest: str, content_hash: str) -> np.ndarray:
        """Return the vectors of a content, (n_windows, d) float32."""
        return self._vectors.vectors(role, digest, content_hash)

    def vector_rows(self, role: str, content_hashes: Iterable[str]) -> dict[str, list[VectorRow]]:
        """Return the vectors of contents by content hash, searchable or not."""
        return self._vectors.rows(role, content_hashes)

    def vectors_by_id(self, role: str, embedding_ids: Sequence[str]) -> dict[str, np.ndarray]:
        """Return single vectors by their ids, (d,) float32 each."""
        return self._vectors.by_id(role, embedding_ids)

    def has_vectors(self, role: str) -> bool:
        """Return whether anything was ever encoded by a role's model."""
        return self._vectors.has_vectors(role)

    def vector_ids(self, role: str) -> set[str]:
        """Return the ids of all vectors of a role."""
        return self._vectors.ids(role)

    def vector_keys(self, role: str, within: IdRange = ALL_IDS) -> set[tuple[str, str]]:
        """Return (media_id, content_hash) of everything, with ids in a range, that has vectors of a role."""
        return self._vectors.keys(role, within)

    def scan_vectors(self, role: str, places: Mapping[str, str]) -> StoredVectors:
        """Return all vectors of many media, to compare everything with everything."""
        return self._vectors.scan(role, places)

    def index_states(self) -> dict[str, IndexState]:
        """Return how each vector table is stored, by role."""
        return self._vectors.index_states()

    # -- questions: Queries ---------------------------------------------------------------------------------------

    def search(
        self,
        role: str,
        digest: str,
        query: np.ndarray,
        k: int,
        modality: str | None = None,
        among: Selection | None = None,
        *,
        exact: bool = False,
        with_vectors: bool = False,
    ) -> pa.Table:
        """Return the ``k`` files nearest to a vector of a role's model: media_id, score, start, end, content_hash.

        With vectors, ``embedding`` is a further column, and of texts ``embedding_id``.
        """
        return self._queries.search(role, digest, query, k, modality, among, exact=exact, with_vectors=with_vectors)

    def n_vectors(self, role: str, digest: str) -> int:
        """Return the number of vectors of a role's model."""
        return self._queries.n_vectors(role, digest)

    def select(self, conditions: Sequence[Condition]) -> Selection:
        """Return the searchable files that satisfy all conditions, for ``search(among=...)``."""
        return self._queries.select(conditions)

    def selection(self, media_id: Sequence[str], content_hash: Sequence[str]) -> Selection:
        """Return the files of these pairs, for ``search(among=...)``."""
        return self._queries.selection(media_id, content_hash)

    def media_version(self) -> Hashable:
        """Return what differs after every change of ``media``."""
        return self._queries.media_version()

    def find_words(
        self,
        text: str,
        n: int,
        modality: str | None = None,
        among: Selection | None = None,
        matching: Matching = "whole",
        sources: Collection[TextSource] | None = None,
    ) -> pa.Table:
        """Return files that have all words of a text: media_id, content_hash, modality, is_name."""
        return self._queries.find_words(text, n, modality, among, matching, sources)

    def find_texts(
        self,
        text: str,
        n: int,
        modality: str | None = None,
        among: Selection | None = None,
        matching: Matching = "whole",
        sources: Collection[TextSource] | None = None,
    ) -> pa.Table:
        """Return files where all words were read or heard: media_id, content_hash, source, text, start, end."""
        return self._queries.find_texts(text, n, modality, among, matching, sources)

    @property
    def version(self) -> str:
        """A text that differs after every change of the settings or of any table."""
        return self._queries.version

    def places(self, content_hashes: Sequence[str]) -> dict[str, int]:
        """Return the number of searchable places of contents, by content hash."""
        return self._queries.places(content_hashes)

    def media(self, media_ids: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """Return rows of ``media`` by id, ordered by id, with ``absolute_path`` (bytes); some columns or all."""
        return self._queries.media(media_ids, columns)

    def media_by_path(self, path: StrPath) -> dict[str, Any] | None:
        """Return one such row by absolute path, None for an unknown file."""
        return self._queries.media_by_path(path)

    def media_under(self, path: StrPath) -> pa.Table:
        """Return such rows of everything below a folder, or of one file."""
        return self._queries.media_under(path)

    def media_of(self, *content_hashes: str) -> pa.Table:
        """Return such rows of the searchable places of contents."""
        return self._queries.media_of(*content_hashes)

    def all_media(self, columns: Sequence[str] | None = None, within: IdRange = ALL_IDS) -> pa.Table:
        """Return every row of ``media``, or those with ids in a range, ordered by id; some columns or all."""
        return self._queries.all_media(columns, within)

    def id_ranges(self) -> list[IdRange]:
        """Divide all ids into ranges, rising, by which rows and vectors can be read in parts of bounded size."""
        return self._queries.id_ranges()

    def sample_media(self, n: int) -> list[dict[str, Any]]:
        """Return ``media`` rows of ``n`` searchable files, evenly spaced over the ids."""
        return self._queries.sample_media(n)

    def newest(self, n: int, modality: str | None = None, among: Selection | None = None) -> list[str]:
        """Return the ids of the files that were taken last."""
        return self._queries.newest(n, modality, among)

    def skipped(self) -> pa.Table:
        """Return absolute_path, reason, media_id and state of every file that could not be read."""
        return self._queries.skipped()

    def thumbnails(self, content_hashes: Sequence[str]) -> dict[str, bytes]:
        """Return JPEGs by content hash."""
        return (self._original or self)._queries.thumbnails(content_hashes)

    def fingerprints(self, content_hashes: Sequence[str], part: str) -> dict[str, bytes]:
        """Return a part of acoustic fingerprints, "spectrum" or "waveform", by content hash."""
        return (self._original or self)._queries.fingerprints(content_hashes, part)

    def file_texts(self) -> Iterator[FileText]:
        """Return the texts of all searchable files."""
        return self._queries.file_texts()

    def extracted_texts(self, content_hashes: Sequence[str]) -> dict[str, list[MediaText]]:
        """Return what was read and heard in contents, by content hash."""
        return self._queries.extracted_texts(content_hashes)

    def readings(self) -> pa.Table:
        """Return content_hash, source, engine, n_texts and reason of every content that was read or heard."""
        return self._queries.readings()

    def facets(self, among: Selection | None = None, chosen: Mapping[str, Selection] | None = None) -> Facets:
        """Count searchable files by folder, format, size, ..."""
        return self._queries.facets(among, chosen)

    def statistics(self) -> Statistics:
        """Count files, bytes on disk and the state of the vector tables."""
        return self._queries.statistics()

    # -- changes: Writer and Maintenance --------------------------------------------------------------------------

    def upsert_thumbnails(self, thumbnails: Mapping[str, bytes]) -> None:
        """Write JPEGs by content hash, before the ``media`` rows."""
        self._writer.upsert_thumbnails(thumbnails)

    def upsert_fingerprints(self, fingerprints: Mapping[str, tuple[bytes, bytes]]) -> None:
        """Write spectrum and waveform of recordings by content hash, before the ``media`` rows."""
        self._writer.upsert_fingerprints(fingerprints)

    def replace_texts(self, source: TextSource, engine: str, readings: Sequence[Reading]) -> None:
        """Write what was read or heard in contents, in place of what an earlier run found there."""
        self._writer.replace_texts(source, engine, readings)

    def upsert_media(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows of ``media``, last: they make vectors and thumbnails visible."""
        self._writer.upsert_media(rows)

    def delete_media(self, media_ids: Sequence[str]) -> None:
        """Delete ``media`` rows with everything that only they used."""
        self._writer.delete_media(media_ids)

    def forget(self, paths: Sequence[StrPath]) -> int:
        """Delete files and folders from the library; return the number of files."""
        return self._writer.forget(paths)

    def repair(self) -> int:
        """Delete what an interrupted run left behind; return the number of vectors."""
        return self._writer.repair()

    def rebuild_indexes(self) -> None:
        """Build the indexes of all tables again from their rows."""
        self._maintenance.rebuild_indexes()

    def optimize(self, *, thorough: bool = True) -> None:
        """Compact the tables, rebuild their indexes, drop old versions, and purge deleted rows."""
        self._maintenance.optimize(thorough=thorough)

    def optimize_meanwhile(self) -> None:
        """Index and compact during a run; cheap enough to call after each commit."""
        self._maintenance.optimize_meanwhile()

    def needs_optimizing(self) -> bool:
        """Return whether ``optimize(thorough=False)`` has something to do."""
        return self._maintenance.needs_optimizing()

    def retained(self) -> tuple[int, dt.datetime | None]:
        """Return how many bytes of earlier versions a bucket still keeps, and until when."""
        return self._maintenance.retained()

    def table_stats(self) -> dict[str, TableStats]:
        """Return how each table lies on disk, by its name."""
        return self._maintenance.stats()

    # -- the specification's methods ------------------------------------------------------------------------------

    def store_vision_embedding(
        self, embedding_id: str, image_id: str, embedding: np.ndarray, model: str = "clip-vit-base"
    ) -> None:
        """Store a picture's vector under ids of the caller's; storing it again replaces it.

        Each model name has a table of its own, apart from the library's media.

        Args:
            embedding_id: names the row. image_id: names the picture.
            embedding: (d,) of any float type; d is that of the model's first vector (768 for the B models).
            model: name of the model.

        Raises:
            InputError: another dimension, NaN, infinity or zero. LibraryBusyError, StorageError: as for writing.
        """
        with self.writing():
            ids = {"embedding_id": embedding_id, "image_id": image_id, "model": model}
            store_named(self._tables, "pooled_vision", ids, embedding)

    def store_audio_embedding(
        self, embedding_id: str, audio_id: str, embedding: np.ndarray, model: str = "whisper-base"
    ) -> None:
        """Store a recording's vector; as ``store_vision_embedding`` (512-d for whisper-base)."""
        with self.writing():
            ids = {"embedding_id": embedding_id, "audio_id": audio_id, "model": model}
            store_named(self._tables, "audio", ids, embedding)

    def query_similar_images(
        self, query_embedding: np.ndarray, top_k: int = 10, model: str = "clip-vit-base"
    ) -> list[dict[str, Any]]:
        """Return the pictures nearest to a vector among those of ``store_vision_embedding`` of the same model.

        Returns:
            ``{"image_id", "similarity"}`` (cosine), best first, equal ones by id; each picture once, at most ``top_k``.

        Raises:
            InputError: unusable vector, or ``top_k`` below 1. StorageError: the database refused.
        """
        best = query_named(self._tables, "pooled_vision", "image_id", query_embedding, top_k, model)
        pairs = zip(best["media_id"].to_pylist(), best["score"].to_pylist(), strict=True)
        return [{"image_id": image_id, "similarity": score} for image_id, score in pairs]
