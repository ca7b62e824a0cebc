"""A library: media, thumbnails and vectors in LanceDB. lancedb is imported in this package only, and late.

The names of this package load on first use: decoders need a few ids, and neither Arrow nor a table.

A library is a folder, or a prefix in a bucket::

    library.json                       Settings: layout, models by role, windows, roots; replaced whole
    copies/                            second copies of it and of each table's newest manifest, for ``doctor --repair``
    marks.json                         favourites, saved questions, what is no duplicate; changed without the lock
    writer.lock                        held while somebody writes; in a bucket ``writer.lease``, and no copies
    media.lance                        a row for each place of a file (``media_schema``)
    thumbnails.lance                   a JPEG for each content
    fingerprints.lance                 an acoustic fingerprint for each content of a recording
    texts.lance                        what was read in pictures and heard in recordings, a row for each text
    readings.lance                     which contents were read or heard, by which program, or why they were not
    clip_embeddings__<digest8>.lance   vectors of a role and model (``stored_embedding_schema``)
    shards/000/ ...                    all of these tables, and their copies, in a library of several shards

``MultimodalStorage(path, create=True)`` opens one: a facade over parts, each constructed with what it needs::

    Location       where it lies: files or objects, the one writer, how long earlier versions are kept
    Tables         LanceDB's tables: opened, read, merged and deleted from, in one shard or in several
    LibraryState   the settings as they are on disk now, and the writer lock
    ModelTables    the vectors of the models in use; those of the next models in ``storage.building()``
    Queries        nearest files, files by words and conditions, rows, thumbnails, fingerprints, counts
    Writer         media, thumbnails and fingerprints written and deleted, leftovers of interrupted runs repaired
    Maintenance    compaction, indexes, deleted rows purged from the disk
    Health         measurements for ``arrowlens doctor``

Any thread and any process may read, without a lock. One thread of one process at a time may write, else
LibraryBusyError; ``with storage.writing():`` holds the lock over several steps.

LanceDB has no transaction over several tables, so they are written in this order: ``upsert_vectors``,
``upsert_thumbnails``, ``upsert_fingerprints``, ``upsert_media``. A vector counts only if a ``media`` row in state
"indexed" has its media_id and its content_hash: that row is the commit. ``replace_texts`` adds to contents that are
there; the row of ``readings`` is its commit. ``repair()`` deletes what an interrupted run left behind.

Shards divide every table by the first bits of its keys, which are hashes, so that a file's row and its vectors lie in
one shard, and what belongs to a content in one shard. Settings, marks and the one writer are those of the library. A
commit writes one table in all shards, then the next, so that what was said above holds for each shard, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from arrowlens.store.facets import DURATION_EDGES, FACETS, SIZE_EDGES, Facets, Statistics
    from arrowlens.store.fulltext import phrases_of, words_found
    from arrowlens.store.id_ranges import IdRange, range_of
    from arrowlens.store.identifiers import (
        INDEXED,
        MEDIA_LAYOUT,
        ROLES,
        SCHEMA_VERSION,
        SHARDED_VERSION,
        SKIPPED,
        media_id_of,
        root_id_of,
        strip_key,
    )
    from arrowlens.store.index import IndexState
    from arrowlens.store.records import (
        CAPTION_ROLE,
        WRITTEN,
        FileText,
        MediaRecord,
        MediaText,
        Reading,
        media_schema,
        shown_columns,
        written_texts,
    )
    from arrowlens.store.schema import (
        AUDIO_EMBEDDING_SCHEMA,
        CLIP_EMBEDDING_SCHEMA,
        VISION_EMBEDDING_SCHEMA,
        audio_embedding_schema,
        clip_embedding_schema,
        stored_embedding_schema,
        text_embedding_schema,
        thumbnail_schema,
        vision_embedding_schema,
    )
    from arrowlens.store.selection import Selection
    from arrowlens.store.settings import ModelRecord, Root, RouteCalibration, Settings, relative_to
    from arrowlens.store.state import restored
    from arrowlens.store.storage import MultimodalStorage
    from arrowlens.store.vectors import VectorRow

__all__ = [
    "AUDIO_EMBEDDING_SCHEMA",
    "CAPTION_ROLE",
    "CLIP_EMBEDDING_SCHEMA",
    "DURATION_EDGES",
    "FACETS",
    "INDEXED",
    "MEDIA_LAYOUT",
    "ROLES",
    "SCHEMA_VERSION",
    "SHARDED_VERSION",
    "SIZE_EDGES",
    "SKIPPED",
    "VISION_EMBEDDING_SCHEMA",
    "WRITTEN",
    "Facets",
    "FileText",
    "IdRange",
    "IndexState",
    "MediaRecord",
    "MediaText",
    "ModelRecord",
    "MultimodalStorage",
    "Reading",
    "Root",
    "RouteCalibration",
    "Selection",
    "Settings",
    "Statistics",
    "VectorRow",
    "audio_embedding_schema",
    "clip_embedding_schema",
    "media_id_of",
    "media_schema",
    "phrases_of",
    "range_of",
    "relative_to",
    "restored",
    "root_id_of",
    "shown_columns",
    "stored_embedding_schema",
    "strip_key",
    "text_embedding_schema",
    "thumbnail_schema",
    "vision_embedding_schema",
    "words_found",
    "written_texts",
]

_NAMES = {
    "facets": ["DURATION_EDGES", "FACETS", "Facets", "SIZE_EDGES", "Statistics"],
    "fulltext": ["phrases_of", "words_found"],
    "id_ranges": ["IdRange", "range_of"],
    "identifiers": [
        "INDEXED",
        "MEDIA_LAYOUT",
        "ROLES",
        "SCHEMA_VERSION",
        "SHARDED_VERSION",
        "SKIPPED",
        "media_id_of",
        "root_id_of",
        "strip_key",
    ],
    "index": ["IndexState"],
    "records": [
        "CAPTION_ROLE",
        "FileText",
        "MediaRecord",
        "MediaText",
        "Reading",
        "WRITTEN",
        "media_schema",
        "shown_columns",
        "written_texts",
    ],
    "schema": [
        "AUDIO_EMBEDDING_SCHEMA",
        "CLIP_EMBEDDING_SCHEMA",
        "VISION_EMBEDDING_SCHEMA",
        "audio_embedding_schema",
        "clip_embedding_schema",
        "stored_embedding_schema",
        "text_embedding_schema",
        "thumbnail_schema",
        "vision_embedding_schema",
    ],
    "selection": ["Selection"],
    "settings": ["ModelRecord", "Root", "RouteCalibration", "Settings", "relative_to"],
    "state": ["restored"],
    "storage": ["MultimodalStorage"],
    "vectors": ["VectorRow"],
}
__getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs=_NAMES)
