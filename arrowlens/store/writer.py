"""Writes media, thumbnails, acoustic fingerprints and texts, and deletes what nothing uses any more."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.addresses import is_bucket
from arrowlens.errors import InputError
from arrowlens.modalities import TextSource
from arrowlens.store.fulltext import WORDS, text_words, words_of
from arrowlens.store.id_ranges import IdRange
from arrowlens.store.identifiers import (
    FINGERPRINT_TABLE,
    MEDIA_TABLE,
    READING_TABLE,
    STRIP,
    TEXT_TABLE,
    THUMBNAIL_TABLE,
    source_column,
)
from arrowlens.store.maintenance import Maintenance
from arrowlens.store.queries import Queries
from arrowlens.store.ranking import is_live
from arrowlens.store.records import Reading, media_schema
from arrowlens.store.schema import (
    fingerprint_schema,
    reading_schema,
    stored_embedding_schema,
    text_schema,
    thumbnail_schema,
)
from arrowlens.store.settings import relative_to
from arrowlens.store.state import LibraryState
from arrowlens.store.tables import Tables, repeated

StrPath = str | os.PathLike[str]
_OF_CONTENTS = {
    THUMBNAIL_TABLE: thumbnail_schema(),
    FINGERPRINT_TABLE: fingerprint_schema(),
    TEXT_TABLE: text_schema(),
    READING_TABLE: reading_schema(),
}


class Writer:
    """Changes to media and thumbnails. Each method takes the writer lock; ``LibraryState.writing`` holds it longer.

    Each method raises LibraryBusyError when somebody else writes, and StorageError when the disk or database refuses.
    """

    def __init__(self, tables: Tables, state: LibraryState, queries: Queries, maintenance: Maintenance) -> None:
        self._tables, self._state = tables, state
        self._queries, self._maintenance = queries, maintenance

    def upsert_thumbnails(self, thumbnails: Mapping[str, bytes]) -> None:
        """Write JPEGs by content hash."""
        rows = pa.table([list(thumbnails), pa.array(thumbnails.values(), pa.binary())], schema=thumbnail_schema())
        with self._state.writing():
            self._tables.merge(THUMBNAIL_TABLE, "content_hash", rows)

    def upsert_fingerprints(self, fingerprints: Mapping[str, tuple[bytes, bytes]]) -> None:
        """Write acoustic fingerprints by content hash: spectrum and waveform."""
        spectra, waveforms = ([parts[at] for parts in fingerprints.values()] for at in (0, 1))
        parts = [pa.array(part, pa.binary()) for part in (spectra, waveforms)]
        rows = pa.table([list(fingerprints), *parts], schema=fingerprint_schema())
        with self._state.writing():
            self._tables.merge(FINGERPRINT_TABLE, "content_hash", rows)

    def replace_texts(self, source: TextSource, engine: str, readings: Sequence[Reading]) -> None:
        """Write what was read or heard in contents, in place of what an earlier run found there.

        Rows of ``readings`` come last: a content without one is read again.

        Args:
            source: "speech" or "ocr".
            engine: the program that read, with its version.
            readings: what it found, one for each content.
        """
        contents = [reading.content_hash for reading in readings]
        rows = [
            {**dataclasses.asdict(text), "text_id": f"{reading.content_hash}-{source}-{number}"}
            | {"content_hash": reading.content_hash, "words": text_words(text.text)}
            for reading in readings
            for number, text in enumerate(reading.texts)
        ]
        read: list[dict[str, Any]] = [
            {"reading_id": f"{each.content_hash}-{source}", "content_hash": each.content_hash, "source": source}
            | {"engine": engine, "n_texts": len(each.texts), "reason": each.reason}
            for each in readings
        ]
        with self._state.writing():
            columns, schema = ["text_id", "source"], text_schema()
            held = self._tables.rows_with(TEXT_TABLE, "content_hash", contents, columns, schema)
            earlier = held["text_id"].filter(pc.equal(held["source"], source)).to_pylist()
            self._tables.delete(TEXT_TABLE, "text_id", sorted({*earlier} - {row["text_id"] for row in rows}))
            self._tables.merge(TEXT_TABLE, "text_id", pa.Table.from_pylist(rows, schema=schema))
            self._tables.merge(READING_TABLE, "reading_id", pa.Table.from_pylist(read, schema=reading_schema()))

    def upsert_media(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows of ``media``, last of all: they make the vectors and thumbnails of their content visible.

        Args:
            rows: values by column name; missing ones are null. Of rows with one ``media_id`` the last counts.
        """
        unique = list({row["media_id"]: {**row, WORDS: words_of(row)} for row in rows}.values())
        with self._state.writing():
            self._tables.merge(MEDIA_TABLE, "media_id", pa.Table.from_pylist(unique, schema=media_schema()))

    def delete_media(self, media_ids: Sequence[str]) -> None:
        """Delete ``media`` rows, then the vectors, thumbnails, fingerprints and texts that only they used.

        Their bytes are gone from the disk afterwards, and so are the names of folders of which nothing is left.
        """
        if not media_ids:
            return
        with self._state.writing():
            self._tables.delete(MEDIA_TABLE, "media_id", media_ids)
            self.repair()
            self._state.forget_roots({*self._queries.all_media(["root_id"])["root_id"].unique().to_pylist()})
            self._maintenance.optimize(thorough=False)

    def forget(self, paths: Sequence[StrPath]) -> int:
        """Delete files, and folders with everything below them, from the library; return the number of files.

        Args:
            paths: on this machine, or addresses in buckets.

        Raises:
            InputError: nothing is known at one of the paths; nothing is deleted then.
        """
        media_ids: dict[str, None] = {}
        with self._state.writing():
            for path in paths:
                whole = os.fsdecode(path).rstrip("/")
                if not is_bucket(path):
                    whole = os.path.abspath(path)  # noqa: PTH100 - resolve() would follow the links in it
                known = self._known_at(whole) or self._known_at(_with_real_parent(whole))
                if not known:
                    raise InputError(f"the library knows nothing at {whole}; `arrowlens status` shows its folders")
                media_ids.update(dict.fromkeys(known))
            self.delete_media(list(media_ids))
            # Otherwise a place whose disk is not mounted any more could never hold files of the library again.
            removed = [os.path.realpath(path) for path in paths if not is_bucket(path)]
            mounts = self._state.settings.mounts
            self._state.forget_mounts(
                [mount for mount in mounts if any(relative_to(path, mount) is not None for path in removed)]
            )
        return len(media_ids)

    def repair(self) -> int:
        """Delete vectors, thumbnails, fingerprints and texts without a ``media`` row; return the number of vectors.

        A run that was killed leaves some, and so does the replacement of a file's content. Table versions that a power
        failure left incomplete are mended or taken back first. Tables of earlier models are dropped. Of rows with the
        same id, which two writers at once would leave, one is kept; the others count among the vectors.
        """
        n_deleted = 0
        with self._state.writing():
            self._state.drop_retired()
            names = self._tables.names()
            for name in names:
                self._tables.recover(name)
            for ids in self._tables.id_ranges(names):  # of files and of contents alike: both are hashes
                n_deleted += self._repair_files(ids)
                self._repair_contents(ids)
        return n_deleted

    def _repair_files(self, ids: IdRange) -> int:
        """Delete vectors without a ``media`` row and rows that are there twice; return the number of vectors."""
        n_deleted = 0
        self._keep_one_of_each(MEDIA_TABLE, "media_id", self._queries.all_media(["media_id"], ids)["media_id"])
        media = self._queries.indexed_within(ids, "media_id")
        for name, (role, record) in self._state.settings.vector_tables.items():
            schema, source = stored_embedding_schema(role, record.dimension), source_column(role)
            columns = ["embedding_id", source, "content_hash"]
            rows = self._tables.rows(name, columns, schema, ids.expression(source))
            n_deleted += self._keep_one_of_each(name, "embedding_id", rows["embedding_id"])
            stale = rows.filter(pa.array(~is_live(rows[source], rows["content_hash"], media)))
            self._tables.delete(name, "embedding_id", stale["embedding_id"].to_pylist())
            n_deleted += stale.num_rows
        return n_deleted

    def _repair_contents(self, contents: IdRange) -> None:
        """Delete thumbnails, fingerprints and texts of contents in a range that no file has, and repeated rows."""
        media = self._queries.indexed_within(contents, "content_hash")
        for name, schema in _OF_CONTENTS.items():
            columns = list(dict.fromkeys([schema.names[0], "content_hash"]))
            rows = self._tables.rows(name, columns, schema, contents.expression("content_hash"))
            self._keep_one_of_each(name, schema.names[0], rows[0])
            hashes = pc.replace_substring(rows["content_hash"], STRIP, "")
            unused = rows["content_hash"].filter(pc.invert(pc.is_in(hashes, value_set=media["content_hash"])))
            self._tables.delete(name, "content_hash", unused.to_pylist())

    def _keep_one_of_each(self, name: str, key: str, keys: pa.ChunkedArray) -> int:
        """Delete rows of a table with an id that another row has, too; return the number of ids."""
        values = repeated(keys)
        if values:
            self._tables.remove_duplicates(name, key, values)
        return len(values)

    def _known_at(self, path: str) -> list[str]:
        known: list[str] = self._queries.media_under(path)["media_id"].to_pylist()
        return known


def _with_real_parent(path: str) -> str:
    """The path as ingest names it: folders by their real names, the last part as it is, for it may be a link itself."""
    parent, name = os.path.split(path)
    return os.path.join(os.path.realpath(parent), name)  # noqa: PTH118 - text throughout, as the store takes it
