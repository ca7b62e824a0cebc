"""Captions, descriptions and titles as vectors of the text model: kept with the files, and found by what they mean."""

from __future__ import annotations

import json

import numpy as np
import pytest

from arrowlens import Library
from arrowlens.conversion import convert_text_model
from arrowlens.ingest import IngestOptions, migrate, run
from arrowlens.media import Limits
from arrowlens.models import DEMO
from arrowlens.search import Query, Searcher
from arrowlens.search.hybrid import LEAST_CAPTION, Match, merged
from arrowlens.store import FileText, MediaText, MultimodalStorage, written_texts
from tests.support.caption_pairs import PAIRS, UNRELATED
from tests.support.folders import write_picture, write_sound
from tests.support.real_weights import minilm_directory
from tests.support.small_models import SmallProvider

ROLES = ("vision", "audio", "text")
ONE = IngestOptions(workers=1)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        write_picture(folder / f"{number}.png", number)
    write_sound(folder / "a.wav", 1)
    (folder / "0.txt").write_text("the old harbour")
    (folder / "1.txt").write_text("my brother")
    (folder / "a.txt").write_text("the old harbour")
    return folder


@pytest.fixture
def storage(tmp_path):
    with MultimodalStorage(tmp_path / "library") as storage:
        yield storage


def held(storage, provider, folder):
    """Names of files by the captions that have vectors, and whether those are the vectors of just these captions."""
    names = {}
    for caption in storage.file_texts():
        row = storage.media([caption.media_id]).to_pylist()[0]
        for hit in storage.search(
            "text", provider.digest("text"), provider.text_encoder.encode(caption.text.text)[0], 50
        ).to_pylist():
            if hit["media_id"] == caption.media_id:
                assert hit["score"] == pytest.approx(1.0, abs=1e-3)
                names[row["path"]] = caption.text.text
    assert len(storage.vector_ids("text")) == len(names)
    return names


def test_a_caption_that_changed_is_read_though_its_picture_could_not_be_decoded_now(storage, folder):
    provider = SmallProvider(ROLES)
    run(storage, provider, [folder], ONE)
    (folder / "0.txt").write_text("a lighthouse")
    report = run(storage, provider, [folder], IngestOptions(workers=1, limits=Limits(max_pixels=1)))
    assert (report.captions, report.skipped) == (1, 0), "the picture's content is known"
    assert held(storage, provider, folder)["0.png"] == "a lighthouse"


def test_a_caption_is_encoded_when_it_changes_and_its_picture_is_not(storage, folder):
    provider = SmallProvider(ROLES)
    assert run(storage, provider, [folder], ONE).captions == 3
    assert held(storage, provider, folder) == {
        "0.png": "the old harbour",
        "1.png": "my brother",
        "a.wav": "the old harbour",
    }
    n_encoded, n_texts = provider.n_encoded, provider.text_encoder.n_encoded
    assert run(storage, provider, [folder], ONE).captions == 0
    assert provider.text_encoder.n_encoded == n_texts
    (folder / "1.txt").write_text("my sister, smiling")
    (folder / "a.txt").unlink()
    (folder / "2.txt").write_text("a bridge")
    report = run(storage, provider, [folder], ONE)
    assert (report.captions, report.indexed, report.unchanged) == (2, 0, 5)
    assert provider.n_encoded == n_encoded
    assert provider.text_encoder.n_encoded == n_texts + 2
    assert held(storage, provider, folder) == {
        "0.png": "the old harbour",
        "1.png": "my sister, smiling",
        "2.png": "a bridge",
    }


def test_files_take_their_captions_along_and_away(storage, folder):
    provider = SmallProvider(ROLES)
    run(storage, provider, [folder], ONE)
    (folder / "0.png").unlink()
    (folder / "1.png").rename(folder / "b.png")
    (folder / "1.txt").rename(folder / "b.txt")
    write_sound(folder / "a.wav", 2)
    run(storage, provider, [folder], ONE)
    assert held(storage, provider, folder) == {"b.png": "my brother", "a.wav": "the old harbour"}
    storage.delete_media(storage.all_media(["media_id"])["media_id"].to_pylist())
    assert storage.vector_ids("text") == set()


def test_a_library_that_gets_a_text_model_catches_up(storage, folder):
    run(storage, SmallProvider(), [folder], ONE)
    provider = SmallProvider(ROLES)
    report = run(storage, provider, [folder], ONE)
    assert (report.captions, report.indexed) == (3, 0)
    assert len(held(storage, provider, folder)) == 3


def test_another_text_model_encodes_them_anew(storage, folder):
    old, new = SmallProvider(ROLES), SmallProvider(ROLES, seed=5, dimension=32)
    run(storage, old, [folder], ONE)
    report = migrate(storage, new, new.records(), ONE)
    assert (report.captions, report.encoded, report.switched) == (3, 5, True)
    assert len(held(storage, new, folder)) == 3
    assert len(list(storage.path.glob("text_embeddings__*"))) == 1


def test_title_caption_and_description_of_a_file_are_texts_of_their_own():
    row = {"title": "Jóga", "caption": None, "description": " "}
    assert written_texts(row) == [MediaText("title", "Jóga")]
    assert written_texts(row | {"caption": "Jóga.", "description": "live\nin  Paris"}) == [
        MediaText("title", "Jóga"),
        MediaText("caption", "Jóga."),
        MediaText("description", "live in Paris"),
    ]
    assert written_texts(row | {"title": None}) == []
    ids = [FileText("m", "c", "audio", MediaText("title", title)).embedding_id for title in ("Jóga", "Joga")]
    assert ids[0] != ids[1]
    said = [FileText("m", "c", "audio", MediaText("speech", "yes", start, start + 1)).number for start in (0.0, 5.0)]
    assert said[0] != said[1]


def test_captions_and_meaning_take_turns_after_words():
    def match(number, found_by, matches=True):
        return Match(
            str(number), str(number), 0.5 if found_by == "meaning" else None, None, None, None, found_by, matches
        )

    by_meaning, by_words = [*(match(n, "meaning") for n in (1, 2, 3)), match(6, "meaning", False)], [match(4, "words")]
    best = merged(by_meaning, by_words, [match(3, "text"), match(5, "text")])
    assert [(one.media_id, one.found_by) for one in best] == [
        ("4", "words"),
        ("3", "text"),
        ("1", "meaning"),
        ("5", "text"),
        ("2", "meaning"),
        ("6", "meaning"),
    ]
    assert best[1].score == 0.5


def test_only_the_mode_auto_asks_captions_and_what_is_far_from_all_is_not_found(storage, folder):
    provider = SmallProvider(ROLES)
    run(storage, provider, [folder], ONE)
    provider.clip_engine.encode_text = lambda texts: np.ones((1, 24))
    provider.clip_engine.tokenizer = type("Tokenizer", (), {"part_read": staticmethod(lambda text: None)})
    searcher = Searcher(storage, provider)
    hits = searcher.search(Query("old harbour brother"))
    assert {hit.path.name: hit.found_by for hit in hits if hit.found_by != "meaning"} == {
        "0.png": "text",
        "1.png": "text",
        "a.wav": "text",
    }
    assert {hit.source for hit in hits if hit.found_by == "text"} == {"caption"}
    assert {hit.path.name: hit.text for hit in hits if hit.text}["1.png"] == "my brother"
    assert {hit.found_by for hit in searcher.search(Query("old harbour brother", mode="vector"))} == {"meaning"}
    assert {hit.found_by for hit in searcher.search(Query("something else"))} == {"meaning"}
    assert [hit.path.name for hit in searcher.search(Query("old harbour brother", modality="audio"))] == ["a.wav"]


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    directory = tmp_path_factory.mktemp("minilm") / "model"
    convert_text_model(minilm_directory(), directory, verify=False)
    return directory


def test_pictures_are_found_by_what_their_captions_mean(tmp_path, minilm):
    """With MiniLM's real weights: questions that share no word with the caption, and questions about nothing here."""
    captions = dict(enumerate(PAIRS))
    (tmp_path / "in").mkdir()
    for number, caption in captions.items():
        write_picture(tmp_path / "in" / f"{number:02d}.png", number)
        (tmp_path / "in" / f"{number:02d}.txt").write_text(caption)
    models = f"vision={DEMO / 'clip'},audio={DEMO / 'audio'},text={minilm}"
    with Library.open(tmp_path / "library", models=models) as library:
        assert library.ingest(tmp_path / "in", workers=1).captions == len(PAIRS)
        hits = library.search("evening light at the sea", k=3)
        assert hits[0].caption == "Sunset over the harbour, fishing boats coming home"
        assert (hits[0].reason, hits[0].matches, hits[0].found_by) == ("its caption", True, "text")
        asked = [(questions[0], caption) for caption, questions in PAIRS.items()]
        first = [library.search(question, k=1)[0].caption == caption for question, caption in asked]
        by_looks = [library.search(text, k=1, mode="vector")[0].caption == caption for text, caption in asked[:5]]
        found = [any(hit.found_by != "meaning" for hit in library.search(text, k=3)) for text in UNRELATED[:8]]
    assert np.mean(first) > 0.55, np.mean(first)
    assert np.mean(by_looks) < 0.5
    assert np.mean(found) < 0.2, np.mean(found)
    assert 0.3 < LEAST_CAPTION < 0.5


def test_the_command_says_that_a_caption_was_found(tmp_path, minilm, capsys):
    from arrowlens.cli import main

    (tmp_path / "in").mkdir()
    write_picture(tmp_path / "in" / "x.png", 1)
    (tmp_path / "in" / "x.txt").write_text("Dog running into the waves")
    library = str(tmp_path / "library")
    models = f"vision={DEMO / 'clip'},text={minilm}"
    assert main(["ingest", str(tmp_path / "in"), "--library", library, "--models", models, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["captions"] == 1
    assert main(["search", "puppy at the beach", "--library", library]) == 0
    assert "x.png" in capsys.readouterr().out
