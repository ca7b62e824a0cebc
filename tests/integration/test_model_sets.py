"""A library whose models come from several sets: one role is changed, and the others stay as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import arrowlens
from arrowlens import Library
from arrowlens.cli import main
from arrowlens.errors import ModelMismatchError
from tests.support.other_models import write_other_models

SAMPLES = Path(arrowlens.__file__).parent / "demo" / "samples"
N_PICTURES, N_RECORDINGS = 3, 2


@pytest.fixture
def library_path(tmp_path):
    (tmp_path / "media").mkdir()
    for path in sorted(SAMPLES.rglob("*.png"))[:N_PICTURES] + sorted(SAMPLES.rglob("*.ogg"))[:N_RECORDINGS]:
        shutil.copy(path, tmp_path / "media")
    with Library.open(tmp_path / "a.lens", models="demo") as library:
        library.ingest(tmp_path / "media", workers=1)
    return tmp_path / "a.lens"


def use(library_path, spec, capsys):
    capsys.readouterr()
    assert main(["models", "use", spec, "--library", str(library_path), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def sources(library_path):
    settings = json.loads((library_path / "library.json").read_text(encoding="utf-8"))
    return {role: model["source"] for role, model in settings["models"].items()}


def test_one_role_is_changed_and_changed_back(library_path, tmp_path, capsys):
    other = dict(item.split("=") for item in write_other_models(tmp_path / "other").split(","))
    with Library.open(library_path) as library:
        picture = library.search("a lion", modality="image")[0]
        before = library.similar(next(iter(tmp_path.glob("media/*.ogg"))), k=N_RECORDINGS)

    report = use(library_path, f"audio={other['audio']}", capsys)
    assert (report["encoded"], report["unchanged"]) == (N_RECORDINGS, N_PICTURES)
    assert sources(library_path) == {"vision": "demo", "audio": other["audio"]}
    with Library.open(library_path) as library:
        assert library.search("a lion", modality="image")[0].score == picture.score
        with pytest.raises(ModelMismatchError):
            Library.open(library_path, models="demo")
    with Library.open(library_path, models=f"demo,audio={other['audio']}"):
        pass

    report = use(library_path, "audio=demo", capsys)
    assert (report["encoded"], report["unchanged"]) == (N_RECORDINGS, N_PICTURES)
    assert sources(library_path) == {"vision": "demo", "audio": "demo"}
    with Library.open(library_path, models="demo") as library:
        again = library.similar(next(iter(tmp_path.glob("media/*.ogg"))), k=N_RECORDINGS)
    assert [(hit.path, hit.score) for hit in again] == [(hit.path, hit.score) for hit in before]


def test_a_serving_library_follows_a_change_of_one_role(library_path, tmp_path, capsys):
    other = dict(item.split("=") for item in write_other_models(tmp_path / "other").split(","))
    with Library.open(library_path) as serving:
        score = serving.search("a lion", modality="image")[0].score
        use(library_path, f"vision={other['vision']}", capsys)
        assert serving.search("a lion", modality="image")[0].score != score
        use(library_path, "vision=demo", capsys)
        assert serving.search("a lion", modality="image")[0].score == score


def test_a_question_in_a_script_that_the_model_does_not_know_is_told_so_in_a_line(library_path, capsys):
    with Library.open(library_path) as library:
        for text in ("a lion", "Löwe", "un vélo rouge", "12:30 !", "a lion (ライオン)"):
            assert library.search(text).notices == (), text
        for text in ("赤い自転車", "красный велосипед", "دراجة"):
            (notice,) = library.search(text).notices
            assert notice.startswith("the model that finds pictures and recordings knows English: "), text
            assert "files that have these words are found" in notice
            assert "\n" not in notice
        (notice,) = library.search("自転車", mode="vector").notices
        assert "these words" not in notice, "they are not looked for"
        (notice,) = library.search("a lion", plus=["自転車"]).notices
        assert "these words" not in notice
    assert main(["search", "自転車", "--library", str(library_path)]) in (0, 1)
    assert "knows English" in capsys.readouterr().err
