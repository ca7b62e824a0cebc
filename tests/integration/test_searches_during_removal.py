"""``k`` files are found whenever so many are left, also while files are removed."""

from __future__ import annotations

import threading

import pytest

from arrowlens.search import Query, Searcher, View, parse
from arrowlens.search.listing import newest
from arrowlens.store import MultimodalStorage
from tests.support.small_library import Provider, filled_storage


class RemovingStorage(MultimodalStorage):
    """Removes the first of the files whose rows are about to be read, a few times: between finding and reading."""

    n_left = 0

    def media(self, media_ids, columns=None):
        if self.n_left and media_ids:
            self.n_left -= 1
            MultimodalStorage(self.path, create=False).delete_media([media_ids[0]])
        return super().media(media_ids, columns)


@pytest.fixture
def library(tmp_path):
    """58 pictures of different content and 40 recordings."""
    for storage, _ in filled_storage(tmp_path):
        yield RemovingStorage(storage.path, create=False)


@pytest.mark.parametrize("n_removed", [1, 6])
@pytest.mark.parametrize(
    "view", [View(20), View(20, collapse=True), View(20, offset=5), View(20, where=parse("size > 0"))]
)
def test_search_returns_k_hits_when_files_are_removed_before_their_rows_are_read(library, view, n_removed):
    library.n_left = n_removed
    results = Searcher(library, Provider()).search(Query("a red bicycle"), view)
    assert library.n_left == 0
    assert len(results) == 20
    assert len(library.media([hit.media_id for hit in results])) == 20


def test_the_newest_files_are_k_when_some_are_removed_before_their_rows_are_read(library):
    library.n_left = 4
    assert len(newest(library, View(20))) == 20


def test_search_returns_what_is_left_when_fewer_than_k_are(library):
    library.n_left = 5
    n_found = len(Searcher(library, Provider()).search(Query("x"), View(1000)))
    assert n_found == len(set(library.all_media(["content_hash"])["content_hash"].to_pylist()))


@pytest.mark.parametrize("n_removed", [12, pytest.param(30, marks=pytest.mark.soak)])
def test_searches_are_filled_while_another_thread_removes(library, n_removed):
    """No hook: whatever order things happen in. Some fifty searches on two cores in the long form."""
    ids = [row for row in library.all_media(["media_id", "modality"]).to_pylist() if row["modality"] == "image"]
    over, short = threading.Event(), []

    def remove() -> None:
        storage = MultimodalStorage(library.path, create=False)
        for row in ids[:n_removed]:
            storage.delete_media([row["media_id"]])
        over.set()

    remover = threading.Thread(target=remove)
    remover.start()
    searcher = Searcher(library, Provider())
    while not over.is_set():
        n = len(searcher.search(Query("x"), View(20)))
        short += [n] if n != 20 else []
    remover.join()
    assert short == []
