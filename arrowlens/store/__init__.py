"""A library on disk: media, thumbnails and vectors in LanceDB. lancedb is imported in this package only, and late.

A library is a folder::

    library.json                       Settings: layout, models by role, windows, roots; replaced whole
    writer.lock                        held while somebody writes
    media.lance                        a row for each place of a file (``media_schema``)
    thumbnails.lance                   a JPEG for each content
    clip_embeddings__<digest8>.lance   vectors of a role and model (``stored_embedding_schema``)

``MultimodalStorage(path, create=True)`` opens one. Asking (any thread, any process, no lock)::

    storage.settings                                   Settings; .models[role] is a ModelRecord, .roots are Roots
    storage.search(role, digest, query, k, modality)   pa.Table media_id, score, start, end, content_hash
    storage.select([(column, op, value), ...])         Selection: the files that satisfy conditions, for search(among=)
    storage.find_words(text, n, modality, among)       pa.Table media_id, content_hash, modality, is_name
    storage.media(ids)                                 pa.Table of media's columns and absolute_path (bytes), by id
    storage.media_by_path(path)                        one such row as a dict, or None
    storage.media_under(folder)                        such rows of everything below a folder, or of one file
    storage.skipped()                                  pa.Table absolute_path, reason, media_id, state
    storage.thumbnails(content_hashes)                 {content_hash: JPEG}
    storage.vectors(role, digest, content_hash)        (n_windows, d) float32
    storage.captions()                                 Captions: what searchable files are said to show
    storage.statistics()                               Statistics
    storage.facets(among)                              Facets: counts by folder, format, size, ...
    storage.newest(n, modality, among)                 ids of the files that were taken last
    storage.media_of(content_hash)                     rows of ``media`` of all places of a content

Writing (one thread of one process at a time, else LibraryBusyError; ``with storage.writing():`` holds the lock over
several steps)::

    storage.bind_models({role: ModelRecord(...)})      remember them or check them (ModelMismatchError)
    storage.add_root(folder)                           Root
    storage.add_mounts(folders)                        where disks were mounted
    storage.upsert_vectors(role, [VectorRow(...)])     first
    storage.upsert_thumbnails({content_hash: JPEG})    second
    storage.upsert_media([{column: value}])            last: makes them visible
    storage.delete_vectors(role, embedding_ids)        single ones, such as those of a caption that changed
    storage.delete_media(ids)                          with everything that only they used
    storage.repair()                                   what a killed run left behind
    storage.optimize()                                 compact, index, prune old versions
    storage.begin_change({role: ModelRecord(...)})     to other models; ``storage.building()`` reads and writes theirs
    storage.finish_change()                            they serve, and the vectors of the earlier ones are deleted

LanceDB has no transaction over several tables. A vector counts only if a ``media`` row in state "indexed" has its
media_id and its content_hash: that row is the commit.
"""

from __future__ import annotations

from arrowlens.store.captions import CAPTION_ROLE, Caption
from arrowlens.store.facets import DURATION_EDGES, FACETS, SIZE_EDGES, Facets
from arrowlens.store.folder import restored
from arrowlens.store.index import IndexState
from arrowlens.store.schema import (
    AUDIO_EMBEDDING_SCHEMA,
    CLIP_EMBEDDING_SCHEMA,
    INDEXED,
    SCHEMA_VERSION,
    SKIPPED,
    VISION_EMBEDDING_SCHEMA,
    audio_embedding_schema,
    clip_embedding_schema,
    media_id_of,
    media_schema,
    root_id_of,
    stored_embedding_schema,
    text_embedding_schema,
    thumbnail_schema,
    vision_embedding_schema,
)
from arrowlens.store.selection import Selection
from arrowlens.store.settings import ModelRecord, Root, Settings, relative_to
from arrowlens.store.statistics import Statistics
from arrowlens.store.storage import MultimodalStorage
from arrowlens.store.vectors import VectorRow

__all__ = [
    "AUDIO_EMBEDDING_SCHEMA",
    "CAPTION_ROLE",
    "CLIP_EMBEDDING_SCHEMA",
    "DURATION_EDGES",
    "FACETS",
    "INDEXED",
    "SCHEMA_VERSION",
    "SIZE_EDGES",
    "SKIPPED",
    "VISION_EMBEDDING_SCHEMA",
    "Caption",
    "Facets",
    "IndexState",
    "ModelRecord",
    "MultimodalStorage",
    "Root",
    "Selection",
    "Settings",
    "Statistics",
    "VectorRow",
    "audio_embedding_schema",
    "clip_embedding_schema",
    "media_id_of",
    "media_schema",
    "relative_to",
    "restored",
    "root_id_of",
    "stored_embedding_schema",
    "text_embedding_schema",
    "thumbnail_schema",
    "vision_embedding_schema",
]
