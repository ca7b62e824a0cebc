"""A dry run says what a run then does, and changes nothing."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from arrowlens import Library
from arrowlens.cli import main
from arrowlens.errors import FolderError, LibraryNotFoundError
from arrowlens.ingest import IngestOptions, IngestPlan, plan, run
from arrowlens.models import digest_of, keep_speeds
from arrowlens.store import MultimodalStorage
from tests.support.folders import write_folder, write_picture
from tests.support.small_models import AUDIO_DIGEST, CLIP_DIGEST, SmallProvider


def everything_in(folder):
    """Each file of a folder with its size and time."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def n_bytes(folder):
    return sum(size for size, _ in everything_in(folder).values())


def test_without_a_library_everything_is_new_and_none_is_made(tmp_path, folder):
    kinds = {"image": 12, "audio": 3}
    assert plan(tmp_path / "library", [folder]) == IngestPlan(new=15, n_bytes=n_bytes(folder), by_modality=kinds)
    assert not (tmp_path / "library").exists()


def test_what_was_planned_is_what_happens(tmp_path, folder):
    storage, provider = MultimodalStorage(tmp_path / "library"), SmallProvider()
    (folder / "bad.png").write_bytes(b"bad")
    first = plan(storage, [folder])
    assert (first.new, first.changed, first.unchanged) == (16, 0, 0)
    run(storage, provider, [folder])
    write_picture(folder / "picture 001.jpg", 999)
    write_picture(folder / "new.png", 1000)
    (folder / "picture 002.png").unlink()
    before = everything_in(storage.path)
    found = plan(storage, [folder])
    size = sum((folder / name).stat().st_size for name in ("picture 001.jpg", "new.png"))
    counts = {"new": 1, "changed": 1, "unchanged": 13, "unreadable": 1, "removed": 1, "by_modality": {"image": 2}}
    assert found == IngestPlan(**counts, n_bytes=size, models={"vision": CLIP_DIGEST, "audio": AUDIO_DIGEST})
    assert plan(storage, [folder], prune=False).removed == 0
    assert plan(storage, [folder], retry=True).changed == 2
    assert plan(tmp_path / "library", [folder]) == found
    assert everything_in(storage.path) == before
    report = run(storage, provider, [folder])
    assert (report.indexed, report.unchanged, report.skipped, report.removed) == (2, 13, 1, 1)


def test_a_new_folder_beside_the_known_ones(tmp_path, folder):
    storage = MultimodalStorage(tmp_path / "library")
    run(storage, SmallProvider(), [folder])
    other = write_folder(tmp_path / "other", 4, 0)
    assert (plan(storage, [other]).new, plan(storage, [other]).removed) == (4, 0)
    assert len(storage.settings.roots) == 1


def test_it_needs_no_lock(tmp_path, folder):
    storage, plans = MultimodalStorage(tmp_path / "library"), []

    def look(event):
        if event.phase == "index" and not plans:
            plans.append(plan(tmp_path / "library", [folder]))

    run(storage, SmallProvider(), [folder], IngestOptions(workers=1), look)
    kinds, models = {"image": 12, "audio": 3}, {"vision": CLIP_DIGEST, "audio": AUDIO_DIGEST}
    assert plans == [IngestPlan(new=15, n_bytes=n_bytes(folder), by_modality=kinds, models=models)]


def test_a_folder_that_is_missing_and_a_place_that_is_taken(tmp_path, folder):
    with pytest.raises(FolderError, match="is missing"):
        plan(tmp_path / "library", [tmp_path / "nowhere"])
    with pytest.raises(LibraryNotFoundError):
        plan(folder / "below", [folder])


def test_a_new_library_would_be_the_folder_within(tmp_path, folder):
    """What lies below a library to be is not media."""
    assert plan(folder / "library", [folder]).new == 15


def test_the_command(tmp_path, folder, capsys):
    os.environ.pop("ARROWLENS_LIBRARY", None)
    arguments = ["ingest", str(folder), "--dry-run", "--library", str(tmp_path / "library")]
    assert main([*arguments, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["new"], said["n_bytes"], said["library"]) == (15, n_bytes(folder), str(tmp_path / "library"))
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("would read 15 new files and 0 changed (")
    assert not (tmp_path / "library").exists()


def test_the_command_says_what_encoding_takes_where_it_was_measured(tmp_path, folder, capsys, monkeypatch):
    monkeypatch.setenv("ARROWLENS_CACHE", str(tmp_path / "cache"))
    arguments = ["ingest", str(folder), "--dry-run", "--library", str(tmp_path / "library"), "--models", "demo"]
    assert main([*arguments, "--price-per-hour", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("how long encoding takes is unknown: `arrowlens benchm")
    keep_speeds({digest_of("demo", "vision"): 300_000.0})
    assert main([*arguments, "--price-per-hour", "2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["encoding_hours"], said["cost"]) == (1.0, 2.0)
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "encoding the pictures takes about 1 h of a machine like this one; how long 3 recordings are is unknown until "
        "they are read"
    )
    for wrong in (["--price-per-hour", "2"], ["--address", "here"], ["--num-gpus", "1"], ["--concurrency", "2"]):
        with pytest.raises(SystemExit) as ended:
            main(["ingest", str(folder), "--library", str(tmp_path / "library"), *wrong])
        assert ended.value.code == 2, wrong
    assert not (tmp_path / "library").exists()


def test_python(tmp_path, folder):
    with Library.open(tmp_path / "library", models="demo") as library:
        assert library.plan(folder).new == 15
        library.ingest(folder)
        shutil.rmtree(folder / "below")
        found = library.plan(folder)
        assert (found.unchanged, found.removed) == (11, 4)
