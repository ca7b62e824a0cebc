"""What a run may not remove unasked: files of a disk that is not mounted, too many of a folder, and what only moved."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from arrowlens import Library
from arrowlens.cli import main
from arrowlens.errors import FolderError
from arrowlens.ingest import IngestOptions, plan, run
from tests.support.folders import write_picture
from tests.support.small_models import SmallProvider


@pytest.fixture
def disk(tmp_path, storage):
    """A folder of 24 pictures that is indexed as a mounted disk."""
    write_pictures(tmp_path / "disk", 24)
    run(storage, SmallProvider(), [tmp_path / "disk"])
    storage.add_mounts([str(tmp_path / "disk")])
    return tmp_path / "disk"


def write_pictures(folder, n, first=0):
    folder.mkdir(exist_ok=True, parents=True)
    return [write_picture(folder / f"{seed:04d}.png", seed, (16, 16)) for seed in range(first, first + n)]


def n_files(storage):
    return storage.all_media().num_rows


@pytest.mark.parametrize("left", ["nothing", ".keep", "another.png"])
def test_a_disk_that_is_not_mounted_keeps_its_files_whatever_lies_there(disk, storage, left):
    for path in disk.iterdir():
        path.unlink()
    if left == "another.png":
        write_picture(disk / left, 99)
    elif left != "nothing":
        (disk / left).touch()
    before = storage.all_media().to_pylist()
    for prune in (None, True, False):
        with pytest.raises(FolderError, match=r"not mounted now.*Mount it"):
            run(storage, SmallProvider(), [disk], IngestOptions(prune=prune))
        with pytest.raises(FolderError, match="not mounted now"):
            plan(storage, [disk], prune=prune)
    assert storage.all_media().to_pylist() == before


def test_a_disk_inside_a_folder_is_left_alone_while_it_is_not_mounted(tmp_path, storage):
    inside = tmp_path / "in" / "disk"
    write_pictures(inside, 3)
    write_pictures(tmp_path / "in", 2, first=10)
    run(storage, SmallProvider(), [tmp_path / "in"])
    storage.add_mounts([str(inside)])
    shutil.rmtree(inside)
    write_pictures(inside, 1, first=50)
    report = run(storage, SmallProvider(), [tmp_path / "in"], IngestOptions(prune=None))
    assert (report.indexed, report.unchanged, report.removed, report.moved) == (0, 2, 0, 0)
    assert "not mounted now" in report.unread_folders[str(inside)]
    assert n_files(storage) == 5


def test_files_that_came_back_without_their_disk_are_taken_as_they_are_with_prune(disk, storage):
    (disk / "0000.png").unlink()
    with pytest.raises(FolderError, match="not mounted now"):
        run(storage, SmallProvider(), [disk])
    report = run(storage, SmallProvider(), [disk], IngestOptions(prune=True))
    assert (report.unchanged, report.removed) == (23, 1)
    assert run(storage, SmallProvider(), [disk]).unchanged == 23, "from now on it is an ordinary folder"


def test_a_place_that_was_removed_from_the_library_may_be_indexed_without_its_disk(tmp_path, storage):
    inside = tmp_path / "in" / "disk"
    write_pictures(inside, 2)
    write_pictures(tmp_path / "in", 2, first=10)
    run(storage, SmallProvider(), [tmp_path / "in"])
    storage.add_mounts([str(inside)])
    assert run(storage, SmallProvider(), [tmp_path / "in"]).unchanged == 2
    assert storage.forget([inside]) == 2
    assert run(storage, SmallProvider(), [tmp_path / "in"]).indexed == 2


_MOUNTED = """
import subprocess, sys
from pathlib import Path
from arrowlens.errors import FolderError
from arrowlens.ingest import run
from arrowlens.store import MultimodalStorage
from tests.support.folders import write_picture
from tests.support.small_models import SmallProvider

base = Path(sys.argv[1])
disk = base / "disk"
disk.mkdir()
if subprocess.run(["mount", "-t", "tmpfs", "none", disk]).returncode:
    sys.exit(77)
write_picture(disk / "x.png", 1)
storage = MultimodalStorage(base / "library")
assert run(storage, SmallProvider(), [disk]).indexed == 1
assert run(storage, SmallProvider(), [disk]).unchanged == 1
subprocess.run(["umount", disk], check=True)
(disk / ".keep").touch()
try:
    run(storage, SmallProvider(), [disk])
except FolderError as error:
    assert "not mounted now" in str(error)
else:
    sys.exit("nothing was refused")
assert storage.all_media().num_rows == 1
"""


def test_a_disk_that_is_really_unmounted(tmp_path):
    """In a mount namespace of its own, so that it needs a system that grants one."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed")
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    done = subprocess.run(
        [unshare, "--mount", *user, sys.executable, "-c", _MOUNTED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or done.stderr.startswith("unshare:"):
        pytest.skip(f"nothing may be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("n_before", "n_gone", "is_held"), [(30, 20, True), (30, 19, False), (40, 20, False)])
def test_more_than_half_and_at_least_twenty_files_are_not_removed_unasked(tmp_path, storage, n_before, n_gone, is_held):
    folder = tmp_path / "in"
    paths = write_pictures(folder, n_before)
    run(storage, SmallProvider(), [folder])
    for path in paths[:n_gone]:
        path.unlink()
    write_pictures(folder, 2, first=500)
    expected = {str(folder): n_gone} if is_held else {}
    planned = plan(storage, [folder])
    assert (planned.held_back, planned.removed) == (expected, 0 if is_held else n_gone)
    report = run(storage, SmallProvider(), [folder])
    assert (report.indexed, report.held_back, report.removed) == (2, expected, 0 if is_held else n_gone)
    assert run(storage, SmallProvider(), [folder], IngestOptions(prune=False)).removed == 0
    assert run(storage, SmallProvider(), [folder], IngestOptions(prune=True)).removed == (n_gone if is_held else 0)
    assert n_files(storage) == n_before - n_gone + 2


def test_more_than_a_thousand_files_are_not_removed_unasked(tmp_path, storage):
    """Of 2,100 files, which is less than half; they have one content, so that they are indexed at once."""
    first = write_pictures(tmp_path / "in", 1)[0]
    for number in range(2_100):
        os.link(first, tmp_path / "in" / f"link {number}.png")
    run(storage, SmallProvider(), [tmp_path / "in"])
    for number in range(1_001):
        (tmp_path / "in" / f"link {number}.png").unlink()
    assert plan(storage, [tmp_path / "in"]).held_back == {str(tmp_path / "in"): 1_001}
    report = run(storage, SmallProvider(), [tmp_path / "in"])
    assert (report.held_back, report.removed) == ({str(tmp_path / "in"): 1_001}, 0)
    write_picture(tmp_path / "in" / "link 0.png", 0, (16, 16))
    assert run(storage, SmallProvider(), [tmp_path / "in"]).removed == 1_000


def test_one_folder_that_is_held_back_does_not_hold_another(tmp_path, storage):
    one, other = write_pictures(tmp_path / "one", 21), write_pictures(tmp_path / "other", 5, first=100)
    folders = [tmp_path / "one", tmp_path / "other"]
    run(storage, SmallProvider(), folders)
    for path in (*one, *other[:2]):
        path.unlink()
    report = run(storage, SmallProvider(), folders)
    assert (report.held_back, report.removed) == ({str(folders[0]): 21}, 2)


def test_files_that_moved_are_neither_removed_nor_held_back_nor_encoded(tmp_path, storage):
    paths, provider = write_pictures(tmp_path / "in", 30), SmallProvider()
    run(storage, provider, [tmp_path / "in"])
    n_encoded = provider.n_encoded
    (tmp_path / "in" / "deep").mkdir()
    for path in paths[:29]:
        path.rename(path.parent / "deep" / path.name)
    paths[29].unlink()
    planned = plan(storage, [tmp_path / "in"])
    assert (planned.new, planned.moved, planned.removed, planned.held_back) == (29, 29, 1, {})
    report = run(storage, provider, [tmp_path / "in"])
    assert (report.indexed, report.copied, report.moved, report.removed, report.held_back) == (29, 29, 29, 1, {})
    assert provider.n_encoded == n_encoded
    assert n_files(storage) == 29


def test_a_moved_file_stands_in_for_one_that_is_gone_and_no_more(tmp_path, storage):
    """Twenty-one copies of one content are gone, and one is at a new place."""
    first = write_pictures(tmp_path / "in", 1)[0]
    for number in range(20):
        shutil.copy(first, tmp_path / "in" / f"copy {number}.png")
    run(storage, SmallProvider(), [tmp_path / "in"])
    (tmp_path / "in" / "deep").mkdir()
    first.rename(tmp_path / "in" / "deep" / "x.png")
    for path in (tmp_path / "in").glob("*.png"):
        path.unlink()
    report = run(storage, SmallProvider(), [tmp_path / "in"])
    assert (report.indexed, report.held_back, report.removed, report.moved) == (1, {str(tmp_path / "in"): 20}, 0, 0)


def test_what_an_ignore_file_names_leaves_unasked(tmp_path, storage):
    write_pictures(tmp_path / "in", 30)
    run(storage, SmallProvider(), [tmp_path / "in"])
    (tmp_path / "in" / ".arrowlensignore").write_text("00*\n")
    report = run(storage, SmallProvider(), [tmp_path / "in"])
    assert (report.removed, report.held_back) == (30, {})


def test_the_command_says_how_many_and_exits_with_1(tmp_path, capsys):
    folder, library = tmp_path / "in", tmp_path / "a.lens"
    paths = write_pictures(folder, 25)
    ingest = ["ingest", str(folder), "--library", str(library), "--models", "demo", "--workers", "1"]
    assert main(ingest) == 0
    for path in paths[:24]:
        path.unlink()
    for options in (["--dry-run"], []):
        capsys.readouterr()
        assert main([*ingest, *options]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "24 files" in line
        assert str(folder) in line
        assert "--prune" in line
    assert main([*ingest, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["held_back"] == {str(folder): 24}
    assert main([*ingest, "--no-prune"]) == 0
    assert main([*ingest, "--prune"]) == 0
    assert "24 removed" in capsys.readouterr().out
    with Library.open(library) as opened:
        assert opened.status().images == 1
