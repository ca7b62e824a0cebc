"""A Ray of two raylets on this machine, for tests of the Ray engine."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import patch

import ray
from ray.cluster_utils import Cluster

N_NODES = 2
_MEMORY = 80 * 1024**2  # bytes of each node's object store; outcomes are small

_ROOT = Path(__file__).parents[2]
_CLUSTER = """
import sys
from multiprocessing.connection import Connection
from tests.support.ray_cluster import run

run(Connection(int(sys.argv[1])))
"""


class RunningCluster:
    """A head without workers and raylets of one CPU each, started and ended by a process of their own.

    Ray starts its processes by forking, which Linux refuses to a process that has more memory reserved than the machine
    has, as a test process has after hours of large decoders.
    """

    def __init__(self, pid: int, orders: Connection) -> None:
        self._pid = pid
        self._orders = orders
        self.address: str = orders.recv()

    def replace_node(self, number: int) -> None:
        """Kill raylet ``number``, counted from the one that runs for longest, and add another."""
        self._orders.send(number)
        self._orders.recv()

    def worker_pids(self) -> list[int]:
        """The processes of the engine's workers, whose parents are the raylets."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                is_worker = (path / "cmdline").read_bytes().startswith(b"ray::_Worker")
                if is_worker and _parent(_parent(int(path.name))) == self._pid:
                    found.append(int(path.name))
        return sorted(found)

    def kill_a_worker(self) -> int:
        """Kill one of the workers as the system would, and return its process id."""
        pid = self.worker_pids()[0]
        os.kill(pid, signal.SIGKILL)
        return pid


@contextlib.contextmanager
def running_cluster() -> Iterator[RunningCluster]:
    """Run a cluster of ``N_NODES`` raylets, and connect this process to it."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # names of sockets must be short
    (folder / "ray").mkdir()
    settings = {"RAY_TMPDIR": str(folder), "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    ours, theirs = Pipe()
    with patch.dict(os.environ, settings), ours:
        command = [sys.executable, "-c", _CLUSTER, str(theirs.fileno())]
        process = subprocess.Popen(command, cwd=_ROOT, pass_fds=[theirs.fileno()])
        theirs.close()
        try:
            cluster = RunningCluster(process.pid, ours)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            yield cluster
        finally:
            ray.shutdown()
            ours.close()
            process.wait()
            shutil.rmtree(folder, ignore_errors=True)


def run(orders: Connection) -> None:
    """Start the cluster, say its address, and replace nodes until the other end of ``orders`` is closed."""
    head = {"num_cpus": 0, "object_store_memory": _MEMORY, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = [_add_node(cluster) for _ in range(N_NODES)]
        cluster.wait_for_nodes()
        orders.send(cluster.address)
        with contextlib.suppress(EOFError):
            while True:
                cluster.remove_node(nodes.pop(orders.recv()), allow_graceful=False)
                nodes.append(_add_node(cluster))
                orders.send(None)
    finally:
        cluster.shutdown()


def _add_node(cluster: Cluster) -> object:
    return cluster.add_node(num_cpus=1, object_store_memory=_MEMORY)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
