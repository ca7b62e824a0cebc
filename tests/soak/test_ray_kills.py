"""`kill -9` at random moments of runs on a Ray cluster: the end is that of an undisturbed local run, bit by bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from arrowlens.store import MultimodalStorage
from tests.integration.test_ingest_ray import assert_equal
from tests.soak.whole import read
from tests.support.folders import write_folder
from tests.support.processes import workers_of
from tests.support.ray_cluster import N_NODES, running_cluster

N_KILLS = 30
KINDS = ("worker", "decoder", "driver", "raylet")
DRIVER = """
import sys
from arrowlens.ingest import IngestOptions, RayOptions, run
from arrowlens.store import MultimodalStorage
from tests.integration.test_ingest_ray import demo_models

folder, library, address = sys.argv[1:]
run(MultimodalStorage(library), demo_models(), [folder], IngestOptions(commit_every=16), engine=RayOptions(address))
"""

pytestmark = [
    pytest.mark.soak,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]


def test_thirty_kills_leave_what_an_undisturbed_run_leaves(tmp_path):
    folder = write_folder(tmp_path / "in", 400, 8)
    subprocess.run([sys.executable, "-c", LOCAL, folder, tmp_path / "here"], check=True)
    expected, dice, counts = read(tmp_path / "here"), random.Random(0), dict.fromkeys(KINDS, 0)
    with running_cluster() as cluster:
        n_killed, n_runs = 0, 0
        while n_killed < N_KILLS:
            n_runs += 1
            library = tmp_path / f"there {n_runs}"
            while True:  # until a driver comes to its end
                command = [sys.executable, "-c", DRIVER, str(folder), str(library), cluster.address]
                driver = subprocess.Popen(command)
                while driver.poll() is None and n_killed < N_KILLS:
                    time.sleep(dice.uniform(2, 12))
                    kind = dice.choice(KINDS)
                    if driver.poll() is None and kill(kind, driver, cluster, dice):
                        n_killed, counts[kind] = n_killed + 1, counts[kind] + 1
                driver.wait()
                if driver.returncode == 0:
                    break
                assert driver.returncode == -signal.SIGKILL, "only what was killed fails"
            assert_equal(read(library), expected)
            assert MultimodalStorage(library).repair() == 0
    print(f"{n_runs} runs, killed: {counts}")
    assert all(counts.values())


LOCAL = """
import sys
from arrowlens.ingest import run
from arrowlens.store import MultimodalStorage
from tests.integration.test_ingest_ray import demo_models

run(MultimodalStorage(sys.argv[2]), demo_models(), [sys.argv[1]])
"""


def kill(kind, driver, cluster, dice) -> bool:
    """Kill one of a kind; return whether there was one."""
    workers = cluster.worker_pids()
    if kind == "driver":
        driver.kill()
        return True
    if kind == "raylet":
        cluster.replace_node(dice.randrange(N_NODES))
        return True
    victims = workers if kind == "worker" else [pid for worker in workers for pid in workers_of(worker)]
    if victims:
        os.kill(dice.choice(victims), signal.SIGKILL)
    return bool(victims)
