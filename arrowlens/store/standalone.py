"""Vectors under ids of the caller's, one table for each model name: for the specification's methods."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

import numpy as np
import pyarrow as pa

from arrowlens.errors import InputError
from arrowlens.store.identifiers import vector_table_name
from arrowlens.store.index import nearest
from arrowlens.store.ranking import DISTANCE, best_files, nearest_of_all
from arrowlens.store.schema import audio_embedding_schema, vision_embedding_schema
from arrowlens.store.tables import Tables
from arrowlens.store.vectors import checked, checked_query, embedding_array

_SCHEMAS = {"pooled_vision": vision_embedding_schema, "audio": audio_embedding_schema}


def store_named(tables: Tables, role: str, ids: dict[str, str], embedding: np.ndarray) -> None:
    """Write one vector with its ids; ``ids["model"]`` names the table.

    Raises:
        InputError: it is unusable or of another dimension than the table. StorageError: the database refused.
    """
    name = _table_name(role, ids["model"])
    vector = checked(np.atleast_2d(embedding), _dimension(tables, name))
    if len(vector) != 1:
        raise InputError(f"the embedding must have the shape (d,), got {np.shape(embedding)}")
    values: dict[str, Any] = {column: [value] for column, value in ids.items()}
    values |= {"embedding": embedding_array(vector), "timestamp": [dt.datetime.now(dt.UTC).replace(tzinfo=None)]}
    schema = _SCHEMAS[role](vector.shape[1])
    tables.merge(name, "embedding_id", pa.table([pa.array(values[f.name], f.type) for f in schema], schema=schema))


def query_named(tables: Tables, role: str, source: str, query: np.ndarray, k: int, model: str) -> pa.Table:
    """Return ``media_id`` (the caller's id) and ``score`` of the best ``k`` sources, best first, equal ones by id.

    Raises:
        InputError: the query is unusable or ``k`` is below 1. StorageError: the database refused.
    """
    if k < 1:
        raise InputError(f"top_k is {k}; it is the number of results, from 1 on")
    name = _table_name(role, model)
    dimension = _dimension(tables, name)
    unit = checked_query(query, dimension or np.size(query))
    columns = [source, "embedding"]
    empty = _SCHEMAS[role](len(unit)).empty_table().select(columns)
    empty = empty.append_column(DISTANCE, pa.array([], pa.float32()))

    def fetch(limit: int) -> pa.Table:
        of_shards = tables.each(name, lambda table: nearest(table, unit, limit, columns))
        rows = nearest_of_all(of_shards or [empty], limit)
        nulls = pa.nulls(rows.num_rows, pa.float64())
        rows = rows.rename_columns({source: "media_id"}).append_column("content_hash", rows[source])
        return rows.append_column("start", nulls).append_column("end", nulls)

    return best_files(fetch, lambda: tables.n_rows(name), lambda rows: np.ones(rows.num_rows, dtype=bool), unit, k)


def _table_name(role: str, model: str) -> str:
    return vector_table_name(role, hashlib.sha256(model.encode()).hexdigest())


def _dimension(tables: Tables, name: str) -> int | None:
    sizes: list[int] = tables.each(name, lambda table: table.schema.field("embedding").type.list_size)
    return sizes[0] if sizes else None
