"""`kill -9` at random moments of runs on a Ray cluster: the end is that of an undisturbed local run, bit by bit."""

from __future__ import annotations

import contextlib
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
    expected, dice = read(tmp_path / "here"), random.Random(0)
    kinds = [KINDS[number % len(KINDS)] for number in range(N_KILLS)]
    dice.shuffle(kinds)
    with running_cluster() as cluster:
        n_runs = 0
        while kinds:
            n_runs += 1
            library = tmp_path / f"there {n_runs}"
            while True:  # until a driver comes to its end
                command = [sys.executable, "-c", DRIVER, str(folder), str(library), cluster.address]
                driver = subprocess.Popen(command)
                while driver.poll() is None and kinds:
                    time.sleep(dice.uniform(0.5, 6))
                    if driver.poll() is None and kill(kinds[-1], driver, cluster, dice):
                        kinds.pop()  # otherwise it has not begun yet: the same again
                driver.wait()
                if driver.returncode == 0:
                    break
                assert driver.returncode == -signal.SIGKILL, "only what was killed fails"
            subprocess.run(command, check=True)  # a file whose decoder was killed twice is left to the next run
            assert_equal(read(library), expected)
            assert MultimodalStorage(library).repair() == 0
    print(f"{n_runs} runs, {N_KILLS} kills")


LOCAL = """
import sys
from arrowlens.ingest import run
from arrowlens.store import MultimodalStorage
from tests.integration.test_ingest_ray import demo_models

run(MultimodalStorage(sys.argv[2]), demo_models(), [sys.argv[1]])
"""


def kill(kind, driver, cluster, dice) -> bool:
    """Kill one of a kind; return whether there was one. Workers that still start are left alone: three are an error."""
    if kind == "driver":
        driver.kill()
        return True
    if kind == "raylet":
        cluster.replace_node(dice.randrange(N_NODES))
        return True
    decoders = {worker: workers_of(worker) for worker in cluster.worker_pids()}
    at_work = [worker for worker, pids in decoders.items() if pids]
    with contextlib.suppress(IndexError, ProcessLookupError):  # there is none yet, or it has just ended
        worker = dice.choice(at_work)
        os.kill(worker if kind == "worker" else dice.choice(decoders[worker]), signal.SIGKILL)
        return True
    return False
