"""Tables in memory are read once for each version, and answer as LanceDB does; large ones once they are asked often."""

from __future__ import annotations

import datetime as dt
import threading

import numpy as np
import pytest

from arrowlens.store import MultimodalStorage, queries, shown_columns, snapshots
from arrowlens.store.identifiers import MEDIA_TABLE, vector_table_name
from arrowlens.store.snapshots import N_ASKED
from tests.support.small_library import DIGESTS, filled_storage, vector


@pytest.fixture
def library(tmp_path):
    """58 pictures of different content and 40 recordings."""
    for storage, _ in filled_storage(tmp_path):
        yield storage


def from_disk(storage):
    """The same library, all of whose tables count as large."""
    return MultimodalStorage(storage.path, create=False, index_from=1)


def answer(storage, role, query, k, modality=None, among=None):
    return storage.search(role, DIGESTS[role], query, k, modality, among).to_pylist()


def held_vectors(storage, role="vision"):
    """What a library holds of a role's vectors; None for nothing."""
    held = storage._queries._held_vectors[0]._held.get(vector_table_name(role, DIGESTS[role]))
    return held and held.value


@pytest.fixture
def often_asked(library):
    """The same library as large, and asked so often that its tables are held."""
    storage = from_disk(library)
    for number in range(N_ASKED):
        answer(storage, "vision", vector(9, number), 3, "image")
    assert held_vectors(storage) is not None
    assert not held_vectors(storage).is_small
    return storage


@pytest.mark.parametrize("role", ["vision", "audio"])
def test_a_search_in_memory_gives_what_one_on_disk_gives(library, role):
    modality = {"vision": "image", "audio": "audio"}[role]
    few = library.select([("size", ">=", 120)])
    for number in range(5):
        query = vector(9, number)
        for k in (1, 7, 200):
            for among in (None, few):
                here = answer(library, role, query, k, modality, among)
                assert here == answer(from_disk(library), role, query, k, modality, among)
                assert here
    assert answer(library, role, vector(9, 0), 5, {"vision": "audio", "audio": "image"}[role]) == []


def test_a_large_table_that_is_held_gives_what_the_disk_gives(library, often_asked):
    few = library.select([("size", ">=", 120)])
    for number in range(5):
        for k, among in ((1, None), (7, few), (200, None)):
            for modality in ("image", "audio", None):
                asked = ("vision", vector(9, number), k, modality, among)
                assert answer(often_asked, *asked) == answer(from_disk(library), *asked)
    assert often_asked.all_media().equals(library.all_media())
    ids = library.all_media(["media_id"])["media_id"].to_pylist()
    for some in (ids[::2], [ids[0], "missing", "\u00e9", ids[0]], []):
        shown = library.media(some, shown_columns())
        assert often_asked.media(some, shown_columns()).equals(shown)
        assert often_asked.media(some).equals(library.media(some))
    assert often_asked.newest(10) == library.newest(10)


def test_what_changes_while_the_index_is_asked_is_seen(library, often_asked, monkeypatch):
    query, ask_index = vector(9, 1), queries.candidates
    gone = answer(library, "vision", query, 1, "image")[0]["media_id"]

    def candidates(*asked):
        row_ids = ask_index(*asked)
        library.delete_media([gone])
        library.optimize(thorough=True)  # rows get other ids
        return row_ids

    monkeypatch.setattr(queries, "candidates", candidates)
    assert answer(often_asked, "vision", query, 60, "image") == answer(library, "vision", query, 60, "image")
    assert gone not in often_asked.media([gone])["media_id"].to_pylist()


def test_a_large_table_is_held_again_once_it_stands_still(library, often_asked, monkeypatch):
    for settled_s in (60.0, 0.0):
        monkeypatch.setattr(snapshots, "SETTLED_S", settled_s)
        library.optimize(thorough=True)
        library.delete_media([library.newest(1, "image")[0]])
        library.optimize(thorough=True)
        for _ in range(N_ASKED + 1):
            assert answer(often_asked, "vision", vector(9, 1), 3) == answer(library, "vision", vector(9, 1), 3)
        assert (held_vectors(often_asked) is None) == (settled_s > 0)


def test_no_more_is_held_than_the_limits_say(library, monkeypatch):
    for role in ("vision", "audio"):
        assert answer(library, role, vector(9, 1), 3)
    larger = max(held_vectors(library, role).nbytes for role in ("vision", "audio"))
    monkeypatch.setattr(snapshots, "MAX_TOTAL", larger)  # either, but not both
    library.close()
    for role in ("vision", "audio"):
        assert answer(library, role, vector(9, 1), 3)
        assert held_vectors(library, role) is not None
    assert held_vectors(library, "vision") is None
    monkeypatch.setattr(snapshots, "MAX_BYTES", 1_000)
    large = from_disk(library)
    for _ in range(2 * N_ASKED):
        assert answer(large, "vision", vector(9, 1), 3) == answer(library, "vision", vector(9, 1), 3)
    assert held_vectors(large) is None


def test_rows_are_the_same_from_memory_and_from_disk(library):
    ids = library.all_media(["media_id"])["media_id"].to_pylist()
    large = from_disk(library)
    assert library.all_media().equals(large.all_media())
    for some in (ids[:3], ids[::2], ids, [], ["missing"], [ids[0], "missing"]):
        assert library.media(some).equals(large.media(some))
        shown = library.media(some, shown_columns())
        assert shown.equals(library.media(some).select(shown.column_names))
        assert shown.equals(large.media(some, shown_columns()))
        assert shown.equals(large.media(some, shown_columns()))  # of a large table, from what it remembers
    assert library.version == large.version


def test_the_newest_files_are_the_same_from_memory_and_from_disk(library):
    rows = library.all_media().to_pylist()
    for number, row in enumerate(rows):  # several of one time, some without, and copies of other times
        row["taken"] = None if number % 5 == 0 else dt.datetime(2020, 1, 1 + number % 7)
        row["content_hash"] = rows[number // 2 * 2]["content_hash"] if number < 20 else row["content_hash"]
    library.upsert_media(rows)
    few, large = library.select([("size", ">=", 120)]), from_disk(library)
    ordered = sorted(rows, key=lambda row: (row["taken"] is None, row["taken"] and -row["taken"].day, row["media_id"]))
    for modality in (None, "image"):
        for among in (None, few, library.selection([], [])):
            kept = {row["media_id"] for row in rows} if among is None else set(among.files["media_id"].to_pylist())
            first: dict[str, str] = {}
            for row in ordered:
                if row["media_id"] in kept and modality in (None, row["modality"]) and row["state"] == "indexed":
                    first.setdefault(row["content_hash"], row["media_id"])
            for n in (0, 1, 10, 500):
                expected = list(first.values())[:n]
                assert library.newest(n, modality, among) == expected
                assert large.newest(n, modality, among) == expected


def test_counts_follow_each_change(library):
    for storage in (library, from_disk(library)):
        for _ in range(2):
            before, facets = storage.statistics(), storage.facets()
            assert storage.facets() == facets
            library.delete_media([storage.newest(1, "image")[0]])
            assert storage.statistics().images == before.images - 1
            assert storage.facets().n_files == facets.n_files - 1


def test_a_change_is_seen_at_once_by_those_who_hold_the_table(library):
    reader, large = MultimodalStorage(library.path, create=False), from_disk(library)
    for number in range(5):
        gone = answer(reader, "vision", vector(9, number), 1, "image")[0]["media_id"]
        assert gone in large.media([gone])["media_id"].to_pylist()
        library.delete_media([gone])
        for storage in (reader, large):
            assert gone not in [hit["media_id"] for hit in answer(storage, "vision", vector(9, number), 60, "image")]
            assert len(storage.media([gone])) == 0


def test_a_table_that_was_dropped_and_made_again_is_read_again(library):
    name = vector_table_name("vision", DIGESTS["vision"])
    query, reader = vector(9, 1), MultimodalStorage(library.path, create=False)
    first = answer(reader, "vision", query, 60, "image")
    n_versions = library._tables.version(name)
    contents = [hit["content_hash"] for hit in first[:10]]
    rows = [row for each in library._vectors.rows("vision", contents).values() for row in each]
    library._tables.drop(name)
    for _ in range(n_versions - 1):  # as many versions as it had
        library.upsert_vectors("vision", rows)
    assert [hit["media_id"] for hit in answer(reader, "vision", query, 60, "image")] == [
        hit["media_id"] for hit in first[:10]
    ]


def test_threads_that_search_during_writes_see_whole_answers(library):
    stop, wrong = threading.Event(), []

    def search(number):
        storage = MultimodalStorage(library.path, create=False)
        while not stop.is_set():
            hits = answer(storage, "vision", vector(9, number), 20, "image")
            scores = [hit["score"] for hit in hits]
            if len(hits) != 20 or scores != sorted(scores, reverse=True):
                wrong.append(hits)

    threads = [threading.Thread(target=search, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for media_id in [row["media_id"] for row in library.all_media().to_pylist() if row["modality"] == "image"][:4]:
        library.delete_media([media_id])
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_memory_is_let_go_of(library):
    assert answer(library, "vision", vector(9, 1), 3)
    held = library._queries._held_vectors[0]
    assert held._held
    library.close()
    assert not held._held
    assert not library._queries._media._whole._held
    assert np.isfinite(answer(library, "vision", vector(9, 1), 3)[0]["score"])
    assert MEDIA_TABLE in library._queries._media._whole._held
