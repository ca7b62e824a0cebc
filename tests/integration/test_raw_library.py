"""Raw photographs in a library: pictures like others, left alone and never forgotten without the extra."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image

from arrowlens import Library
from arrowlens.cli.output import left_alone_text
from arrowlens.errors import InputError
from tests.support.film_scenes import BICYCLE, DRAWINGS
from tests.support.media_factory import image_bytes
from tests.support.other_models import write_other_models
from tests.support.raw_factory import dng_bytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    bicycle = np.asarray(Image.open(DRAWINGS[BICYCLE]).convert("RGB").resize((480, 480)))
    (folder / "bicycle.dng").write_bytes(dng_bytes(np.ascontiguousarray(np.rot90(bicycle)), orientation=6))
    (folder / "preview.DNG").write_bytes(dng_bytes(bicycle, preview=bicycle))
    (folder / "hostile.nef").write_bytes(dng_bytes(bicycle)[:-1000])
    (folder / "other.png").write_bytes(image_bytes("png", 1))
    return folder


@pytest.fixture(scope="module")
def library(folder, tmp_path_factory):
    with Library.open(tmp_path_factory.mktemp("library") / "l", models="demo") as library:
        yield library


def test_without_the_extra_they_are_left_alone_and_with_it_read_and_kept(folder, library, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "rawpy", None)
        report = library.ingest(folder)
    assert (report.indexed, report.skipped, report.left_alone) == (1, 0, {"raw": 3})
    assert left_alone_text(report.left_alone) == (
        "left alone: 3 raw photographs (pip install 'arrowlens[raw]' to read them)"
    )

    report = library.ingest(folder)
    assert (report.indexed, report.skipped, report.left_alone) == (2, 1, {})
    assert {hit.path.name for hit in library.search("a red bicycle", k=2)} == {"bicycle.dng", "preview.DNG"}

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "rawpy", None)
        report = library.ingest(folder)
    assert (report.unchanged, report.removed) == (1, 0)
    assert library.status().images == 3


def test_without_the_extra_those_that_are_gone_leave_and_no_change_of_models_begins(tmp_path, monkeypatch):
    folder, other = tmp_path / "in", write_other_models(tmp_path / "models")
    folder.mkdir()
    for name in ("gone.dng", "ignored.dng", "kept.dng"):
        (folder / name).write_bytes(dng_bytes(np.full((64, 64, 3), len(name) * 9, np.uint8)))
    with Library.open(tmp_path / "l", models="demo") as library:
        assert library.ingest(folder).indexed == 3
        (folder / "gone.dng").unlink()
        (folder / ".arrowlensignore").write_text("ignored.dng\n", encoding="utf-8")
        monkeypatch.setitem(sys.modules, "rawpy", None)
        report = library.ingest(folder, prune=True)
        assert (report.removed, report.left_alone) == (2, {"raw": 1, "ignored": 1})
        assert [hit.path.name for hit in library.newest()] == ["kept.dng"]
        with pytest.raises(
            InputError, match=r"raw photographs of the library .1. .*arrowlens\[raw\].*nothing was changed"
        ):
            library.migrate(other)
        assert [hit.path.name for hit in library.newest()] == ["kept.dng"]


def test_they_are_pictures_like_others(folder, library):
    library.ingest(folder)
    hit = library.file(folder / "bicycle.dng")
    assert (hit.modality, hit.width, hit.height, hit.camera) == ("image", 480, 480, "Kamera One")
    assert str(hit.captured_at).startswith("2021-05-06")
    thumbnail = np.asarray(Image.open(io.BytesIO(library.thumbnail(hit.content_hash))).convert("RGB").resize((48, 48)))
    upright = np.asarray(Image.open(DRAWINGS[BICYCLE]).convert("RGB").resize((48, 48)))
    errors = [np.abs(thumbnail - np.rot90(upright, turns).astype(float)).mean() for turns in range(4)]
    assert int(np.argmin(errors)) == 0
    names = [hit.path.name for hit in library.similar(folder / "bicycle.dng", k=2)]
    assert names == ["bicycle.dng", "preview.DNG"]
    assert not [finding for finding in library.doctor() if finding.level == "problem"]
