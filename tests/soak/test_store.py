"""The library on disk: many small runs leave no more behind than one large one; a disk that is really full."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from arrowlens import Library
from tests.soak.processes import Run
from tests.soak.whole import assert_same, assert_searchable, assert_whole, n_bytes, read
from tests.support.folders import write_picture

BLOAT = 1.3


def picture(folder: Path, number: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_picture(folder / f"{number:05d}.jpg", number, (320, 240))


def query_ms(library: Library, n_queries: int = 30) -> float:
    """The median time of a search."""
    dice, seconds = np.random.default_rng(0), []
    storage = library._storage  # the search itself, without the text tower
    record = storage.settings.models["vision"]
    for _ in range(n_queries):
        started = time.perf_counter()
        storage.search("vision", record.recipe_digest, dice.standard_normal(record.dimension), 20)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds) * 1000)


def small_runs_and_one_large(tmp_path: Path, n_runs: int, n_each: int) -> None:
    """A library filled in small steps, with files replaced and removed, beside one filled once."""
    folder = tmp_path / "in"
    small = Library.open(tmp_path / "small.lens", models="demo")
    for number in range(n_runs):
        for index in range(n_each):
            picture(folder / f"{number:03d}", number * n_each + index)
        if number % 5 == 4:  # what is replaced and removed must leave the disk, too
            write_picture(
                folder / f"{number - 1:03d}" / f"{(number - 1) * n_each:05d}.jpg", 10_000 + number, (320, 240)
            )
            (folder / f"{number - 2:03d}" / f"{(number - 2) * n_each:05d}.jpg").unlink()
        small.ingest(folder, workers=1)
    with Library.open(tmp_path / "large.lens", models="demo") as large:
        large.ingest(folder, workers=1)
        sizes = [n_bytes(tmp_path / name) for name in ("small.lens", "large.lens")]
        times = [query_ms(library) for library in (small, large)]
        states = [library._storage.index_states()["vision"] for library in (small, large)]
    small.close()
    print(f"\n{n_runs} runs: {sizes[0]:,} bytes, {times[0]:.1f} ms, {states[0].n_fragments} fragments; ", end="")
    print(f"one run: {sizes[1]:,} bytes, {times[1]:.1f} ms, {states[1].n_fragments} fragments")
    assert_same(read(tmp_path / "small.lens"), read(tmp_path / "large.lens"))
    assert_whole(read(tmp_path / "small.lens"), settled=True)
    assert sizes[0] <= BLOAT * sizes[1]
    n_files = [sum(path.is_file() for path in (tmp_path / name).rglob("*")) for name in ("small.lens", "large.lens")]
    print(f"files: {n_files[0]} and {n_files[1]}")
    assert n_files[0] <= n_files[1] + 60


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("n_each", [1, 20])
def test_fifty_small_runs_and_one_large(tmp_path, n_each):
    small_runs_and_one_large(tmp_path, 50, n_each)


@pytest.fixture
def small_disk(tmp_path):
    """Makes a file system of a size in bytes, of memory; needs root."""
    mounted = []

    def mount(name: str, size: int) -> Path:
        place = tmp_path / name
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True)
        if done.returncode != 0:
            pytest.skip("no file system can be mounted here; RLIMIT_FSIZE stands in for a full one in make test")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_disk_that_is_really_full(tmp_path, small_disk):
    """The library's disk fills up during the run; a larger one later, the library goes on from there."""
    folder = tmp_path / "in"
    for number in range(1200):
        picture(folder, number)
    with Run("ingest", folder, "--library", tmp_path / "undisturbed", "--models", "demo", "--json") as run:
        run.report()
    wanted, size = read(tmp_path / "undisturbed"), n_bytes(tmp_path / "undisturbed")
    for tenth in (1, 3, 5, 7, 9):
        disk = small_disk(f"disk {tenth}", size * tenth // 10)
        with Run("ingest", folder, "--library", disk / "a.lens", "--models", "demo", "--json") as run:
            status = run.wait()
            run.assert_nothing_left()
        assert (status, run.stdout, run.stderr.count("\n")) == (1, "", 1), run.stderr
        assert "free disk space" in run.stderr or "free space" in run.stderr
        larger = tmp_path / f"larger {tenth}"
        if (disk / "a.lens" / "library.json").exists():
            state = read(disk / "a.lens")
            assert_whole(state, settled=False)
            assert_searchable(disk / "a.lens", state)
            print(f"a disk for {tenth} tenths: {len(state.indexed)} of {len(wanted.indexed)} indexed")
        shutil.copytree(disk / "a.lens", larger)
        with Run("ingest", folder, "--library", larger, "--models", "demo", "--json") as run:
            run.report()
        assert_same(read(larger), wanted)
        assert_whole(read(larger), settled=True)
