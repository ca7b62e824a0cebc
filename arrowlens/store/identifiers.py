"""Names and ids in a library: its tables, models, roots, files and vectors. Imports nothing of Arrow or LanceDB."""

from __future__ import annotations

import hashlib
import os
import re

SCHEMA_VERSION = 6  # raised with each change of settings or tables; the next writer upgrades a library of an older one
SHARDED_VERSION = 7  # in the settings of a library of several shards, which earlier versions cannot read
MEDIA_LAYOUT = 4  # raised with each new column of ``media``; files with a row of an older one are read again

MEDIA_TABLE = "media"
THUMBNAIL_TABLE = "thumbnails"
FINGERPRINT_TABLE = "fingerprints"
STRIP = "-strip"  # after a content hash
TEXT_TABLE = "texts"
READING_TABLE = "readings"
CONTENT_TABLES = THUMBNAIL_TABLE, FINGERPRINT_TABLE, TEXT_TABLE, READING_TABLE  # keys begin with a content hash
ROLES = ("vision", "audio", "text", "pooled_vision")

INDEXED, SKIPPED = "indexed", "skipped"  # media.state

_SOURCE_COLUMNS = {"vision": "source_id", "audio": "audio_id", "text": "text_id", "pooled_vision": "image_id"}
_TABLE_PREFIXES = {"vision": "clip", "audio": "audio", "text": "text", "pooled_vision": "vision"}  # as before version 4
_DIGEST, _ROOT_ID = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{16}")
_VECTOR_TABLE = re.compile(rf"({'|'.join(_TABLE_PREFIXES.values())})_embeddings__[0-9a-f]{{8}}")


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
    return isinstance(name, str) and (name in (MEDIA_TABLE, *CONTENT_TABLES) or is_vector_table_name(name))


def is_vector_table_name(name: object) -> bool:
    """Return whether ``name`` is one of ``vector_table_name``."""
    return isinstance(name, str) and _VECTOR_TABLE.fullmatch(name) is not None


def is_digest(text: object) -> bool:
    """Return whether ``text`` is the SHA-256 of a model: 64 hex characters."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def is_root_id(text: object) -> bool:
    """Return whether ``text`` is one of ``root_id_of``."""
    return isinstance(text, str) and _ROOT_ID.fullmatch(text) is not None


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
