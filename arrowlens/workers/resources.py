"""Measures what work costs: seconds at it, seconds of waiting for a disk, and memory."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

_SCHEDULE = Path("/proc/thread-self/schedstat")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_FOOTPRINT_WORD = 9
_LOOK_S = 0.05
_LOOK_ANYWAY_S = 1.0


@dataclasses.dataclass(slots=True)
class Spent:
    """Seconds of one thread.

    Attributes:
        busy: at work, or waiting for something else than a core.
        idle: those of ``busy`` in which it did not compute: waiting for a disk.
    """

    busy: float = 0.0
    idle: float = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the seconds of the block, without those in which other work had the core where the system tells them."""
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


def private_memory(pid: int) -> int:
    """Return the bytes in memory that a process shares with no file, 0 where the system does not say; 10 microseconds.

    What a decoder allocates is among them as soon as it is written to. On macOS it is the process's footprint.
    """
    if sys.platform == "darwin":
        return _footprint(pid)
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123 - fifty times a second for each worker
            _, resident, shared, *_ = map(int, file.read().split())
    except (OSError, ValueError):
        return 0
    return (resident - shared) * _PAGE_BYTES


def proportional_memory(pid: int) -> int:
    """Return the bytes in memory of a process, pages shared with others divided by their number; milliseconds.

    Returns:
        Where the system does not say, the private bytes; 0 for a process that is gone.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return private_memory(pid)


class MemoryWatch:
    """Follows what this process and others hold in memory, together; a context manager.

    Args:
        others: called for the ids of the other processes, several times a second.

    Attributes:
        peak: bytes that all held at most at one moment, what they share counted once. Looked at each second, and within
            50 ms when what they do not share is more than ever before, since looking takes milliseconds of a core.
    """

    def __init__(self, others: Callable[[], Iterable[int]]) -> None:
        self._others = others
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="memory", daemon=True)
        self._most_private, self._looked = 0, 0.0
        self.peak = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _work(self) -> None:
        while not self._over.wait(_LOOK_S):
            private = sum(private_memory(pid) for pid in self._processes())
            if private > self._most_private or time.monotonic() - self._looked > _LOOK_ANYWAY_S:
                self._most_private = max(self._most_private, private)
                self._look()

    def _look(self) -> None:
        self._looked = time.monotonic()
        self.peak = max(self.peak, sum(proportional_memory(pid) for pid in self._processes()))

    def _processes(self) -> tuple[int, ...]:
        return os.getpid(), *self._others()


def _footprint(pid: int) -> int:
    """Return the bytes of a process on macOS: ``ri_phys_footprint`` of ``proc_pid_rusage``, its tenth 64-bit word."""
    usage = (ctypes.c_uint64 * 32)()
    status = ctypes.CDLL(None).proc_pid_rusage(pid, 0, ctypes.byref(usage))
    return int(usage[_FOOTPRINT_WORD]) if status == 0 else 0


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _seconds_queued() -> float | None:
    """Return how long this thread has waited for a core in its life; None where the system does not say."""
    try:
        with open(_SCHEDULE, "rb") as file:  # noqa: PTH123 - twice a file: ten times as fast
            return int(file.read().split()[1]) * 1e-9
    except (OSError, IndexError, ValueError):
        return None
