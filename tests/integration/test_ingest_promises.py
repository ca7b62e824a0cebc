"""What ingest promises of a folder as it comes, through the installed command: real files, faults and processes."""

from __future__ import annotations

import json
import os
import shutil
import stat
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import arrowlens
from arrowlens.encoders import MultimodalEmbeddingProvider
from arrowlens.ingest import IngestOptions, run
from arrowlens.store import MultimodalStorage
from tests.soak.commands import command, counts, ingest, one_line, start
from tests.soak.processes import PeakMemory, Run
from tests.soak.whole import assert_same, assert_searchable, assert_whole, read
from tests.support.folders import write_folder, write_picture
from tests.support.hostile_media import bombs, oddities
from tests.support.media_factory import make_good_folder, make_hostile_folder
from tests.support.small_models import SmallProvider

DEMO = Path(arrowlens.__file__).parent / "demo"
GIGABYTE = 10**9
pytestmark = pytest.mark.timeout(900)  # a dozen processes each, on a machine that may be busy


# -- 1. idempotent and incremental ------------------------------------------------------------------------------------


def test_what_has_not_changed_is_not_opened_and_what_moved_is_not_encoded(tmp_path, capsys):
    """Permissions would refuse every file, were one opened; and a moved one needs no more than its bytes."""
    folder, library = write_folder(tmp_path / "in"), tmp_path / "a.lens"
    assert counts(command(capsys, "ingest", folder, "--library", library, "--models", "demo")) == (15, 0, 0, 0)
    before = read(library)
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        path.chmod(0)
    assert counts(ingest(folder, library, bound=True)) == (0, 15, 0, 0)
    assert_same(read(library), before)
    for path in files:
        path.chmod(0o644)
    (folder / "picture 001.jpg").rename(folder / "below" / "moved.jpg")
    (folder / "sound 002.wav").rename(folder / "below" / "moved.wav")
    shutil.copy(folder / "picture 002.png", folder / "copy.png")
    report = command(capsys, "ingest", folder, "--library", library)
    assert (counts(report), report["copied"]) == ((3, 13, 0, 0), 3)
    assert (report["moved"], report["timings"]["encoding"]) == (2, 0.0)
    assert_whole(read(library), settled=True)


def test_a_missing_root_is_one_line_and_an_unreadable_folder_a_note(tmp_path, capsys):
    folder, library = write_folder(tmp_path / "in"), tmp_path / "a.lens"
    command(capsys, "ingest", folder, "--library", library, "--models", "demo")
    before = read(library)
    folder.rename(tmp_path / "away")
    with start(folder, library) as running:
        assert str(folder) in one_line(running)
    (tmp_path / "away").rename(folder)
    (folder / "below").chmod(0)
    try:
        with start(folder, library, bound=True) as running:
            report = running.report()
    finally:
        (folder / "below").chmod(0o755)
    assert counts(report) == (0, 11, 0, 0)
    assert running.stderr.count("\n") == 1
    assert str(folder / "below") in running.stderr
    assert_same(read(library), before)


# -- 3. one bad file costs itself -------------------------------------------------------------------------------------


def test_a_hostile_folder_costs_its_own_files_and_bounded_memory(tmp_path, capsys):
    good, bad = make_good_folder(tmp_path / "in"), make_hostile_folder(tmp_path / "in" / "bad")
    bad.pop(tmp_path / "in" / "bad" / "folder.png")  # a folder is a folder, whatever its name
    for name, (data, reason) in bombs().items():
        is_film = name == "hours.mkv"  # too long: its shots are found, without its sound
        (good if is_film else bad)[tmp_path / "in" / "bombs" / name] = reason
        put(tmp_path / "in" / "bombs" / name, data)
    for name, data in oddities().items():
        good[tmp_path / "in" / "odd" / name] = ""
        put(tmp_path / "in" / "odd" / name, data)
    started = time.monotonic()
    with start(tmp_path / "in", tmp_path / "a.lens", "--workers", "4") as running:
        memory = PeakMemory(running)
        report = running.report()
    assert running.stderr == "", "native decoders keep to themselves"
    assert counts(report) == (len(good), 0, len(bad), 0)
    assert memory.n_samples > 10
    assert memory.peak < 1.5 * GIGABYTE
    assert time.monotonic() - started < 120
    files = command(capsys, "skipped", "--library", tmp_path / "a.lens")["files"]
    reasons = {file["path"]: file["reason"] for file in files}
    assert reasons.keys() == {str(path) for path in bad}
    for path, reason in bad.items():
        assert reason in reasons[str(path)], path
    state = read(tmp_path / "a.lens")
    assert {row["path"] for row in state.indexed} == {_shown(path.relative_to(tmp_path / "in")) for path in good}
    assert_whole(state, settled=True)


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


def _shown(path: Path) -> str:
    """A path as the ``path`` column has it: bytes that are not UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


# -- 4. disk full, read-only, changing, odd names ---------------------------------------------------------------------

_FULL = """
import contextlib, io, json, resource, sys
from arrowlens.cli import main

folder, *cases = sys.argv[1:]
outcomes = []
for case in cases:
    limit, library = case.split(":", 1)
    out, err = io.StringIO(), io.StringIO()
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["ingest", folder, "--library", library, "--models", "demo", "--json"])
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    outcomes.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(outcomes))
"""


def test_a_disk_that_is_full_at_any_stage_is_one_line_and_loses_nothing(tmp_path, capsys):
    """The limits refuse, in turn, the settings, the first log entries, and the larger and larger tables."""
    folder, before = write_folder(tmp_path / "in", 9, 1), tmp_path / "before"
    command(capsys, "ingest", folder, "--library", before, "--models", "demo")
    earlier = read(before)
    for number in range(40):
        write_picture(folder / f"new {number}.png", 100 + number, (640, 480))
    (folder / "picture 001.jpg").unlink()
    command(capsys, "ingest", folder, "--library", tmp_path / "undisturbed", "--models", "demo")
    limits = [100, 1_000, 3_000, 40_000]
    libraries = [tmp_path / f"limit {limit}" for limit in limits]
    old = libraries[1::2]
    for library in old:
        shutil.copytree(before, library)
    cases = [f"{limit}:{library}" for limit, library in zip(limits, libraries, strict=True)]
    with Run("-c", textwrap.dedent(_FULL), str(folder), *cases, program="-B") as running:
        outcomes = json.loads(running.stdout if running.wait() == 0 else pytest.fail(running.stderr))
    kept = {row["media_id"]: row for row in earlier.media}
    for library, (status, out, err) in zip(libraries, outcomes, strict=True):
        assert (status, out, err.count("\n")) == (1, "", 1), (library.name, status, err)
        assert "free disk space" in err or "free space" in err, (library.name, err)
        state = read(library)
        assert_whole(state, settled=False)
        now = {row["media_id"]: row for row in state.media}
        if library in old:
            assert_searchable(library, state)
            assert {media_id: now.get(media_id) for media_id in kept} == kept, library.name
    wanted = read(tmp_path / "undisturbed")
    for library in libraries:
        command(capsys, "ingest", folder, "--library", library, "--models", "demo")
        assert_same(read(library), wanted)
        assert_whole(read(library), settled=True)


def test_a_library_that_may_not_be_written_is_one_line_and_can_be_searched(tmp_path, capsys):
    folder, library = write_folder(tmp_path / "in", 3, 0), tmp_path / "a.lens"
    command(capsys, "ingest", folder, "--library", library, "--models", "demo")
    before = read(library)
    write_picture(folder / "new.png", 99)
    (tmp_path / "locked").mkdir()
    places = [library, *(path for path in library.rglob("*") if path.is_dir()), tmp_path / "locked"]
    for place in places:
        place.chmod(stat.S_IRUSR | stat.S_IXUSR)
    (library / "writer.lock").chmod(0o444)
    try:
        with start(folder, library, bound=True) as running:
            assert "permissions" in one_line(running)
        with start(folder, tmp_path / "locked" / "b.lens", bound=True) as running:
            assert "cannot be made (Permission denied)" in one_line(running)
        with Run("search", "a red square", "--library", library, "--json", bound=True) as running:
            assert len(running.report()["hits"]) == 3
    finally:
        for place in places:
            place.chmod(0o755)
    (library / "writer.lock").chmod(0o644)
    assert_same(read(library), before)
    assert counts(command(capsys, "ingest", folder, "--library", library)) == (1, 3, 0, 0)


def test_files_that_change_and_vanish_while_they_are_read(tmp_path):
    """Written in halves, replaced, removed, turned into folders and back, all the time; then left alone."""
    folder, done = write_folder(tmp_path / "in", 30, 3), threading.Event()
    files = sorted(path for path in folder.rglob("*.*") if path.is_file())
    contents = [path.read_bytes() for path in files]
    failures: list[OSError] = []

    def disturb() -> None:
        dice = np.random.default_rng(0)
        try:
            while not done.is_set():
                path, data = files[dice.integers(len(files))], contents[dice.integers(len(files))]
                match dice.integers(4):
                    case 0:
                        with path.open("wb") as file:
                            for part in (data[: len(data) // 2], data[len(data) // 2 :]):
                                file.write(part)
                                file.flush()
                                time.sleep(0.001)
                    case 1:
                        path.unlink(missing_ok=True)
                    case 2:
                        path.unlink(missing_ok=True)
                        path.mkdir()
                        time.sleep(0.001)
                        path.rmdir()
                    case _:
                        (folder / ".hidden").write_bytes(data)
                        (folder / ".hidden").rename(path)
        except OSError as error:
            failures.append(error)

    storage, provider = MultimodalStorage(tmp_path / "library"), SmallProvider()
    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        for _ in range(6):
            report = run(storage, provider, [folder], IngestOptions(workers=3, batch_size=4, commit_every=5))
            assert report.indexed + report.unchanged + report.skipped > 0
            assert_whole(read(storage.path), settled=True)
    finally:
        done.set()
        disturber.join()
    assert failures == []
    for path, data in zip(files, contents, strict=True):
        path.write_bytes(data)
    run(storage, provider, [folder])
    undisturbed = MultimodalStorage(tmp_path / "undisturbed")
    assert run(undisturbed, SmallProvider(), [folder]).indexed == 33
    assert_same(read(storage.path), read(undisturbed.path))
    assert_whole(read(storage.path), settled=True)


NAMES = (
    b"-rf.png",
    b"--library.png",
    b'it\'s a "quote".png',
    b"two\nlines\r\tand \x1b[31m.png",
    "caf\u00e9 \U0001f6b2 \u65e5\u672c \u202egnp.png".encode(),
    "cafe\u0301.png".encode(),
    b"latin caf\xe9 \xff\xfe.png",
    b"100% %s %n _ [a] {b} *?.png",
    b"'; drop table media; --.png",
    b"back\\slash \\xff.png",
    b" .png",
    b"x" * 251 + b".png",
    "\U0001f40b".encode() * 62 + b".png",
)


def test_names_of_every_kind_and_paths_without_end(tmp_path, capsys, monkeypatch):
    base = tmp_path / "-in"
    base.mkdir()
    for seed, name in enumerate(NAMES):
        write_picture(tmp_path / "plain.png", 1000 + seed).rename(os.fsdecode(os.fsencode(base) + b"/" + name))
    write_picture(tmp_path / "plain.png", 5)
    folder = os.open(base, os.O_RDONLY)
    for _ in range(20):  # deeper than a path can be written
        os.mkdir("d" * 250, dir_fd=folder)
        folder, above = os.open("d" * 250, os.O_RDONLY, dir_fd=folder), folder
        os.close(above)
    os.rename(tmp_path / "plain.png", "deep.png", dst_dir_fd=folder)
    os.close(folder)
    with Run("ingest", "--library", "a.lens", "--models", "demo", "--json", "--", "-in", cwd=tmp_path) as running:
        report = running.report()
    assert counts(report) == (len(NAMES), 0, 0, 0)
    assert list(report["unread_folders"].values()) == ["File name too long"]
    assert running.stderr.count("\n") == 1
    state = read(tmp_path / "a.lens")
    assert {row["path_bytes"] for row in state.indexed} == set(NAMES)
    monkeypatch.chdir(tmp_path)
    hits = command(capsys, "search", "red", "--library", "a.lens")["hits"]
    assert {os.fsencode(hit["path"]) for hit in hits} == {os.fsencode(base) + b"/" + name for name in NAMES}
    odd = [b"-in/" + name for name in (NAMES[0], NAMES[6])]
    assert command(capsys, "remove", "--library", "a.lens", "--", *odd)["removed"] == 2


# -- 6. deterministic -------------------------------------------------------------------------------------------------


def test_the_same_rows_and_vectors_whatever_workers_batches_and_order(tmp_path):
    """Every table is compared, with the demo models; the folder is made anew each time, in another order."""
    folder, provider = tmp_path / "in", _demo_provider()
    source = write_folder(tmp_path / "source", 20, 3)
    shutil.copy(source / "picture 001.jpg", source / "below" / "copy.jpg")
    write_picture(source / "large.jpg", 50, (1600, 1200))
    (source / "bad.png").write_bytes(b"bad")
    for path in sorted((DEMO / "samples" / "pictures").rglob("*.*"))[::15]:
        shutil.copy(path, source)
    states = []
    for number, options in enumerate(
        [
            IngestOptions(workers=1, batch_size=1, commit_every=1),
            IngestOptions(workers=2),
            IngestOptions(workers=5, batch_size=7, commit_every=4),
        ]
    ):
        copy_in_another_order(source, folder, seed=number)
        report = run(MultimodalStorage(tmp_path / str(number)), provider, [folder], options)
        assert (report.skipped, report.copied) == (1, 1)
        states.append(read(tmp_path / str(number)))
        assert_whole(states[-1], settled=True)
    for state in states[1:]:
        assert_same(state, states[0], made_anew=True)


def copy_in_another_order(source: Path, target: Path, seed: int) -> None:
    """The same tree, its entries made in an order drawn by a seed; times are kept."""
    shutil.rmtree(target, ignore_errors=True)
    paths = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    for index in np.random.default_rng(seed).permutation(len(paths)):
        (target / paths[index]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / paths[index], target / paths[index])


def _demo_provider() -> MultimodalEmbeddingProvider:
    models = DEMO / "models"
    return MultimodalEmbeddingProvider(clip_model_path=models / "clip", audio_model_path=models / "audio")
