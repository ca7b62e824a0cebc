"""Searches with conditions through a searcher: pages, dates, writers meanwhile, and what looks the same shown once."""

from __future__ import annotations

import numpy as np
import pytest

from arrowlens.search import Example, Query, Searcher, View
from arrowlens.search.where import parse
from arrowlens.store import ModelRecord, MultimodalStorage, VectorRow
from tests.support.small_library import DIGESTS, DIMENSION, Engine, Provider, filled_storage


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    yield from filled_storage(tmp_path_factory.mktemp("filtered"))


def numbers(results):
    return {hit.size - 100 for hit in results}


def test_a_search_keeps_what_satisfies_the_conditions(filled):
    storage, rows = filled
    searcher = Searcher(storage, Provider())
    found = searcher.search(
        Query("x", mode="vector"), View(100, where=parse("size >= 112 and size < 130 and kind = image"))
    )
    kept = {row.media_id for row in rows if row.modality == "image"} & {hit.media_id for hit in found}
    assert len(found) == len(kept) == 18
    assert numbers(found) == set(range(12, 30))
    both = searcher.search(Query("x", mode="vector"), View(100, where=parse("size < 105")))
    assert {hit.modality for hit in both} == {"image", "audio"}
    assert searcher.search(Query("x", mode="vector"), View(3, where=parse("size < 105"))) == both[:3]
    assert len(searcher.search(Query("x", mode="vector"), View(3, where=parse("size < 0")))) == 0
    like = searcher.similar(Example("x", "audio", f"a{5:031x}"), View(9, where=parse("duration = 20s and size != 105")))
    assert len(like) == 9
    assert 5 not in numbers(like)


def test_pages_of_a_filtered_search_never_repeat_or_skip(filled):
    searcher, where = Searcher(filled[0], Provider()), parse("size >= 110")
    whole = searcher.search(Query("x", mode="vector"), View(100, where=where))
    pages = [
        searcher.search(Query("x", mode="vector"), View(6, offset, where)) for offset in range(0, len(whole) + 6, 6)
    ]
    assert [hit for part in pages for hit in part] == list(whole)


class Meanwhile:
    """A store into which another file is written just after the selection, so many times."""

    def __init__(self, storage, n_times):
        self._storage, self._left = storage, n_times

    def __getattr__(self, name):
        return getattr(self._storage, name)

    def select(self, conditions):
        selection = self._storage.select(conditions)
        if self._left:
            self._left -= 1
            name = f"new {self._left}"
            vector = Engine().encode_text(["x"])[0]
            self._storage.upsert_vectors("vision", [VectorRow(name, name, "image", vector)])
            row = {"media_id": name, "content_hash": name, "modality": "image", "state": "indexed", "width": 7}
            self._storage.upsert_media([row | {"root_id": "r", "path": name, "path_bytes": name.encode()}])
        return selection


def test_a_selection_is_made_again_when_somebody_writes_meanwhile(tmp_path):
    for storage, _ in filled_storage(tmp_path):
        searcher = Searcher(Meanwhile(storage, 2), Provider())
        found = searcher.search(Query("x", mode="vector"), View(5, where=parse("width = 7")))
        assert {hit.media_id for hit in found} == {"new 0", "new 1"}


@pytest.fixture(scope="module")
def alike(tmp_path_factory):
    """Twelve scenes of five pictures each that barely differ, some of them in several places."""
    storage = MultimodalStorage(tmp_path_factory.mktemp("alike") / "library")
    storage.bind_models({"vision": ModelRecord(DIGESTS["vision"], DIMENSION)})
    rng, rows, media = np.random.default_rng(8), [], []
    for scene in range(12):
        centre = rng.standard_normal(DIMENSION)
        for number in range(5):
            embedding = centre + 0.005 * rng.standard_normal(DIMENSION)
            for place in range(1 + (scene + number) % 2):
                name, content = f"{scene:02d}-{number}-{place}", f"{scene:02d}-{number}"
                rows.append(VectorRow(name, content, "image", embedding))
                row = {"media_id": name, "content_hash": content, "modality": "image", "state": "indexed"}
                media.append(row | {"root_id": "r", "path": name, "path_bytes": name.encode()})
    storage.upsert_vectors("vision", rows)
    storage.upsert_media(media)
    yield storage
    storage.close()


@pytest.mark.parametrize("k", [1, 4, 12, 50])
def test_what_looks_the_same_is_shown_once_with_its_number(alike, k):
    searcher = Searcher(alike, Provider(text_reaches_audio=False))
    plain = searcher.search(Query("x", mode="vector"), View(60))
    best_of: dict[str, str] = {}
    for hit in plain:
        best_of.setdefault(hit.media_id[:2], hit.media_id)
    pages = [searcher.search(Query("x", mode="vector"), View(k, offset, collapse=True)) for offset in range(0, 13, k)]
    shown = [hit for part in pages for hit in part]
    assert [hit.media_id for hit in shown] == list(best_of.values())
    assert all(len(part) == k for part in pages[: 12 // k])
    if k >= 12:  # all of them were looked at
        assert {hit.media_id[:2]: hit.cluster_size for hit in shown} == {f"{n:02d}": 7 + n % 2 for n in range(12)}
    assert {hit.cluster_size for hit in plain} == {1}
