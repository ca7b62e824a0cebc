"""All vectors of a role at once, for questions that compare everything with everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.store.model_tables import ModelSwitch
from arrowlens.store.schema import source_column

if TYPE_CHECKING:
    from lancedb.table import LanceTable

_ROWS_A_BATCH = 4_096


class StoredVectors(NamedTuple):
    """Vectors as they lie on the disk."""

    owners: np.ndarray
    """(n,) int64, rising: which of the places that were asked for a vector belongs to."""
    vectors: np.ndarray
    """(n, d) float16 of length one; the windows of a recording in the order of their starts."""


class VectorScanner(ModelSwitch):
    """Reading of whole tables in batches: never more than twice the result is in memory."""

    def scan_vectors(self, role: str, places: Mapping[str, str]) -> StoredVectors:
        """The vectors of places of files; a place that has none owns none.

        Args:
            role: "clip", "audio", ...; nothing is found for one that the library has no model for.
            places: content hash by media id; ``owners`` are positions in it.

        Raises:
            ModelMismatchError: the library changed its models meanwhile; ask again. StorageError: the database refused.
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

            parts += self._tables.read(self._vector_table(role, record), ask, [])
            self.settings.record_of(role, record.digest)  # its vectors may have been deleted meanwhile
        owners, starts, vectors = (np.concatenate(column) for column in zip(*parts, strict=True))
        parts.clear()
        order = np.lexsort((starts, owners))
        return StoredVectors(owners[order], vectors[order])


def _wanted(batch: pa.RecordBatch, source: str, keys: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Owners, starts and vectors of the rows of a batch that are asked for."""
    owners = pc.index_in(pc.binary_join_element_wise(batch[source], batch["content_hash"], "-"), value_set=keys)
    rows, owners = batch.filter(pc.is_valid(owners)), pc.drop_null(owners)
    flat = rows["embedding"].flatten().to_numpy(zero_copy_only=False)
    vectors = flat.reshape(len(rows), batch["embedding"].type.list_size).astype(np.float16)  # a copy: the batch goes
    starts = pc.fill_null(rows["start"], 0.0).to_numpy(zero_copy_only=False)
    return owners.to_numpy(zero_copy_only=False).astype(np.int64), starts, vectors
