"""Vectors on their way to and from the disk: checked, normalised in float32, stored as float16."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from arrowlens.errors import InputError
from arrowlens.store.identifiers import embedding_id_of, source_column
from arrowlens.store.schema import stored_embedding_schema

_SMALLEST_NORM = 1e-12


@dataclass(frozen=True, slots=True)
class VectorRow:
    """One vector of a file: of the whole picture, of one window of a recording, or of a film's shot or window.

    Attributes:
        media_id: the file's place.
        content_hash: its content.
        modality: "image", "audio" or "video": of the file.
        embedding: (d,) of any float type.
        index: number of the window or the shot; 0 for a picture, ``FileText.number`` for a text.
        start, end: of the window, the shot or the text, in seconds; None for a picture.
    """

    media_id: str
    content_hash: str
    modality: str
    embedding: np.ndarray
    index: int = 0
    start: float | None = None
    end: float | None = None


def checked(vectors: np.ndarray, dimension: int | None = None) -> np.ndarray:
    """Return (n, d) vectors of any float type as (n, d) float32 of length one.

    Raises:
        InputError: a vector has another dimension, is not finite, or is zero and so has no direction. LanceDB would
            accept most of these silently and never find them again.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or (dimension is not None and vectors.shape[1] != dimension):
        raise InputError(f"vectors must have the shape (n, {dimension or 'd'}), got {vectors.shape}")
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise InputError(f"vector {int(np.argmin(finite))} holds NaN or infinity; encode it again")
    largest = np.abs(vectors).max(axis=1, initial=0.0, keepdims=True)  # before squaring, which may overflow
    zero = largest[:, 0] <= _SMALLEST_NORM
    if zero.any():
        raise InputError(f"vector {int(np.argmax(zero))} is zero and has no direction; leave it out")
    scaled = vectors / largest
    unit: np.ndarray = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    return unit


def checked_query(query: np.ndarray, dimension: int) -> np.ndarray:
    """Return a (d,) or (1, d) vector of any float type as (d,) float32 of length one.

    Raises:
        InputError: as ``checked``.
    """
    query = np.asarray(query)
    rows = query[None] if query.ndim == 1 else query
    if rows.shape != (1, dimension):
        raise InputError(f"the query must have the shape ({dimension},), got {query.shape}")
    unit: np.ndarray = checked(rows, dimension)[0]
    return unit


def vector_table(role: str, model: str, dimension: int, rows: Sequence[VectorRow]) -> pa.Table:
    """Return rows for a role's table, in its schema; of rows with one id the last counts.

    Raises:
        InputError: as ``checked``.
    """
    rows = list({(row.media_id, row.content_hash, row.index): row for row in rows}.values())
    for row in rows:
        if np.shape(row.embedding) != (dimension,):
            raise InputError(f"an embedding must have the shape ({dimension},), got {np.shape(row.embedding)}")
    vectors = checked(np.stack([row.embedding for row in rows]), dimension)
    now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    schema = stored_embedding_schema(role, dimension)
    columns = {
        "embedding_id": [embedding_id_of(row.media_id, row.content_hash, row.index) for row in rows],
        source_column(role): [row.media_id for row in rows],
        "embedding": embedding_array(vectors),
        "model": [model] * len(rows),
        "timestamp": [now] * len(rows),
        "modality": [row.modality for row in rows],
        "content_hash": [row.content_hash for row in rows],
        "start": [row.start for row in rows],
        "end": [row.end for row in rows],
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def embedding_array(vectors: np.ndarray) -> pa.Array:
    """Return (n, d) floats as a fixed-size list array of float16."""
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float16).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def embedding_matrix(column: pa.ChunkedArray) -> np.ndarray:
    """Return a fixed-size list column as (n, d) float32."""
    width = column.type.list_size
    if len(column) == 0:
        return np.empty((0, width), dtype=np.float32)
    matrix: np.ndarray = column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return matrix.astype(np.float32)
