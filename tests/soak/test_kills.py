"""`kill -9` at random moments: what was committed stays, the library opens and answers, and the end is the same."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.soak.processes import Run
from tests.soak.whole import State, assert_same, assert_searchable, assert_whole, n_bytes, read
from tests.support.folders import write_picture, write_sound

BLOAT = 1.3  # what killed runs may leave on disk, beside what an undisturbed one takes


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Runs over ``folder`` from a library as it was before (None: there was none), to be cut off ``n_kills`` times."""

    folder: Path
    before: Path | None
    n_kills: int
    seed: int

    def start(self, library: Path) -> Run:
        return Run("ingest", self.folder, "--library", library, "--models", "demo", "--workers", "2", "--json")

    def fresh(self, library: Path) -> Path:
        if self.before is not None:
            shutil.copytree(self.before, library)
        return library


def fill(folder: Path, n_pictures: int, n_sounds: int) -> Path:
    """Pictures and sounds in several folders; the last sound has several windows."""
    for number in range(n_pictures):
        parent = folder / f"{number % 7}"
        parent.mkdir(parents=True, exist_ok=True)
        write_picture(parent / f"{number:05d}.{('png', 'jpg')[number % 2]}", number)
    for number in range(n_sounds):
        write_sound(folder / f"{number:03d}.wav", number, 17.0 if number == n_sounds - 1 else 2.0)
    return folder


def change(folder: Path) -> None:
    """Every kind of change that a run can meet, to a part of the files each."""
    paths = sorted(path for path in folder.rglob("*.*") if path.suffix != ".wav")
    for number, path in enumerate(paths):
        match number % 8:
            case 0:
                path.unlink()
            case 1:
                write_picture(path, 100_000 + number)
            case 2:
                path.rename(path.with_name("moved " + path.name))
            case 3:
                shutil.copy(path, path.with_name("copy of " + path.name))
            case 4:
                write_picture(path.with_name("new " + path.name), 200_000 + number)
            case 5:
                os.utime(path, (number, number))
    paths[-1].write_bytes(b"no longer a picture")


def kill_and_compare(scenario: Scenario, tmp_path: Path) -> int:
    """Cut runs off until enough of them were; returns how many left a part of the work behind.

    Each library goes on until a run over it comes to its end, and must then be what an undisturbed run makes.
    """
    undisturbed = scenario.fresh(tmp_path / "undisturbed")
    started = time.monotonic()
    with scenario.start(undisturbed) as run:
        run.report()
    duration = time.monotonic() - started
    wanted, size = read(undisturbed), n_bytes(undisturbed)
    assert_whole(wanted, settled=True)
    first = read(scenario.before) if scenario.before is not None else State([], {}, {}, {}, {})
    dice, n_kills, n_partial, n_lives = np.random.default_rng(scenario.seed), 0, 0, 0
    while n_kills < scenario.n_kills:
        n_lives += 1
        library = scenario.fresh(tmp_path / f"life {n_lives}")
        earlier, ended = first, False
        while not ended:
            delay = dice.uniform(0, duration) if n_kills < scenario.n_kills else 600.0
            ended = not killed(scenario, library, delay, whole_group=bool(dice.integers(2)))
            n_kills += not ended
            if (library / "library.json").exists():
                state = read(library)
                assert_survived(library, state, earlier, wanted)
                n_partial += not ended and first.media != state.media != wanted.media
                earlier = state
        assert_same(earlier, wanted)
        assert_whole(earlier, settled=True)
        assert n_bytes(library) <= BLOAT * size
        shutil.rmtree(library)
    print(f"{n_kills} kills over {duration:.1f} s, {n_partial} of them between commits, {n_lives} libraries")
    return n_partial


def killed(scenario: Scenario, library: Path, delay: float, whole_group: bool) -> bool:
    """Whether a run was still going on after ``delay`` seconds, and is killed now; else it ended well."""
    with scenario.start(library) as run:
        try:
            status = run.wait(delay)
        except subprocess.TimeoutExpired:
            run.kill(whole_group)
            run.assert_nothing_left()
            return True
        assert status == 0, run.stderr
        run.assert_nothing_left()
        return False


def assert_survived(library: Path, state: State, earlier: State, wanted: State) -> None:
    """The library opens and answers; a row is one of before or of the end, and none of the end goes."""
    assert_whole(state, settled=False)
    assert_searchable(library, state)
    old = {row["media_id"]: row for row in earlier.media}
    new = {row["media_id"]: row for row in wanted.media}
    for row in state.media:
        assert row in (old.get(row["media_id"]), new.get(row["media_id"]))
    now = {row["media_id"]: row for row in state.media}
    for media_id, row in old.items():
        assert now.get(media_id) in (row, new.get(media_id))
        assert row != new.get(media_id) or now.get(media_id) == row, "what was committed stays"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("n_pictures", "n_sounds", "n_kills"),
    [pytest.param(200, 2, 3, id="short"), pytest.param(1500, 8, 18, id="long", marks=pytest.mark.soak)],
)
def test_an_update_killed_at_random_moments(tmp_path, n_pictures, n_sounds, n_kills):
    folder, before = fill(tmp_path / "in", n_pictures, n_sounds), tmp_path / "before"
    with Scenario(folder, None, 0, 0).start(before) as run:
        assert run.report()["indexed"] == n_pictures + n_sounds
    change(folder)
    n_partial = kill_and_compare(Scenario(folder, before, n_kills, seed=4), tmp_path)
    assert n_kills < 10 or n_partial > 0, "no kill met a run at work"


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_first_ingest_killed_at_random_moments(tmp_path):
    folder = fill(tmp_path / "in", 1500, 8)
    assert kill_and_compare(Scenario(folder, None, 18, seed=5), tmp_path) > 0, "no kill met a run at work"
