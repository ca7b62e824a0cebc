"""Searches by words: names, folders, captions and tags; alone, and fused with what is found by meaning."""

from __future__ import annotations

import os
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrowlens.search import Example, Query, Searcher, View
from arrowlens.search.hybrid import Match, fused
from arrowlens.search.where import parse, to_store_filters
from arrowlens.store import ModelRecord, MultimodalStorage, VectorRow, media_id_of, media_schema
from arrowlens.store.fulltext import query_words, words_of
from tests.support.small_library import DIGESTS, DIMENSION, Engine, Provider, vector

FILES = {
    "a/IMG_1234.jpg": {},
    "a/redBicycle2.jpg": {},
    "a/cats/two.jpg": {},
    "b/été à la plage.jpg": {},
    "b/红色自行车.jpg": {},
    "b/the.jpg": {},
    "b/plain.jpg": {"caption": "A red bicycle leans\nagainst a wall"},
    "b/notes.jpg": {"description": "Bicycles, both red and blue"},
    "c/01.mp3": {"artist": "Björk", "album": "Homogenic", "title": "Jóga", "modality": "audio"},
    "c/Bach.mp3": {"modality": "audio"},
    "c/toccata.wav": {"title": "Toccata", "artist": "Bach", "modality": "audio"},
    "c/skipped.jpg": {"caption": "a red bicycle", "state": "skipped"},
}


def rows_of(files):
    for number, (path, values) in enumerate(files.items()):
        row = {"media_id": f"{number:032x}", "content_hash": f"{number:032x}", "root_id": "r", "path": path}
        yield row | {"path_bytes": os.fsencode(path), "modality": "image", "state": "indexed", "metadata": []} | values


def fill(storage, files):
    rows = list(rows_of(files))
    for role, kind in (("vision", "image"), ("audio", "audio")):
        mine = [row for row in rows if row["modality"] == kind]
        storage.upsert_vectors(
            role, [VectorRow(row["media_id"], row["content_hash"], kind, vector(9, n)) for n, row in enumerate(mine)]
        )
    storage.upsert_media(rows)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    storage = MultimodalStorage(tmp_path_factory.mktemp("words") / "library")
    storage.bind_models({role: ModelRecord(digest, DIMENSION) for role, digest in DIGESTS.items()})
    fill(storage, FILES)
    yield storage
    storage.close()


def found(storage, text, n=20, **options):
    ids = storage.find_words(text, n, **options)["media_id"].to_pylist()
    return [list(FILES)[int(media_id, 16)] for media_id in ids]


@pytest.mark.parametrize("state", ["new", "compacted"])
@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("1234", {"a/IMG_1234.jpg"}),
        ("img_1234", {"a/IMG_1234.jpg"}),
        ("IMG 1234 jpg", {"a/IMG_1234.jpg"}),
        ("red bicycle", {"a/redBicycle2.jpg", "b/plain.jpg", "b/notes.jpg"}),
        ("redbicycle2", {"a/redBicycle2.jpg"}),
        ("a red bicycle against the wall", {"b/plain.jpg"}),
        ("cat", {"a/cats/two.jpg"}),
        ("ETE plage", {"b/été à la plage.jpg"}),
        ("e\u0301te\u0301", {"b/été à la plage.jpg"}),
        ("自行车", {"b/红色自行车.jpg"}),
        ("bjork", {"c/01.mp3"}),
        ("joga homogenic", {"c/01.mp3"}),
        ("bach", {"c/Bach.mp3", "c/toccata.wav"}),
        ("the", {"b/the.jpg"}),
        ("the.jpg", {"b/the.jpg", *(path for path in FILES if path.endswith(".jpg") and "skipped" not in path)}),
        ("nothing like it", set()),
        ("bicycle elephant", set()),
        ("", set()),
        ("!?", set()),
        ("' OR 1=1 --", set()),
        ("bach " * 50, set()),
        ('"bach" AND (x', set()),
    ],
)
def test_files_are_found_by_all_their_words(library, state, text, files):
    if state == "compacted":
        library.optimize()
    assert set(found(library, text)) == files


def test_a_name_comes_first(library):
    assert found(library, "the.jpg")[0] == "b/the.jpg"
    assert found(library, "B/THE.JPG ")[0] == "b/the.jpg"
    table = library.find_words("bach.mp3", 5)
    assert table["is_name"].to_pylist() == [True]
    assert library.find_words("bach", 5)["is_name"].to_pylist() == [False, False]


def test_kinds_and_selections_keep_files(library):
    assert found(library, "jpg", modality="audio") == []
    selection = library.select(to_store_filters(parse("folder = a")))
    assert set(found(library, "red bicycle", among=selection)) == {"a/redBicycle2.jpg"}


def test_many_equal_matches_are_ordered_by_id_and_a_name_among_them_wins(tmp_path):
    with MultimodalStorage(tmp_path / "library") as storage:
        storage.upsert_media(list(rows_of({f"{n:04d}/cat.jpg": {} for n in range(600)} | {"x/cat-cat-cat.jpg": {}})))
        ids = storage.find_words("cat", 30)["media_id"].to_pylist()
        assert ids[0] == f"{600:032x}"  # has the word most often
        assert ids[1:30] == [f"{n:032x}" for n in range(29)]
        assert storage.find_words("0555/cat.jpg", 1)["media_id"].to_pylist()[0] == f"{555:032x}"
        best = storage.find_words("cat.jpg", 5)
        assert best["is_name"].to_pylist()[:5] == [True] * 5
        assert best["media_id"].to_pylist()[:5] == [f"{n:032x}" for n in range(5)]


def test_a_name_of_any_kind_wins(tmp_path):
    many_words = " ".join(f"w{n}" for n in range(40)) + ".jpg"
    folder = 90 * "y " + "/"
    unusual = ["e\u0301.jpg", " blank.jpg", "100%_\"'.jpg", "a\nb.jpg", "q" * 230 + ".jpg", many_words, "\\xff.jpg"]
    files = {f"{folder}{name}": {} for name in unusual} | {f"{n}/é{n * ' y'}.jpg": {} for n in range(1, 100)}
    with MultimodalStorage(tmp_path / "library") as storage:
        storage.upsert_media(list(rows_of(files)))
        for number, name in enumerate(unusual):
            for text in (name, f"{folder}{name}"):
                best = storage.find_words(text, 1)
                assert (best["media_id"][0].as_py(), best["is_name"][0].as_py()) == (f"{number:032x}", True), text
        where = storage.select(to_store_filters(parse("folder = 1")))
        assert storage.find_words("É.JPG", 1)["is_name"].to_pylist()[:1] == [True]
        assert storage.find_words(many_words, 1, among=where).num_rows == 0
        assert storage.find_words(many_words + " w41", 1).num_rows == 0


def test_a_path_is_found_as_it_is_shown(tmp_path, monkeypatch):
    with MultimodalStorage(tmp_path / "library") as storage:
        root = storage.add_root(tmp_path / "in")
        files = {"a/cat.jpg": {}, "cat.jpg": {}}
        places = {path: media_id_of(root.root_id, os.fsencode(path)) for path in files}
        rows = [row | {"root_id": root.root_id, "media_id": places[row["path"]]} for row in rows_of(files)]
        storage.upsert_media(rows)
        monkeypatch.chdir(tmp_path)
        for text in (str(tmp_path / "in/a/cat.jpg"), "in/a/cat.jpg", "./in/a/cat.jpg", "a/cat.jpg"):
            best = storage.find_words(text, 1)
            assert (best["media_id"][0].as_py(), best["is_name"][0].as_py()) == (places["a/cat.jpg"], True), text
        assert storage.find_words("in/b/cat.jpg", 1).num_rows == 0


def test_words_follow_what_is_written_changed_and_removed(library, tmp_path):
    with MultimodalStorage(tmp_path / "library") as storage:
        assert storage.find_words("bach", 5).num_rows == 0
        rows = list(rows_of({"a/zanzibarish.jpg": {}, "b/other.jpg": {}}))
        storage.upsert_media(rows)
        assert storage.find_words("zanzibarish", 5).num_rows == 1
        storage.upsert_media([rows[1] | {"caption": "quokkaesque"}])
        assert storage.find_words("quokkaesque", 5).num_rows == 1
        storage.upsert_media([rows[1]])
        assert storage.find_words("quokkaesque", 5).num_rows == 0
        storage.delete_media([rows[0]["media_id"]])
        assert storage.find_words("zanzibarish", 5).num_rows == 0
        assert storage.find_words("other", 5).num_rows == 1
        for word in ("zanzibarish", "quokkaesque"):  # gone from the disk, the index included
            grep = subprocess.run(["grep", "-raic", word, str(storage.path)], capture_output=True, text=True)
            assert {line.rpartition(":")[2] for line in grep.stdout.split()} == {"0"}


def test_a_table_without_words_is_given_them_by_the_upkeep(tmp_path):
    with MultimodalStorage(tmp_path / "library") as storage:
        rows = list(rows_of({"a/bach.jpg": {}}))
        storage.upsert_media(rows)
        storage._tables.table("media").drop_columns(["words"])
        assert storage.find_words("bach", 5).num_rows == 0
        storage._tables.add_columns("media", media_schema())
        storage.upsert_media(rows)
        assert storage.find_words("bach", 5).num_rows == 0  # no index yet
        storage.optimize(thorough=False)
        assert storage.find_words("bach", 5).num_rows == 1


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"path": "imgRed_2024b.jpg"}, "imgRed img Red 2024b 2024 b jpg"),
        ({"path": "a/b-c d.png", "title": "Éa"}, "a b c d png Éa"),
        ({"path": "x.jpg", "caption": None}, "x jpg"),
        ({"path": "___"}, None),
        ({}, None),
    ],
)
def test_the_words_of_a_row(row, words):
    assert words_of(row) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [("a red, red bicycle!", "red red bicycle"), ("The", "The"), ("a the", "a the"), ("…", None), ("x " * 33, None)],
)
def test_the_words_of_a_question(text, words):
    assert query_words(text) == words


# -- fused ----------------------------------------------------------------------------------------------------------


def match(name, found_by="meaning"):
    return Match(name, name, 0.5 if found_by == "meaning" else None, found_by=found_by)


def test_ranks_are_fused():
    meaning = [match(name) for name in "abcd"]
    words = [match("x", "words"), match("c", "words"), match("d", "name")]
    joined = fused(meaning, words)
    assert [(each.media_id, each.found_by) for each in joined] == [
        ("d", "name"),  # whatever its ranks
        ("c", "both"),  # 1/63 + 1/62
        ("x", "words"),  # 1/61, and so has a
        ("a", "meaning"),
        ("b", "meaning"),
    ]
    assert [each.score for each in joined] == [0.5, 0.5, None, 0.5, 0.5]


@settings(deadline=None)
@given(st.permutations("abcdefgh"), st.permutations("efghijkl"), st.integers(0, 8), st.integers(0, 8))
def test_fusing_keeps_everything_once_and_both_orders(meaning, words, n_meaning, n_words):
    by_meaning, by_words = [match(m) for m in meaning[:n_meaning]], [match(w, "words") for w in words[:n_words]]
    joined = [each.content_hash for each in fused(by_meaning, by_words)]
    assert sorted(joined) == sorted({*meaning[:n_meaning], *words[:n_words]})
    for one, other in ((meaning[:n_meaning], words[:n_words]), (words[:n_words], meaning[:n_meaning])):
        alone = [name for name in one if name not in other]
        assert [name for name in joined if name in alone] == alone


def test_a_place_does_not_depend_on_how_many_are_asked_for(tmp_path):
    with MultimodalStorage(tmp_path / "library") as storage:
        storage.bind_models({role: ModelRecord(digest, DIMENSION) for role, digest in DIGESTS.items()})
        fill(storage, {f"{n}/{'cat ' * (n % 7)}{n}.jpg": {} for n in range(450)})
        searcher, query = Searcher(storage, Provider()), Query("cat")
        whole = [hit.media_id for hit in searcher.search(query, View(450))]
        assert len(set(whole)) == 450
        for k in (1, 20, 99, 100, 101, 150, 301):
            assert [hit.media_id for hit in searcher.search(query, View(k))] == whole[:k]
            assert [hit.media_id for hit in searcher.search(query, View(k, k))] == whole[k : 2 * k]


def test_the_place_whose_words_were_found_is_shown():
    copy = Match("copy", "content", found_by="words")
    (joined,) = fused([Match("original", "content", 0.7)], [copy])
    assert (joined.media_id, joined.score, joined.found_by) == ("copy", 0.7, "both")


def names(results):
    return [hit.path.name for hit in results]


def test_auto_finds_by_meaning_and_by_words(library):
    searcher = Searcher(library, Provider())
    hits = searcher.search(Query("red bicycle"), View(11))
    assert len(hits) == 11
    assert {hit.path.name for hit in hits if hit.found_by == "both"} == {"redBicycle2.jpg", "plain.jpg", "notes.jpg"}
    assert {hit.found_by for hit in hits} == {"both", "meaning"}
    assert set(names(hits[:4])) >= {"redBicycle2.jpg", "plain.jpg", "notes.jpg"}
    only = searcher.search(Query("red bicycle", mode="vector"), View(11))
    assert {hit.found_by for hit in only} == {"meaning"}
    assert [hit.score for hit in only] == sorted((hit.score for hit in only), reverse=True)
    assert {hit.media_id: hit.score for hit in hits} == pytest.approx({hit.media_id: hit.score for hit in only})


def test_a_file_name_wins(library):
    searcher = Searcher(library, Provider())
    for mode in ("auto", "keyword"):
        hits = searcher.search(Query("toccata.wav", mode=mode), View(3))
        assert (hits[0].path.name, hits[0].found_by) == ("toccata.wav", "name")


def test_a_name_that_is_not_utf8_wins(tmp_path):
    with MultimodalStorage(tmp_path / "library") as storage:
        storage.bind_models({role: ModelRecord(digest, DIMENSION) for role, digest in DIGESTS.items()})
        fill(storage, {r"caf\xe9.jpg": {"path_bytes": b"caf\xe9.jpg"}, "caf/xe9.jpg": {}})
        for mode in ("auto", "keyword"):
            hits = Searcher(storage, Provider()).search(Query(os.fsdecode(b"caf\xe9.jpg"), mode=mode), View(2))
            assert (os.fsencode(hits[0].path.name), hits[0].found_by) == (b"caf\xe9.jpg", "name")


def test_keywords_need_no_model(library):
    class Unloaded(Provider):
        def has(self, role):
            return False

    provider = Unloaded(clip_engine=None, audio_encoder=None)
    hits = Searcher(library, provider).search(Query("bach", mode="keyword"), View(5))
    assert set(names(hits)) == {"Bach.mp3", "toccata.wav"}
    assert {hit.found_by for hit in hits} == {"words"}
    assert [hit.score for hit in hits] == [0.0, 0.0]
    assert Searcher(library, provider).search(Query("bach"), View(5)) == hits
    assert len(Searcher(library, provider).search(Query("elephants", mode="keyword"), View(5))) == 0


def test_what_only_words_found_has_its_cosine_where_there_is_one(library):
    for one_space in (True, False):
        searcher = Searcher(library, Provider(text_reaches_audio=one_space))
        hits = {hit.path.name: hit for hit in searcher.search(Query("bach"), View(2))}
        expected = float(Engine().encode_text(["bach"])[0] @ vector(9, 1).astype(np.float16).astype(np.float32))
        assert hits["Bach.mp3"].score == pytest.approx(expected if one_space else 0.0, abs=1e-3)


def test_words_obey_kinds_conditions_and_pages(library):
    searcher = Searcher(library, Provider())
    assert {hit.modality for hit in searcher.search(Query("bach", modality="audio"), View(9))} == {"audio"}
    assert names(searcher.search(Query("bach", mode="keyword", modality="image"), View(9))) == []
    where = parse("name = Bach.mp3")
    assert names(searcher.search(Query("bach", mode="keyword"), View(9, where=where))) == ["Bach.mp3"]
    whole = searcher.search(Query("jpg"), View(4))
    pages = [searcher.search(Query("jpg"), View(4, offset)) for offset in (0, 4, 8, 12)]
    assert pages[0] == whole
    assert sorted(hit.media_id for part in pages for hit in part) == sorted(
        hit.media_id for hit in searcher.search(Query("jpg", mode="vector"), View(20))
    )


def test_words_are_left_alone_where_there_is_more_than_a_text(library):
    searcher = Searcher(library, Provider())
    hits = searcher.search(Query("bach", minus=("toccata",)), View(9))
    assert {hit.found_by for hit in hits} == {"meaning"}
    assert len(searcher.similar(Example("x", "image", f"{0:032x}"), View(3))) == 3
