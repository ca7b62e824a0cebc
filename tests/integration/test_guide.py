"""What the documents show does what they say: every Python block runs, and so does every search of the guide."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from arrowlens import Library
from arrowlens.cli import main

ROOT = Path(__file__).parents[2]
GUIDE, README = ROOT / "docs" / "guide.md", ROOT / "README.md"
SAMPLES = ROOT / "arrowlens" / "demo" / "samples"


def blocks(document, language):
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a few of the samples where the documents have all of them, and the files that they name."""
    folder = tmp_path_factory.mktemp("guide")
    for pattern in ("pictures/nature/*", "pictures/scenes/cat-*", "sounds/dog-*"):
        for path in sorted(SAMPLES.glob(pattern)):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    sounds = sorted(SAMPLES.glob("sounds/*.wav"))
    for name, source in (("bird.wav", sounds[0]), ("frog.wav", sounds[1])):
        shutil.copy(source, folder / name)
    shutil.copy(SAMPLES / "pictures" / "nature" / "cat-01.jpg", folder / "holiday.jpg")
    return folder


@pytest.mark.parametrize("document", [GUIDE, README], ids=lambda path: path.name)
def test_python_examples_run(document, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert blocks(document, "python")
    for block in blocks(document, "python"):
        exec(compile(block, str(document), "exec"), {})
    assert capsys.readouterr().out


def searches():
    text = GUIDE.read_text(encoding="utf-8")
    lines = re.findall(r"^\$ arrowlens ((?:search|similar|duplicates) .*)$", text, re.MULTILINE)
    return [line for line in lines if "s3://" not in line]  # tests/integration/test_bucket_library.py has those


@pytest.mark.parametrize("line", searches())
def test_searches_of_the_guide_run(line, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    if not Path("photos.lens").exists():
        assert main(["ingest", "arrowlens/demo/samples", "--library", "photos.lens", "--models", "demo"]) == 0
    assert main(shlex.split(line)) == 0
    assert "arrowlens:" not in capsys.readouterr().err


def test_what_is_unlike_a_file_is_what_the_library_finds_so(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    if not Path("photos.lens").exists():
        assert main(["ingest", "arrowlens/demo/samples", "--library", "photos.lens", "--models", "demo"]) == 0
    capsys.readouterr()
    question = ["search", "a cat", "--weight", "holiday.jpg=1.5", "--library", "photos.lens", "-k", "5", "--json"]
    assert main([*question, "--unlike", "holiday.jpg"]) == 0
    found = [Path(hit["path"]).name for hit in json.loads(capsys.readouterr().out)["hits"]]
    with Library.open("photos.lens") as library:
        expected = library.search("a cat", 5, unlike=["holiday.jpg"], weights={"holiday.jpg": 1.5})
        assert found == [hit.path.name for hit in expected]
        assert "cat-01.jpg" in [hit.path.name for hit in library.search("a cat", 5)]
    assert "cat-01.jpg" not in found


def test_there_are_searches():
    assert len(searches()) >= 16
