"""The searcher against brute force, on a real store with small deterministic encoders."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from arrowlens.errors import InputError, TextValidationError
from arrowlens.search import Example, Query, Searcher, View
from arrowlens.store import ModelRecord, MultimodalStorage, VectorRow, media_id_of
from tests.support.small_library import (
    DIGESTS,
    DIMENSION,
    Engine,
    Provider,
    assert_same,
    brute_force,
    filled_storage,
    vector,
)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """60 pictures (two pairs of equal content) and 40 recordings of three windows."""
    yield from filled_storage(tmp_path_factory.mktemp("search"))


@pytest.mark.parametrize("k", [1, 5, 20, 1000])
@pytest.mark.parametrize("modality", [None, "image", "audio"])
def test_text_finds_what_brute_force_finds(filled, k, modality):
    storage, rows = filled
    results = Searcher(storage, Provider()).search(Query("a red bicycle", modality=modality), View(k))
    kinds = [modality] if modality else ["image", "audio"]
    assert_same(results, brute_force(rows, Engine().encode_text(["a red bicycle"]), kinds, k))
    assert results.took_ms > 0


def test_pictures_and_sounds_share_a_ranking_only_in_one_space(filled):
    storage, rows = filled
    mixed = Searcher(storage, Provider(text_reaches_audio=True)).search(Query("x", mode="vector"), View(98))
    assert {hit.modality for hit in mixed} == {"image", "audio"}
    apart = Searcher(storage, Provider(text_reaches_audio=False))
    assert_same(
        apart.search(Query("x", mode="vector"), View(98)), brute_force(rows, Engine().encode_text(["x"]), ["image"], 98)
    )
    assert len(apart.search(Query("x", modality="audio", mode="vector"), View(5))) == 0


def test_a_picture_finds_pictures(filled):
    storage, rows = filled
    pixels = np.full((4, 4, 3), 9, np.uint8)
    results = Searcher(storage, Provider()).similar(Example("x", "image", pixels=pixels), View(10))
    assert_same(results, brute_force(rows, [vector(1, 9)], ["image"], 10))


@pytest.mark.parametrize("k", [1, 7, 40])
def test_a_recording_scores_as_its_best_pair_of_windows(filled, k):
    storage, rows = filled
    windows = [np.full(100, value, np.float32) for value in (1, 2, 3, 4)]
    results = Searcher(storage, Provider()).similar(Example("x", "audio", windows=windows), View(k))
    assert_same(results, brute_force(rows, [vector(2, value) for value in (1, 2, 3, 4)], ["audio"], k))
    assert all(hit.end == hit.start + 10.0 for hit in results)


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_what_is_stored_finds_itself_first_and_copies_once(filled, modality):
    storage, rows = filled
    content = f"{modality[0]}{10:031x}"
    results = Searcher(storage, Provider()).similar(Example("x", modality, content), View(5))
    assert results[0].content_hash == content
    assert results[0].score == pytest.approx(1.0, abs=1e-3)
    assert len({hit.content_hash for hit in results}) == 5
    queries = storage.vectors(
        "vision" if modality == "image" else "audio", DIGESTS["vision" if modality == "image" else "audio"], content
    )
    assert_same(results, brute_force(rows, queries / np.linalg.norm(queries, axis=1, keepdims=True), [modality], 5))
    assert len(Searcher(storage, Provider()).similar(Example("x", modality, "0" * 32), View(5))) == 0


def test_hits_carry_what_the_library_knows(filled):
    storage, _ = filled
    hit = Searcher(storage, Provider()).similar(Example("x", "audio", f"a{5:031x}"), View(1))[0]
    assert str(hit.path) == "/media/audio/5 é\n.x"
    assert (hit.modality, hit.format, hit.size, hit.duration, hit.width) == ("audio", "wav", 105, 20.0, None)
    assert hit.metadata == {"title": "5"}
    assert (hit.relevance, hit.content_hash) == (None, f"a{5:031x}")


@pytest.mark.parametrize("k", [0, -1, 1.5, True, np.True_, "3", None, np.float32(3), np.int64(0)])
def test_k_must_be_a_count(filled, k):
    with pytest.raises(InputError, match="k is"):
        Searcher(filled[0], Provider()).search(Query("x", mode="vector"), View(k))


def test_k_may_be_a_number_of_numpy(filled):
    searcher = Searcher(filled[0], Provider())
    assert searcher.search(Query("x", mode="vector"), View(np.int64(3))) == searcher.search(
        Query("x", mode="vector"), View(3)
    )
    assert len(searcher.search(Query("x", mode="vector"), View(np.uint8(3)))) == 3


@pytest.mark.parametrize("n", [32, 33, 1440])
def test_a_long_query_asks_with_32_of_its_windows(filled, n):
    storage, rows = filled
    windows = [np.full(100, value, np.float32) for value in range(n)]
    encoded = []

    class Counting(Engine):
        def encode(self, audio, normalize=True, context="padded", layer=None, sample_rate=None):
            encoded.extend(int(samples[0]) for samples in audio)
            return super().encode(audio, normalize, context, layer, sample_rate)

    results = Searcher(storage, Provider(audio_encoder=Counting())).similar(
        Example("x", "audio", windows=windows), View(10)
    )
    assert (len(encoded), encoded[0], encoded[-1]) == (32, 0, n - 1)
    steps = np.diff(encoded)
    assert steps.min() >= 1
    assert steps.max() - steps.min() <= 1
    assert_same(results, brute_force(rows, [vector(2, value) for value in encoded], ["audio"], 10))


def test_a_long_stored_recording_asks_with_32_of_its_windows(tmp_path):
    storage = MultimodalStorage(tmp_path / "a.lens")
    storage.bind_models({"audio": ModelRecord(DIGESTS["audio"], DIMENSION, "test", "one")})
    root, content = storage.add_root("/media"), f"{7:032x}"
    media_id = media_id_of(root.root_id, b"x.wav")
    rows = [VectorRow(media_id, content, "audio", vector(9, n), n, 5.0 * n, 5.0 * n + 10) for n in range(100)]
    storage.upsert_vectors("audio", rows)
    named = {"media_id": media_id, "root_id": root.root_id, "path": "x.wav", "path_bytes": b"x.wav"}
    storage.upsert_media([{**named, "content_hash": content, "modality": "audio", "metadata": [], "state": "indexed"}])

    class Counted:
        n_searches = 0

        def __getattr__(self, name):
            return getattr(storage, name)

        def search(self, *arguments, **options):
            self.n_searches += 1
            return storage.search(*arguments, **options)

    counted = Counted()
    assert Searcher(counted, Provider()).similar(Example("x", "audio", content), View(5))[0].media_id == media_id
    assert counted.n_searches == 32
    storage.close()


@pytest.mark.parametrize("text", ["", " \n", None])
def test_a_text_must_say_something(filled, text):
    with pytest.raises(TextValidationError, match="the text is"):
        Searcher(filled[0], Provider()).search(Query(text), View(3))


def test_a_recording_without_windows_is_an_error(filled):
    with pytest.raises(InputError, match="without samples"):
        Searcher(filled[0], Provider()).similar(Example("x", "audio", windows=[]), View(3))


def test_threads_share_a_searcher(filled):
    searcher = Searcher(filled[0], Provider())
    expected = [searcher.search(Query(f"text {number}"), View(10)) for number in range(8)]
    found: dict[int, object] = {}
    threads = [
        threading.Thread(target=lambda n=number: found.update({n: searcher.search(Query(f"text {n}"), View(10))}))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(8)] == expected
