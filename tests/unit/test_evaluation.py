"""Recall over captioned files, counted so that nothing flatters."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import arrowlens
from arrowlens import Library
from arrowlens.cli import main
from arrowlens.conversion import convert_clip_model
from arrowlens.errors import InputError
from arrowlens.evaluation import LEAST_PAIRS, Tenth, _tenths, evaluate, read_pairs, recall
from tests.support.checkpoints import clip_checkpoint
from tests.support.media_factory import image_bytes


def test_recall_counts_the_best_right_answer() -> None:
    scores = np.array([[0.9, 0.8, 0.1], [0.2, 0.5, 0.4]])
    right = np.array([[False, True, True], [False, True, False]])
    at, chance = recall(scores, right, (1, 2))
    assert at == {1: 0.5, 2: 1.0}
    assert chance[1] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert chance[2] == pytest.approx((1 + 2 / 3) / 2)


def test_equal_scores_gain_nothing() -> None:
    at, _ = recall(np.zeros((4, 4)), np.eye(4, dtype=bool), (1, 3, 4))
    assert at == {1: 0.0, 3: 0.0, 4: 1.0}


@given(seed=st.integers(0, 10_000), n=st.integers(1, 12))
def test_recall_is_that_of_a_plain_ranking(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    scores, right = rng.normal(size=(n, n)), rng.random((n, n)) < 0.3
    right[np.arange(n), rng.integers(0, n, n)] = True
    at, chance = recall(scores, right, (1, 3))
    for k in (1, 3):
        expected = np.mean([right[row][np.argsort(-scores[row])[:k]].any() for row in range(n)])
        assert at[k] == pytest.approx(expected)
        assert 0 < chance[k] <= 1


def write_pairs(path: Path, rows: list[tuple[str, str]], header: tuple[str, ...] = ("path", "caption")) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_pairs_may_repeat_files_and_captions(tmp_path: Path) -> None:
    path = write_pairs(
        tmp_path / "p.csv", [("a.png", "a dog"), ("a.png", "hund, brown"), ("b.png", "a dog"), ("", "x")]
    )
    assert read_pairs(path) == {"a.png": ["a dog", "hund, brown"], "b.png": ["a dog"]}


def test_unusable_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_pairs(tmp_path / "nothing.csv")
    with pytest.raises(InputError, match="no column 'caption'"):
        read_pairs(write_pairs(tmp_path / "p.csv", [], ("path", "text")))
    (tmp_path / "latin.csv").write_bytes("path,caption\nä.png,x".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_pairs(tmp_path / "latin.csv")


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    convert_clip_model(clip_checkpoint(tmp_path / "checkpoint"), tmp_path / "model", verify=False)
    (tmp_path / "red.png").write_bytes(image_bytes("PNG"))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    pairs = write_pairs(tmp_path / "p.csv", [("red.png", "red"), ("bad.png", "bad"), ("gone.png", "gone")])
    found = evaluate(tmp_path, pairs, f"vision={tmp_path / 'model'}")
    assert [(recall.question, recall.answer, recall.n_answers) for recall in found.recalls] == [
        ("text", "image", 1),
        ("image", "text", 1),
    ]
    assert {path.name for path, _ in found.skipped} == {"bad.png", "gone.png"}
    (tmp_path / "red.png").unlink()
    with pytest.raises(InputError, match=r"none of the 3 files .* can be used"):
        evaluate(tmp_path, pairs, f"vision={tmp_path / 'model'}")


def test_tenths_compare_what_is_claimed_with_what_is_so() -> None:
    claimed = np.array([0.05, 0.52, 0.58, 0.95, 1.0])
    true = np.array([False, True, False, True, True])
    assert _tenths(claimed, true) == (
        Tenth(0.9, 2, pytest.approx(0.975), 1.0),
        Tenth(0.5, 2, pytest.approx(0.55), 0.5),
        Tenth(0.0, 1, pytest.approx(0.05), 0.0),
    )


SAMPLES = Path(arrowlens.__file__).parent / "demo" / "samples"
SINGLE = ("food", "nature", "play", "things", "travel")  # folders whose pictures show one thing each


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundled pictures with their names as captions, and five recordings."""
    paths = [path for folder in SINGLE for path in sorted((SAMPLES / "pictures" / folder).iterdir())]
    paths += sorted((SAMPLES / "sounds").iterdir())[:5]
    rows = [(str(path.relative_to(SAMPLES)), path.stem[:-3].replace("-", " ")) for path in paths]
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.csv", rows)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    """Of a few pictures, with the demo models."""
    media = tmp_path / "media"
    shutil.copytree(SAMPLES / "pictures" / "food", media)
    with Library.open(tmp_path / "a.lens", models="demo") as opened:
        opened.ingest(media)
        yield opened


def test_a_library_is_calibrated_by_the_users_own_pairs(library: Library, pairs: Path) -> None:
    before = library.search("a banana", mode="vector")
    found = library.calibrate(SAMPLES, pairs)
    assert list(found.calibrated) == ["text to image"]  # of the recordings there are too few
    n_pairs = found.calibrated["text to image"]
    assert n_pairs >= LEAST_PAIRS
    assert {(each.question, each.answer) for each in found.reliability} == {("text", "image"), ("text", "audio")}
    for each in found.reliability:
        assert all(tenth.least <= tenth.claimed <= tenth.least + 0.1 for tenth in each.tenths)
    assert library.status().calibrations == {"text to image": n_pairs}
    after = library.search("a banana", mode="vector")
    assert [hit.path for hit in after] == [hit.path for hit in before]
    assert [hit.relevance for hit in after] != [hit.relevance for hit in before]
    assert after[0].matches
    assert not after[5].matches
    with Library.open(library.path) as again:
        assert again.search("a banana", mode="vector") == after
    # It was fitted with these very pairs, so what it claims is so, on the whole.
    (pictures,) = [each for each in library.calibrate(SAMPLES, pairs).reliability if each.answer == "image"]
    sure = [tenth for tenth in pictures.tenths if tenth.least >= 0.9]
    assert sum(tenth.n_pairs for tenth in pictures.tenths) == 10 * n_pairs
    assert sure[0].true > 0.9


def test_a_calibration_is_dropped_with_its_model(library: Library, pairs: Path, tmp_path: Path) -> None:
    library.calibrate(SAMPLES, pairs)
    convert_clip_model(clip_checkpoint(tmp_path / "checkpoint"), tmp_path / "model", verify=False)
    assert library.migrate(f"vision={tmp_path / 'model'}").switched
    assert library.status().calibrations == {}
    assert library.migrate("demo").switched
    assert library.status().calibrations == {}


def test_too_few_pairs_are_refused(library: Library, tmp_path: Path) -> None:
    few = write_pairs(
        tmp_path / "p.csv", [("pictures/food/kiwi-01.png", "a kiwi"), ("pictures/food/pear-01.jpg", "a pear")]
    )
    with pytest.raises(InputError, match=rf"has 2 pairs of one kind .* give {LEAST_PAIRS} or more different captions"):
        library.calibrate(SAMPLES, few)
    assert library.status().calibrations == {}


def test_pairs_that_say_nothing_are_refused(library: Library, pairs: Path, tmp_path: Path) -> None:
    listed = read_pairs(pairs)
    captions = [caption for (caption,) in listed.values()]
    wrong = write_pairs(tmp_path / "p.csv", list(zip(listed, captions[7:] + captions[:7], strict=True)))
    with pytest.raises(InputError, match=r"do not tell right pictures from wrong ones .* check its captions"):
        library.calibrate(SAMPLES, wrong)


def test_recordings_that_say_nothing_do_not_cost_the_pictures_theirs(
    library: Library, pairs: Path, tmp_path: Path
) -> None:
    listed = [(path, caption) for path, (caption,) in read_pairs(pairs).items() if path.startswith("pictures")]
    sounds = sorted((SAMPLES / "sounds").iterdir())[:40]
    names = [path.stem[:-3] for path in sounds]
    wrong = [f"{name} {number}" for number, name in enumerate(names[17:] + names[:17])]
    listed += [(str(path.relative_to(SAMPLES)), caption) for path, caption in zip(sounds, wrong, strict=True)]
    found = library.calibrate(SAMPLES, write_pairs(tmp_path / "p.csv", listed))
    assert list(found.calibrated) == ["text to image"]
    assert found.not_calibrated == ("recordings",)
    assert list(library.status().calibrations) == ["text to image"]


def test_the_command_measures_base_where_nothing_is_named(tmp_path: Path) -> None:
    """In a process of its own, which has loaded nothing but the command."""
    code = "import sys; from arrowlens.cli import main; sys.exit(main())"
    run = subprocess.run(
        [sys.executable, "-c", code, "eval", str(tmp_path), str(tmp_path / "nothing.csv")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 1
    assert "No such file" in run.stderr
    assert run.stderr.count("\n") == 1, run.stderr


def test_a_library_is_named_for_its_calibration_only(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["eval", str(SAMPLES), str(pairs), "--library", "photos.lens"])
    assert "--library goes with --save-calibration" in capsys.readouterr().err


def test_the_command_saves_a_calibration(library: Library, pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["eval", str(SAMPLES), str(pairs), "--save-calibration", "--library", str(library.path)]
    assert main([*command, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    n_pairs = answer["calibrated"]["text to image"]
    assert answer["reliability"][0]["tenths"][0].keys() == {"least", "n_pairs", "claimed", "true"}
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "claimed" in shown
    assert f"the relevance of pictures found by a text is calibrated with your {n_pairs} pairs" in shown
    assert main(["status", "--library", str(library.path)]) == 0
    assert f"text to image, by {n_pairs} pairs of yours" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--models", "demo"])
