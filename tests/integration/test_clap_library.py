"""A library whose audio model is a CLAP: texts find recordings in the recordings' own space, at their own rate."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from streamlit.testing.v1 import AppTest

import arrowlens
from arrowlens import Library
from arrowlens.conversion import convert_clap_model
from arrowlens.encoders import ClapEncoder
from arrowlens.errors import InputError
from arrowlens.evaluation import evaluate
from arrowlens.models import DEMO
from arrowlens.ui.session import close_library
from tests.support.checkpoints import clap_checkpoint

SAMPLES = DEMO.parent / "samples"
LONG_S, LONG_RATE = 15.5, 44_100


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clap")
    convert_clap_model(clap_checkpoint(folder / "checkpoint"), folder / "model", verify=False)
    return folder / "model"


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures, and four recordings of which one is longer than a window."""
    folder = tmp_path_factory.mktemp("media")
    pictures, sounds = (sorted((SAMPLES / name).rglob("*.*")) for name in ("pictures", "sounds"))
    for path in (pictures[0], pictures[-1], sounds[0], sounds[len(sounds) // 2], sounds[-1]):
        shutil.copy(path, folder)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, round(LONG_S * LONG_RATE)).astype(np.float32)
    soundfile.write(folder / "long.wav", noise, LONG_RATE, subtype="FLOAT")
    return folder


@pytest.fixture
def library(tmp_path: Path, model: Path, media: Path):
    with Library.open(tmp_path / "a.lens", models=f"vision={DEMO / 'clip'},audio={model}") as library:
        report = library.ingest(media)
        assert (report.indexed, report.skipped) == (6, 0)
        yield library


def test_a_library_with_clap(library: Library, model: Path, media: Path) -> None:
    encoder = ClapEncoder(model)
    assert library.text_reaches_audio
    assert not library.has_one_space
    recipe = library.status().models["audio"].recipe
    assert (recipe.sample_rate, recipe.windows.is_maximum) == (48_000, True)

    # By text, in the audio model's own space.
    recordings = library.search("a dog barks", modality="audio", mode="vector")
    asked = encoder.encode_text(["This is a sound of dog barks."])[0]
    assert len(recordings) == 4
    for hit in recordings:
        assert hit.score == pytest.approx(float((library.embed(hit.path) @ asked).max()), abs=2e-3)
    np.testing.assert_allclose(library.embed_text("a dog barks", "audio"), asked, atol=1e-6)
    pictures = library.search("a dog barks", modality="image", mode="vector")
    assert {hit.modality for hit in pictures} == {"image"}
    picture = library.embed_text("a dog barks", "image")
    for hit in pictures:
        assert hit.score == pytest.approx(float((library.embed(hit.path) @ picture).max()), abs=2e-3)
    both = library.search("a dog barks", mode="vector")
    assert {hit.path for hit in both} == {hit.path for hit in (*recordings, *pictures)}
    (many,) = library.search_many(["a dog barks"], mode="vector")
    assert [hit.path for hit in many] == [hit.path for hit in both]

    # A text is asked in the model's template where it is the name of a thing, and unless that is switched off.
    sentence = "a dog barks in front of the house"
    np.testing.assert_allclose(library.embed_text(sentence, "audio"), encoder.encode_text([sentence])[0], atol=1e-6)
    with Library.open(library.path, use_templates=False) as plain:
        bare = encoder.encode_text(["a dog barks"])[0]
        np.testing.assert_allclose(plain.embed_text("a dog barks", "audio"), bare, atol=1e-6)
    assert float(bare @ asked) < 0.999

    # By example, at the model's rate: windows of ten seconds, the last of which ends with the recording.
    samples, rate = soundfile.read(media / "long.wav", dtype="float32")
    at_48_khz = soxr.resample(samples, rate, 48_000, quality="HQ").astype(np.float32)
    parts = [at_48_khz[start : start + 480_000] for start in (0, len(at_48_khz) - 480_000)]
    assert cosines(library.embed(media / "long.wav"), encoder.encode(parts)).min() > 0.9999
    for example in (media / "long.wav", (samples, rate), (at_48_khz, 48_000)):
        (hit,) = library.similar(example, k=1)
        assert Path(hit.path).name == "long.wav"
        assert hit.score > 0.999

    # Composed: within a space, and not across two.
    near = library.search("a dog barks", like=[media / "long.wav"], mode="vector")
    assert {hit.modality for hit in near} == {"audio"}
    mean = library.embed(media / "long.wav").mean(axis=0)
    question = asked + mean / np.linalg.norm(mean)
    expected = float((library.embed(near[0].path) @ question).max() / np.linalg.norm(question))
    assert near[0].score == pytest.approx(expected, abs=2e-3)
    less = library.search("a dog barks", minus=["rain"], modality="audio", mode="vector")
    assert len(less) == 4
    with pytest.raises(InputError, match="use different embedding spaces"):
        library.search("a dog barks", like=[media / "long.wav", pictures[0].path])
    with pytest.raises(InputError, match="spaces of their own"):
        library.map()
    assert len(library.map("audio").points) == 4


def test_a_migration_to_whisper_and_back_encodes_recordings_only(library: Library, model: Path, media: Path) -> None:
    with_clap = library.search("a bell", modality="audio", mode="vector")
    samples, rate = soundfile.read(media / "long.wav", dtype="float32", stop=11 * LONG_RATE)
    beginning = io.BytesIO()
    soundfile.write(beginning, samples, rate, format="WAV")
    example = library.example(beginning.getvalue(), "its beginning")
    report = library.migrate("demo")
    assert (report.encoded, report.unchanged, report.lost, report.switched) == (4, 2, 0, True)
    assert library.has_one_space
    assert library.status().models["audio"].recipe.sample_rate == 16_000
    (hit,) = library.similar(example, k=1)  # was cut for CLAP, and is encoded by the demo model
    assert (hit.path.name, hit.score > 0.9) == ("long.wav", True)
    report = library.migrate(f"vision={DEMO / 'clip'},audio={model}")
    assert (report.encoded, report.unchanged, report.lost, report.switched) == (4, 2, 0, True)
    again = library.search("a bell", modality="audio", mode="vector")
    assert [(hit.path, hit.score) for hit in again] == [
        (hit.path, pytest.approx(hit.score, abs=1e-3)) for hit in with_clap
    ]


def test_it_opens_again_without_naming_its_models(library: Library, media: Path) -> None:
    expected = [hit.path for hit in library.search("a bell", modality="audio", mode="vector")]
    library.close()
    with Library.open(library.path) as reopened:
        assert reopened.text_reaches_audio
        assert [hit.path for hit in reopened.search("a bell", modality="audio", mode="vector")] == expected
        assert reopened.ingest(media).unchanged == 6


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    assert one.shape == other.shape
    return (one * other).sum(axis=1)


def test_a_set_with_clap_alone_is_measured(model: Path, media: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in media.iterdir())
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("path,caption\n" + "".join(f"{name},{name[:-4]}\n" for name in names), encoding="utf-8")
    found = evaluate(media, pairs, f"audio={model}")
    assert {(recall.question, recall.answer) for recall in found.recalls} == {("text", "audio"), ("audio", "text")}
    assert [reason for _, reason in found.skipped] == ["these models have none for pictures"] * 2
    with Library.open(tmp_path / "a.lens", models=f"audio={model}") as library:
        assert library.status().text_finds == "recordings"


def test_a_library_without_recordings_does_not_load_their_model(library: Library, model: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    shutil.copy(next((SAMPLES / "pictures").rglob("*.png")), tmp_path / "pictures")
    with Library.open(tmp_path / "b.lens", models=f"vision={DEMO / 'clip'},audio={model}") as pictures:
        pictures.ingest(tmp_path / "pictures")
        shutil.copytree(model, tmp_path / "kept")
    with Library.open(tmp_path / "b.lens") as pictures:
        for path in model.glob("weights*"):
            path.rename(path.with_suffix(".away"))
        try:
            assert len(pictures.search("a lion", mode="vector")) == 1
            (many,) = pictures.search_many(["a lion"], mode="vector")
            assert len(many) == 1
        finally:
            for path in model.glob("weights*.away"):
                path.rename(path.with_suffix(".arrow"))


def test_notices_name_what_is_affected(library: Library) -> None:
    notices = library.search("собака лает", mode="vector").notices
    assert len(notices) == 2
    assert notices[0].startswith("the model that finds pictures knows English")
    assert notices[1].startswith("the model that finds recordings knows English")
    (notice,) = library.search("собака лает", mode="vector", modality="audio").notices
    assert notice.startswith("the model that finds recordings knows English")


def test_without_relevance_pictures_and_recordings_take_turns(library: Library, monkeypatch) -> None:
    """Cosines of two spaces cannot be compared: neither kind may fill the first places."""
    monkeypatch.setattr(library._engine.bank, "route", lambda asked, found: None)
    hits = library.search("a dog barks", mode="vector", k=6)
    assert [hit.modality for hit in hits] == ["image", "audio", "image", "audio", "audio", "audio"]
    for modality in ("image", "audio"):
        scores = [hit.score for hit in hits if hit.modality == modality]
        assert scores == sorted(scores, reverse=True)
    assert [hit.path for hit in library.search("a dog barks", mode="vector", k=3)] == [hit.path for hit in hits[:3]]


def test_the_page_offers_a_recording_alone_where_it_cannot_be_asked_with_a_picture(library, monkeypatch) -> None:
    picture, recording = (library.newest(1, kind)[0] for kind in ("image", "audio"))
    monkeypatch.setenv("ARROWLENS_LIBRARY", str(library.path))
    app = AppTest.from_file(str(Path(arrowlens.__file__).parent / "ui" / "app.py"), default_timeout=60)
    app.query_params["like"] = [picture.media_id, recording.media_id]
    app.query_params["format"] = "wav"
    try:
        app.run()
        assert not app.exception
        assert not app.error
        assert "use different embedding spaces" in app.warning[0].value
        (alone,) = [button for button in app.button if button.key == "alone-0"]
        assert alone.label.replace("\\", "") == f"By {recording.path.name} alone"
        alone.click().run()
        assert not app.warning
        assert dict(app.query_params) == {"like": recording.media_id, "format": "wav"}
        names = [each.proto.component_name for each in app.get("bidi_component")]
        assert names.count("arrowlens.gallery") == 1
    finally:
        close_library()
