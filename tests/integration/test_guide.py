"""What the documents show does what they say: every Python block runs, and so does every search of the guide."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

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
    return re.findall(r"^\$ arrowlens ((?:search|similar|duplicates) .*)$", text, re.MULTILINE)


@pytest.mark.parametrize("line", searches())
def test_searches_of_the_guide_run(line, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    if not Path("photos.lens").exists():
        assert main(["ingest", "arrowlens/demo/samples", "--library", "photos.lens", "--models", "demo"]) == 0
    assert main(shlex.split(line)) == 0
    assert "arrowlens:" not in capsys.readouterr().err


def test_there_are_searches():
    assert len(searches()) >= 16
