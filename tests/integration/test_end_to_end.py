"""From folders to results through ``Library``, with the bundled demo models and sample media."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import arrowlens
from arrowlens import Library
from arrowlens.errors import (
    InputError,
    LibraryNotFoundError,
    MediaError,
    ModelLoadError,
    ModelMismatchError,
    TextValidationError,
)
from arrowlens.media import decode
from arrowlens.models import DEMO

SAMPLES = Path(arrowlens.__file__).parent / "demo" / "samples"
PICTURES = sorted((SAMPLES / "pictures").rglob("*-01.*"))[:16]
SOUNDS = sorted((SAMPLES / "sounds").iterdir())[:6]
TEN_SECONDS = "ten seconds.wav"
N_FILES = len(PICTURES) + len(SOUNDS) + 1


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    for path in (*PICTURES, *SOUNDS):
        shutil.copy(path, folder)
    soundfile.write(folder / TEN_SECONDS, ten_seconds(SOUNDS[3]), 16_000)
    return folder


def ten_seconds(path: Path) -> np.ndarray:
    """A recording again and again: exactly one window."""
    samples = decode(path).samples
    return np.resize(samples, 160_000)


@pytest.fixture(scope="module")
def library(media, tmp_path_factory):
    with Library.open(tmp_path_factory.mktemp("end") / "a.lens", models="demo") as library:
        report = library.ingest(media)
        assert (report.indexed, report.skipped) == (N_FILES, 0)
        yield library


def test_the_store_answers_as_the_models_do(library):
    """Every score is the cosine of the text with a fresh encoding of the file, within float16's precision."""
    provider = library._engine.provider
    text = provider.clip_engine.encode_text(["a blue guitar"])[0]
    processor = provider.clip_engine.image_processor
    hits = library.search("a blue guitar", k=100, modality="image")
    assert len(hits) == len(PICTURES)
    for hit in hits:
        pixels = decode(hit.path, min_side=processor.image_size).pixels
        fresh = provider.clip_engine.encode_image(processor(pixels)[None])[0]
        assert hit.score == pytest.approx(float(fresh @ text), abs=2e-2)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_text_reaches_sounds_and_pictures_in_one_ranking(library):
    assert library.text_reaches_audio
    everything = library.search("a dog", k=100)
    assert {hit.path.name for hit in everything} == {path.name for path in (*PICTURES, *SOUNDS)} | {TEN_SECONDS}
    sounds = library.search("a dog", k=100, modality="audio")
    assert list(sounds) == [hit for hit in everything if hit.modality == "audio"]


@pytest.mark.parametrize("path", [PICTURES[3], SOUNDS[3]], ids=["picture", "sound"])
def test_every_way_to_ask_with_an_example_agrees(library, path):
    by_file = library.similar(path, k=5)
    assert by_file[0].path.name == path.name
    assert by_file[0].score == pytest.approx(1.0, abs=1e-3)
    assert {hit.modality for hit in by_file} == {by_file[0].modality}
    assert library.search_by_upload(path.read_bytes(), "upload.bin", k=5) == by_file
    assert library.similar_to(by_file[0], k=5) == by_file
    for example in (str(path), path.read_bytes(), by_file[0], library.example(path.read_bytes(), "upload.bin")):
        assert library.similar(example, k=5) == by_file
        assert library.search(like=[example], k=5) == by_file  # alone: by its best window, not by the mean of all
    if by_file[0].modality == "image":
        with Image.open(path) as image:
            in_memory = library.search_by_image(image, k=5)
            assert library.similar(image, k=5) == in_memory
    else:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        in_memory = library.search_by_audio(samples.mean(axis=1), rate, k=5)
        assert library.search_by_audio(samples.astype(np.float64), rate, k=5) == in_memory, "channels are mixed down"
        assert library.similar((samples.mean(axis=1), rate), k=5) == in_memory
    assert in_memory[0].media_id == by_file[0].media_id
    assert in_memory[0].score > 0.98


def test_a_file_outside_the_library_is_compared_by_what_it_holds(library, tmp_path):
    with Image.open(PICTURES[3]) as image:
        image.convert("RGB").resize((image.width // 2, image.height // 2)).save(tmp_path / "smaller.png")
    hits = library.similar(tmp_path / "smaller.png", k=3)
    assert hits[0].path.name == PICTURES[3].name
    assert 0.9 < hits[0].score < 0.99999


def test_a_long_query_matches_by_its_best_window(library, tmp_path):
    """The first ten seconds are a recording of the library, and nothing after them can take that away."""
    noise = np.random.default_rng(0).normal(0, 0.1, 12 * 16_000).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", np.concatenate([ten_seconds(SOUNDS[3]), noise]), 16_000)
    hits = library.similar(tmp_path / "long.wav", k=6)
    assert hits[0].path.name == TEN_SECONDS
    assert hits[0].score == pytest.approx(1.0, abs=1e-3)
    assert len(hits) == 6
    soundfile.write(tmp_path / "noise.wav", noise, 16_000)
    assert library.similar(tmp_path / "noise.wav", k=1)[0].score < 0.99


def test_thumbnails_and_originals_come_by_id(library):
    hits = library.search("a dog", k=100)
    thumbnails = library.thumbnails(hits)
    assert set(thumbnails) == {hit.media_id for hit in hits if hit.modality == "image"}
    assert all(jpeg.startswith(b"\xff\xd8\xff") for jpeg in thumbnails.values())
    assert library.original(hits[0].media_id) == hits[0].path.read_bytes()
    with pytest.raises(MediaError, match="over the limit"):
        library.original(hits[0].media_id, max_bytes=10)
    with pytest.raises(MediaError, match="holds no file"):
        library.original("../../etc/passwd")


def test_an_existing_library_needs_no_models_named_and_refuses_others(library, media, tmp_path):
    path = tmp_path / "copy.lens"
    shutil.copytree(library.path, path)
    with Library.open(path) as again:
        assert again.search("a dog", k=3) == library.search("a dog", k=3)
    with Library.open(path, models=f"vision={DEMO / 'clip'},audio={DEMO / 'audio'}") as same:
        assert same.status().models == library.status().models
    settings = json.loads((path / "library.json").read_text())
    settings["models"]["vision"]["digest"] = "0" * 64
    (path / "library.json").write_text(json.dumps(settings))
    with Library.open(path) as changed:  # so that it can be migrated
        with pytest.raises(ModelMismatchError, match="00000000"):
            changed.search("a dog")
        with pytest.raises(ModelMismatchError, match="00000000"):
            changed.ingest(media)
        assert changed.status().images == len(PICTURES)
    with pytest.raises(ModelMismatchError, match="00000000"):
        Library.open(path, models="demo")


def test_models_given_as_folders_are_remembered(tmp_path, media):
    shutil.copytree(DEMO / "clip", tmp_path / "my, clip")
    with Library.open(tmp_path / "a.lens", models=f"vision={tmp_path / 'my, clip'}") as library:
        assert not library.text_reaches_audio
        report = library.ingest(media)
        assert report.indexed == len(PICTURES)
    with Library.open(tmp_path / "a.lens") as library:
        assert {hit.modality for hit in library.search("a dog", k=100)} == {"image"}
        assert len(library.search("a dog", modality="audio")) == 0
        with pytest.raises(ModelLoadError, match="no audio model"):
            library.similar(SOUNDS[0])
    shutil.rmtree(tmp_path / "my, clip")
    with pytest.raises(ModelLoadError, match="my, clip"):
        Library.open(tmp_path / "a.lens")


def test_a_mistyped_library_is_an_error_and_creates_nothing(tmp_path):
    with pytest.raises(LibraryNotFoundError):
        Library.open(tmp_path / "typo.lens")
    with pytest.raises(ModelLoadError):
        Library.open(tmp_path / "typo.lens", models="nonsense")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_library_finds_nothing(tmp_path):
    with Library.open(tmp_path / "a.lens", models="demo") as library:
        assert len(library.search("a dog")) == 0
        assert len(library.similar(PICTURES[0])) == 0
        assert len(library.similar(SOUNDS[0])) == 0
        status = library.status()
        assert (status.images, status.audio, status.skipped) == (0, 0, 0)


def test_unusable_questions_say_so(library, tmp_path):
    with pytest.raises(TextValidationError):
        library.search("")
    with pytest.raises(InputError, match="k is 0"):
        library.search("a dog", k=0)
    with pytest.raises(MediaError, match="there is no such file"):
        library.similar(tmp_path / "missing.jpg")
    (tmp_path / "broken.jpg").write_bytes(PICTURES[0].read_bytes()[:200])
    with pytest.raises(MediaError, match=r"broken\.jpg: "):
        library.similar(tmp_path / "broken.jpg")


def test_removed_files_are_forgotten_until_the_next_run(library, media, tmp_path):
    path = tmp_path / "copy.lens"
    shutil.copytree(library.path, path)
    with Library.open(path) as copy:
        name = PICTURES[0].name
        assert copy.remove([media / name]) == 1
        assert name not in {hit.path.name for hit in copy.search("a dog", k=100)}
        with pytest.raises(InputError, match="knows nothing at"):
            copy.remove([media / PICTURES[1].name, media / name])
        assert copy.status().images == len(PICTURES) - 1  # all or nothing
        report = copy.ingest(media)
        assert (report.indexed, report.unchanged) == (1, N_FILES - 1)
        copy.optimize()
        assert name in {hit.path.name for hit in copy.search("a dog", k=100)}


def test_searching_goes_on_while_a_run_writes(library, media, tmp_path):
    more = tmp_path / "more"
    more.mkdir()
    for number, path in enumerate(PICTURES):
        with Image.open(path) as image:
            image.convert("RGB").rotate(7 + number).save(more / f"{number}.png")
    path = tmp_path / "copy.lens"
    shutil.copytree(library.path, path)
    with Library.open(path) as copy:
        copy.search("a dog")  # the model is there
        failures: list[BaseException] = []
        run = threading.Thread(target=lambda: copy.ingest(more))
        run.start()
        n_searches = 0
        while run.is_alive() or n_searches == 0:
            try:
                assert len(copy.search("a dog", k=5)) == 5
            except BaseException as error:
                failures.append(error)
            n_searches += 1
        run.join()
        assert failures == []
        assert copy.status().images == 2 * len(PICTURES)


def test_a_home_folder_is_expanded(library, media, monkeypatch):
    monkeypatch.setenv("HOME", str(library.path.parent))
    with Library.open(f"~/{library.path.name}") as same:
        assert same.path == library.path
    monkeypatch.setenv("HOME", str(media))
    assert library.similar(f"~/{PICTURES[2].name}", k=1)[0].path.name == PICTURES[2].name
    assert library.status().folders[0].samefile(media)
