"""Relevance: what it depends on and what not, what it is measured by, and the numbers that it is made with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrowlens.encoders.model_directory import model_info
from arrowlens.media.acoustic_fingerprint import acoustic_fingerprint
from arrowlens.models import resolve
from arrowlens.search import Example, Query, Searcher, View
from arrowlens.search.copies import RELEVANCE
from arrowlens.search.relevance import MATCHING, ScoreCalibration, relevance
from arrowlens.search.relevance.background import Bank, Familiarity, Fitted, bundled, weights_of
from arrowlens.search.relevance.calibration import Calibration
from arrowlens.search.relevance.questions import questions
from arrowlens.search.relevance.weights import FITTED_WITH, WEIGHTS
from tests.support.small_library import Engine, Provider, brute_force, filled_storage

KINDS = ("text", "image", "audio")


def example(path: Path) -> Example:
    """A bundled file as the small engines take it: its size names its vector."""
    size = path.stat().st_size
    if path.parent.name == "sounds":
        return Example(path.name, "audio", windows=[np.full(100, size, np.float32)])
    return Example(path.name, "image", pixels=np.full((4, 4, 3), size))


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    for opened, _ in filled_storage(tmp_path_factory.mktemp("relevance")):
        yield opened


class Bundled(Provider):
    """The small engines, taken for the bundled models, whose numbers are fitted."""

    def digest(self, role):
        return FITTED_WITH[role]


@pytest.fixture
def bank(tmp_path):
    return Bank(Bundled(), example, tmp_path)


@pytest.fixture
def searcher(storage, bank):
    return Searcher(storage, Provider(), bank)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def some(n: int, seed: int, d: int = 8) -> np.ndarray:
    return unit(np.random.default_rng(seed).standard_normal((n, d)))


@given(
    route=st.sampled_from(sorted(WEIGHTS)),
    seed=st.integers(0, 2**32 - 1),
    scores=st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=30),
    n_compared=st.integers(1, 10**9),
    composed=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_it_lies_in_0_to_1_and_rises_with_the_score(route, seed, scores, n_compared, composed):
    yardstick = ScoreCalibration.measured(some(20, seed), some(30, seed + 1))
    standing = yardstick.standing(some(2, seed + 2), np.sort(np.array(scores, np.float32)), composed=composed)
    found = relevance(standing, n_compared, WEIGHTS[route])
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1
    assert (np.diff(found) >= 0).all()
    fewer = relevance(standing, max(1, n_compared // 2), WEIGHTS[route])
    assert (found <= fewer + 1e-12).all()  # more comparisons, more chance


@pytest.mark.parametrize("shift", [0.5, 3.0])
def test_a_space_whose_scores_are_moved_and_stretched_gives_the_same(shift):
    """A direction that all vectors share turns each cosine c into (c + s * s) / (1 + s * s)."""
    texts, files, question, hits = some(40, 0), some(30, 1), some(1, 2), some(10, 3)
    plain = ScoreCalibration.measured(texts, files).standing(question, hits @ question[0])

    def moved(rows: np.ndarray) -> np.ndarray:
        return unit(np.pad(rows, ((0, 0), (0, 1)), constant_values=shift))

    other = ScoreCalibration.measured(moved(texts), moved(files))
    scores = moved(hits) @ moved(question)[0]
    assert np.ptp(scores) < np.ptp(hits @ question[0])
    np.testing.assert_allclose(other.standing(moved(question), scores), plain, atol=1e-9)


def test_files_are_not_compared_with_themselves():
    files = some(30, 1)
    with_itself, without = ScoreCalibration.measured(files, files), ScoreCalibration.measured(files, files, same=True)
    products = files @ files.T
    assert without.middle == pytest.approx(products[~np.eye(30, dtype=bool)].mean())
    assert with_itself.middle > without.middle


def test_a_question_that_everything_resembles_is_worth_less():
    yardstick = ScoreCalibration.measured(some(40, 0), some(30, 1))
    middling = unit(yardstick.mean)[None]
    score = np.array([0.8])
    assert yardstick.standing(middling, score) < yardstick.standing(-middling, score)
    assert yardstick.standing(middling, score, composed=True) < yardstick.standing(middling, score)


def test_the_numbers_belong_to_the_bundled_models():
    models = resolve("demo")
    digests = {role: model_info(path).digest for role, path in models.directories().items() if role in FITTED_WITH}
    assert digests == FITTED_WITH, "a demo model has changed: make fit-relevance"
    assert {weights_of(asked, found) for asked in KINDS for found in KINDS[1:]} == set(WEIGHTS.values())


def calibration(seed: int, noise: float, d: int = 32) -> Calibration | None:
    """Of 40 files and questions that differ from them by noise of that length, among files that are not alike."""
    files = some(40, seed, d)
    questions = unit(files + noise * some(40, seed + 1, d))
    alike = np.eye(40, dtype=bool)
    return Calibration.fitted(files.mean(axis=0), questions, files, alike, ~alike)


@given(
    seed=st.integers(0, 2**32 - 3),
    noise=st.sampled_from([0.0, 0.3, 1.0]),
    scores=st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=30),
    n_compared=st.integers(1, 10**9),
    composed=st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_of_a_calibrated_route_it_rises_with_the_score_and_falls_with_the_number(
    seed, noise, scores, n_compared, composed
):
    route = calibration(seed, noise)
    question, ordered = some(2, seed + 2, 32), np.sort(np.array(scores, np.float32))
    found = route.relevance(question, ordered, n_compared, composed=composed)
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1
    assert (np.diff(found) >= 0).all()
    assert (found <= route.relevance(question, ordered, max(1, n_compared // 2), composed=composed) + 1e-12).all()


@pytest.mark.parametrize("noise", [0.0, 0.3, 0.7])
def test_a_calibrated_route_tells_a_match_from_chance(noise):
    route = calibration(0, noise)
    files = some(1000, 9, 32)
    asked = unit(files[:100] + noise * some(100, 10, 32))
    there = [route.relevance(row[None], (files @ row).max()[None], 1000)[0] for row in asked]
    gone = [route.relevance(row[None], (files[100:] @ row).max()[None], 900)[0] for row in asked]
    assert np.mean(np.array(there) >= MATCHING) >= 0.9
    assert np.mean(np.array(gone) >= MATCHING) <= 0.1
    same = route.relevance(files[:1], np.array([1.0]), 1000)
    assert same > 0.9  # the arithmetic can say yes


def test_a_route_whose_model_cannot_tell_like_from_unlike_is_not_calibrated():
    assert calibration(0, 1.0) is not None
    assert calibration(0, 1e6) is None


@pytest.mark.parametrize("shift", [0.5, 3.0, 10.0])
def test_a_direction_that_all_vectors_share_does_not_change_a_calibration(shift):
    """It turns each cosine c into (c + s * s) / (1 + s * s), so that all come close to one."""
    files, asked, hits = some(40, 0, 32), some(1, 2, 32), some(10, 3, 32)
    questions, alike = unit(files + 0.7 * some(40, 1, 32)), np.eye(40, dtype=bool)

    def moved(rows: np.ndarray) -> np.ndarray:
        return unit(np.pad(rows, ((0, 0), (0, 1)), constant_values=shift))

    plain = Calibration.fitted(files.mean(axis=0), questions, files, alike, ~alike)
    other = Calibration.fitted(moved(files).mean(axis=0), moved(questions), moved(files), alike, ~alike)
    scores = moved(hits) @ moved(asked)[0]
    assert np.ptp(scores) < np.ptp(hits @ asked[0])
    expected = plain.relevance(asked, hits @ asked[0], 100)
    np.testing.assert_allclose(other.relevance(moved(asked), scores, 100), expected, atol=0.05)


def test_another_model_is_calibrated_by_the_bundled_files_and_their_names(tmp_path):
    bank = Bank(Provider(), example, tmp_path)
    for kind in ("image", "audio"):
        assert isinstance(bank.route(kind, kind), Calibration)  # two parts have one vector
        assert bank.route("text", kind) is None  # names have vectors that say nothing of the files
    assert bank.route("image", "audio") is None
    assert {path.name.rsplit("-", 2)[0] for path in tmp_path.iterdir()} == {
        "image", "audio", "image-parts", "audio-parts", "image-names", "audio-names",
    }  # fmt: skip


def test_on_a_route_that_is_not_calibrated_nothing_is_claimed(storage, tmp_path):
    searcher = Searcher(storage, Provider(), Bank(Provider(), example, tmp_path))
    results = searcher.search(Query("a red bicycle", mode="vector"), View(5))
    assert len(results) == 5
    assert {hit.relevance for hit in results} == {None}
    assert results.has_match is None
    asked = Example("x", "image", pixels=np.full((4, 4, 3), 9, np.uint8))
    assert all(0 <= hit.relevance <= 1 for hit in searcher.similar(asked, View(5)))


def test_ordinary_questions_and_bundled_files_are_many_and_always_the_same():
    assert len(set(questions())) == len(questions()) >= 300
    assert len(bundled("image")) == 64
    assert len(bundled("audio")) >= 50
    assert bundled("image") == bundled("image")
    assert len({path.parent for path in bundled("image")}) >= 6


def test_a_bank_is_encoded_once_and_kept_for_its_model_only(tmp_path, monkeypatch):
    first = {kind: Bank(Provider(), example, tmp_path).vectors(kind) for kind in KINDS}
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == 3

    def unread(path):
        raise AssertionError(f"{path} is read again")

    again = Bank(Provider(), unread, tmp_path)
    for kind in KINDS:
        np.testing.assert_array_equal(again.vectors(kind), first[kind])
    monkeypatch.setattr(Provider, "recipe_digest", lambda self, role: "d" * 64)
    Bank(Provider(), example, tmp_path).vectors("image")
    assert len(set(tmp_path.iterdir()) - set(kept)) == 1
    with pytest.raises(AssertionError, match="is read again"):
        Bank(Provider(), unread, tmp_path).vectors("audio")


@pytest.mark.parametrize("damage", [b"", b"no vectors", "other shape", "not finite"])
def test_a_damaged_file_of_a_bank_is_made_anew(tmp_path, damage):
    good = Bank(Provider(), example, tmp_path).vectors("image")
    (path,) = tmp_path.iterdir()
    if isinstance(damage, bytes):
        path.write_bytes(damage)
    else:
        np.save(path, good[:3] if damage == "other shape" else np.full_like(good, np.nan))
    np.testing.assert_array_equal(Bank(Provider(), example, tmp_path).vectors("image"), good)
    np.testing.assert_array_equal(np.load(path), good)


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path):
    (tmp_path / "file").touch()
    assert Bank(Provider(), example, tmp_path / "file" / "below").vectors("text").shape == (len(questions()), 16)


QUESTIONS = {
    "text": Query("a red bicycle", mode="vector"),
    "composed": Query("a dog", plus=("a cat",), minus=("rain",), mode="vector"),
    "away": Query(minus=("rain",)),
}


@pytest.mark.parametrize("query", QUESTIONS.values(), ids=QUESTIONS)
def test_it_does_not_depend_on_k_or_the_page(searcher, query):
    everything = searcher.search(query, View(98))
    whole = {hit.media_id: hit.relevance for hit in everything}
    values = [hit.relevance for hit in everything]
    assert len(whole) == 98
    assert values == sorted(values, reverse=True)
    scores = [hit.score for hit in everything if hit.modality == "image"]
    assert scores == sorted(scores, reverse=True)  # of recordings it also matters whether the model knows them
    for k, offset in ((1, 0), (7, 0), (7, 14), (50, 30)):
        page = searcher.search(query, View(k, offset=offset))
        assert {hit.media_id: hit.relevance for hit in page}.items() <= whole.items()
        assert page.has_match == everything.has_match
    assert everything.has_match is (True if values[0] >= MATCHING else False if query is QUESTIONS["text"] else None)


class KnownRows:
    """A bank whose routes rate files by their scores, but limit those that are not like some rows of the library."""

    def __init__(self, known: np.ndarray) -> None:
        alike = np.eye(len(known), dtype=bool)
        near = unit(known + 0.05 * some(len(known), 3, known.shape[1]))
        by_parts = Calibration.fitted(known.mean(axis=0), near, known, alike, ~alike)
        yardstick = ScoreCalibration(np.zeros(known.shape[1]), middle=-1.0, spread=0.05)  # all scores are high
        self._route = Fitted(yardstick, (1.0, 0.0, 0.0), Familiarity(known, by_parts))

    def route(self, asked, found):
        return self._route


def test_recordings_that_the_model_does_not_know_match_nothing_and_come_after_those_that_it_knows(tmp_path):
    for opened, rows in filled_storage(tmp_path):
        by_score = brute_force(rows, [Engine().encode_text(["rain"])[0]], ("audio",), 40)
        known_ids = {media_id for media_id, _, _ in by_score[-20:]}  # those with the lowest scores
        known = unit(np.stack([row.vector for row in rows if row.media_id in known_ids]))
        searcher = Searcher(opened, Provider(), KnownRows(known))
        query = Query("rain", modality="audio", mode="vector")
        hits = searcher.search(query, View(40))
        assert [hit.media_id for hit in hits[:20]] == [media_id for media_id, _, _ in by_score[-20:]]
        assert [hit.matches for hit in hits] == [True] * 20 + [False] * 20
        assert hits.n_matches == 20
        first = searcher.search(query, View(1))
        assert first[0] == hits[0]
        assert first.n_matches == 20


def test_of_a_composed_question_it_is_never_said_that_nothing_matches(searcher):
    said = [searcher.search(Query(f"thing {number}", plus=("a cat",)), View(5)) for number in range(30)]
    assert {results.has_match for results in said} <= {True, None}
    assert any(max(hit.relevance for hit in results) < MATCHING for results in said)


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_files_asked_with_their_like(searcher, modality):
    if modality == "image":
        asked = Example("x", "image", pixels=np.full((4, 4, 3), 9, np.uint8))
    else:
        asked = Example("x", "audio", windows=[np.full(100, value, np.float32) for value in (1, 2, 3)])
    hits = searcher.similar(asked, View(40))
    assert len(hits) == 40
    assert [hit.relevance for hit in hits] == sorted((hit.relevance for hit in hits), reverse=True)
    first = searcher.similar(Example("itself", modality, hits[0].content_hash), View(3))
    assert first[0].matches
    assert (first.n_matches, first.has_match) == (0, False)  # the file that is asked with is no answer
    assert first[0].relevance > 10 * first[2].relevance


def test_a_recording_in_another_file_is_a_copy_whatever_the_model_says(searcher, storage):
    asked = Example("x", "audio", windows=[np.full(100, 1, np.float32)])
    before = searcher.similar(asked, View(40))
    copied = before[11]
    assert not copied.matches
    takes = [np.random.default_rng(seed).standard_normal(32_000).astype(np.float32) for seed in range(16)]
    for hit, take in zip(before, takes, strict=False):
        storage.upsert_fingerprints({hit.content_hash: acoustic_fingerprint(0.1 * take).parts})
    louder = 0.2 * takes[11] + 0.01 * np.random.default_rng(99).standard_normal(32_000).astype(np.float32)
    asked = dataclasses.replace(asked, fingerprint=acoustic_fingerprint(louder))
    for k in (1, 40):
        found = searcher.similar(asked, View(k))
        (copy,) = [hit for hit in found if hit.found_by == "copy"]
        assert copy.content_hash == copied.content_hash
        assert (copy.matches, copy.reason, copy.score) == (True, "a copy", copied.score)
        assert copy.relevance == RELEVANCE
        assert found.n_matches == before.n_matches + 1
    assert [hit.relevance for hit in found] == sorted((hit.relevance for hit in found), reverse=True)
    rest = [hit for hit in found if hit.found_by != "copy"]
    assert rest == [hit for hit in before if hit.content_hash != copied.content_hash]
    by_stored = searcher.similar(Example("x", "audio", copied.content_hash), View(40))
    assert "copy" not in {hit.found_by for hit in by_stored}  # nor is a file a copy of itself


def test_what_words_find_has_the_relevance_of_its_meaning(searcher):
    by_meaning = {hit.media_id: hit for hit in searcher.search(Query("7", mode="vector"), View(98))}
    both = searcher.search(Query("7"), View(20))
    found = [hit for hit in both if hit.found_by != "meaning"]
    assert found
    assert [hit.relevance for hit in found] == [by_meaning[hit.media_id].relevance for hit in found]
    assert both.has_match  # the words are there
    only_words = searcher.search(Query("7", mode="keyword"), View(20))
    assert only_words.has_match
    assert {hit.relevance for hit in only_words} == {None}


def test_without_a_bank_nothing_is_claimed(storage):
    results = Searcher(storage, Provider()).search(Query("a red bicycle", mode="vector"), View(5))
    assert {hit.relevance for hit in results} == {None}
    assert results.has_match is None


def test_nothing_matches_where_nothing_is_found(searcher):
    results = searcher.search(Query("a red bicycle", mode="vector"), View(5, offset=1000))
    assert len(results) == 0
    assert results.has_match is False
    assert results[:0].has_match is False


def test_results_say_whether_anything_matches(searcher, storage):
    stored = searcher.search(Query("x", modality="image", mode="vector"), View(1))[0]
    digest = Provider().recipe_digest("vision")
    vectors = storage.vectors("vision", digest, stored.content_hash)
    found = searcher.similar(Example("x", "image", vectors=vectors, digest=digest), View(5))
    assert found.to_arrow().schema.metadata == {b"matches": b"true"}
    nothing = searcher.search(Query("x", mode="vector"), View(5))
    assert nothing.has_match is False
    assert nothing[:2].has_match is False
    assert "nothing matches" in repr(nothing)
