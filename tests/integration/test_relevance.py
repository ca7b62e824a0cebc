"""Relevance with the demo models: does it tell whether a library holds what is asked for?"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import arrowlens
from arrowlens import Library
from arrowlens.cli import main

SAMPLES = Path(arrowlens.__file__).parent / "demo" / "samples"
SINGLE = ("food", "nature", "play", "things", "travel")  # folders whose pictures show one thing each


def things() -> dict[str, list[Path]]:
    """What one can ask for -> the bundled files that are right; a picture and a sound may be of one thing."""
    found: dict[str, list[Path]] = {}
    paths = [path for folder in SINGLE for path in (SAMPLES / "pictures" / folder).iterdir()]
    for path in sorted([*paths, *(SAMPLES / "sounds").iterdir()]):
        found.setdefault(path.stem[:-3].replace("-", " "), []).append(path)
    return dict(sorted(found.items()))


def area(values: list[float], right: list[bool]) -> float:
    """Under the ROC curve: how often something right stands above something wrong."""
    wins = [np.sign(a - b) for a, x in zip(values, right, strict=True) if x
            for b, y in zip(values, right, strict=True) if not y]  # fmt: skip
    return float((np.mean(wins) + 1) / 2)


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
    ours = area([results[0].relevance for results in answers.values()], right)
    cosine = area([max(hit.score for hit in results) for results in answers.values()], right)
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
    assert json.loads(capsys.readouterr().out)["matches"] is True
    for conditions, why in (([], "has all these words"), (["--where", "width > 1"], "words and satisfies the cond")):
        assert main(["search", "zebra", "--library", str(base), "--mode", "keyword", *conditions]) == 0
        assert why in capsys.readouterr().err
