"""Results by date: the best so many, newest first, whichever page of them is looked at."""

from __future__ import annotations

import datetime as dt
import os

import numpy as np
import pytest

from arrowlens.search import Example, Query, Searcher, View, by_date
from arrowlens.search.query import DATED
from arrowlens.store import ModelRecord, MultimodalStorage, VectorRow, media_id_of
from tests.support.small_library import DIGESTS, DIMENSION, Provider, vector

N_FILES = DATED + 60
QUERY = Query("x", mode="vector")


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    """Pictures whose dates have nothing to do with how well they match; one in ten has none."""
    storage = MultimodalStorage(tmp_path_factory.mktemp("dated") / "a.lens")
    storage.bind_models({role: ModelRecord(digest, DIMENSION, "test", "one") for role, digest in DIGESTS.items()})
    root = storage.add_root("/media")
    days = np.random.default_rng(0).permutation(N_FILES).tolist()
    vectors, media = [], []
    for number in range(N_FILES):
        path = os.fsencode(f"{number}.png")
        media_id, content_hash = media_id_of(root.root_id, path), f"{number:032x}"
        vectors.append(VectorRow(media_id, content_hash, "image", vector(5, number)))
        taken = dt.datetime(2020, 1, 1) + dt.timedelta(days=days[number]) if number % 10 else None
        row = {"media_id": media_id, "root_id": root.root_id, "path": os.fsdecode(path), "path_bytes": path}
        row |= {"content_hash": content_hash, "modality": "image", "format": "png", "state": "indexed"}
        media.append({**row, "taken": taken})
    storage.upsert_vectors("vision", vectors)
    storage.upsert_media(media)
    yield Searcher(storage, Provider())
    storage.close()


def ids(hits):
    return [hit.media_id for hit in hits]


def test_pages_go_through_the_best_in_order_of_time(searcher):
    best = searcher.search(QUERY, View(DATED))
    expected = by_date(best)
    assert ids(expected) != ids(best)
    pages = [searcher.search(QUERY, View(40, offset, sort="date")) for offset in range(0, DATED + 40, 40)]
    assert [media_id for page in pages for media_id in ids(page)] == ids(expected)
    assert not pages[-1]
    example = Example(str(best[0].path), "image", best[0].content_hash)
    alike = searcher.similar(example, View(40, 40, sort="date"))
    assert ids(alike) == ids(by_date(searcher.similar(example, View(DATED))))[40:80]


def test_it_is_said_that_others_may_be_newer(searcher):
    assert any(
        f"only the best {DATED:,} files" in notice for notice in searcher.search(QUERY, View(20, sort="date")).notices
    )
    assert not searcher.search(QUERY, View(20)).notices
    assert not searcher.search(QUERY, View(N_FILES + 1, sort="date")).notices


def test_more_than_so_many_are_ordered_when_more_are_asked_for(searcher):
    best = searcher.search(QUERY, View(DATED + 10))
    assert ids(searcher.search(QUERY, View(DATED + 10, sort="date"))) == ids(by_date(best))
