"""What is removed leaves the disk whatever the clock says, now or when it was written."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from arrowlens.store import ModelRecord, MultimodalStorage, maintenance
from tests.support.store_process import DIGEST, D, thumbnail_of, vector_of
from tests.support.store_process import commit as commit_files

NAME, CAPTION = "zanzibar", "quokkasmile"

# Preloaded into a process, it moves the wall clock of everything in it, lance's included, by a day.
_SHIFT = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(id, t);
    if (code == 0 && id == CLOCK_REALTIME) t->tv_sec += 86400;
    return code;
}
"""
_WRITE = """
import sys, time
from tests.integration.test_purging_and_the_clock import fill
fill(sys.argv[1])
print(time.time())
"""


def fill(path: str | Path) -> None:
    """Forty files, of which one has a name and a caption that are looked for, written by several commits."""
    storage = MultimodalStorage(path)
    storage.bind_models({"vision": ModelRecord(DIGEST, D)})
    commit_files(storage, [f"{number}" for number in range(39)])
    commit_files(storage, [NAME])
    row = {**storage.media([NAME]).to_pylist()[0], "caption": CAPTION, "description": CAPTION}
    del row["absolute_path"]
    storage.upsert_media([row])
    storage.repair()
    storage.optimize(thorough=False)


def traces(path: Path) -> list[str]:
    """Files below a library that hold the name, the caption, the vector or the thumbnail."""
    wanted = [NAME.encode(), CAPTION.encode(), vector_of(NAME).astype("float16").tobytes(), thumbnail_of(NAME)]
    files = [file for file in path.rglob("*") if file.is_file()]
    return [str(file.relative_to(path)) for file in files if any(part in file.read_bytes() for part in wanted)]


def test_nothing_of_a_removed_file_is_left_when_its_versions_are_of_the_future(tmp_path):
    """In earnest: another process writes under a clock that is a day ahead."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("moves the clock of a process with a preloaded library, for which a compiler is needed")
    source, shift = tmp_path / "shift.c", tmp_path / "shift.so"
    source.write_text(_SHIFT)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", shift, source, "-ldl"], check=True)
    path = tmp_path / "l"
    environment = {"LD_PRELOAD": str(shift), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", _WRITE, str(path)]
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert float(said) > dt.datetime.now(dt.UTC).timestamp() + 80_000
    assert traces(path)
    storage = MultimodalStorage(path, create=False)
    storage.delete_media([NAME])
    assert traces(path) == []
    assert storage.search("vision", DIGEST, vector_of("7"), 1)["media_id"].to_pylist() == ["7"]
    assert {shape.n_versions for shape in storage.table_stats().values()} == {1}


def test_nothing_of_a_removed_file_is_left_when_every_version_is_too_young_to_prune(tmp_path, monkeypatch):
    """The same as lance sees it: nothing is old enough."""
    monkeypatch.setattr(maintenance, "_AT_ONCE", dt.timedelta(days=1000))
    fill(tmp_path / "l")
    assert traces(tmp_path / "l")
    storage = MultimodalStorage(tmp_path / "l", create=False)
    storage.delete_media([NAME])
    assert traces(tmp_path / "l") == []
    assert len(storage.media([f"{number}" for number in range(39)])) == 39
