"""Texts that were read in pictures and heard in recordings: stored by content, found by words and by what they mean."""

from __future__ import annotations

import dataclasses
import json
import threading

import lancedb
import numpy as np
import pytest

from arrowlens.errors import InputError
from arrowlens.ingest import IngestOptions, run
from arrowlens.ingest.reading import ReadingStep, Unread
from arrowlens.ingest.source import FolderSource
from arrowlens.ingest.walk import ScannedFile
from arrowlens.media import Decoded, Limits
from arrowlens.media.films import Shot
from arrowlens.search import Query, Searcher, View
from arrowlens.search.where import parse, to_store_filters
from arrowlens.store import MediaText, ModelRecord, MultimodalStorage, Reading, Root, VectorRow, written_texts
from arrowlens.store.fulltext import phrases_of, text_words, words_of
from arrowlens.store.identifiers import READING_TABLE, TEXT_TABLE
from arrowlens.store.numerals import numerals_in
from arrowlens.texts.ocr import OcrReader
from tests.support.folders import write_picture, write_sound
from tests.support.small_library import DIGESTS, Engine, Provider, vector
from tests.support.small_models import SmallProvider
from tests.support.text_readers import KnownTexts, content_of

RECEIPT = "REWE Markt GmbH\nFlughafenstraße 12\nSumme 23,50 EUR"
TALK = (
    MediaText("speech", "Welcome to the yearly meeting.", 0.0, 3.5, "en", 0.9),
    MediaText("speech", "We hired seven people in Lisbon.", 3.5, 7.0, "en", 0.8),
    MediaText("speech", "Ask what you can do for your country.", 7.0, 11.0, "en", 0.9),
)


@pytest.fixture
def storage(tmp_path):
    """Three pictures, two of which lie twice, and two recordings."""
    with MultimodalStorage(tmp_path / "library") as storage:
        storage.bind_models({role: ModelRecord(digest, 16) for role, digest in DIGESTS.items()})
        files = {
            "receipt.jpg": ("image", "1"),
            "copy.jpg": ("image", "1"),
            "beach.jpg": ("image", "2"),
            "talk.mp3": ("audio", "3"),
            "Lisbon.wav": ("audio", "4"),
        }
        rows = []
        for number, (path, (modality, content)) in enumerate(files.items()):
            row = {"media_id": f"{number:032x}", "content_hash": content * 32, "root_id": "r", "path": path}
            rows.append({**row, "path_bytes": path.encode(), "modality": modality, "state": "indexed"})
        rows[2]["caption"] = "Seven boats"
        for role, kind in (("vision", "image"), ("audio", "audio")):
            mine = [row for row in rows if row["modality"] == kind]
            storage.upsert_vectors(
                role,
                [VectorRow(row["media_id"], row["content_hash"], kind, vector(9, n)) for n, row in enumerate(mine)],
            )
        storage.upsert_media(rows)
        storage.replace_texts(
            "ocr", "known 1", [Reading("1" * 32, (MediaText("ocr", RECEIPT, confidence=0.9),)), Reading("2" * 32)]
        )
        storage.replace_texts("speech", "known 1", [Reading("3" * 32, TALK)])
        yield storage


def found(storage, text, **options):
    """(name, source, start) of what words alone find."""
    searcher = Searcher(storage, Provider())
    hits = searcher.search(Query(text, mode="keyword", **options), View(10))
    return [(hit.path.name, hit.source, hit.start) for hit in hits]


def test_words_find_the_text_and_the_moment(storage):
    assert found(storage, "people hired") == [("talk.mp3", "speech", 3.5)]
    assert found(storage, "flughafenstrasse rewe") == [("receipt.jpg", "ocr", None)]  # once for equal content
    assert found(storage, "meeting country") == []  # no text has both
    assert found(storage, "country", modality="image") == []


def test_a_hit_has_the_text_with_its_line_and_times(storage):
    searcher = Searcher(storage, Provider())
    talk = searcher.search(Query("seven Lisbon", mode="keyword"))[0]
    assert (talk.found_by, talk.text, talk.start, talk.end) == ("words", TALK[1].text, 3.5, 7.0)
    assert (talk.matched_words, talk.reason) == ({"speech": "seven Lisbon"}, "speech: seven Lisbon")
    receipt = searcher.search(Query("summe", mode="keyword"))[0]
    assert (receipt.text, receipt.line) == (RECEIPT, "Summe 23,50 EUR")


def test_what_is_also_found_by_meaning_keeps_the_moment_of_the_text_and_has_its_score(storage):
    hits = Searcher(storage, Provider()).search(Query("hired people"))
    assert (hits[0].path.name, hits[0].start, hits[0].end, hits[0].matches) == ("talk.mp3", 3.5, 7.0, True)
    assert hits[0].score != 0.0
    assert {hit.found_by for hit in hits[1:]} == {"meaning"}


def test_words_in_quotes_are_found_as_they_stand_and_nothing_else_is(storage):
    assert found(storage, "country your do") == [("talk.mp3", "speech", 7.0)]
    assert found(storage, '"do for your country"') == [("talk.mp3", "speech", 7.0)]
    assert found(storage, '"country for your do"') == []
    assert found(storage, 'people "in lisbon"') == [("talk.mp3", "speech", 3.5)]
    assert found(storage, '"GmbH Flughafenstrasse"') == [("receipt.jpg", "ocr", None)]  # over the end of a line
    assert found(storage, '"boats seven"') == []
    assert found(storage, '"seven boats"') == [("beach.jpg", "caption", None)]
    quoted = Searcher(storage, Provider()).search(Query('"do for your country"'))
    assert [hit.path.name for hit in quoted] == ["talk.mp3"]  # not what it means, too
    assert phrases_of('a "red Bicycle" and “Été à” „x“ «y z» "" "-"') == ["red bicycle", "ete a", "x", "y z"]


def test_sources_say_where_words_must_stand(storage):
    everywhere = found(storage, "lisbon")
    assert everywhere == [("Lisbon.wav", "name", None), ("talk.mp3", "speech", 3.5)]
    assert found(storage, "lisbon", sources=("speech",)) == [("talk.mp3", "speech", 3.5)]
    assert found(storage, "lisbon", sources=("name", "ocr")) == [("Lisbon.wav", "name", None)]
    assert found(storage, "seven", sources=("caption",)) == [("beach.jpg", "caption", None)]
    assert found(storage, "seven", sources=("name", "title", "description")) == []
    hits = Searcher(storage, Provider()).search(Query("lisbon", sources=("speech",)))
    assert [hit.path.name for hit in hits] == ["talk.mp3"]
    for wrong in ({"sources": ("subtitles",)}, {"sources": ("speech",), "mode": "vector"}):
        with pytest.raises(InputError, match="source"):
            Query("lisbon", **wrong)


def test_files_are_kept_that_have_a_text_of_a_source(storage):
    def kept(where):
        ids = storage.select(to_store_filters(parse(where))).files["media_id"].to_pylist()
        return [storage.media([media_id]).to_pylist()[0]["path"] for media_id in ids]

    assert kept("source = speech") == ["talk.mp3"]
    assert kept("source in (ocr, caption)") == ["receipt.jpg", "copy.jpg", "beach.jpg"]
    assert kept("source != ocr and modality = image") == ["beach.jpg"]
    assert kept("source = description") == []
    assert len(kept("source = name")) == 5
    with pytest.raises(InputError, match="source takes a source of texts, as in source = speech"):
        parse("source = subtitles")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7", "seven"),
        ("seven", "sieben"),
        ("siete", "sept"),
        ("zwölf", "douze"),
        ("twenty-one", "21"),
        ("einundzwanzig", "vingt et un"),
        ("quatre-vingt-dix-sept", "97"),
        ("treinta y siete", "thirty seven"),
        ("hundert", "100"),
    ],
)
def test_numerals_and_number_words_are_one(storage, one, other):
    for text, query in ((one, other), (other, one)):
        storage.replace_texts("speech", "known 1", [Reading("4" * 32, (MediaText("speech", f"exactly {text} of us"),))])
        assert found(storage, f"exactly {query}") == [("Lisbon.wav", "speech", None)], (text, query)


def test_a_number_word_is_not_part_of_another_one(storage):
    assert list(numerals_in(["twenty", "one", "and", "seven"])) == [(0, 2, "21"), (3, 4, "7")]
    assert text_words("twenty one") == "twenty one 21"
    storage.replace_texts("speech", "known 1", [Reading("4" * 32, (MediaText("speech", "exactly 27 of us"),))])
    assert found(storage, "exactly seven") == []


def test_reading_again_replaces_what_was_read_and_other_sources_stay(storage):
    storage.replace_texts("speech", "known 2", [Reading("3" * 32, TALK[:1])])
    assert storage.extracted_texts(["3" * 32]) == {"3" * 32: [TALK[0]]}
    assert storage.extracted_texts(["1" * 32])["1" * 32][0].text == RECEIPT
    assert found(storage, "hired") == []
    engines = {row["content_hash"][0]: row["engine"] for row in storage.readings().to_pylist()}
    assert engines == {"1": "known 1", "2": "known 1", "3": "known 2"}


def test_texts_leave_with_the_last_file_that_has_their_content(storage):
    storage.delete_media([f"{0:032x}"])
    assert found(storage, "rewe") == [("copy.jpg", "ocr", None)]
    storage.delete_media([f"{1:032x}", f"{3:032x}"])
    assert found(storage, "rewe") == found(storage, "country") == []
    assert storage.extracted_texts(["1" * 32, "3" * 32]) == {}
    assert [row["content_hash"][0] for row in storage.readings().to_pylist()] == ["2"]


# -- in a run --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        write_picture(folder / f"{number}.png", number)
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    write_sound(folder / "a.wav", 1)
    return folder


@pytest.fixture
def library(tmp_path):
    with MultimodalStorage(tmp_path / "run library") as library:
        yield library


@pytest.fixture
def ocr(folder, tmp_path):
    texts = {content_of(folder / "0.png"): [MediaText("ocr", "the old harbour", confidence=0.9)]}
    return KnownTexts("ocr", "image", texts, tmp_path / "log")


@pytest.fixture
def speech(folder, tmp_path):
    texts = [MediaText("speech", "a fog horn", 0.0, 1.0, "en"), MediaText("speech", "a fog horn", 1.0, 2.0, "en")]
    return KnownTexts("speech", "audio", {content_of(folder / "a.wav"): texts}, tmp_path / "log 2")


def options(*readers, **more):
    return IngestOptions(workers=1, readers=readers, **more)


def test_a_run_reads_each_content_once_and_encodes_no_picture_again(library, folder, ocr, speech):
    provider = SmallProvider(("vision", "audio", "text"))
    run(library, provider, [folder], options())
    n_encoded, events = provider.n_encoded, []
    report = run(library, provider, [folder], options(ocr, speech), events.append)
    assert (report.read, report.heard, report.captions, report.indexed) == (4, 1, 4, 0)  # two places, two moments
    assert (ocr.n_read, speech.n_read, provider.n_encoded) == (4, 1, n_encoded)
    phases = list(dict.fromkeys(event.phase for event in events))
    assert [phase for phase in phases if phase != "optimize"] == ["walk", "index", "read", "listen", "done"]
    assert [event.done for event in events if event.phase == "read"] == [0, 1, 2, 3, 4]
    statistics = library.statistics()
    assert (statistics.read, statistics.heard, statistics.skipped) == (5, 1, 0)
    again = run(library, provider, [folder], options(ocr, speech))
    assert (again.read, again.heard, again.captions, ocr.n_read) == (0, 0, 0, 4)
    newer = dataclasses.replace(ocr, engine="known 2")
    assert run(library, provider, [folder], options(newer)).read == 4


def test_texts_are_found_by_what_they_mean_with_their_moment(library, folder, ocr, speech):
    provider = SmallProvider(("vision", "audio", "text"))
    run(library, provider, [folder], options(ocr, speech))
    (folder / "a.txt").write_text("a fog horn at night")
    run(library, provider, [folder], options(ocr, speech))
    provider.clip_engine.encode_text = lambda texts: [vector(1)[:1].repeat(24) for _ in texts]
    provider.clip_engine.tokenizer = Engine.tokenizer
    searcher = Searcher(library, provider)
    harbour = searcher.search(Query("harbour quite old", sources=("ocr",)))[0]
    assert (harbour.found_by, harbour.source, harbour.text) == ("text", "ocr", "the old harbour")
    nearest = searcher.search(Query("a loud fog horn at night"))[0]
    assert (nearest.source, nearest.text, nearest.start) == ("caption", "a fog horn at night", None)
    horn = searcher.search(Query("a loud fog horn at night", sources=("speech", "ocr")))
    assert [(hit.found_by, hit.source, hit.start, hit.end) for hit in horn] == [("text", "speech", 0.0, 1.0)]


def test_what_cannot_be_read_is_said_and_left_alone_until_asked(library, folder, ocr):
    bad = [content_of(folder / name) for name in ("1.png", "2.png")]
    reader = dataclasses.replace(ocr, crashing=frozenset(bad[:1]), failing=frozenset(bad[1:]))
    provider = SmallProvider()
    report = run(library, provider, [folder], options(reader))
    assert (report.read, report.skipped, sum(report.unread_texts.values())) == (2, 0, 2)
    reasons = {row["absolute_path"].rpartition(b"/")[2]: row for row in library.skipped().to_pylist()}
    assert set(reasons) == {b"1.png", b"2.png"}
    assert "crashed" in reasons[b"1.png"]["reason"]
    assert reasons[b"2.png"]["reason"] == "its text cannot be read (RuntimeError: no such letters)"
    assert {row["state"] for row in reasons.values()} == {"indexed"}
    assert library.statistics().read == 3
    n_read = reader.n_read
    assert run(library, provider, [folder], options(reader)).unread_texts == {}
    assert reader.n_read == n_read
    assert run(library, provider, [folder], options(ocr, retry=True)).read == 2
    assert library.skipped().num_rows == 0


def test_a_stopped_run_keeps_what_it_read_and_the_next_one_goes_on(library, folder, ocr):
    stop = threading.Event()
    provider = SmallProvider()

    def after_two(event):
        if event.phase == "read" and event.done == 2:
            stop.set()

    report = run(library, provider, [folder], options(ocr), after_two, stop)
    assert report.stopped
    assert 2 <= report.read < 4
    rest = run(library, provider, [folder], options(ocr))
    assert report.read + rest.read == 4
    assert library.extracted_texts([content_of(folder / "0.png")]) == ocr.texts


def test_a_file_that_was_replaced_is_read_anew_and_its_texts_are_gone(library, folder, ocr):
    provider = SmallProvider()
    run(library, provider, [folder], options(ocr))
    for name in ("0.png", "copy.png"):
        write_picture(folder / name, 77)
    report = run(library, provider, [folder], options(ocr))
    assert (report.read, library.find_texts("harbour", 5).num_rows) == (1, 0)
    assert library.readings().num_rows == 4


def test_a_library_of_the_layout_before_has_its_captions_as_texts_and_gets_numerals(library, folder):
    """A library without tables of texts, whose words have no numerals, as version 5 wrote it."""
    (folder / "0.txt").write_text("seven boats")
    run(library, SmallProvider(), [folder], options())
    path = library.path
    media = lancedb.connect(path).open_table("media")
    media.update(where="words like '%seven%'", values={"words": "0 png seven boats"})
    settings = path / "library.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "schema_version": 5}))
    assert not (path / f"{TEXT_TABLE}.lance").exists()
    assert not (path / f"{READING_TABLE}.lance").exists()
    with MultimodalStorage(path, create=False) as earlier:
        assert found(earlier, "seven boats") == [("0.png", "caption", None)]
        assert earlier.find_words("7 boats", 5).num_rows == 0
        assert earlier.statistics().read == 0
        with earlier.writing():
            pass
        assert earlier.settings.schema_version == 6
        assert earlier.find_words("7 boats", 5).num_rows == 1
        assert [text.text.text for text in earlier.file_texts()] == ["seven boats"]


def test_words_of_a_row_have_numerals():
    assert words_of({"path": "seven.jpg", "caption": "vingt et un ans"}) == "seven jpg 7 vingt et un ans 21"
    assert written_texts({"title": None, "caption": "a\n b", "description": ""}) == [MediaText("caption", "a b")]


def test_a_film_may_be_read_for_as_long_as_its_shots_take():
    step = ReadingStep(FolderSource((), None), OcrReader("any 1"), Limits())

    def limit_s(modality, size, duration):
        file = ScannedFile(b"/in/a", Root.at("/in"), b"a", modality, size, 0)
        return step.limit_s(Unread(file, "0" * 32, modality, duration))

    assert limit_s("image", 2**20, None) == Limits().max_decode_s
    assert limit_s("video", 2**20, 5400.0) >= Limits().max_decode_s + 200 * 4.0, "200 dense slides"
    assert limit_s("video", 2**34, 5400.0) >= 10 * Limits().max_decode_s, "a large film takes long to decode"


def test_a_film_is_read_at_all_its_shots_and_a_picture_that_stands_for_several_once(monkeypatch):
    looked_at = []

    def read(pixels):
        looked_at.append(int(pixels.max()))
        return [MediaText("ocr", f"slide {pixels.max() // 2}", confidence=0.9)]

    monkeypatch.setattr("arrowlens.texts.ocr._read", read)
    shots = tuple(Shot(float(number), number + 1.0, 2.0 * (number // 2) + 0.5) for number in range(200))
    frames = tuple(np.full((2, 2, 3), number // 2, np.uint8) for number in range(200))
    texts = OcrReader("any 1").extract(Decoded("video", None, shots=shots, frames=frames))
    assert looked_at == list(range(100))
    assert [text.text for text in texts] == [f"slide {number}" for number in range(50)]
    assert [(text.start, text.end) for text in texts[:2]] == [(0.0, 1.0), (4.0, 5.0)], "the first shot of each"
