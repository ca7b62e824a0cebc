"""A library read row by row, from its tables: whether it is whole, and whether two are the same."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from arrowlens.modalities import AUDIO_WINDOWS
from arrowlens.store import INDEXED, MultimodalStorage, strip_key

SAME = 0.9999  # the cosine of "the same vector"
MOST_SILENT_S = 0.5  # at either end of the recordings of tests; libraries leave silence there out
_TIMES_OF_WRITING = ("timestamp",)


@dataclasses.dataclass(frozen=True)
class State:
    """Everything that a library holds.

    Attributes:
        media: every column of every row, ordered by id.
        keys: of each vector table, every column but the vector and the time of writing, ordered by ``embedding_id``.
        vectors: of each vector table, (n, d) float32 in the same order.
        thumbnails: by content hash.
        fingerprints: spectrum and waveform, by content hash.
    """

    media: list[dict[str, Any]]
    keys: dict[str, list[dict[str, Any]]]
    vectors: dict[str, np.ndarray]
    thumbnails: dict[str, bytes]
    fingerprints: dict[str, tuple[bytes, bytes]]

    @property
    def indexed(self) -> list[dict[str, Any]]:
        return [row for row in self.media if row["state"] == INDEXED]


def read(library: Path) -> State:
    """The tables as they lie on disk, of all shards together, whatever of them a search would show."""
    parts: dict[str, list[pa.Table]] = {}
    for folder in sorted([*library.glob("*.lance"), *library.glob("shards/*/*.lance")]):
        if any((folder / "_versions").glob("*.manifest")):  # else its making was cut off
            table = lancedb.connect(str(folder.parent)).open_table(folder.stem).to_arrow()
            parts.setdefault(folder.stem, []).append(table)
    tables = {name: pa.concat_tables(of_shards) for name, of_shards in parts.items()}
    media = tables.pop("media", None)
    thumbnails, fingerprints = tables.pop("thumbnails", None), tables.pop("fingerprints", None)
    keys, vectors = {}, {}
    for name, table in tables.items():
        ordered = table.sort_by("embedding_id")
        dimension = table.schema.field("embedding").type.list_size
        flat = ordered["embedding"].combine_chunks().flatten()
        vectors[name] = np.asarray(flat, np.float32).reshape(-1, dimension)
        keys[name] = ordered.drop_columns(["embedding", *_TIMES_OF_WRITING]).to_pylist()
    recordings = fingerprints.to_pylist() if fingerprints is not None else []
    pictures = thumbnails.to_pylist() if thumbnails is not None else []
    return State(
        media=media.sort_by("media_id").to_pylist() if media is not None else [],
        keys=keys,
        vectors=vectors,
        thumbnails={row["content_hash"]: row["thumbnail"] for row in pictures},
        fingerprints={row["content_hash"]: (row["spectrum"], row["waveform"]) for row in recordings},
    )


def assert_whole(state: State, settled: bool) -> None:
    """Nothing twice, and nothing of a file that a search would show is missing.

    ``settled``: after a run that came to its end, nothing is left over either.
    """
    assert_unique([row["media_id"] for row in state.media])
    visible = {(row["media_id"], row["content_hash"]): row for row in state.indexed}
    held: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for name, rows in state.keys.items():
        assert_unique([row["embedding_id"] for row in rows])
        source = {"clip": "source_id", "audi": "audio_id"}[name[:4]]
        for row in rows:
            held.setdefault((row[source], row["content_hash"]), []).append(row)
        norms = np.linalg.norm(state.vectors[name], axis=1)
        np.testing.assert_allclose(norms, 1.0, atol=2e-3)
    for key, row in visible.items():
        assert_complete(row, held.get(key, []))
        if row["modality"] != "audio":
            assert row["content_hash"] in state.thumbnails, row["path"]
        elif not row["trivial"]:
            assert row["content_hash"] in state.fingerprints, row["path"]
    if settled:
        assert held.keys() == visible.keys(), "vectors of nothing"
        shown = {row["content_hash"] for row in visible.values() if row["modality"] != "audio"}
        films = {row["content_hash"] for row in visible.values() if row["modality"] == "video"}
        assert state.thumbnails.keys() == shown | set(map(strip_key, films)), "thumbnails of nothing"
        sounds = {row["content_hash"] for row in visible.values() if row["modality"] == "audio" and not row["trivial"]}
        assert state.fingerprints.keys() == sounds, "fingerprints of nothing"


def assert_complete(row: dict[str, Any], vectors: list[dict[str, Any]]) -> None:
    """A picture has its one vector, a recording one for each window from its first sound to its last, a film both.

    Of a film each shot has one, and its sound is as a recording's.
    """
    assert vectors, f"{row['path']} is indexed and has no vectors"
    if row["modality"] == "image":
        assert len(vectors) == 1
        return
    if row["modality"] == "video":
        shots = [(vector["start"], vector["end"]) for vector in vectors if "source_id" in vector]
        assert shots, f"{row['path']} has no shots"
        assert len(set(shots)) == len(shots)
        assert all(0 <= start <= end <= row["duration"] + 0.01 for start, end in shots)
        vectors = [vector for vector in vectors if "source_id" not in vector]
        assert bool(vectors) == (row["sample_rate"] is not None)
    if not vectors:
        return
    starts, end = sorted(vector["start"] for vector in vectors), max(vector["end"] for vector in vectors)
    assert starts == [pytest.approx(starts[0] + AUDIO_WINDOWS.hop_s * index) for index in range(len(starts))]
    assert 0 <= starts[0] < MOST_SILENT_S
    assert row["duration"] - MOST_SILENT_S < end < row["duration"] + 0.01


def assert_same(one: State, other: State, *, made_anew: bool = False) -> None:
    """Rows, ids and order exactly; vectors as "the same vector" is defined; thumbnails to the byte.

    ``made_anew``: the files of the two are equal, but not the same ones on the disk.
    """
    numbers = {"file_id": None} if made_anew else {}
    assert [row["media_id"] for row in one.media] == [row["media_id"] for row in other.media]
    for mine, theirs in zip(one.media, other.media, strict=True):
        assert mine | numbers == theirs | numbers
    assert one.keys == other.keys
    for name, vectors in one.vectors.items():
        if len(vectors):
            assert least_cosine(vectors, other.vectors[name]) > SAME
    assert one.thumbnails == other.thumbnails
    assert one.fingerprints == other.fingerprints


def least_cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Of (n, d) and (n, d), row by row."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / norms).min())


def assert_unique(ids: list[str]) -> None:
    assert [name for name, count in Counter(ids).items() if count > 1] == []


def assert_searchable(library: Path, state: State) -> None:
    """Every kind of vector is asked for; hits are whole, differ, and a stored picture finds itself."""
    storage = MultimodalStorage(library, create=False)
    visible = {row["media_id"]: row for row in state.indexed}
    for role, record in storage.settings.models.items():
        held = [row for row in visible.values() if row["modality"] == {"vision": "image", "audio": "audio"}[role]]
        query = np.random.default_rng(len(held)).standard_normal(record.dimension)
        hits = storage.search(role, record.recipe_digest, query, len(visible) + 1)
        assert_unique(hits["media_id"].to_pylist())
        assert set(hits["media_id"].to_pylist()) <= visible.keys()
        assert hits.num_rows == len({row["content_hash"] for row in held})
        for row in held[:: max(1, len(held) // 3)]:
            own = storage.vectors(role, record.recipe_digest, row["content_hash"])
            best = storage.search(role, record.recipe_digest, own[0], 1).to_pylist()[0]
            assert best["content_hash"] == row["content_hash"] or best["score"] > SAME
    storage.close()


def n_bytes(library: Path) -> int:
    """What the library takes on disk."""
    return sum(path.stat().st_size for path in library.rglob("*") if path.is_file())
