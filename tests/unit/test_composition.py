"""Composed questions: the formula, the spaces, and that a search follows them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from arrowlens.errors import InputError, TextValidationError
from arrowlens.search import Example, Query, Searcher, View
from arrowlens.search.composition import MINUS_WEIGHT, Part, checked_weights, composed, mean_vector, reached
from arrowlens.search.where import parse
from tests.support.small_library import DIGESTS, Engine, Provider, assert_same, brute_force, filled_storage, vector

D = 6
weights = st.floats(0.01, 100)


def unit(vector):
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def random_parts(seed, n):
    rng = np.random.default_rng(seed)
    signs = np.where(rng.random(n) < 0.7, 1, -1)
    return [Part("text", unit(rng.standard_normal(D)), float(sign * rng.uniform(0.1, 3))) for sign in signs]


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), weights)
def test_the_order_is_that_of_the_weighted_cosines(seed, n, scale):
    parts = random_parts(seed, n)
    total = sum(part.weight * part.vector.astype(np.float64) for part in parts)
    assume(np.linalg.norm(total) > 0.05)
    question = composed(parts, one_space=False)
    assert question.dtype == np.float32
    assert np.linalg.norm(question) == pytest.approx(1, abs=1e-6)
    files = np.random.default_rng(seed + 1).standard_normal((50, D))
    files /= np.linalg.norm(files, axis=1, keepdims=True)
    by_parts = sum(part.weight * (files @ part.vector.astype(np.float64)) for part in parts)
    np.testing.assert_allclose(files @ question, by_parts / np.linalg.norm(total), atol=1e-5)
    scaled = [Part(part.kind, part.vector, part.weight * scale) for part in parts]
    np.testing.assert_allclose(composed(scaled, one_space=False), question, atol=1e-5)


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_less_of_something_is_farther_from_it(seed):
    wanted, unwanted = (part.vector for part in random_parts(seed, 2))
    without = composed([Part("text", wanted)], False)
    assume(abs(float(wanted @ unwanted)) < 0.9)
    cosines = [
        float(composed([Part("text", wanted), Part("text", unwanted, -weight)], False) @ unwanted)
        for weight in (0.25, 0.5, 1.0)
    ]
    assert float(without @ unwanted) > cosines[0] > cosines[1] > cosines[2]


def test_what_cancels_out_is_refused():
    one = unit(np.arange(1, D + 1))
    with pytest.raises(InputError, match="cancel each other out"):
        composed([Part("text", one), Part("text", one, -1.0)], one_space=True)
    assert composed([Part("text", one), Part("text", one, -0.5)], one_space=True) @ one == pytest.approx(1)


def test_recordings_meet_texts_and_pictures_only_in_one_space():
    one = unit(np.ones(D))
    mixed = [Part("text", one), Part("image", one), Part("audio", one)]
    assert composed(mixed, one_space=True) @ one == pytest.approx(1)
    with pytest.raises(InputError, match="recordings and pictures and texts use different embedding spaces"):
        composed(mixed, one_space=False)
    assert composed([mixed[0], mixed[1]], one_space=False) @ one == pytest.approx(1)
    assert composed([mixed[2], mixed[2]], one_space=False) @ one == pytest.approx(1)


@pytest.mark.parametrize(
    ("kinds", "one_space", "modality", "compared"),
    [
        ("text", True, None, ("image", "audio")),
        ("text", False, None, ("image",)),
        ("text", False, "audio", ()),
        ("text", True, "audio", ("audio",)),
        ("image", True, None, ("image",)),
        ("image", True, "audio", ("audio",)),
        ("image", False, "audio", ()),
        ("audio", True, None, ("audio",)),
        ("audio", False, None, ("audio",)),
        ("audio", False, "image", ()),
        ("text image", True, None, ("image", "audio")),
        ("text image", False, None, ("image",)),
        ("image audio", True, None, ("image", "audio")),
        ("text audio", True, "image", ("image",)),
    ],
)
def test_what_a_question_is_compared_with(kinds, one_space, modality, compared):
    assert reached(kinds.split(), one_space, modality) == compared


@pytest.mark.parametrize(
    ("kinds", "modality", "compared"),
    [
        ("text", None, ("image", "audio")),
        ("text", "audio", ("audio",)),
        ("text image", None, ("image",)),
        ("text image", "audio", ()),
        ("text audio", None, ("audio",)),
        ("audio", None, ("audio",)),
    ],
)
def test_what_a_question_is_compared_with_where_recordings_have_texts_of_their_own(kinds, modality, compared):
    assert reached(kinds.split(), False, modality, ("image", "audio")) == compared


def test_texts_meet_recordings_in_the_recordings_own_space():
    one = unit(np.ones(D))
    parts = {kind: Part(kind, one) for kind in ("text", "image", "audio")}
    for kinds in ("text audio", "text image"):
        assert composed([parts[kind] for kind in kinds.split()], False, ("image", "audio")) @ one == pytest.approx(1)
    for kinds in ("image audio", "text image audio"):
        with pytest.raises(InputError, match="use different embedding spaces"):
            composed([parts[kind] for kind in kinds.split()], False, ("image", "audio"))


def test_a_recording_counts_by_the_mean_of_its_windows():
    windows = np.array([[2.0, 0, 0], [0, 1, 0]])
    np.testing.assert_allclose(mean_vector(windows), np.array([1, 1, 0]) / np.sqrt(2), atol=1e-6)
    with pytest.raises(InputError, match="nothing in common"):
        mean_vector(np.array([[1.0, 0], [-2, 0]]))


@pytest.mark.parametrize("weight", [0, -1, 101, float("nan"), float("inf"), True, "2", None])
def test_weights_are_numbers_above_zero(weight):
    with pytest.raises(InputError, match="the weight of 'a' is"):
        checked_weights({"a": weight}, ["a"])


def test_weights_belong_to_parts():
    assert checked_weights({"a": 2, "b": 0.5}, ["b", "a", "c"]) == {"a": 2.0, "b": 0.5}
    assert checked_weights(None, []) == {}
    with pytest.raises(InputError, match="a weight is given for 'd', which is no part of the question"):
        checked_weights({"d": 1}, ["a"])


# -- through a searcher ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    yield from filled_storage(tmp_path_factory.mktemp("composition"))


def text_vector(text):
    return Engine().encode_text([text])[0]


def test_a_search_follows_the_formula(filled):
    storage, rows = filled
    stored = Example("stored", "image", f"i{10:031x}")
    picture = Example("picture", "image", pixels=np.full((4, 4, 3), 9, np.uint8))
    query = Query("a", plus=("b",), minus=("c",), like=(stored, picture), weights={"b": 2, "picture": 0.25, "c": 0.75})
    vectors = [(1, text_vector("a")), (2, text_vector("b")), (-0.75, text_vector("c")), (0.25, vector(1, 9))]
    vectors.append((1, mean_vector(storage.vectors("vision", DIGESTS["vision"], f"i{10:031x}"))))
    expected = unit(sum(weight * part for weight, part in vectors))
    found = Searcher(storage, Provider()).search(query, View(15))
    assert_same(found, brute_force(rows, [expected], ["image", "audio"], 15))


def test_what_is_not_wanted_weighs_a_half(filled):
    storage, rows = filled
    found = Searcher(storage, Provider()).search(Query("a", minus=("b",)), View(10))
    expected = unit(text_vector("a") - MINUS_WEIGHT * text_vector("b"))
    assert_same(found, brute_force(rows, [expected], ["image", "audio"], 10))


def test_a_recording_alone_is_compared_with_recordings(filled):
    storage, rows = filled
    windows = [np.full(100, value, np.float32) for value in (1, 2, 3)]
    query = Query(like=(Example("x", "audio", windows=windows),))
    expected = [vector(2, value) for value in (1, 2, 3)]  # each of its windows, not their mean
    for one_space in (True, False):
        found = Searcher(storage, Provider(text_reaches_audio=one_space)).search(query, View(10))
        assert_same(found, brute_force(rows, expected, ["audio"], 10))
    with pytest.raises(InputError, match="use different embedding spaces"):
        Searcher(storage, Provider(text_reaches_audio=False)).search(Query("a", like=query.like))


def test_an_example_that_is_gone_is_said(filled):
    query = Query(like=(Example("/photos/gone.jpg", "image", "0" * 32),))
    with pytest.raises(InputError, match=r"/photos/gone.jpg: the library no longer holds it"):
        Searcher(filled[0], Provider()).search(query)


def test_a_text_that_is_cut_is_said(filled):
    searcher = Searcher(filled[0], Provider())
    assert searcher.search(Query("short")).notices == ()
    found = searcher.search(Query("short", minus=("0123456789" * 5,)))
    assert found.notices == ("the text is longer than the model reads; what follows '0123456789' does not count",)
    assert found[:3].notices == found.notices


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({}, TextValidationError, "the text is None"),
        ({"text": " "}, TextValidationError, "the text is ' '"),
        ({"text": "a", "plus": ("",)}, TextValidationError, "the text is ''"),
        ({"text": "a", "minus": (None,)}, TextValidationError, "the text is None"),
        (
            {"text": "a", "modality": "film"},
            InputError,
            "the modality is 'film'; it is one of image,",
        ),
        ({"text": "a", "mode": "fuzzy"}, InputError, "the mode is 'fuzzy'; it is one of auto, vector, keyword"),
        ({"text": "a", "plus": ("b",), "mode": "keyword"}, InputError, "keywords come from one text"),
        ({"text": "a", "plus": "dog"}, InputError, r"plus is 'dog'; it takes a list, so \['dog'\] for one"),
        ({"text": "a", "minus": "dog"}, InputError, "minus is 'dog'"),
        ({"text": "half a character: \ud800"}, TextValidationError, "unpaired surrogates"),
    ],
)
def test_questions_are_checked(fields, error, message):
    with pytest.raises(error, match=message):
        Query(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": 0}, "k is 0; it is the number of results, a whole number from 1 on"),
        ({"offset": -1}, "offset is -1; it is the number of results to skip, a whole number from 0 on"),
        ({"offset": 1.5}, "offset is 1.5"),
        ({"offset": True}, "offset is True"),
        ({"sort": "name"}, "the order is 'name'; it is one of relevance, date"),
    ],
)
def test_views_are_checked(fields, message):
    with pytest.raises(InputError, match=message):
        View(**fields)


@pytest.mark.parametrize("many", [10**9, 10**12, 10**30])
@pytest.mark.parametrize("mode", ["auto", "vector", "keyword"])
def test_more_than_there_is_may_be_asked_for(filled, many, mode):
    searcher, query = Searcher(filled[0], Provider()), Query("x", mode=mode)
    everything = searcher.search(query, View(98))
    assert len(everything) == 98
    for view in (View(many), View(many, where=parse("size >= 0"))):
        assert [hit.media_id for hit in searcher.search(query, view)] == [hit.media_id for hit in everything]
    assert len(searcher.search(query, View(many, collapse=True))) == 98
    assert len(searcher.search(query, View(5, many))) == len(searcher.search(query, View(5, many, collapse=True))) == 0


def test_pages_are_parts_of_one_ranking(filled):
    searcher = Searcher(filled[0], Provider())
    whole = searcher.search(Query("x", mode="vector"), View(98))
    pages = [searcher.search(Query("x", mode="vector"), View(7, offset)) for offset in range(0, 105, 7)]
    assert [hit for part in pages for hit in part] == list(whole)
    assert len(pages[-1]) == 0
