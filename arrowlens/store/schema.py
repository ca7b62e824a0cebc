"""Arrow schemas of a library's tables; ``records`` has the columns of ``media``.

Every table has one id column, marked as LanceDB's unenforced primary key, so that merges from several processes never
write an id twice.
"""

from __future__ import annotations

import pyarrow as pa

from arrowlens.store.identifiers import source_column

_KEY = {"lance-schema:unenforced-primary-key": "true"}


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


def key_field(name: str) -> pa.Field:
    """Return a text column that identifies its row."""
    return pa.field(name, pa.string(), nullable=False, metadata=_KEY)


def _embedding_schema(role: str, dimension: int) -> pa.Schema:
    return pa.schema(
        [
            key_field("embedding_id"),
            pa.field(source_column(role), pa.string()),
            pa.field("embedding", pa.list_(pa.float16(), dimension)),
            pa.field("model", pa.string()),
            pa.field("timestamp", pa.timestamp("us")),
        ]
    )


VISION_EMBEDDING_SCHEMA = vision_embedding_schema(768)
AUDIO_EMBEDDING_SCHEMA = audio_embedding_schema(512)
CLIP_EMBEDDING_SCHEMA = clip_embedding_schema(512)
