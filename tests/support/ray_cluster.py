"""A Ray of two raylets on this machine, for tests of the Ray engine."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import ray
from ray.cluster_utils import Cluster

_MEMORY = 80 * 1024**2  # bytes of each node's object store; outcomes are small


@contextlib.contextmanager
def running_cluster(n_nodes: int = 2) -> Iterator[Cluster]:
    """Run a head without workers and ``n_nodes`` raylets of one CPU each, and connect this process to them."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # names of sockets must be short
    (folder / "ray").mkdir()
    settings = {"RAY_TMPDIR": str(folder), "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    with patch.dict(os.environ, settings):
        head = {"num_cpus": 0, "object_store_memory": _MEMORY, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            for _ in range(n_nodes):
                add_node(cluster)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            cluster.wait_for_nodes()
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


def add_node(cluster: Cluster) -> object:
    """Add a raylet of one CPU."""
    return cluster.add_node(num_cpus=1, object_store_memory=_MEMORY)


def worker_pids() -> list[int]:
    """The processes of the engine's workers, which raylets that this process started have started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (path / "cmdline").read_bytes().startswith(b"ray::_Worker") and _parent(
                _parent(int(path.name))
            ) == os.getpid():
                found.append(int(path.name))
    return sorted(found)


def kill_a_worker() -> int:
    """Kill one of the workers as the system would, and return its process id."""
    pid = worker_pids()[0]
    os.kill(pid, signal.SIGKILL)
    return pid


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
