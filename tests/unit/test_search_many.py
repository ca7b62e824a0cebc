"""Many questions at once: the answers of single ones, and each model runs once."""

from __future__ import annotations

import numpy as np
import pytest

from arrowlens import Library
from arrowlens.errors import InputError, TextValidationError
from arrowlens.search import Query, Searcher, View
from tests.support.small_library import Engine, Provider, filled_storage


class Counting(Engine):
    n_calls = 0

    def encode_text(self, texts, normalize=True):
        self.n_calls += 1
        return super().encode_text(texts)


@pytest.fixture
def storage(tmp_path):
    yield from (storage for storage, _ in filled_storage(tmp_path))


def test_answers_are_those_of_single_questions_and_the_model_runs_once(storage):
    engine = Counting()
    searcher = Searcher(storage, Provider(clip_engine=engine))
    queries = [
        Query("a"),
        Query("b", plus=("c",), minus=("d",)),
        Query("7 x", mode="keyword"),
        Query("a", modality="audio"),
    ]
    single = [searcher.search(query, View(5)) for query in queries]
    assert engine.n_calls == 5
    engine.n_calls = 0
    assert searcher.search_many(queries, View(5)) == single
    assert engine.n_calls == 1
    assert searcher.search_many([]) == []


def test_the_library_takes_texts_in_their_order(storage):
    library = Library(storage, Provider())
    texts = [f"image {number}" for number in range(10)] + ["image 3"]
    many = library.search_many(texts, k=3, mode="keyword", where="width >= 1")
    assert [len(one) for one in many] == [1] * 11
    assert [one[0].path.name.split()[0] for one in many] == [*"0123456789", "3"]
    assert many[3] == many[10] == library.search("image 3", k=3, mode="keyword")
    with pytest.raises(InputError, match="takes several texts"):
        library.search_many("a dog")
    with pytest.raises(TextValidationError):
        library.search_many(["a", " "])


def test_results_become_tables(storage):
    results = Library(storage, Provider()).search("x", k=4, mode="keyword")
    assert len(results) == 4
    table, frame = results.to_arrow(), results.to_pandas()
    assert table["media_id"].to_pylist() == [hit.media_id for hit in results] == frame["media_id"].tolist()
    np.testing.assert_allclose(frame["score"], [hit.score for hit in results], rtol=1e-6)
