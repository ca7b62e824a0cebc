"""A library that has grown large: the index comes by itself, and nothing else changes. Large begins early here."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
import pyarrow.compute as pc
import pytest

from arrowlens.search.hybrid import page, read_ranking
from arrowlens.store import ModelRecord, MultimodalStorage, VectorRow
from arrowlens.store.index import INDEX_NAME, index_state, is_index_used, max_unindexed
from arrowlens.store.maintenance import MAX_FRAGMENTS

DIGEST, D = "c" * 64, 32
INDEX_FROM = 2_000
N = 10_000
RARE = 6_789  # the one file that a condition of 0.01 % leaves
TABLE = f"clip_embeddings__{DIGEST[:8]}"


def vectors_of(n, seed):
    """Clustered, as real ones are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((50, D))
    return (centres[rng.integers(0, 50, n)] + 0.7 * rng.standard_normal((n, D))).astype(np.float32)


def add(storage, prefix, vectors):
    names = [f"{prefix}{number:05d}" for number in range(len(vectors))]
    rows = [VectorRow(n, n, "image", v) for n, v in zip(names, vectors, strict=True)]
    storage.upsert_vectors("vision", rows)
    storage.upsert_media(
        [
            {"media_id": name, "content_hash": name, "modality": "image", "state": "indexed", "width": number}
            for number, name in enumerate(names)
        ]
    )


def new_library(path):
    storage = MultimodalStorage(path, index_from=INDEX_FROM)
    storage.bind_models({"vision": ModelRecord(DIGEST, D)})
    return storage


def ids(hits):
    return hits["media_id"].to_pylist()


def search(storage, query, k, **options):
    return storage.search("vision", DIGEST, query, k, "image", **options)


def ask(storage, question, table=TABLE):
    return storage._tables.shards[0].read(table, question, None)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    storage = new_library(tmp_path_factory.mktemp("large") / "library")
    vectors = vectors_of(N, 1)
    add(storage, "a", vectors)
    assert storage.index_states()["vision"].kind is None
    assert storage.needs_optimizing()
    storage.optimize(thorough=False)
    assert not storage.needs_optimizing()
    return storage, vectors


def test_the_index_is_built_and_finds_what_an_exact_scan_finds(large):
    storage, vectors = large
    state = storage.index_states()["vision"]
    assert (state.kind, state.n_rows, state.n_unindexed) == ("IVF_RQ", N, 0)
    assert ask(storage, lambda table: is_index_used(table, vectors[0]))
    stored = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    common, queries = 0, vectors_of(20, 2)
    for query in queries:
        hits = search(storage, query, 10)
        scores = hits["score"].to_pylist()
        assert scores == sorted(scores, reverse=True)
        best = np.argsort(-(stored @ query))[:10]
        np.testing.assert_allclose(scores[0], stored[best[0]] @ query / np.linalg.norm(query), atol=1e-3)
        common += len({f"a{row:05d}" for row in best} & set(ids(hits)))
        assert ids(search(storage, query, 10, exact=True)) == [f"a{row:05d}" for row in best]
    assert common / (10 * len(queries)) >= 0.97


def test_k_is_filled_through_the_index(large):
    storage, _ = large
    assert search(storage, vectors_of(1, 3)[0], 3_000).num_rows == 3_000


def test_more_than_there_is_may_be_asked_for_through_the_index(large):
    storage, query = large[0], np.ones(D)
    everything = storage.search("vision", DIGEST, query, storage.n_vectors("vision", DIGEST))
    assert storage.search("vision", DIGEST, query, 10**9) == everything  # memory is taken for what is asked for


@pytest.mark.parametrize("k", [1, 20])
def test_a_condition_that_one_file_in_ten_thousand_meets_finds_it(large, k):
    storage, _ = large
    among = storage.select([("width", "=", RARE)])
    assert ids(search(storage, vectors_of(1, 4)[0], k, among=among)) == [f"a{RARE:05d}"]


def test_a_condition_that_many_files_meet_leaves_out_none(large):
    """More than are compared past the index: they are filtered while it is searched."""
    storage, _ = large
    among = storage.select([("width", ">=", N - 2_500)])
    hits = search(storage, vectors_of(1, 5)[0], 3_000, among=among)
    assert sorted(ids(hits)) == [f"a{row:05d}" for row in range(N - 2_500, N)]


def test_pages_through_the_index_hold_each_file_once(large):
    storage, _ = large
    query, seen = vectors_of(1, 6)[0], []
    for offset in range(0, 420, 7):

        def best(n):
            hits = search(storage, query, n)
            return list(zip(ids(hits), hits["score"].to_pylist(), strict=True))

        read = partial(page, k=7, offset=offset)
        seen += read_ranking(best, lambda match: match[0], read, 7)
    assert len({media_id for media_id, _ in seen}) == len(seen) == 420
    exact = search(storage, query, 420, exact=True)
    assert len({media_id for media_id, _ in seen} & set(ids(exact))) >= 0.97 * 420


def test_the_same_question_has_the_same_answer_in_every_process(large):
    storage, _ = large
    other = MultimodalStorage(storage.path, create=False)
    for query in vectors_of(10, 7):
        answers = [search(asked, query, 50).to_pydict() for asked in (storage, other, storage)]
        assert answers[0] == answers[1] == answers[2]


def test_equal_scores_come_by_id_through_the_index(tmp_path):
    """Half of the rows are one vector, far more than a first look at the index fetches."""
    storage = new_library(tmp_path / "l")
    vectors = vectors_of(2_400, 8)
    vectors[::2] = vectors[0]
    add(storage, "a", vectors)
    storage.optimize(thorough=False)
    assert storage.index_states()["vision"].kind == "IVF_RQ"
    assert ids(search(storage, vectors[0], 30)) == [f"a{2 * number:05d}" for number in range(30)]


def test_new_rows_are_found_at_once_and_deleted_ones_never(large):
    storage, vectors = large
    new = vectors_of(20, 9)
    add(storage, "new-", new)
    assert storage.index_states()["vision"].n_unindexed == 20
    for number, vector in enumerate(new):
        assert ids(search(storage, vector, 1)) == [f"new-{number:05d}"]
    storage.delete_media([f"new-{number:05d}" for number in range(20)])
    for vector in new:
        assert not any(media_id.startswith("new-") for media_id in ids(search(storage, vector, 5)))
    storage.optimize()
    assert storage.index_states()["vision"].n_unindexed == 0
    assert ids(search(storage, vectors[7], 1)) == ["a00007"]


def test_the_index_comes_during_a_long_run_follows_it_and_goes_with_the_rows(tmp_path):
    storage = new_library(tmp_path / "l")
    add(storage, "a", vectors_of(INDEX_FROM - 1, 10))
    storage.optimize_meanwhile()
    assert storage.index_states()["vision"].kind is None
    few, many = max_unindexed(INDEX_FROM), max_unindexed(INDEX_FROM) + 1
    add(storage, "b", vectors_of(1, 11))
    storage.optimize_meanwhile()
    assert storage.index_states()["vision"].n_unindexed == 0
    assert any("media_id" in index.columns for index in ask(storage, lambda table: table.list_indices(), "media"))
    add(storage, "c", vectors_of(few, 12))
    storage.optimize_meanwhile()
    assert storage.index_states()["vision"].n_unindexed == few, "a few rows are compared one by one"
    add(storage, "d", vectors_of(1, 13))
    storage.optimize_meanwhile()
    assert storage.index_states()["vision"].n_unindexed == 0
    assert parts(storage) == 2, "extended"
    add(storage, "e", vectors_of(3 * many, 14))
    storage.optimize_meanwhile()
    assert parts(storage) == 1, "built anew: it has outgrown its partitions"
    assert ids(search(storage, vectors_of(3 * many, 14)[5], 1)) == ["e00005"]
    names = storage.all_media(["media_id"])["media_id"]
    storage.delete_media(names.filter(pc.invert(pc.starts_with(names, "b")))[: len(names) - few].to_pylist())
    assert storage.index_states()["vision"].kind is None, "so few are compared one by one again"
    assert ids(search(storage, vectors_of(1, 11)[0], 1)) == ["b00000"]


def test_a_large_library_waits_with_extending_until_the_run_ends(tmp_path):
    storage = MultimodalStorage(tmp_path / "l", index_from=200)
    storage.bind_models({"vision": ModelRecord(DIGEST, D)})
    add(storage, "a", vectors_of(2_000, 15))
    storage.optimize_meanwhile()
    add(storage, "b", vectors_of(60, 16))  # more than 200 / 4, less than 4 %
    storage.optimize_meanwhile()
    assert storage.index_states()["vision"].n_unindexed == 60
    storage.optimize(thorough=False)
    assert storage.index_states()["vision"].n_unindexed == 0


def parts(storage):
    return ask(storage, lambda table: table.index_stats(INDEX_NAME).num_indices)


def test_searches_go_on_while_the_index_is_built_and_extended(tmp_path):
    storage = new_library(tmp_path / "l")
    first = vectors_of(1_000, 20)
    add(storage, "0-", first)
    done, failures, n_searches = threading.Event(), [], 0

    def ask_all_the_time():
        nonlocal n_searches
        reader = MultimodalStorage(storage.path, create=False)
        while not done.is_set():
            number = n_searches % 1_000
            try:
                if ids(search(reader, first[number], 10))[0] != f"0-{number:05d}":
                    failures.append(number)
            except Exception as error:
                failures.append(error)
            n_searches += 1

    thread = threading.Thread(target=ask_all_the_time)
    thread.start()
    try:
        for round_ in range(1, 6):
            add(storage, f"{round_}-", vectors_of(600, 20 + round_))
            storage.optimize_meanwhile()
        storage.optimize()
    finally:
        done.set()
        thread.join()
    assert failures == []
    assert n_searches > 10
    state = ask(storage, index_state)
    assert (state.kind, state.n_rows, state.n_unindexed, state.n_fragments) == ("IVF_RQ", 4_000, 0, 1)


def test_many_small_writes_are_compacted_while_others_search(tmp_path):
    storage = new_library(tmp_path / "library")
    done, failures = threading.Event(), []

    def search_all_the_time():
        reader = MultimodalStorage(storage.path, create=False)
        while not done.is_set():
            try:
                search(reader, np.ones(D), 10)
            except Exception as error:
                failures.append(error)

    thread = threading.Thread(target=search_all_the_time)
    thread.start()
    try:
        for round_ in range(40):
            add(storage, f"{round_:03d}-", vectors_of(5, round_))
            storage.optimize(thorough=round_ % 4 == 0)
            assert storage.index_states()["vision"].n_fragments <= MAX_FRAGMENTS
    finally:
        done.set()
        thread.join()
    assert failures == []
    assert storage.statistics().images == 200
    storage.optimize()
    assert storage.index_states()["vision"].n_fragments == 1
