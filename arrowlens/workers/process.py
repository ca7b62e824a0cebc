"""A process that decodes, over two pipes: what a native decoder does to it is said, and harms nothing else.

It is a plain Python process, not one of ``multiprocessing``, which would run the user's script again in it.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from arrowlens.errors import WorkerError
from arrowlens.media.decoded import EXACT_PIXEL_BYTES, MEMORY_REASON, PIXEL_BYTES, SECOND_BYTES, Limits
from arrowlens.workers.channel import receive, send
from arrowlens.workers.resources import Spent, private_memory

# What a process that decodes may hold in memory at ordinary work. The memory of a run with W such processes is at most
# A + W * B: B is this, and A is the run's own process with its models, and what a large file takes beyond B.
ORDINARY_BYTES = 250_000_000
_BESIDE_A_LARGE_FILE = 180_000_000  # the idle process, the file's bytes, and working memory
_START_LIMIT_S = 120.0
_ATTEMPTS = 3  # to start; what kills a worker then has nothing to do with a file
_TICK_S = 0.25
_LOOK_S = 0.01  # between two looks at a worker's memory: at 2 GB a second, 20 MB come in that time
_NEAR = 0.8  # of the limit: a worker that crashes with so much in memory crashed for want of it
_PIPE_BYTES = 1 << 20
_END_LIMIT_S = 5.0
_BOOT = "import sys; sys.path[:] = sys.argv[2:]; from arrowlens.workers.worker import main; main(int(sys.argv[1]))"
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
# Blocks of a megabyte go back to the system at once: glibc would keep the pieces of a long recording beside the whole.
_ENVIRONMENT = {**dict.fromkeys(_ONE_THREAD, "1"), "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}


class LostError(Exception):
    """The worker is gone; says why, in words for the ledger."""


class CrashError(LostError):
    """By itself, or by the system: it may not have been the file's doing."""


class MemoryLimitError(LostError):
    """It took more memory than it may, and was ended for that."""


class ClosedError(Exception):
    """The run is over, and nobody wants the result."""


class WorkerProcess:
    """A running worker; the thread that makes it must outlive it, since some systems end it with the thread.

    Args:
        closing: once it is set, nobody waits for results any more.

    Raises:
        WorkerError: it cannot be started.
    """

    def __init__(self, closing: threading.Event) -> None:
        self._closing = closing
        self._left_s = 0.0
        self._max_bytes = self._held = 0
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", "-c", _BOOT, str(os.getpid()), *map(str, sys.path)],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **_ENVIRONMENT},
                process_group=0,  # a terminal's Ctrl-C is for the run, which ends its workers in order
            )
        except (OSError, ValueError, TypeError) as error:  # TypeError: an embedded Python that names no program
            raise WorkerError(f"a process for decoding cannot be started ({error}); use fewer --workers") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._replies = self._process.stdin.fileno(), self._process.stdout.fileno()
        _widen(self._replies)
        self._poll = select.poll()
        self._poll.register(self._replies, select.POLLIN)

    def begin(self, step: object) -> None:
        """Hand over the step, and wait until it is understood.

        Raises:
            LostError: the process ended or hangs. WorkerError: it cannot work here.
        """
        self._max_bytes = 0
        self._exchange(step, _START_LIMIT_S)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(self, method: str, arguments: tuple[object, ...], limit_s: float, max_bytes: int) -> tuple[Any, Spent]:
        """Call a method of the step.

        Args:
            method: its name. arguments: picklable.
            limit_s: seconds that it may take.
            max_bytes: that the process may hold in memory; with more, it is ended.

        Returns:
            The result, and the seconds it took.

        Raises:
            MemoryLimitError: it took too much memory. LostError: the process crashed, or took too long.
            WorkerError: the step itself is broken.
        """
        self._max_bytes, self._held = max_bytes, 0
        result, spent = self._exchange((method, arguments, limit_s, max_bytes), limit_s)
        return result, spent

    def kill(self) -> None:
        """End it now. One that the system holds, on a disk that does not answer, is left behind."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_LIMIT_S)

    def _exchange(self, request: object, limit_s: float) -> tuple[Any, Any]:
        self._left_s = limit_s
        try:
            send(self._requests, request)
            reply: Any = receive(self._replies, self._wait)
        except (EOFError, BrokenPipeError) as error:
            how = self._how_it_ended()
            if self._max_bytes and self._held > _NEAR * self._max_bytes:
                raise MemoryLimitError(out_of_memory(self._max_bytes)) from error
            raise CrashError(how) from error
        except TimeoutError as error:
            raise LostError(f"decoding took longer than {limit_s:g} s and was stopped") from error
        kind, value, costs = reply
        if kind == "out of memory":
            raise MemoryLimitError(out_of_memory(self._max_bytes))
        if kind == "error":
            cause = value.strip().splitlines()[-1]
            raise WorkerError(f"a process for decoding failed: {cause}; report it with the file's name") from None
        return value, costs

    def _wait(self) -> None:
        """Until there is something to read. Time in which this process did not run itself hardly counts."""
        while not self._poll.poll(0):
            if self._closing.is_set():
                raise ClosedError
            if self._left_s <= 0:
                raise TimeoutError
            tick = min(_LOOK_S if self._max_bytes else _TICK_S, self._left_s)
            self._check_memory()
            started = time.monotonic()
            self._poll.poll(max(1.0, 1000 * tick))
            self._left_s -= min(time.monotonic() - started, 2 * tick)

    def _check_memory(self) -> None:
        if not self._max_bytes:
            return
        self._held = max(self._held, private_memory(self._process.pid))
        if self._held > self._max_bytes:
            self.kill()
            raise MemoryLimitError(out_of_memory(self._max_bytes))

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            return "the decoder closed its pipe"
        if status == -signal.SIGKILL:
            return "the decoder was killed (signal 9, SIGKILL), possibly out of memory"
        if status < 0:
            return f"the decoder crashed (signal {-status}, {_signal_name(-status)})"
        return f"the decoder ended (exit status {status})"


def large_bytes(limits: Limits, *, exact: bool = False) -> int:
    """Return what a process may hold while it decodes a large file, of which there is one at a time.

    Args:
        limits: the largest picture and the longest recording that are allowed decide.
        exact: pictures are decoded in full.
    """
    pixels = limits.max_pixels * (EXACT_PIXEL_BYTES if exact else PIXEL_BYTES)
    return _BESIDE_A_LARGE_FILE + int(max(pixels, limits.max_seconds * SECOND_BYTES))


def out_of_memory(max_bytes: int) -> str:
    """The reason of a file that took more than ``max_bytes`` to decode; one line for the user."""
    return (
        f"{MEMORY_REASON} (over {max_bytes / 1e6:,.0f} MB while it was decoded); store it smaller or in another format"
    )


def started(step: object, closing: threading.Event) -> WorkerProcess:
    """A worker that has understood its step, a picklable object whose methods it is to call.

    Raises:
        WorkerError: it cannot be started, or not used. ClosedError: ``closing`` was set meanwhile.
    """
    for attempt in range(_ATTEMPTS):
        process = WorkerProcess(closing)
        try:
            process.begin(step)
        except LostError as lost:
            process.kill()
            if attempt + 1 == _ATTEMPTS:
                raise WorkerError(f"a process for decoding does not start: {lost}; free memory") from lost
        except BaseException:
            process.kill()
            raise
        else:
            return process
    raise AssertionError("unreachable")


def _widen(pipe: int) -> None:
    """Let a pipe hold a whole result, so that a worker is at its next file while this one is fetched."""
    if sys.platform == "linux":
        with suppress(OSError):  # a user may have only so much of it
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
