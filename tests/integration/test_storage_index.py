"""A library that has grown large: the index comes by itself, and nothing else changes."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from arrowlens.store import ModelRecord, MultimodalStorage, VectorRow
from arrowlens.store.index import MIN_ROWS
from arrowlens.store.upkeep import MAX_FRAGMENTS

DIGEST, D = "c" * 64, 32
N = MIN_ROWS + 1_000


def vectors_of(n, seed):
    """Clustered, as real ones are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((50, D))
    return (centres[rng.integers(0, 50, n)] + 0.7 * rng.standard_normal((n, D))).astype(np.float32)


def add(storage, prefix, vectors):
    names = [f"{prefix}{number:07d}" for number in range(len(vectors))]
    storage.upsert_vectors("clip", [VectorRow(n, n, "image", v) for n, v in zip(names, vectors, strict=True)])
    storage.upsert_media([{"media_id": n, "content_hash": n, "modality": "image", "state": "indexed"} for n in names])


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    storage = MultimodalStorage(tmp_path_factory.mktemp("large") / "library")
    storage.bind_models({"clip": ModelRecord(DIGEST, D)})
    vectors = vectors_of(N, 1)
    for start in range(0, N, 10_000):
        add(storage, f"{start:06d}-", vectors[start : start + 10_000])
    assert storage.index_states()["clip"].kind is None
    storage.optimize(thorough=False)
    return storage, vectors


def ids_of(vectors, query, k):
    stored = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    best = np.argsort(-(stored @ (query / np.linalg.norm(query))))[:k]
    return {f"{row // 10_000 * 10_000:06d}-{row % 10_000:07d}" for row in best}


def test_the_index_is_built_and_finds_what_an_exact_scan_finds(large):
    storage, vectors = large
    state = storage.index_states()["clip"]
    assert state.kind == "IVF_RQ"
    assert (state.n_rows, state.n_unindexed) == (N, 0)
    queries = vectors_of(30, 2)
    common = 0
    for query in queries:
        hits = storage.search("clip", DIGEST, query, 10)
        scores = hits["score"].to_pylist()
        assert scores == sorted(scores, reverse=True)
        common += len(ids_of(vectors, query, 10) & set(hits["media_id"].to_pylist()))
    assert common / (10 * len(queries)) >= 0.97


def test_k_is_filled_through_the_index(large):
    storage, _ = large
    assert storage.search("clip", DIGEST, vectors_of(1, 3)[0], 3_000, "image").num_rows == 3_000


def test_new_rows_are_found_at_once_and_deleted_ones_never(large):
    storage, vectors = large
    new = vectors_of(20, 4)
    add(storage, "new-", new)
    assert storage.index_states()["clip"].n_unindexed == 20
    for number, vector in enumerate(new):
        assert storage.search("clip", DIGEST, vector, 1)["media_id"].to_pylist() == [f"new-{number:07d}"]
    storage.delete_media([f"new-{number:07d}" for number in range(20)])
    for vector in new:
        found = storage.search("clip", DIGEST, vector, 5)["media_id"].to_pylist()
        assert not any(media_id.startswith("new-") for media_id in found)
    storage.optimize()
    assert storage.index_states()["clip"].n_unindexed == 0
    assert storage.search("clip", DIGEST, vectors[7], 1)["media_id"].to_pylist() == ["000000-0000007"]


def test_many_small_writes_are_compacted_while_others_search(tmp_path):
    storage = MultimodalStorage(tmp_path / "library")
    storage.bind_models({"clip": ModelRecord(DIGEST, D)})
    done, failures = threading.Event(), []

    def search():
        reader = MultimodalStorage(storage.path, create=False)
        while not done.is_set():
            try:
                reader.search("clip", DIGEST, np.ones(D), 10)
            except Exception as error:
                failures.append(error)

    thread = threading.Thread(target=search)
    thread.start()
    try:
        for round_ in range(40):
            add(storage, f"{round_:03d}-", vectors_of(5, round_))
            storage.optimize(thorough=round_ % 4 == 0)
            assert storage.index_states()["clip"].n_fragments <= MAX_FRAGMENTS
    finally:
        done.set()
        thread.join()
    assert failures == []
    assert storage.statistics().images == 200
    storage.optimize()
    assert storage.index_states()["clip"].n_fragments == 1
