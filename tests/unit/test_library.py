"""``Library`` around small deterministic models."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from arrowlens import Library
from arrowlens.cli import main
from arrowlens.errors import AudioValidationError, InputError, MediaError, ModelMismatchError
from arrowlens.ingest import run
from arrowlens.models import DEMO
from arrowlens.store import MultimodalStorage
from tests.support.folders import write_folder
from tests.support.other_models import write_other_models
from tests.support.small_models import SmallProvider


@pytest.fixture
def library(tmp_path):
    storage, provider = MultimodalStorage(tmp_path / "library"), SmallProvider()
    run(storage, provider, [write_folder(tmp_path / "in")])
    with Library(storage, provider) as library:
        yield library


def test_files_are_removed_by_the_names_that_links_give_them(library, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert library.remove([tmp_path / "link" / "picture 001.jpg"]) == 1
    assert library.remove([tmp_path / "link" / "below"]) > 0
    with pytest.raises(InputError, match="knows nothing at"):
        library.remove([tmp_path / "link" / "picture 001.jpg"])
    assert library.remove([tmp_path / "in"]) > 0


def test_a_text_that_does_not_reach_recordings_says_so(tmp_path, capsys):
    clip, _ = write_other_models(tmp_path / "models").split(",")  # of another space than the bundled sounds
    with Library.open(tmp_path / "a.lens", models=f"{clip},audio={DEMO / 'audio'}") as library:
        row = {"media_id": "a", "content_hash": "a", "root_id": "r", "modality": "audio", "state": "indexed"}
        library._storage.upsert_media([row | {"path": "bach.wav", "path_bytes": b"bach.wav"}])
    for options, why in (
        (["--mode", "vector"], "reach recordings with this library's models; `arrowlens similar"),
        ([], "models, and no recording has all these words; `arrowlens similar FILE` does"),
        (["--mode", "keyword"], "no file of that kind in the library (0 pictures, 1 recording) has all these words"),
    ):
        assert main(["search", "a dog", "--kind", "audio", "--library", str(tmp_path / "a.lens"), *options]) == 0
        assert why in capsys.readouterr().err
    assert main(["search", "a dog", "--library", str(tmp_path / "a.lens")]) == 0
    assert "texts do not reach recordings" in capsys.readouterr().err, "of a library that holds nothing else"


def test_other_things_than_samples_and_pictures_are_one_line(library):
    with pytest.raises(AudioValidationError, match="numpy array, not list"):
        library.search_by_audio([0.0, 0.1], 16_000)
    with pytest.raises(AudioValidationError, match="samples are int16; give floating-point numbers"):
        library.search_by_audio(np.zeros(16_000, np.int16), 16_000)
    with pytest.raises(AudioValidationError, match=r"samples are \(2, 16000\); give \(n,\) or \(n, channels\)"):
        library.search_by_audio(np.zeros((2, 16_000), np.float32), 16_000)
    for empty in (b"", ""):
        with pytest.raises(MediaError, match="the example is empty"):
            library.similar(empty)
    with pytest.raises(MediaError, match=r"typo\.jpg: there is no such file"):
        library.similar("typo.jpg")
    with pytest.raises(InputError, match="PIL image, not ndarray"):
        library.search_by_image(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match="the example is a ndarray; it is a path, bytes, a PIL image"):
        library.similar(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match="the example is a int"):
        library.search(like=[7])


def test_models_that_became_others_at_their_place_are_refused_until_the_library_changes_to_them(tmp_path):
    """As a new version of the package brings it about, with other demo models under the same name."""
    models, folder = write_other_models(tmp_path / "models"), write_folder(tmp_path / "in", 3, 0)
    with Library.open(tmp_path / "library", models=models) as library:
        library.ingest(folder)
    shutil.rmtree(tmp_path / "models")
    write_other_models(tmp_path / "models", seed=2)
    with pytest.raises(ModelMismatchError, match="arrowlens models use"):
        Library.open(tmp_path / "library", models=models)
    with Library.open(tmp_path / "library") as library:
        assert library.status().images == 3
        for refused in (lambda: library.search("a dog"), lambda: library.ingest(folder)):
            with pytest.raises(ModelMismatchError, match="arrowlens models use"):
                refused()
        assert library.migrate(models).encoded == 3
        assert len(library.search("a dog")) == 3
