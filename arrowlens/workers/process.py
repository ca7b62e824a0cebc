"""A worker process over two pipes. Decoder crashes are reported without ending the run.

It is a plain Python process, not one of ``multiprocessing``, which would run the user's script again in it. Objects go
over the pipes by ``send`` and ``receive``; arrays travel as they lie in memory.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from arrowlens.errors import MEMORY_REASON, WorkerError
from arrowlens.workers.resources import Spent, private_memory

# What a process that decodes may hold in memory at ordinary work. The memory of a run with W such processes is at most
# A + W * B: B is this, and A is the run's own process with its models, and what a large file takes beyond B.
ORDINARY_BYTES = 250_000_000
_START_LIMIT_S = 120.0
_ATTEMPTS = 3  # to start; what kills a worker then has nothing to do with a file
_TICK_S = 0.25
_LOOK_S = 0.01  # between two looks at a worker's memory: at 2 GB a second, 20 MB come in that time
_NEAR = 0.8  # of the limit: a worker that crashes with so much in memory crashed for want of it
_PIPE_BYTES = 1 << 20
_COUNT = struct.Struct("<I")  # of the parts of a message
_LARGE = 1 << 25  # bytes; smaller arrays may lie among other things
_MOST_AT_ONCE = 1 << 30  # bytes; a single read or write takes no more than 2 GB
_END_LIMIT_S = 5.0
_BOOT = "import sys; sys.path[:] = sys.argv[2:]; from arrowlens.workers.worker import main; main(int(sys.argv[1]))"
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
# Blocks of a megabyte go back to the system at once: glibc would keep the pieces of a long recording beside the whole.
_ENVIRONMENT = {**dict.fromkeys(_ONE_THREAD, "1"), "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}


class LostError(Exception):
    """Raised when the worker is gone; the message is the reason of the file."""


class CrashError(LostError):
    """Raised when it ended by itself or was ended by the system; the file may not be the cause."""


class MemoryLimitError(LostError):
    """Raised when it took more memory than it may, and was ended for that."""


class ClosedError(Exception):
    """Raised when the run is over, so that nobody wants the result."""


class WorkerProcess:
    """A running worker. The thread that makes it must outlive it, since some systems end it with the thread.

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
        """Send the step, and wait until the process has understood it.

        Raises:
            LostError: the process ended or hangs.
            WorkerError: it cannot work here.
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
            method: its name.
            arguments: picklable.
            limit_s: seconds that it may take.
            max_bytes: that the process may hold in memory; with more, it is ended.

        Returns:
            The result, and the seconds it took.

        Raises:
            MemoryLimitError: it took too much memory.
            LostError: the process crashed, or took too long.
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
        """Wait until there is something to read. Time in which this process did not run itself hardly counts."""
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


def out_of_memory(max_bytes: int) -> str:
    """Return the reason of a file that took more than ``max_bytes`` to decode; one line for the user."""
    return (
        f"{MEMORY_REASON} (over {max_bytes / 1e6:,.0f} MB while it was decoded); store it smaller or in another format"
    )


def start_worker(step: object, closing: threading.Event) -> WorkerProcess:
    """Start a worker that has understood its step, a picklable object whose methods it is to call.

    Raises:
        WorkerError: it cannot be started, or not used.
        ClosedError: ``closing`` was set meanwhile.
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


def send(fd: int, value: object, *, consume: bool = False) -> None:
    """Write an object: how many parts, their sizes, the pickle, then the memory of each array.

    Args:
        fd: the pipe.
        value: picklable.
        consume: give the memory of large arrays back to the system while they are written, so that two processes do not
            hold one at the same time. Nothing may use the object afterwards.

    Raises:
        OSError: the other side is gone.
    """
    arrays: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(value, protocol=5, buffer_callback=arrays.append)
    parts = [array.raw() for array in arrays]
    sizes = (len(pickled), *(part.nbytes for part in parts))
    header = _COUNT.pack(len(sizes)) + struct.pack(f"<{len(sizes)}Q", *sizes)
    _write(fd, memoryview(header + pickled))
    for part in parts:
        is_given_back = consume and part.nbytes >= _LARGE and sys.platform == "linux"
        step = _LARGE if is_given_back else max(1, part.nbytes)
        for start in range(0, part.nbytes, step):
            _write(fd, part[start : start + step])
            if is_given_back:
                _give_back(part[start : start + step])


def _write(fd: int, part: memoryview) -> None:
    start = 0
    while start < part.nbytes:
        start += os.write(fd, part[start : start + _MOST_AT_ONCE])


def _give_back(part: memoryview) -> None:
    """Let the system have the whole pages of a part of an array; their contents are lost."""
    address = np.frombuffer(part, np.uint8).ctypes.data
    first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    n_bytes = (address + part.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - first
    if n_bytes > 0:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(n_bytes), mmap.MADV_DONTNEED)


def receive(fd: int, wait: Callable[[], None] | None = None) -> object:
    """Read an object.

    Args:
        fd: the pipe.
        wait: returns once something can be read, or raises; called before each read.

    Raises:
        EOFError: the other side has closed the pipe.
    """
    (count,) = _COUNT.unpack(_read(fd, _COUNT.size, wait))
    sizes = struct.unpack(f"<{count}Q", _read(fd, 8 * count, wait))
    pickled, *arrays = [_read(fd, size, wait) for size in sizes]
    value: object = pickle.loads(pickled, buffers=arrays)
    return value


def _read(fd: int, size: int, wait: Callable[[], None] | None) -> memoryview:
    memory = np.empty(size, np.uint8).data
    start = 0
    while start < size:
        if wait is not None:
            wait()
        n_bytes = os.readv(fd, [memory[start : start + _MOST_AT_ONCE]])
        if n_bytes == 0:
            raise EOFError
        start += n_bytes
    return memory
