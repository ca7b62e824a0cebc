"""Recall over captioned files, counted so that nothing flatters."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowlens.conversion import convert_clip_model
from arrowlens.errors import InputError
from arrowlens.evaluation import evaluate, read_pairs, recall
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
