"""A failed read never deletes, a killed run leaves a library that goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np

from arrowlens.ingest import IngestOptions, run
from arrowlens.store import MultimodalStorage, VectorRow
from tests.integration.test_ingest import assert_same, counts, found_for, paths_in, snapshot
from tests.support.folders import write_folder, write_picture
from tests.support.small_models import CLIP_DIGEST, DIMENSION, SmallClip, SmallProvider

ROOT = Path(__file__).parents[2]

_INGEST = """
import json, sys
from arrowlens.errors import ArrowlensError
from arrowlens.ingest import IngestOptions, run
from arrowlens.store import MultimodalStorage
from tests.support.small_models import SmallProvider

options = IngestOptions(workers=2, batch_size=4, commit_every=5)
try:
    report = run(MultimodalStorage(sys.argv[1]), SmallProvider(), [sys.argv[2]], options)
except ArrowlensError as error:
    sys.exit(f"{type(error).__name__}: {error}")
print(json.dumps(report.to_dict()), file=sys.stderr)
"""


# Permissions do not bind root: a run that must feel them gives up that privilege for good before it starts.
_BOUND = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
    if ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
        sys.exit("cannot give up root's privileges")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def ingest_process(library, folder):
    """The same run in a process of its own, bound by permissions."""
    arguments = ["-c", textwrap.dedent(_INGEST), str(library), str(folder)]
    return subprocess.Popen(
        [sys.executable, *(["-c", textwrap.dedent(_BOUND)] if os.geteuid() == 0 else []), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    """(exit status, what it said last)."""
    _, said = process.communicate(timeout=120)
    return process.returncode, said.strip().splitlines()[-1] if said.strip() else ""


def test_an_unreadable_root_is_an_error(tmp_path, folder):
    library = tmp_path / "library"
    assert finished(ingest_process(library, folder))[0] == 0
    folder.chmod(0)
    try:
        status, said = finished(ingest_process(library, folder))
    finally:
        folder.chmod(0o755)
    assert status == 1
    assert said.startswith("FolderError")
    assert "nothing was changed" in said


def test_a_file_that_may_no_longer_be_read_keeps_its_rows(tmp_path, folder):
    library, path = tmp_path / "library", folder / "picture 001.jpg"
    assert finished(ingest_process(library, folder))[0] == 0
    os.utime(path, (1, 1))  # else it would not even be opened
    path.chmod(0)
    for _ in range(2):
        status, said = finished(ingest_process(library, folder))
        assert status == 0
        assert '"skipped": 1' in said
        storage = MultimodalStorage(library)
        assert found_for(storage, path) == [str(path)]
        rows = storage.skipped().to_pylist()
        assert [(row["absolute_path"], row["state"]) for row in rows] == [(bytes(path), "indexed")]
        assert "permission denied" in rows[0]["reason"]
    path.chmod(0o644)
    status, said = finished(ingest_process(library, folder))
    assert '"skipped": 0' in said
    assert MultimodalStorage(library).skipped().num_rows == 0


def test_a_file_that_was_never_readable_is_tried_again(tmp_path, folder):
    library, path = tmp_path / "library", folder / "picture 001.jpg"
    path.chmod(0)
    assert '"skipped": 1' in finished(ingest_process(library, folder))[1]
    path.chmod(0o644)  # neither size nor time have changed
    assert '"indexed": 1' in finished(ingest_process(library, folder))[1]


def test_a_folder_that_became_a_lost_link_keeps_its_files(tmp_path):
    folder, disk = write_folder(tmp_path / "in"), tmp_path / "disk"
    (folder / "below").rename(disk)
    (folder / "below").symlink_to(disk)
    storage, provider = MultimodalStorage(tmp_path / "library"), SmallProvider()
    run(storage, provider, [folder])
    before = snapshot(storage)
    disk.rename(tmp_path / "away")
    assert run(storage, provider, [folder]).removed == 0
    assert_same(snapshot(storage), before)
    (tmp_path / "away").rename(disk)
    assert counts(run(storage, provider, [folder])) == (0, 15, 0, 0)


def test_a_file_that_vanishes_while_the_run_is_on(tmp_path):
    folder, storage = write_folder(tmp_path / "in"), MultimodalStorage(tmp_path / "library")
    last = max(folder.glob("picture*"))

    def vanish(event):
        if event.phase == "index":
            last.unlink(missing_ok=True)

    report = run(storage, SmallProvider(), [folder], IngestOptions(workers=1), vanish)
    assert (report.indexed, report.skipped) == (14, 1)
    assert counts(run(storage, SmallProvider(), [folder])) == (0, 14, 0, 1)


def test_a_file_that_became_a_folder_is_gone(tmp_path):
    folder, storage = write_folder(tmp_path / "in"), MultimodalStorage(tmp_path / "library")
    run(storage, SmallProvider(), [folder])
    (folder / "picture 001.jpg").unlink()
    (folder / "picture 001.jpg").mkdir()
    assert counts(run(storage, SmallProvider(), [folder])) == (0, 14, 0, 1)
    assert str(folder / "picture 001.jpg") not in paths_in(storage)


def test_contents_that_change_places_in_one_run(tmp_path):
    """Each is a copy of what the library holds, and of what the run itself has just replaced there."""
    folder, storage = write_folder(tmp_path / "in"), MultimodalStorage(tmp_path / "library")
    options = IngestOptions(workers=1, commit_every=1)
    run(storage, SmallProvider(), [folder], options)
    first, second = folder / "picture 001.jpg", folder / "picture 002.png"
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    assert counts(run(storage, SmallProvider(), [folder], options)) == (2, 13, 0, 0)
    undisturbed = MultimodalStorage(tmp_path / "undisturbed")
    run(undisturbed, SmallProvider(), [folder])
    assert_same(snapshot(storage), snapshot(undisturbed))


def test_a_model_that_fails_once_costs_no_file_its_place(tmp_path):
    """One changed file and a new one meet a machine without memory; neither is judged by that."""

    class Starved(SmallClip):
        def encode_image(self, images, normalize=True):
            raise RuntimeError("out of memory")

    folder, storage, provider = write_folder(tmp_path / "in"), MultimodalStorage(tmp_path / "library"), SmallProvider()
    changed, new = folder / "picture 001.jpg", folder / "new.png"
    run(storage, provider, [folder])
    starved = SmallProvider()
    starved.clip_engine = Starved()
    write_picture(changed, 999)
    assert counts(run(storage, starved, [folder])) == (0, 14, 1, 0)
    assert found_for(storage, changed) == [str(changed)], "what was indexed stays"
    assert counts(run(storage, provider, [folder])) == (1, 14, 0, 0)
    write_picture(new, 1000)
    assert counts(run(storage, starved, [folder])) == (0, 15, 1, 0)
    row = storage.media_by_path(new)
    assert row["content_hash"] is None
    assert "out of memory" in row["reason"]
    assert counts(run(storage, provider, [folder])) == (1, 15, 0, 0), "tried again, though it has not changed"


def test_a_picture_that_became_empty_is_no_longer_found(tmp_path):
    folder, storage = write_folder(tmp_path / "in"), MultimodalStorage(tmp_path / "library")
    run(storage, SmallProvider(), [folder])
    (folder / "picture 001.jpg").write_bytes(b"")
    assert counts(run(storage, SmallProvider(), [folder])) == (0, 14, 1, 0)
    assert storage.statistics().indexes["vision"].n_rows == 11
    assert [row["state"] for row in storage.skipped().to_pylist()] == ["skipped"]


def test_killed_between_vectors_and_rows(tmp_path):
    """The moment that matters, hit exactly: vectors written, thumbnails written, no row."""
    folder = write_folder(tmp_path / "in")
    whole = MultimodalStorage(tmp_path / "library")
    run(whole, SmallProvider(), [folder])
    before = snapshot(whole)
    shutil.rmtree(whole.path / "media.lance")
    storage = MultimodalStorage(whole.path)
    assert storage.search("vision", CLIP_DIGEST, np.ones(DIMENSION), 9).num_rows == 0
    provider = SmallProvider()
    assert run(storage, provider, [folder]).indexed == 15
    assert_same(snapshot(storage), before)
    assert storage.index_states()["vision"].n_rows == 12


def test_a_run_with_nothing_to_do_still_clears_what_a_killed_one_left(tmp_path):
    folder, storage = write_folder(tmp_path / "in"), MultimodalStorage(tmp_path / "library")
    run(storage, SmallProvider(), [folder])
    storage.upsert_vectors("vision", [VectorRow("nobody", "lost", "image", np.ones(DIMENSION))])
    storage.upsert_thumbnails({"lost": b"jpeg"})
    assert counts(run(storage, SmallProvider(), [folder])) == (0, 15, 0, 0)
    assert storage.index_states()["vision"].n_rows == 12
    assert storage.thumbnails(["lost"]) == {}


def test_rows_without_vectors_are_encoded_again(tmp_path):
    folder = write_folder(tmp_path / "in")
    whole = MultimodalStorage(tmp_path / "library")
    run(whole, SmallProvider(), [folder])
    before = snapshot(whole)
    shutil.rmtree(whole.path / f"clip_embeddings__{CLIP_DIGEST[:8]}.lance")
    storage = MultimodalStorage(whole.path)
    assert counts(run(storage, SmallProvider(), [folder])) == (12, 3, 0, 0)
    assert_same(snapshot(storage), before)
