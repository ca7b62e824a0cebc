"""What lies in a library: names, Arrow schemas, ids.

Every table has one id column, marked as LanceDB's unenforced primary key: merges from several processes then never
write an id twice.
"""

from __future__ import annotations

import hashlib
import os
import re

import pyarrow as pa

SCHEMA_VERSION = 3  # raised with each change of a table; the next writer upgrades a library of an older layout

MEDIA_TABLE = "media"
THUMBNAIL_TABLE = "thumbnails"
ROLES = ("clip", "audio", "text", "vision")

INDEXED, SKIPPED = "indexed", "skipped"  # media.state

_KEY = {"lance-schema:unenforced-primary-key": "true"}
_SOURCE_COLUMNS = {"clip": "source_id", "audio": "audio_id", "text": "text_id", "vision": "image_id"}
_UTC = pa.timestamp("us", tz="UTC")
_DIGEST, _ROOT_ID = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{16}")
_VECTOR_TABLE = re.compile(rf"({'|'.join(ROLES)})_embeddings__[0-9a-f]{{8}}")


def media_schema() -> pa.Schema:
    """One row for each place of a file, readable or not.

    ``path`` is relative to the root, for filters and for people (bytes that are not UTF-8 as ``\\xNN``);
    ``path_bytes`` is the same as the file system has it. ``modified_ns`` is what the file system said, ``modified`` the
    same to the microsecond. ``state`` is "indexed" or "skipped"; ``reason`` says why a file could not be read, also for
    one that stays indexed with its earlier content. Durations are in seconds, sizes in bytes or pixels.

    ``caption`` is the text of a file beside it, ``caption_stamp`` that file's size and time; ``description`` is what
    its own tags say. ``latitude`` and ``longitude`` are degrees north and east. ``captured_at`` is by the clock of the
    device, ``taken`` the same, or else the time of the last change by the clock of the machine that ingested it.
    ``layout`` is the schema version that the row was written in: one of an earlier version lacks the columns that came
    since. ``real_path`` is where the file that was read lies, free of links, null where that is its path below the
    root; ``file_id`` is its device and inode, null in rows of a layout before 3. ``words`` is what the full-text index
    holds of all the row's texts. Columns of later versions stand at the end, in the order in which libraries got them.
    """
    return pa.schema(
        [
            key_field("media_id"),
            pa.field("root_id", pa.string()),
            pa.field("path", pa.string()),
            pa.field("path_bytes", pa.binary()),
            pa.field("content_hash", pa.string()),
            pa.field("size", pa.int64()),
            pa.field("modified_ns", pa.int64()),
            pa.field("modified", _UTC),
            pa.field("modality", pa.string()),
            pa.field("format", pa.string()),
            pa.field("width", pa.int32()),
            pa.field("height", pa.int32()),
            pa.field("duration", pa.float64()),
            pa.field("sample_rate", pa.int32()),
            pa.field("channels", pa.int32()),
            pa.field("captured_at", pa.timestamp("us")),
            pa.field("metadata", pa.map_(pa.string(), pa.string())),
            pa.field("trivial", pa.bool_()),
            pa.field("state", pa.string()),
            pa.field("reason", pa.string()),
            pa.field("layout", pa.int32()),
            pa.field("caption", pa.string()),
            pa.field("caption_stamp", pa.string()),
            pa.field("taken", pa.timestamp("us")),
            pa.field("camera", pa.string()),
            pa.field("latitude", pa.float64()),
            pa.field("longitude", pa.float64()),
            pa.field("title", pa.string()),
            pa.field("artist", pa.string()),
            pa.field("album", pa.string()),
            pa.field("description", pa.string()),
            pa.field("words", pa.string()),
            pa.field("real_path", pa.binary()),
            pa.field("file_id", pa.string()),
        ]
    )


def thumbnail_schema() -> pa.Schema:
    """One JPEG for each content, whatever number of places it lies in."""
    return pa.schema([key_field("content_hash"), pa.field("thumbnail", pa.binary())])


def vision_embedding_schema(dimension: int = 768) -> pa.Schema:
    """The seed's columns for pooled vision vectors of any dimension."""
    return _embedding_schema("vision", dimension)


def audio_embedding_schema(dimension: int = 512) -> pa.Schema:
    """The seed's columns for vectors of recordings of any dimension."""
    return _embedding_schema("audio", dimension)


def text_embedding_schema(dimension: int = 384) -> pa.Schema:
    """The seed's columns for vectors of texts of any dimension."""
    return _embedding_schema("text", dimension)


def clip_embedding_schema(dimension: int = 512) -> pa.Schema:
    """The seed's columns for vectors of a space that texts and pictures share, of any dimension."""
    schema = _embedding_schema("clip", dimension)
    return schema.insert(2, pa.field("modality", pa.string()))


def stored_embedding_schema(role: str, dimension: int) -> pa.Schema:
    """The seed's columns and the ones that results and filters need; what a vector table is made of.

    ``start`` and ``end`` are seconds, null for pictures.
    """
    schema = clip_embedding_schema(dimension) if role == "clip" else _embedding_schema(role, dimension)
    if role != "clip":
        schema = schema.append(pa.field("modality", pa.string()))
    for field in (
        pa.field("content_hash", pa.string()),
        pa.field("start", pa.float64()),
        pa.field("end", pa.float64()),
    ):
        schema = schema.append(field)
    return schema


def source_column(role: str) -> str:
    """The column of a role's vector table that holds the media's id."""
    return _SOURCE_COLUMNS[role]


def vector_table_name(role: str, digest: str) -> str:
    """``clip_embeddings__0123abcd``: one table for each role and model, so that spaces never mix."""
    return f"{role}_embeddings__{digest[:8]}"


def is_table_name(name: object) -> bool:
    """Whether ``name`` is one that a table of a library can have: a plain file name, whatever file it was read from."""
    return isinstance(name, str) and (name in (MEDIA_TABLE, THUMBNAIL_TABLE) or is_vector_table_name(name))


def is_vector_table_name(name: object) -> bool:
    """Whether ``vector_table_name`` can give ``name``."""
    return isinstance(name, str) and _VECTOR_TABLE.fullmatch(name) is not None


def is_digest(text: object) -> bool:
    """Whether ``text`` is the SHA-256 of a model: 64 hex characters."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def is_root_id(text: object) -> bool:
    """Whether ``root_id_of`` can give ``text``."""
    return isinstance(text, str) and _ROOT_ID.fullmatch(text) is not None


def key_field(name: str) -> pa.Field:
    """A text column that identifies its row."""
    return pa.field(name, pa.string(), nullable=False, metadata=_KEY)


def root_id_of(path: str) -> str:
    """16 hex characters from an absolute folder path."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def media_id_of(root_id: str, path_bytes: bytes) -> str:
    """32 hex characters from a root and a path relative to it."""
    return hashlib.sha256(root_id.encode("ascii") + b"\0" + path_bytes).hexdigest()[:32]


def embedding_id_of(media_id: str, content_hash: str, index: int) -> str:
    """Names window ``index`` of a content at a place.

    The content is part of it, so that the vectors of a changed file lie beside the earlier ones until the media row
    switches over.
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
