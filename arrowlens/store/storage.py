"""``MultimodalStorage``: a library on disk. Open, upsert, delete, query."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.errors import InputError
from arrowlens.store.health import LibraryExaminer
from arrowlens.store.ranking import is_live
from arrowlens.store.schema import (
    MEDIA_TABLE,
    THUMBNAIL_TABLE,
    media_schema,
    source_column,
    stored_embedding_schema,
    thumbnail_schema,
)
from arrowlens.store.settings import relative_to
from arrowlens.store.standalone import query_named, store_named
from arrowlens.store.vectors import VectorRow, vector_table
from arrowlens.store.words import WORDS, words_of

StrPath = str | os.PathLike[str]


class MultimodalStorage(LibraryExaminer):
    """Media, thumbnails and vectors of one library. Safe to share between threads; a context manager.

    Readers need no lock and see what other processes write. Every writing method takes the writer lock for its own
    duration; ``writing()`` holds it over several.

    Args:
        storage_path: the library's folder.
        create: make a library where there is none; the folder must then be missing or empty.
        index_from: rows of a vector table from which on an index is kept; below, all are compared.

    Raises:
        LibraryNotFoundError: no library there and ``create`` is False, or the folder holds other things.
        LibraryVersionError: a newer Arrowlens wrote it. StorageError: the disk refused.
    """

    def upsert_vectors(self, role: str, rows: Sequence[VectorRow]) -> None:
        """Write vectors of a role's model; equal content at an equal place replaces itself.

        They are found once ``upsert_media`` has vouched for their content at their place.

        Raises:
            InputError: the library has no model for the role, or a vector is unusable; nothing is written.
            ModelMismatchError: its table holds vectors of something else.
            LibraryBusyError, StorageError: as for writing.
        """
        if not rows:
            return
        record = self._model(role)
        table = vector_table(role, record.digest[:8], record.dimension, rows)
        with self.writing():
            self._tables.merge(self._vector_table(role, record), "embedding_id", self._with_origin(table, role, record))

    def delete_vectors(self, role: str, embedding_ids: Sequence[str]) -> None:
        """Delete vectors of a role's model by their ids.

        Raises:
            InputError: the library has no model for the role. LibraryBusyError, StorageError: as for writing.
        """
        if embedding_ids:
            with self.writing():
                self._tables.delete(self._vector_table(role, self._model(role)), "embedding_id", embedding_ids)

    def upsert_thumbnails(self, thumbnails: Mapping[str, bytes]) -> None:
        """Write JPEGs by content hash.

        Raises:
            LibraryBusyError, StorageError: as for writing.
        """
        rows = pa.table([list(thumbnails), pa.array(thumbnails.values(), pa.binary())], schema=thumbnail_schema())
        with self.writing():
            self._tables.merge(THUMBNAIL_TABLE, "content_hash", rows)

    def upsert_media(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows of ``media``, last of all: with them vectors and thumbnails of their content become visible.

        Args:
            rows: values by column name; missing ones are null. Of rows with one ``media_id`` the last counts.

        Raises:
            LibraryBusyError, StorageError: as for writing.
        """
        unique = list({row["media_id"]: {**row, WORDS: words_of(row)} for row in rows}.values())
        with self.writing():
            self._tables.merge(MEDIA_TABLE, "media_id", pa.Table.from_pylist(unique, schema=media_schema()))

    def delete_media(self, media_ids: Sequence[str]) -> None:
        """Forget places of files, with what only they used: ``media`` rows first, then vectors and thumbnails.

        Their bytes are gone from the disk afterwards, and so are the names of folders of which nothing is left.

        Raises:
            LibraryBusyError, StorageError: as for writing.
        """
        if not media_ids:
            return
        with self.writing():
            self._tables.delete(MEDIA_TABLE, "media_id", media_ids)
            self.repair()
            self.forget_roots({*self.all_media(["root_id"])["root_id"].to_pylist()})
            self.optimize(thorough=False)

    def forget(self, paths: Sequence[StrPath]) -> int:
        """Forget files, and folders with everything below them; returns how many files it were.

        Raises:
            InputError: nothing is known at one of the paths; nothing is forgotten then.
            LibraryBusyError, StorageError: as for writing.
        """
        media_ids: dict[str, None] = {}
        with self.writing():
            for path in paths:
                whole = os.path.abspath(path)  # noqa: PTH100 - resolve() would follow the links in it
                known = self._known_at(whole) or self._known_at(_through_links(whole))
                if not known:
                    raise InputError(f"the library knows nothing at {whole}; `arrowlens status` shows its folders")
                media_ids.update(dict.fromkeys(known))
            self.delete_media(list(media_ids))
            # Or a place whose disk is not mounted any more could never hold files of the library again.
            removed = [os.path.realpath(path) for path in paths]
            mounts = self.settings.mounts
            self.forget_mounts(
                [mount for mount in mounts if any(relative_to(path, mount) is not None for path in removed)]
            )
        return len(media_ids)

    def _known_at(self, path: str) -> list[str]:
        known: list[str] = self.media_under(path)["media_id"].to_pylist()
        return known

    def repair(self) -> int:
        """Delete vectors and thumbnails that no ``media`` row vouches for; returns how many vectors.

        A run that was killed leaves some, and so does the replacement of a file's content. A write that a loss of
        power cut off is taken back first. Vectors of earlier models go with their tables.

        Raises:
            LibraryBusyError, StorageError: as for writing.
        """
        n_deleted = 0
        with self.writing():
            self._drop_retired()
            for name in self._tables.names():
                self._tables.recover(name)
            media = self._indexed()
            for name, (role, record) in self.settings.vector_tables.items():
                schema = stored_embedding_schema(role, record.dimension)
                rows = self._tables.rows(name, ["embedding_id", source_column(role), "content_hash"], schema)
                stale = rows.filter(pa.array(~is_live(rows[source_column(role)], rows["content_hash"], media)))
                self._tables.delete(name, "embedding_id", stale["embedding_id"].to_pylist())
                n_deleted += stale.num_rows
            hashes = self._tables.rows(THUMBNAIL_TABLE, ["content_hash"], thumbnail_schema())["content_hash"]
            unused = hashes.filter(pc.invert(pc.is_in(hashes, value_set=media["content_hash"])))
            self._tables.delete(THUMBNAIL_TABLE, "content_hash", unused.to_pylist())
        return n_deleted

    def rebuild_indexes(self) -> None:
        """Build the indexes of all tables anew from their rows, whatever state they are in.

        Raises:
            LibraryBusyError, StorageError: as for writing.
        """
        with self.writing():
            for name in self._tables.names():
                self._tables.rebuild_indexes(name)

    def optimize(self, *, thorough: bool = True) -> None:
        """Compact the tables, build their indexes anew, drop old versions, and purge what was deleted.

        Args:
            thorough: False leaves alone what is in good shape, so that it costs little after each ingest.

        Raises:
            LibraryBusyError, StorageError: as for writing.
        """
        with self.writing():
            for name in self._tables.names():
                self._tables.keep_in_shape(name, thorough=thorough)

    def optimize_meanwhile(self) -> None:
        """Index what has grown, and compact what has fallen into too many parts, since the run began.

        Cheap enough to ask after each commit.

        Raises:
            LibraryBusyError, StorageError: as for writing.
        """
        with self.writing():
            for name in self._tables.names():
                self._tables.keep_in_shape_meanwhile(name)

    def needs_optimizing(self) -> bool:
        """Whether ``optimize(thorough=False)`` has something to do: a run that was cut off leaves it behind.

        Raises:
            StorageError: the database refused.
        """
        return any(self._tables.is_out_of_shape(name) for name in self._tables.names())

    # -- the seed's methods ---------------------------------------------------------------------------------------

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
            store_named(self._tables, "vision", ids, embedding)

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
        """The pictures nearest to a vector among those of ``store_vision_embedding`` of the same model.

        Returns:
            ``{"image_id", "similarity"}`` (cosine), best first, equal ones by id; each picture once, at most ``top_k``.

        Raises:
            InputError: unusable vector, or ``top_k`` below 1. StorageError: the database refused.
        """
        best = query_named(self._tables, "vision", "image_id", query_embedding, top_k, model)
        pairs = zip(best["media_id"].to_pylist(), best["score"].to_pylist(), strict=True)
        return [{"image_id": image_id, "similarity": score} for image_id, score in pairs]


def _through_links(path: str) -> str:
    """The path as ingest names it: folders by their real names, the last part as it is, for it may be a link itself."""
    parent, name = os.path.split(path)
    return os.path.join(os.path.realpath(parent), name)  # noqa: PTH118 - text throughout, as the store takes it
