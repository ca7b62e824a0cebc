"""Names, Arrow schemas and ids of a library's tables; ``records`` has the columns of ``media``.

Every table has one id column, marked as LanceDB's unenforced primary key, so that merges from several processes never
write an id twice.
"""

from __future__ import annotations

import hashlib
import os
import re

import pyarrow as pa

SCHEMA_VERSION = 6  # raised with each change of settings or tables; the next writer upgrades a library of an older one
MEDIA_LAYOUT = 4  # raised with each new column of ``media``; files with a row of an older one are read again

MEDIA_TABLE = "media"
THUMBNAIL_TABLE = "thumbnails"
FINGERPRINT_TABLE = "fingerprints"
STRIP = "-strip"  # after a content hash
TEXT_TABLE = "texts"
READING_TABLE = "readings"
ROLES = ("vision", "audio", "text", "pooled_vision")

INDEXED, SKIPPED = "indexed", "skipped"  # media.state

_KEY = {"lance-schema:unenforced-primary-key": "true"}
_SOURCE_COLUMNS = {"vision": "source_id", "audio": "audio_id", "text": "text_id", "pooled_vision": "image_id"}
_TABLE_PREFIXES = {"vision": "clip", "audio": "audio", "text": "text", "pooled_vision": "vision"}  # as before version 4
_DIGEST, _ROOT_ID = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{16}")
_VECTOR_TABLE = re.compile(rf"({'|'.join(_TABLE_PREFIXES.values())})_embeddings__[0-9a-f]{{8}}")


def thumbnail_schema() -> pa.Schema:
    """One JPEG for each content, in however many places it lies; of films also a strip of shots (``strip_key``)."""
    return pa.schema([key_field("content_hash"), pa.field("thumbnail", pa.binary())])


def fingerprint_schema() -> pa.Schema:
    """The two parts of one acoustic fingerprint for each content of a recording."""
    return pa.schema([key_field("content_hash"), pa.field("spectrum", pa.binary()), pa.field("waveform", pa.binary())])


def text_schema() -> pa.Schema:
    """One row for each text that was read or heard in a content; ``start`` and ``end`` are seconds, null in pictures.

    ``words`` is what the full-text index holds.
    """
    return pa.schema(
        [
            key_field("text_id"),
            pa.field("content_hash", pa.string()),
            pa.field("source", pa.string()),
            pa.field("text", pa.string()),
            pa.field("start", pa.float64()),
            pa.field("end", pa.float64()),
            pa.field("language", pa.string()),
            pa.field("confidence", pa.float64()),
            pa.field("words", pa.string()),
        ]
    )


def reading_schema() -> pa.Schema:
    """One row for each content and source that was read, also where no text was found or it could not be read.

    ``engine`` names the program with its version; ``reason`` says why it could not be read, and is null otherwise.
    """
    return pa.schema(
        [
            key_field("reading_id"),
            pa.field("content_hash", pa.string()),
            pa.field("source", pa.string()),
            pa.field("engine", pa.string()),
            pa.field("n_texts", pa.int32()),
            pa.field("reason", pa.string()),
        ]
    )


def vision_embedding_schema(dimension: int = 768) -> pa.Schema:
    """The specification's columns for pooled vision vectors of any dimension."""
    return _embedding_schema("pooled_vision", dimension)


def audio_embedding_schema(dimension: int = 512) -> pa.Schema:
    """The specification's columns for vectors of recordings of any dimension."""
    return _embedding_schema("audio", dimension)


def text_embedding_schema(dimension: int = 384) -> pa.Schema:
    """The specification's columns for vectors of texts of any dimension."""
    return _embedding_schema("text", dimension)


def clip_embedding_schema(dimension: int = 512) -> pa.Schema:
    """The specification's columns for vectors of a space that texts and pictures share, of any dimension."""
    schema = _embedding_schema("vision", dimension)
    return schema.insert(2, pa.field("modality", pa.string()))


def stored_embedding_schema(role: str, dimension: int) -> pa.Schema:
    """The columns of a vector table: the specification's, and those that results and filters need.

    ``start`` and ``end`` are seconds, null for pictures.
    """
    schema = clip_embedding_schema(dimension) if role == "vision" else _embedding_schema(role, dimension)
    if role != "vision":
        schema = schema.append(pa.field("modality", pa.string()))
    for field in (
        pa.field("content_hash", pa.string()),
        pa.field("start", pa.float64()),
        pa.field("end", pa.float64()),
    ):
        schema = schema.append(field)
    return schema


def source_column(role: str) -> str:
    """Return the column of a role's vector table that holds the media id."""
    return _SOURCE_COLUMNS[role]


def vector_table_name(role: str, digest: str) -> str:
    """Return ``clip_embeddings__0123abcd``: one table for each role and model, so that spaces never mix."""
    return f"{_TABLE_PREFIXES[role]}_embeddings__{digest[:8]}"


def strip_key(content_hash: str) -> str:
    """Return the key in the table of thumbnails under which the strip of a film's shots lies."""
    return f"{content_hash}{STRIP}"


def is_table_name(name: object) -> bool:
    """Return whether ``name`` is that of a table of a library, and so a plain file name."""
    tables = MEDIA_TABLE, THUMBNAIL_TABLE, FINGERPRINT_TABLE, TEXT_TABLE, READING_TABLE
    return isinstance(name, str) and (name in tables or is_vector_table_name(name))


def is_vector_table_name(name: object) -> bool:
    """Return whether ``name`` is one of ``vector_table_name``."""
    return isinstance(name, str) and _VECTOR_TABLE.fullmatch(name) is not None


def is_digest(text: object) -> bool:
    """Return whether ``text`` is the SHA-256 of a model: 64 hex characters."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def is_root_id(text: object) -> bool:
    """Return whether ``text`` is one of ``root_id_of``."""
    return isinstance(text, str) and _ROOT_ID.fullmatch(text) is not None


def key_field(name: str) -> pa.Field:
    """Return a text column that identifies its row."""
    return pa.field(name, pa.string(), nullable=False, metadata=_KEY)


def root_id_of(path: str) -> str:
    """Return the id of a root, 16 hex characters, from its absolute path."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def media_id_of(root_id: str, path_bytes: bytes) -> str:
    """Return the id of a file, 32 hex characters, from its root and its path below that."""
    return hashlib.sha256(root_id.encode("ascii") + b"\0" + path_bytes).hexdigest()[:32]


def embedding_id_of(media_id: str, content_hash: str, index: int) -> str:
    """Return the id of the vector of window ``index`` of a content at a place.

    The content is part of the id, so that the vectors of a changed file are stored beside the earlier ones until its
    ``media`` row is replaced.
    """
    return f"{media_id}-{content_hash[:8]}-{index}"


def _embedding_schema(role: str, dimension: int) -> pa.Schema:
    return pa.schema(
        [
            key_field("embedding_id"),
            pa.field(_SOURCE_COLUMNS[role], pa.string()),
            pa.field("embedding", pa.list_(pa.float16(), dimension)),
            pa.field("model", pa.string()),
            pa.field("timestamp", pa.timestamp("us")),
        ]
    )


VISION_EMBEDDING_SCHEMA = vision_embedding_schema(768)
AUDIO_EMBEDDING_SCHEMA = audio_embedding_schema(512)
CLIP_EMBEDDING_SCHEMA = clip_embedding_schema(512)
