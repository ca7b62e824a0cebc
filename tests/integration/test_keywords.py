"""Searches by words: names, folders, captions and tags; alone, and in one list with what is found by meaning."""

from __future__ import annotations

import os
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrowlens.search import Example, Query, Searcher, View
from arrowlens.search.hybrid import SURE, Match, merged
from arrowlens.search.where import parse, to_store_filters
from arrowlens.store import ModelRecord, MultimodalStorage, VectorRow, media_id_of, media_schema
from arrowlens.store.fulltext import query_words, words_found, words_of
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
        storage._tables.shards[0].table("media").drop_columns(["words"])
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


@pytest.mark.parametrize(
    ("matching", "text", "files"),
    [
        ("part", "bicy", {"a/redBicycle2.jpg", "b/plain.jpg", "b/notes.jpg"}),
        ("part", "edbicyc", {"a/redBicycle2.jpg"}),
        ("part", "BICY lean", {"b/plain.jpg"}),
        ("part", "行", {"b/红色自行车.jpg"}),
        ("part", "img 12", set()),  # a number of two figures is in too many
        ("part", "toc", {"c/toccata.wav"}),
        ("part", "BJÖ", {"c/01.mp3"}),
        ("part", "occa", set()),  # so are four letters anywhere: "rain" is in "train"
        ("part", "occat", {"c/toccata.wav"}),
        ("part", "bicy elephant", set()),
        ("part", "!", set()),
        ("part", "plai", {"b/plain.jpg"}),
        ("typo", "bycicle", set()),  # two letters
        ("typo", "bicylce", {"a/redBicycle2.jpg", "b/plain.jpg"}),  # "Bicycles" is a letter more
        ("typo", "tocata", {"c/toccata.wav"}),
        ("typo", "homogneic", {"c/01.mp3"}),
        ("typo", "homogenous", set()),
        ("typo", "plain bicylce", {"b/plain.jpg"}),
        ("typo", "bahc", {"c/Bach.mp3", "c/toccata.wav"}),
        ("typo", "1235", set()),
        ("typo", "cta", set()),
    ],
)
def test_parts_of_words_and_typos(library, matching, text, files):
    assert set(found(library, text, matching=matching)) == files


@pytest.mark.parametrize("n_scanned", [20_000, 0])
def test_typos_are_found_by_a_scan_of_few_files_and_by_the_index_of_many(tmp_path, monkeypatch, n_scanned):
    monkeypatch.setattr("arrowlens.store.fulltext._SCANNED", n_scanned)
    with MultimodalStorage(tmp_path / "library") as storage:
        storage.upsert_media(list(rows_of(FILES)))
        storage.optimize()
        for text, name in (("toccatta", "toccata.wav"), ("retreiver", None), ("bicylces", "notes.jpg")):
            paths = [path.rpartition("/")[2] for path in found(storage, text, matching="typo")]
            assert paths[:1] == ([name] if name else [])


def test_parts_are_ordered_by_how_close_they_are_and_obey_kinds_and_selections(library):
    assert found(library, "toccata", matching="part")[0] == "c/toccata.wav"
    assert found(library, "bicy", matching="part", modality="audio") == []
    selection = library.select(to_store_filters(parse("folder = a")))
    for matching, text in (("part", "bicy"), ("typo", "bicylce")):
        assert found(library, text, matching=matching, among=selection) == ["a/redBicycle2.jpg"]


@pytest.mark.parametrize(
    ("path", "values", "text", "words"),
    [
        ("a/redBicycle2.jpg", {}, "red bicycles", {"name": "red Bicycle"}),
        ("cars/yellow.jpg", {}, "a yellow car", {"name": "yellow", "folder": "cars"}),
        ("x.jpg", {"caption": "Été à la plage"}, "ete", {"caption": "Été"}),
        ("x.jpg", {"title": "Toccata", "artist": "Bach"}, "bach tocc", {"text": "Bach Toccata"}),
        ("鳥鳥.png", {}, "鳥", {"name": "鳥鳥"}),
        ("n02119789_terrier.jpg", {}, "n0211", {"name": "n02119789"}),
        ("terrier.jpg", {}, "terier", {"name": "terrier"}),
        ("terrier.jpg", {}, "something else", {}),
    ],
)
def test_which_words_found_a_file_and_where(path, values, text, words):
    assert words_found({"path": path, **values}, text) == words


# -- in one list ----------------------------------------------------------------------------------------------------


def match(name, found_by="meaning", relevance=None):
    is_meaning = found_by == "meaning"
    matches = (None if relevance is None else relevance >= 0.5) if is_meaning else True
    by = "words" if found_by == "name" else found_by
    score = 0.5 if is_meaning else None
    has_words, is_name = not is_meaning, found_by == "name"
    return Match(name, name, score, relevance, None, None, by, matches, has_words, is_name=is_name)


def test_words_come_before_meaning_unless_that_is_sure():
    meaning = [match(name, relevance=value) for name, value in zip("abcde", (0.99, SURE, 0.7, 0.6, 0.1), strict=True)]
    words = [match("n", "name"), match("x", "words"), match("d", "words"), match("b", "words")]
    joined = merged(meaning, words)
    assert [(each.media_id, each.found_by) for each in joined] == [
        ("n", "words"),
        ("x", "words"),
        ("a", "meaning"),
        ("d", "words"),
        ("b", "words"),
        ("c", "meaning"),
        ("e", "meaning"),
    ]
    assert [each.relevance for each in joined] == [None, None, 0.99, 0.6, SURE, 0.7, 0.1]


def test_words_that_are_only_alike_take_turns_with_what_may_match():
    meaning = [match("a", relevance=0.7), match("b", relevance=0.6), match("c", relevance=0.2)]
    likeness = [match(name, "words") for name in "cxy"]
    assert [each.media_id for each in merged(meaning, (), (), likeness)] == ["c", "a", "x", "b", "y"]
    unknown = [match("a"), match("b")]
    assert [each.media_id for each in merged(unknown, [match("w", "words")], (), likeness)] == list("wcaxby")


RELEVANCES = st.lists(st.none() | st.floats(0, 1), min_size=8, max_size=8)


@settings(deadline=None)
@given(st.permutations("abcdefgh"), st.permutations("efghijkl"), st.permutations("ghijmnop"), RELEVANCES, st.data())
def test_one_list_keeps_everything_once_and_the_first_n_depend_on_the_first_n_only(m, w, p, relevances, data):
    """And whoever reads down the percentages of what meaning alone put forward never sees a higher one."""
    ranks = {True: 0, None: 1, False: 2}
    meaning = [match(name, relevance=value) for name, value in zip(m, relevances, strict=True)]
    meaning.sort(key=lambda each: (ranks[each.matches], -(each.relevance or 0)))
    words = [match(name, "words") for name in w[: data.draw(st.integers(0, 8))]]
    parts = [match(name, "words") for name in p[: data.draw(st.integers(0, 8))]]
    joined = merged(meaning, words, (), parts)
    assert sorted(each.media_id for each in joined) == sorted({each.media_id for each in (*meaning, *words, *parts)})
    for n in range(len(joined)):
        first = merged(meaning[:n], words[:n], (), parts[:n])[:n]
        assert [each.media_id for each in first] == [each.media_id for each in joined[:n]]
    shown = [each.relevance for each in joined if each.found_by == "meaning" and each.relevance is not None]
    assert shown == sorted(shown, reverse=True)
    wrong = [each.matches is False for each in joined]
    assert wrong == sorted(wrong)


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
    copy = Match("copy", "content", found_by="words", matches=True, has_words=True)
    (joined,) = merged([Match("original", "content", 0.7, 0.8, matches=True)], [copy])
    assert (joined.media_id, joined.score, joined.found_by) == ("copy", 0.7, "words")


def names(results):
    return [hit.path.name for hit in results]


def test_auto_finds_by_meaning_and_by_words(library):
    searcher = Searcher(library, Provider())
    hits = searcher.search(Query("red bicycle"), View(11))
    assert len(hits) == 11
    assert {hit.path.name for hit in hits if hit.found_by == "words"} == {"redBicycle2.jpg", "plain.jpg", "notes.jpg"}
    assert {hit.found_by for hit in hits} == {"words", "meaning"}
    assert set(names(hits[:3])) == {"redBicycle2.jpg", "plain.jpg", "notes.jpg"}
    assert [hit.matches for hit in hits] == [True] * 3 + [None] * 8  # nothing measures what meaning found
    assert (hits.has_match, hits.n_matches, names(hits.matching)) == (True, None, names(hits[:3]))
    assert {hit.path.name: hit.matched_words for hit in hits.matching} == {
        "redBicycle2.jpg": {"name": "red Bicycle"},
        "plain.jpg": {"caption": "red bicycle"},
        "notes.jpg": {"text": "red Bicycles"},
    }
    only = searcher.search(Query("red bicycle", mode="vector"), View(11))
    assert {hit.found_by for hit in only} == {"meaning"}
    assert [hit.score for hit in only] == sorted((hit.score for hit in only), reverse=True)
    assert {hit.media_id: hit.score for hit in hits} == pytest.approx({hit.media_id: hit.score for hit in only})


def test_a_file_name_wins(library):
    searcher = Searcher(library, Provider())
    for mode in ("auto", "keyword"):
        hits = searcher.search(Query("toccata.wav", mode=mode), View(3))
        assert (hits[0].path.name, hits[0].found_by, hits[0].source) == ("toccata.wav", "words", "name")
        assert hits[0].text == "toccata.wav"


def test_a_name_that_is_not_utf8_wins(tmp_path):
    with MultimodalStorage(tmp_path / "library") as storage:
        storage.bind_models({role: ModelRecord(digest, DIMENSION) for role, digest in DIGESTS.items()})
        fill(storage, {r"caf\xe9.jpg": {"path_bytes": b"caf\xe9.jpg"}, "caf/xe9.jpg": {}})
        for mode in ("auto", "keyword"):
            hits = Searcher(storage, Provider()).search(Query(os.fsdecode(b"caf\xe9.jpg"), mode=mode), View(2))
            assert (os.fsencode(hits[0].path.name), hits[0].source) == (b"caf\xe9.jpg", "name")


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


def test_refining_keeps_the_words_and_orders_what_has_them(library):
    searcher = Searcher(library, Provider())
    bach, toccata = (
        Example(name, "audio", f"{list(FILES).index(name):032x}") for name in ("c/Bach.mp3", "c/toccata.wav")
    )
    refined = searcher.search(Query("bach", like=(bach, toccata)), View(9))
    assert {hit.path.name for hit in refined if hit.matched_words} == {"Bach.mp3", "toccata.wav"}
    assert [hit.matches for hit in refined] == [True] * 2 + [None] * 7
    scores = [hit.score for hit in refined]
    assert scores[:2] == sorted(scores[:2], reverse=True)
    assert scores[2:] == sorted(scores[2:], reverse=True)
    away = searcher.search(Query("bach", like=(toccata,), unlike=(bach,)), View(20))
    assert names(away)[0] == "toccata.wav"
    assert {hit.path.name: hit.found_by for hit in away if hit.score < 0}["Bach.mp3"] == "meaning"
    only = searcher.search(Query("bach", minus=("toccata",), mode="vector"), View(9))
    assert {hit.found_by for hit in only} == {"meaning"}
    assert len(searcher.similar(Example("x", "image", f"{0:032x}"), View(3))) == 3


class Rated:
    """A stand-in for what relevance is measured by: one for all files of a kind; None is not calibrated."""

    def __init__(self, **relevance):
        self.relevances = relevance

    def route(self, asked, kind):
        value = self.relevances[kind]
        return None if value is None else Constant(value)


class Constant:
    familiarity = None

    def __init__(self, value):
        self.value = value

    def relevance(self, question, scores, n_compared, *, composed=False):
        return np.full(len(scores), self.value)


def test_what_is_rated_as_no_match_stands_after_all_that_has_the_words(tmp_path):
    """500 files named jackson, and 30 others that meaning would put forward."""
    with MultimodalStorage(tmp_path / "library") as storage:
        storage.bind_models({role: ModelRecord(digest, DIMENSION) for role, digest in DIGESTS.items()})
        fill(storage, {f"{n}_jackson_{n}.jpg": {} for n in range(500)} | {f"other_{n}.jpg": {} for n in range(30)})
        searcher = Searcher(storage, Provider(), Rated(image=0.0, audio=0.0))
        results = searcher.search(Query("jackson"), View(20))
        assert all("jackson" in hit.path.name and hit.matches for hit in results)
        assert (results.has_match, results.n_matches) == (True, 500)
        last = searcher.search(Query("jackson"), View(30, offset=490))
        assert [hit.matches for hit in last] == [True] * 10 + [False] * 20
        assert len(last.matching) == 10
        assert searcher.search(Query("jacks"), View(20)).n_matches == 500
        misspelt = searcher.search(Query("jakcson"), View(500))
        assert all("jackson" in hit.path.name and hit.matches is None for hit in misspelt)
        assert (misspelt.has_match, misspelt.n_matches) == (None, None), "another word may have been meant"
        assert any("no file has the words 'jakcson'" in notice for notice in misspelt.notices)
        assert not searcher.search(Query("the jakcson on four tables"), View(20)).notices
        sure = Searcher(storage, Provider(), Rated(image=1.0, audio=1.0))
        assert sure.search(Query("jackson"), View(20)).n_matches == 530
        assert sure.search(Query("jakcson"), View(20))[0].found_by == "meaning"  # something else is found: no typo


def test_where_one_route_is_not_calibrated_nothing_is_claimed_of_its_files(library):
    searcher = Searcher(library, Provider(text_reaches_audio=True), Rated(image=None, audio=0.0))
    results = searcher.search(Query("something"), View(20))
    assert {(hit.modality, hit.matches) for hit in results} == {("image", None), ("audio", False)}
    assert {hit.relevance for hit in results if hit.modality == "image"} == {None}
    assert (results.has_match, results.n_matches, len(results.matching)) == (None, None, 0)
    assert {hit.modality for hit in results.folded} == {"image"}


def test_more_than_a_thousand_matches_are_not_counted(tmp_path):
    with MultimodalStorage(tmp_path / "library") as storage:
        storage.bind_models({role: ModelRecord(digest, DIMENSION) for role, digest in DIGESTS.items()})
        fill(storage, {f"cat_{n}.jpg": {} for n in range(1_200)})
        searcher = Searcher(storage, Provider(), Rated(image=0.0, audio=0.0))
        results = searcher.search(Query("cat"), View(20))
        assert (results.n_matches, results.summary) == (1_001, "more than 1,000 matches")
        keywords = searcher.search(Query("cat", mode="keyword"), View(1_100))
        assert len({hit.media_id for hit in keywords}) == 1_100
        storage.delete_media([hit.media_id for hit in keywords[:200]])
        assert searcher.search(Query("cat"), View(20)).n_matches == 1_000
