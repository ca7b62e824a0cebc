"""What work costs: seconds at it, seconds of waiting for a disk, and memory."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_SCHEDULE = Path("/proc/thread-self/schedstat")
_HIGH_WATER = "VmHWM:"


@dataclasses.dataclass(slots=True)
class Spent:
    """Seconds of one thread.

    Attributes:
        busy: at work, or waiting for something else than a core. idle: of these, not computing: waiting for a disk.
    """

    busy: float = 0.0
    idle: float = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add what the block takes. A moment in which other work had the core does not count where the system tells."""
        wall, computing, queued = time.perf_counter(), time.thread_time(), _seconds_queued()
        try:
            yield
        finally:
            computed = time.thread_time() - computing
            waited = _seconds_queued() - queued if queued is not None else 0.0  # type: ignore[operator]
            busy = max(computed, time.perf_counter() - wall - waited)
            self.busy += busy
            # Without the system's word, time without a core cannot be told from time at the disk.
            self.idle += busy - computed if queued is not None else 0.0


def peak_memory(pid: int | None = None) -> int:
    """The most bytes that a process has held in memory so far; this process without ``pid``, 0 where nobody says.

    Linux keeps the figure anew for each program; ``getrusage`` would give a worker the size of the process that started
    it.
    """
    try:
        lines = Path(f"/proc/{pid or 'self'}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return _peak_by_usage() if pid is None else 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(_HIGH_WATER)), 0)


def forget_peak(pid: int) -> bool:
    """Have ``peak_memory`` of another process start anew from what it holds now; whether the system does that."""
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def trim_memory() -> None:
    """Give freed memory back to the system, where the allocator (glibc's) would keep it for each thread; 20 ms."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _seconds_queued() -> float | None:
    """How long this thread has waited for a core in its life; None where the system does not say."""
    try:
        with open(_SCHEDULE, "rb") as file:  # noqa: PTH123 - twice a file: ten times as fast
            return int(file.read().split()[1]) * 1e-9
    except (OSError, IndexError, ValueError):
        return None


def _peak_by_usage() -> int:
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
