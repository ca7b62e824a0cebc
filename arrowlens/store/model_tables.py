"""The vector tables of one set of models: the models in use, or the next ones while a migration builds them.

Each model has a table of its own for each role, so that the tables of the next models fill up while those of the
models in use are searched. A ``ModelTables`` only ever reads and writes the tables of its own models.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.errors import InputError, ModelMismatchError
from arrowlens.modalities import ROLE_OF
from arrowlens.store.id_ranges import ALL_IDS, IdRange
from arrowlens.store.identifiers import source_column, vector_table_name
from arrowlens.store.index import IndexState, index_state
from arrowlens.store.schema import stored_embedding_schema
from arrowlens.store.settings import ModelRecord, Settings
from arrowlens.store.state import LibraryState
from arrowlens.store.tables import Tables
from arrowlens.store.vectors import VectorRow, embedding_matrix, vector_table

if TYPE_CHECKING:
    from lancedb.expr import Expr
    from lancedb.table import LanceTable

_PREFIX = "arrowlens."  # of the keys of a table's metadata
_ROWS_A_BATCH = 4_096


class StoredVectors(NamedTuple):
    """Vectors as they are stored."""

    owners: np.ndarray
    """(n,) int64, rising: the position of the medium that a vector belongs to among those that were asked for."""
    vectors: np.ndarray
    """(n, d) float16 of length one; the windows of a recording in the order of their starts."""


class ModelTables:
    """Reads and writes the vectors of one set of models.

    Each method raises StorageError when the disk or database refuses, and a writing one LibraryBusyError when somebody
    else writes.

    Args:
        tables: the library's tables.
        state: the library's settings.
        models_of: takes the models by role from the settings; called at each use, for another process may change them.
    """

    def __init__(
        self, tables: Tables, state: LibraryState, models_of: Callable[[Settings], Mapping[str, ModelRecord]]
    ) -> None:
        self._tables, self._state, self._models_of = tables, state, models_of
        self._checked: dict[str, dict[str, str]] = {}  # the origin of tables whose metadata agrees with the settings

    @property
    def models(self) -> Mapping[str, ModelRecord]:
        """The models by role."""
        return self._models_of(self._state.settings)

    def model(self, role: str) -> ModelRecord:
        """The model of a role.

        Raises:
            InputError: there is none.
        """
        models = self.models
        if role not in models:
            held = ", ".join(models) or "none"
            raise InputError(f"the library has no {role} model (it has {held}); open it with one")
        return models[role]

    def model_with(self, role: str, digest: str) -> ModelRecord | None:
        """The model of a role, None when there is none.

        Raises:
            ModelMismatchError: its vectors are not those with that ``recipe_digest``.
        """
        record = self.models.get(role)
        if record is not None and record.recipe_digest != digest:
            raise ModelMismatchError(
                f"the library holds {role} vectors {record.recipe_digest[:8]}, the query is of {digest[:8]}; "
                "open it with the models it was made with, or change it with `arrowlens models use SET`"
            )
        return record

    def name(self, role: str, record: ModelRecord) -> str:
        """The name of a model's table, once the table's metadata is known to agree with the settings.

        Raises:
            ModelMismatchError: the table's vectors come from another model or from other windows.
        """
        name = vector_table_name(role, record.recipe_digest)
        origin = self._origin(role, record)
        if self._checked.get(name) == origin:
            return name
        # There may be no such table yet, or one of a version that wrote no metadata.
        held = [metadata for metadata in self._tables.each(name, lambda table: table.schema.metadata) if metadata]
        for (key, value), metadata in itertools.product(origin.items(), held):
            told = metadata.get(f"{_PREFIX}{key}".encode())
            if told is not None and told.decode() != value:
                raise ModelMismatchError(
                    f"{self._state.location.uri}: the table {name} holds vectors of {key} {told.decode()[:16]}, the "
                    f"library says {value[:16]}; restore library.json, or index into a new library"
                )
        if held:
            self._checked[name] = origin
        return name

    def upsert(self, role: str, rows: Sequence[VectorRow]) -> None:
        """Write vectors of a role's model; a vector of the same content at the same place is replaced.

        Searches return them once ``upsert_media`` has written the row of their content at their place.

        Raises:
            InputError: there is no model for the role, or a vector is unusable; nothing is written.
            ModelMismatchError: the table holds vectors of another model.
        """
        if not rows:
            return
        record = self.model(role)
        table = vector_table(role, record.digest[:8], record.dimension, rows)
        origin = self._origin(role, record).items()
        table = table.replace_schema_metadata({f"{_PREFIX}{key}": text for key, text in origin})
        with self._state.writing():
            self._tables.merge(self.name(role, record), "embedding_id", table)

    def delete(self, role: str, embedding_ids: Sequence[str]) -> None:
        """Delete vectors of a role's model by their ids.

        Raises:
            InputError: there is no model for the role.
        """
        if embedding_ids:
            with self._state.writing():
                self._tables.delete(self.name(role, self.model(role)), "embedding_id", embedding_ids)

    def vectors(self, role: str, digest: str, content_hash: str) -> np.ndarray:
        """Return the vectors of a content, (n_windows, d) float32, ordered by start; n is 0 for an unknown content.

        Raises:
            ModelMismatchError: the model for the role has another digest.
        """
        record = self.model_with(role, digest)
        rows = self._rows(role, record, [content_hash]).get(content_hash, []) if record is not None else []
        self.model_with(role, digest)  # another model may be in use by now, and these vectors deleted
        if not rows:
            return np.empty((0, record.dimension if record else 0), dtype=np.float32)
        return np.stack([row.embedding for row in rows])

    def rows(self, role: str, content_hashes: Iterable[str]) -> dict[str, list[VectorRow]]:
        """Return the vectors of contents, each content's at one of its places, in the order of windows.

        They need not be searchable: a content's vectors are written all at once.

        Raises:
            InputError: there is no model for the role.
        """
        return self._rows(role, self.model(role), content_hashes)

    def by_id(self, role: str, embedding_ids: Sequence[str]) -> dict[str, np.ndarray]:
        """Return vectors by their ids, (d,) float32 each; those that are not there are left out.

        Raises:
            InputError: there is no model for the role.
        """
        record = self.model(role)
        columns, schema = ["embedding_id", "embedding"], stored_embedding_schema(role, record.dimension)
        rows = self._tables.rows_with(self.name(role, record), columns[0], embedding_ids, columns, schema)
        return dict(zip(rows[columns[0]].to_pylist(), embedding_matrix(rows[columns[1]]), strict=True))

    def has_vectors(self, role: str) -> bool:
        """Return whether anything was ever encoded by a role's model."""
        record = self.models.get(role)
        return record is not None and self._tables.state(self.name(role, record)) is not None

    def ids(self, role: str) -> set[str]:
        """Return the ids of all vectors of a role."""
        return set(self._columns(role, ["embedding_id"])["embedding_id"].to_pylist())

    def keys(self, role: str, within: IdRange = ALL_IDS) -> set[tuple[str, str]]:
        """Return (media_id, content_hash) of everything, with ids in a range, that has vectors of a role."""
        rows = self._columns(role, [source_column(role), "content_hash"], within.expression(source_column(role)))
        return set(zip(*(column.to_pylist() for column in rows.columns), strict=True))

    def scan(self, role: str, places: Mapping[str, str]) -> StoredVectors:
        """Return all vectors of many media, to compare everything with everything.

        The table is read in batches: never more than twice the result is in memory.

        Args:
            role: "vision", "audio", ...; a role without a model has no vectors.
            places: content hash by media id; ``owners`` are positions in it. Media without vectors are omitted.

        Raises:
            ModelMismatchError: the library changed its models meanwhile; ask again.
        """
        record = self.models.get(role)
        nothing = (np.empty(0, np.int64), np.empty(0), np.empty((0, record.dimension if record else 0), np.float16))
        parts = [nothing]
        if record is not None and places:
            keys = pa.array([f"{media_id}-{content_hash}" for media_id, content_hash in places.items()], pa.string())
            columns = [source_column(role), "content_hash", "start", "embedding"]

            def ask(table: LanceTable) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
                batches = table.search().select(columns).limit(None).to_batches(batch_size=_ROWS_A_BATCH)
                return [_wanted(batch, columns[0], keys) for batch in batches]

            parts += itertools.chain.from_iterable(self._tables.each(self.name(role, record), ask))
            self.model_with(role, record.recipe_digest)  # another model may be in use by now, and these vectors deleted
        owners, starts, vectors = (np.concatenate(column) for column in zip(*parts, strict=True))
        parts.clear()
        order = np.lexsort((starts, owners))
        return StoredVectors(owners[order], vectors[order])

    def index_states(self) -> dict[str, IndexState]:
        """Return how each table is stored, by role."""
        return {
            role: IndexState.of_all(self._tables.each(self.name(role, record), index_state))
            for role, record in self.models.items()
        }

    def _columns(self, role: str, columns: list[str], where: Expr | None = None) -> pa.Table:
        record = self.model(role)
        schema = stored_embedding_schema(role, record.dimension)
        return self._tables.rows(self.name(role, record), columns, schema, where)

    def _rows(self, role: str, record: ModelRecord, content_hashes: Iterable[str]) -> dict[str, list[VectorRow]]:
        schema, source = stored_embedding_schema(role, record.dimension), source_column(role)
        name, hashes = self.name(role, record), sorted(set(content_hashes))
        columns = [source, "content_hash", "modality", "start", "end", "embedding"]
        table = self._tables.rows_with(name, "content_hash", hashes, columns, schema)
        table = table.sort_by([("content_hash", "ascending"), (source, "ascending"), ("start", "ascending")])
        matrix = embedding_matrix(table["embedding"])
        by_content: dict[str, list[VectorRow]] = {}
        for row, values in enumerate(table.drop_columns(["embedding"]).to_pylist()):
            rows = by_content.setdefault(values["content_hash"], [])
            if not rows or rows[0].media_id == values[source]:
                place = {"media_id": values.pop(source), "embedding": matrix[row], "index": len(rows)}
                rows.append(VectorRow(**values, **place))
        return by_content

    def _origin(self, role: str, record: ModelRecord) -> dict[str, str]:
        """What vectors depend on; the digest is over the model and the files that say how inputs are prepared."""
        recipe = record.recipe
        of_recordings = {
            "window_s": f"{recipe.windows.length_s:g}",
            "hop_s": f"{recipe.windows.hop_s:g}",
            "layer": f"{recipe.layer}",
            "skip_silence": f"{recipe.skip_silence}",
        }
        return {"model": record.digest, **(of_recordings if role == ROLE_OF["audio"] else {})}


def _wanted(batch: pa.RecordBatch, source: str, keys: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Owners, starts and vectors of the rows of a batch whose (media_id, content_hash) is among ``keys``."""
    owners = pc.index_in(pc.binary_join_element_wise(batch[source], batch["content_hash"], "-"), value_set=keys)
    rows, owners = batch.filter(pc.is_valid(owners)), pc.drop_null(owners)
    flat = rows["embedding"].flatten().to_numpy(zero_copy_only=False)
    vectors = flat.reshape(len(rows), batch["embedding"].type.list_size).astype(np.float16)  # a copy frees the batch
    starts = pc.fill_null(rows["start"], 0.0).to_numpy(zero_copy_only=False)
    return owners.to_numpy(zero_copy_only=False).astype(np.int64), starts, vectors
