"""What recordings' vectors depend on: a library keeps its recipe until it changes its models."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from arrowlens import Library
from arrowlens.encoders import MultimodalEmbeddingProvider, model_info
from arrowlens.errors import ModelMismatchError
from arrowlens.modalities import FIRST_RECIPE
from arrowlens.models import DEMO
from arrowlens.store import ModelRecord, MultimodalStorage
from tests.support.other_models import write_other_models

SAMPLES = DEMO.parent / "samples"
DOG = SAMPLES / "sounds" / "dog-01.ogg"
SILENCE_S = 3.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture, and a dog between two silences."""
    folder = tmp_path / "media"
    folder.mkdir()
    shutil.copy(SAMPLES / "pictures" / "nature" / "lion-01.png", folder)
    samples, rate = soundfile.read(DOG, dtype="float32")
    silence = np.zeros((round(SILENCE_S * rate), *samples.shape[1:]), np.float32)
    soundfile.write(folder / "dog.wav", np.concatenate([silence, samples, silence]), rate)
    return folder


@pytest.fixture
def library_of_before(tmp_path: Path, folder: Path) -> Path:
    """A library of the demo models, made when there were no recipes."""
    provider = MultimodalEmbeddingProvider(clip_model_path=DEMO / "clip", audio_model_path=DEMO / "audio")
    with MultimodalStorage(tmp_path / "a.lens") as storage:
        storage.bind_models({role: ModelRecord.of(provider, role, "demo") for role in ("vision", "audio")})
    with Library.open(tmp_path / "a.lens", models="demo") as library:
        library.ingest(folder)
    return tmp_path / "a.lens"


def similarity_of_the_dog(library: Library) -> float:
    (hit,) = library.similar(DOG, k=1)
    return float(hit.score)


def test_a_new_library_has_the_recipe_of_its_model(tmp_path: Path, folder: Path) -> None:
    with Library.open(tmp_path / "a.lens", models="demo") as library:
        library.ingest(folder)
        assert library.status().models["audio"].recipe == model_info(DEMO / "audio").recipe != FIRST_RECIPE
        assert similarity_of_the_dog(library) > 0.99  # silence does not count
        (hit,) = library.similar(DOG, k=1)
        assert hit.start == pytest.approx(SILENCE_S, abs=0.5)


def test_a_library_of_before_keeps_its_recipe_until_it_changes_its_models(library_of_before: Path) -> None:
    with Library.open(library_of_before) as library:
        assert library.status().models["audio"].recipe == FIRST_RECIPE
        before = similarity_of_the_dog(library)
        report = library.migrate("demo")
        assert (report.encoded, report.unchanged, report.switched) == (1, 1, True), "the recording, not the picture"
        assert library.status().models["audio"].recipe == model_info(DEMO / "audio").recipe
        assert similarity_of_the_dog(library) > max(0.99, before)
    with Library.open(library_of_before, models="demo") as library:
        assert library.migrate("demo").encoded == 0


def test_an_open_library_follows_a_change_of_the_recipe(library_of_before: Path) -> None:
    with Library.open(library_of_before) as reader, Library.open(library_of_before) as library:
        before = similarity_of_the_dog(reader)
        library.migrate("demo")
        assert similarity_of_the_dog(reader) == similarity_of_the_dog(library) > before


def test_giving_up_a_change_keeps_the_recipe(library_of_before: Path) -> None:
    other = {role: ModelRecord("e" * 64, 512, "/another/model") for role in ("vision", "audio")}
    with MultimodalStorage(library_of_before) as storage:
        storage.begin_change(other)
    with Library.open(library_of_before) as library:
        before = similarity_of_the_dog(library)
        assert library.migrate("demo").encoded == 0, "given up"
        assert library.status().models["audio"].recipe == FIRST_RECIPE
        assert not library.status().next_models
        assert similarity_of_the_dog(library) == before
        assert library.migrate("demo").encoded == 1, "the recording, by the recipe of now"


def test_an_audio_model_that_stays_keeps_its_recipe(library_of_before: Path, tmp_path: Path) -> None:
    name = write_other_models(tmp_path / "other").split(",")[0]
    with Library.open(library_of_before) as library:
        report = library.migrate(f"{name},audio={DEMO / 'audio'}")
        assert (report.encoded, report.unchanged) == (1, 1), "the picture, not the recording"
        assert library.status().models["audio"].recipe == FIRST_RECIPE


def test_a_change_of_the_recipe_that_ended_early_goes_on(library_of_before: Path) -> None:
    with Library.open(library_of_before) as library:
        stop = threading.Event()
        stop.set()
        assert not library.migrate("demo", stop=stop).switched
        assert library.status().next_models
    with Library.open(library_of_before) as library:
        report = library.migrate("demo")
        assert (report.encoded, report.switched) == (1, True)
        assert library.status().models["audio"].recipe == model_info(DEMO / "audio").recipe


def test_models_of_another_recipe_are_refused(library_of_before: Path) -> None:
    provider = MultimodalEmbeddingProvider(audio_model_path=DEMO / "audio", recipe=model_info(DEMO / "audio").recipe)
    with MultimodalStorage(library_of_before) as storage:
        records = {**storage.models, "audio": ModelRecord.of(provider, "audio", "demo")}
        with pytest.raises(ModelMismatchError, match=r"skip_silence=False.* not by .*skip_silence=True"):
            storage.bind_models(records)
