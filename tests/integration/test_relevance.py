"""Relevance with the demo models: does it tell whether a library holds what is asked for?"""

from __future__ import annotations

import io
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import arrowlens
from arrowlens import Library
from arrowlens.cli import main
from arrowlens.cli.progress import IngestProgress
from arrowlens.embedding import ExampleReader, embed_example, encode
from arrowlens.encoders import MultimodalEmbeddingProvider
from arrowlens.ingest import IngestEvent
from arrowlens.modalities import Modality
from arrowlens.models import resolve
from arrowlens.search.relevance import MATCHING
from arrowlens.search.relevance.background import BATCH_SIZE, Bank, bundled
from arrowlens.search.relevance.calibration import Calibration
from tests.support.measures import EVERYDAY, area, claimed
from tests.support.other_models import write_other_models
from tests.support.real_weights import DATA, spoken_digits

SAMPLES = Path(arrowlens.__file__).parent / "demo" / "samples"
SINGLE = ("food", "nature", "play", "things", "travel")  # folders whose pictures show one thing each


def things() -> dict[str, list[Path]]:
    """What one can ask for -> the bundled files that are right; a picture and a sound may be of one thing."""
    found: dict[str, list[Path]] = {}
    paths = [path for folder in SINGLE for path in (SAMPLES / "pictures" / folder).iterdir()]
    for path in sorted([*paths, *(SAMPLES / "sounds").iterdir()]):
        found.setdefault(path.stem[:-3].replace("-", " "), []).append(path)
    return dict(sorted(found.items()))


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A library of every other thing, and what it holds; the others are held out."""
    base = tmp_path_factory.mktemp("relevance")
    names = set(list(things())[::2])
    for name in names:
        for path in things()[name]:
            target = base / "media" / path.parent.name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    with Library.open(base / "a.lens", models="demo") as library:
        library.ingest(base / "media")
        yield library, names


def test_it_tells_what_is_there_better_than_any_cosine_does(held):
    library, names = held
    asked = {name: f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in things()}
    answers = {name: library.search(text, k=5, mode="vector") for name, text in asked.items()}
    right = [name in names for name in answers]
    is_held = np.array(right)
    relevance = np.array([results[0].relevance for results in answers.values()])
    scores = np.array([max(hit.score for hit in results) for results in answers.values()])
    ours, cosine = area(relevance[is_held], relevance[~is_held]), area(scores[is_held], scores[~is_held])
    said = np.array([results.has_match for results in answers.values()])
    print(f"{len(said)} questions: area {ours:.3f}, by cosine {cosine:.3f}; right {np.mean(said == right):.2f}")
    assert len(said) > 120
    assert ours >= 0.9
    assert ours > cosine
    assert np.mean(said == right) >= 0.8
    assert np.mean(said[~np.array(right)]) <= 0.15  # said of what is not there


def test_a_library_of_five_files(tmp_path, capsys):
    (tmp_path / "media").mkdir()
    for name in ("nature/lion-01.png", "food/grapes-01.jpg", "things/guitar-01.webp", "travel/sun-01.jpg"):
        shutil.copy(SAMPLES / "pictures" / name, tmp_path / "media")
    shutil.copy(SAMPLES / "sounds" / "dog-02.flac", tmp_path / "media")
    base = tmp_path / "a.lens"
    assert main(["ingest", str(tmp_path / "media"), "--library", str(base), "--models", "demo"]) == 0
    with Library.open(base) as library:
        for text, name in (("a lion", "lion"), ("grapes", "grapes"), ("a dog barking", "dog-02")):
            results = library.search(text, mode="vector")
            assert results.has_match, text
            assert len(results) == 5
            assert results[0].path.name.startswith(name)
            assert all(0 <= hit.relevance <= 1 for hit in results)
            assert results == library.search(text, mode="vector")
        assert library.search("a submarine", mode="vector").has_match is False
        assert library.similar(SAMPLES / "sounds" / "dog-01.ogg").has_match is not None
    capsys.readouterr()
    assert main(["search", "a submarine", "--library", str(base)]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "no matches in " in shown.err
    assert "nothing here really matches; --all shows the nearest anyway" in shown.err
    assert main(["search", "a submarine", "--all", "--library", str(base)]) == 0
    shown = capsys.readouterr()
    assert "relevance" in shown.out.splitlines()[0]
    assert len(shown.out.splitlines()) == 6
    assert "nothing here really matches; these are the nearest there are" in shown.err
    assert main(["search", "a lion", "--library", str(base)]) == 0
    shown = capsys.readouterr()
    assert "name: lion" in shown.out
    assert len(shown.out.splitlines()) == 2
    assert "1 match in " in shown.err
    assert "no more matches; --all shows the nearest anyway" in shown.err
    assert "really matches" not in shown.err
    submarine, lion = "a submarine", str(SAMPLES / "pictures/nature/lion-01.png")
    assert main(["search", submarine, "--library", str(base), "--mode", "vector", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["matches"] is False
    assert answer["n_matches"] == 0
    assert [hit["matches"] for hit in answer["hits"]] == [False] * 5
    assert all(0 <= hit["relevance"] < 0.5 for hit in answer["hits"])
    assert main(["similar", lion, "--library", str(base), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)  # the file itself is shown as a match, and does not count
    assert (answer["hits"][0]["matches"], answer["n_matches"], answer["has_match"]) == (True, 0, False)
    for conditions, why in (([], "has all these words"), (["--where", "width > 1"], "words and satisfies the cond")):
        assert main(["search", "zebra", "--library", str(base), "--mode", "keyword", *conditions]) == 0
        assert why in capsys.readouterr().err


def test_copies_in_other_files_are_known_as_such(held, tmp_path):
    library, _ = held
    media = [Path(hit.path) for hit in library.newest(1000)]
    picture = next(path for path in sorted(media) if path.suffix == ".jpg")
    with Image.open(picture) as image:
        smaller = image.convert("RGB").resize((image.width * 2 // 3, image.height * 2 // 3))
    smaller.save(tmp_path / "copy.png")
    smaller.transpose(Image.Transpose.ROTATE_180).save(tmp_path / "turned.png")
    sound = next(path for path in sorted(media) if path.suffix in (".flac", ".ogg", ".wav"))
    samples, rate = soundfile.read(sound, dtype="float32")
    soundfile.write(tmp_path / "copy.mp3", 0.5 * samples, rate)
    soundfile.write(tmp_path / "reversed.wav", samples[::-1], rate)
    for asked, original in (("copy.png", picture), ("copy.mp3", sound)):
        best = library.similar(tmp_path / asked)[0]
        assert (best.path, best.found_by, best.matches) == (original, "copy", True)
        assert best.relevance >= 0.98
    assert library.similar(smaller)[0].found_by == "copy"
    assert library.similar((samples, rate))[0].content_hash == library.similar(sound)[0].content_hash
    for asked in ("turned.png", "reversed.wav"):
        assert "copy" not in {hit.found_by for hit in library.similar(tmp_path / asked)}


def test_a_run_shows_how_it_learns_what_counts_as_a_match(tmp_path, monkeypatch):
    monkeypatch.setenv("ARROWLENS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "media").mkdir()
    shutil.copy(SAMPLES / "pictures/nature/lion-01.png", tmp_path / "media")
    shutil.copy(SAMPLES / "sounds/dog-02.flac", tmp_path / "media")
    events: list[IngestEvent] = []
    with Library.open(tmp_path / "a.lens", models="demo") as library:
        report = library.ingest(tmp_path / "media", on_event=events.append)
        assert list(dict.fromkeys(event.phase for event in events))[-2:] == ["calibrate", "done"]
        learned = [event for event in events if event.phase == "calibrate"]
        done, total = [event.done for event in learned], learned[0].total
        assert len(done) > 10  # batches
        assert (done[0], done[-1]) == (BATCH_SIZE, total)
        assert done == sorted(set(done))
        assert {event.total for event in learned} == {total}
        assert 0 < report.timings["calibrating"] < report.seconds
        monkeypatch.setattr(Bank, "_batches", None)  # all is known by now, and is kept for other processes
        events.clear()
        shutil.copy(SAMPLES / "pictures/nature/fox-01.jpg", tmp_path / "media")
        library.ingest(tmp_path / "media", on_event=events.append)
        assert "calibrate" not in {event.phase for event in events}
        assert [event.phase for event in events].count("done") == 1


def test_bundled_files_are_read_once_and_encoded_as_each_batch_is_alone(tmp_path):
    models = resolve("demo")
    provider = MultimodalEmbeddingProvider(clip_model_path=models.vision, audio_model_path=models.audio)
    read: list[Path] = []

    def reader(path):
        read.append(path)
        return ExampleReader(provider).file(path)

    bank = Bank(provider, reader, tmp_path)
    bank.prepare(["audio"])
    assert sorted(read) == bundled("audio")
    windows = [ExampleReader(provider).file(path).windows[0] for path in bundled("audio")]
    halves = [window[: len(window) // 2] for window in windows] + [window[len(window) // 2 :] for window in windows]
    for kind, segments in (("audio", windows), ("audio parts", halves)):
        place = len(windows) - BATCH_SIZE  # in the order of the files, and of the halves
        alone = encode("audio", segments[place : place + BATCH_SIZE], provider)
        cosines = (bank.vectors(kind)[place : place + BATCH_SIZE] * alone).sum(axis=1)
        assert cosines.min() > 0.9999


def test_a_run_that_is_stopped_while_it_learns_ends_and_goes_on_the_next_time(tmp_path, monkeypatch):
    monkeypatch.setenv("ARROWLENS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "media").mkdir()
    shutil.copy(SAMPLES / "pictures/nature/lion-01.png", tmp_path / "media")
    stop, events = threading.Event(), list[IngestEvent]()

    def heard(event):
        events.append(event)
        if event.phase == "calibrate":
            stop.set()

    with Library.open(tmp_path / "a.lens", models="demo") as library:
        assert library.ingest(tmp_path / "media", on_event=heard, stop=stop).indexed == 1
        assert [event.phase for event in events].count("calibrate") == 1
        assert events[-1].phase == "done"
        stop.clear()
        del events[:]
        again = library.ingest(tmp_path / "media", on_event=lambda event: events.append(event), stop=stop)
        assert (again.indexed, again.unchanged) == (0, 1)
        assert [event.done for event in events if event.phase == "calibrate"][-1] > 0, "it goes on, without a new file"
        assert library.search("a lion", mode="vector").has_match


def test_a_change_of_models_that_is_stopped_while_it_learns_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("ARROWLENS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "media").mkdir()
    shutil.copy(SAMPLES / "pictures/nature/lion-01.png", tmp_path / "media")
    other, stop, events = write_other_models(tmp_path / "other"), threading.Event(), list[IngestEvent]()

    def heard(event):
        events.append(event)
        if event.phase == "calibrate":
            stop.set()

    with Library.open(tmp_path / "a.lens", models="demo") as library:
        library.ingest(tmp_path / "media")
        assert library.migrate(other, on_event=heard, stop=stop).switched
        assert [event.phase for event in events].count("calibrate") == 1


def test_the_command_shows_a_line_while_it_learns(monkeypatch):
    stderr = io.StringIO()
    stderr.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", stderr)
    with IngestProgress() as bar:
        bar(IngestEvent("optimize", 2, 2))
        for done in (16, 32):
            bar(IngestEvent("calibrate", done, 48))
            time.sleep(0.2)  # a bar draws ten times a second at most
    assert "learning what counts as a match: 32 of 48" in stderr.getvalue()


def test_of_forty_everyday_words_at_most_one_claims_to_be_among_spoken_digits(tmp_path):
    n_digits = len(spoken_digits())
    with Library.open(tmp_path / "a.lens", models="demo") as library:
        assert library.ingest(DATA / "digits").indexed == n_digits
        wrong = claimed(library, EVERYDAY)
        print(f"{len(wrong)} of {len(EVERYDAY)} claimed: {', '.join(wrong)}")
        assert len(EVERYDAY) == 40
        assert len(wrong) <= 1
        steps = library.search("footsteps", k=1, mode="vector")[0]
        assert steps.relevance < MATCHING
        assert claimed(library, ["someone speaking", "a voice", "people talking"])  # it can say yes


Transform = Callable[[np.ndarray, str], np.ndarray]


def widened(vectors: np.ndarray, *more: float) -> np.ndarray:
    """With further dimensions of these values, and of length one again."""
    longer = np.column_stack([vectors, np.tile(more, (len(vectors), 1))])
    return (longer / np.linalg.norm(longer, axis=1, keepdims=True)).astype(np.float32)


SPACES: dict[str, Transform] = {
    "as it is": lambda vectors, kind: vectors,
    "a direction that all share": lambda vectors, kind: widened(vectors, 2.0),
    "cosines as narrow as SigLIP's": lambda vectors, kind: widened(
        vectors, *((2.5, 0) if kind == "text" else (0, 2.5))
    ),
    "a gap between texts and pictures": lambda vectors, kind: widened(vectors, 0.8 if kind == "text" else -0.3),
}


class Disguised:
    """The demo models' vectors in another space, under another digest: any published model, as far as they can be."""

    def __init__(self, models: MultimodalEmbeddingProvider, transform: Transform) -> None:
        self._models, self._transform = models, transform
        self.image_processor, self.runtime = models.clip_engine.image_processor, models.runtime

    @property
    def clip_engine(self) -> Disguised:
        return self

    def encode_text(self, texts: list[str]) -> np.ndarray:
        return self._transform(self._models.clip_engine.encode_text(texts), "text")

    def encode_image(self, images: np.ndarray) -> np.ndarray:
        return self._transform(self._models.clip_engine.encode_image(images), "image")

    def templates(self, role: str) -> tuple[str, ...]:
        return ()

    def text_role(self, modality: Modality) -> str | None:
        return self._models.text_role(modality)

    def digest(self, role: str) -> str:
        return "e" * 64

    recipe_digest = digest

    def dimension(self, role: str) -> int:
        return self.encode_text(["a"]).shape[1]


@pytest.fixture(scope="module")
def demo() -> MultimodalEmbeddingProvider:
    models = resolve("demo")
    return MultimodalEmbeddingProvider(clip_model_path=models.vision, audio_model_path=models.audio)


@pytest.fixture(scope="module", params=SPACES.values(), ids=SPACES)
def other(request, demo, tmp_path_factory):
    """Another model: its bank, its vectors of bundled pictures that the bank does not hold, and of their names."""
    folder = tmp_path_factory.mktemp("other")
    models = Disguised(demo, request.param)
    reader = ExampleReader(demo)
    paths = [path for name in things() for path in things()[name] if path.parent.name in SINGLE]
    paths = [path for path in paths if path not in bundled("image")]
    pictures = np.concatenate([embed_example(reader.file(path), models) for path in paths])
    names = models.encode_text([path.stem[:-3].replace("-", " ") for path in paths])
    return Bank(models, reader.file, folder), models, reader, paths, pictures, names


def best_relevance(route: Calibration, asked: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Of the best hit for each question: (n, d), (n, m) -> (n,)."""
    best = [(row[None], of_row.max()[None], len(of_row)) for row, of_row in zip(asked, scores, strict=True)]
    return np.array([route.relevance(*one)[0] for one in best])


def test_another_model_tells_whether_a_picture_is_there(other):
    bank, _, _, paths, pictures, names = other
    route = bank.route("text", "image")
    assert isinstance(route, Calibration)
    scores = names @ pictures.T
    there = best_relevance(route, names, scores)
    gone = best_relevance(route, names, np.where(np.eye(len(paths), dtype=bool), -1, scores))
    print(f"{len(paths)} pictures: area {area(there, gone):.3f}, weights {np.round(route.weights, 2)}")
    assert area(there, gone) >= 0.9
    assert (there >= MATCHING).mean() >= 0.85
    assert (gone >= MATCHING).mean() <= 0.15


def test_another_model_is_sure_of_a_copy_in_another_format(other):
    bank, models, reader, paths, pictures, _ = other
    route = bank.route("image", "image")
    assert isinstance(route, Calibration)
    for row, path in [*enumerate(paths)][::4]:
        data, image = io.BytesIO(), Image.open(path).convert("RGB")
        image.resize((image.width * 2 // 3, image.height * 2 // 3)).save(data, "JPEG", quality=60)
        copy = embed_example(reader.upload(data.getvalue(), "copy.jpg"), models)
        assert route.relevance(copy, pictures[row] @ copy.T, 10_000)[0] > 0.9, path.name
    scores = np.where(np.eye(len(paths), dtype=bool), -1, pictures @ pictures.T)
    assert (best_relevance(route, pictures, scores) >= MATCHING).mean() <= 0.25
