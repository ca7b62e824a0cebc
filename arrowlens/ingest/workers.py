"""Decoding in processes of its own: a decoder that crashes or hangs costs its file, and is named.

``Workers(step, limit_s)`` describes them; each thread of the run opens one with ``workers.open()`` and calls it as it
would call the step. A worker is a plain Python process over two pipes (not one of ``multiprocessing``, which would run
the user's script again in it). It starts with its first file.
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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from arrowlens.errors import WorkerError
from arrowlens.ingest.channel import receive, send
from arrowlens.ingest.measuring import Spent, forget_peak, peak_memory
from arrowlens.ingest.prepare import Prepared
from arrowlens.ingest.walk import Found
from arrowlens.media import Decoded

_START_LIMIT_S = 120.0
_ATTEMPTS = 3  # to start; what kills a worker then has nothing to do with a file
_TICK_S = 0.25
_PIPE_BYTES = 1 << 20
_END_LIMIT_S = 5.0
_BOOT = "import sys; sys.path[:] = sys.argv[2:]; from arrowlens.ingest.worker import main; main(int(sys.argv[1]))"
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
# Blocks of a megabyte go back to the system at once: glibc would keep the pieces of a long recording beside the whole.
_ENVIRONMENT = {**dict.fromkeys(_ONE_THREAD, "1"), "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
_LARGE = 64 * 1024**2  # bytes of a result that keeps others waiting until it is used


class Step(Protocol):
    """What a worker does with a file; picklable."""

    def __call__(self, found: Found) -> Prepared:
        """Decode and prepare it beside others; a result that ``needs_room`` asks for ``alone``."""

    def alone(self, found: Found) -> Prepared:
        """The same while no other file takes much memory."""

    def content(self, found: Found) -> str | None:
        """Its content hash, None when it cannot be had."""


class _LostError(Exception):
    """The worker is gone; says why, in words for the ledger."""


class _CrashError(_LostError):
    """By itself, or by the system: it may not have been the file's doing."""


class _ClosedError(Exception):
    """The run is over, and nobody wants the result."""


class Workers:
    """The worker processes of one run; safe between threads.

    Attributes:
        step, limit_s: as given. closing: nobody waits for results any more.
        spent: seconds they worked, together; the caller's, who reads it while they work.
    """

    def __init__(self, step: Step, limit_s: float, spent: Spent) -> None:
        self.spent = spent
        self.step, self.limit_s = step, limit_s
        self.closing = threading.Event()
        self._room, self._lock = threading.Lock(), threading.Lock()
        self._unused: Prepared | None = None  # a large result, for which the room is held
        self._peak = self._peak_alone = 0

    @property
    def peak(self) -> int:
        """Bytes that they held at most: as if all had held most at once, beside the file that took most room.

        Workers that crashed are left out.
        """
        return self._peak + self._peak_alone

    def add(self, spent: Spent) -> None:
        """Seconds that a worker spent."""
        with self._lock:
            self.spent.busy += spent.busy
            self.spent.idle += spent.idle

    def take_room(self) -> None:
        """Wait until nothing else takes much memory."""
        while not self._room.acquire(timeout=_TICK_S):
            if self.closing.is_set():
                raise _ClosedError

    def leave_room(self, result: Prepared | None) -> None:
        """Let others take it; for a large ``result`` only once it is ``used``."""
        if result is not None and result.n_bytes > _LARGE:
            self._unused = result
        else:
            self._room.release()

    def used(self, result: Prepared) -> None:
        """Say that a result is done with; every result's user does."""
        if result is self._unused:
            self._unused = None
            self._room.release()

    def close(self) -> None:
        """Have workers drop what they are at; for the end of a run that does not wait for it."""
        self.closing.set()

    @contextmanager
    def open(self) -> Iterator[_Decoder]:
        """A worker for the calling thread, which must outlive it: some systems end it with the thread."""
        decoder = _Decoder(self)
        try:
            yield decoder
        except _ClosedError:
            pass
        finally:
            decoder.close()
            with self._lock:
                self._peak += decoder.peak
                self._peak_alone = max(self._peak_alone, decoder.peak_alone)


class _Decoder:
    """``decoder(found) -> Prepared`` in a process, whatever becomes of it."""

    def __init__(self, workers: Workers) -> None:
        self.peak = self.peak_alone = 0
        self._workers = workers
        self._process: _Process | None = None

    def __call__(self, found: Found) -> Prepared:
        try:
            return self._decode(found)
        except _LostError as lost:
            return self._blame(found, str(lost))

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self.peak = max(self.peak, self._process.peak())
            self._process.kill()
            self._process = None

    def _decode(self, found: Found) -> Prepared:
        try:
            prepared: Prepared = self._ask("__call__", found)
            if not prepared.needs_room:
                return prepared
        except _CrashError:
            pass  # perhaps for want of memory: once more, alone
        self._workers.take_room()
        result: Prepared | None = None
        try:
            if self._process is not None:
                self.peak = max(self.peak, self._process.peak(anew=True))
            result = self._ask("alone", found)
            if self._process is not None:
                self.peak_alone = max(self.peak_alone, self._process.peak(anew=True))
        finally:
            self._workers.leave_room(result)
        return result

    def _blame(self, found: Found, reason: str) -> Prepared:
        """A file that took its worker with it, known by its content so that the next run leaves it alone."""
        try:
            content = self._ask("content", found)
        except _LostError:
            content = None
        decoded = Decoded(found.modality, reason, content, found.size or 0)  # type: ignore[arg-type]
        return Prepared(found, decoded, unread=content is None)

    def _ask(self, method: str, found: Found) -> Any:  # noqa: ANN401 - as the step's methods
        process = self._process or self._start()
        try:
            result, spent = process.ask(method, found, self._workers.limit_s)
        except (_LostError, _ClosedError, WorkerError):
            process.kill()
            self._process = None
            raise
        self._workers.add(spent)
        return result

    def _start(self) -> _Process:
        for attempt in range(_ATTEMPTS):
            process = _Process(self._workers.closing)
            try:
                process.begin(self._workers.step)
            except _LostError as lost:
                process.kill()
                if attempt + 1 == _ATTEMPTS:
                    raise WorkerError(f"a process for decoding does not start: {lost}; free memory") from lost
            except BaseException:
                process.kill()
                raise
            else:
                self._process = process
                return process
        raise AssertionError("unreachable")


class _Process:
    """A running worker."""

    def __init__(self, closing: threading.Event) -> None:
        self._closing = closing
        self._left_s = 0.0
        self._told_peak = 0
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

    def begin(self, step: Step) -> None:
        """Hand over the step, and wait until it is understood.

        Raises:
            _LostError: the process ended or hangs. WorkerError: it cannot work here.
        """
        self._exchange(step, _START_LIMIT_S)

    def ask(self, method: str, found: Found, limit_s: float) -> tuple[Any, Spent]:
        """Call a method of the step; the result, and what it took.

        Raises:
            _LostError: the process crashed, or took too long. WorkerError: the step itself is broken.
        """
        result, (spent, self._told_peak) = self._exchange((method, (found,), limit_s), limit_s)
        return result, spent

    def peak(self, *, anew: bool = False) -> int:
        """The most bytes that it held so far; ``anew`` where the system allows it, from now on."""
        peak = peak_memory(self._process.pid) or self._told_peak
        if anew:
            forget_peak(self._process.pid)
        return peak

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
            raise _CrashError(self._how_it_ended()) from error
        except TimeoutError as error:
            raise _LostError(f"decoding took longer than {limit_s:g} s and was stopped") from error
        kind, value, costs = reply
        if kind == "error":
            cause = value.strip().splitlines()[-1]
            raise WorkerError(f"a process for decoding failed: {cause}; report it with the file's name") from None
        return value, costs

    def _wait(self) -> None:
        """Until there is something to read. Time in which this process did not run itself hardly counts."""
        while not self._poll.poll(0):
            if self._closing.is_set():
                raise _ClosedError
            if self._left_s <= 0:
                raise TimeoutError
            tick = min(_TICK_S, self._left_s)
            started = time.monotonic()
            self._poll.poll(max(1.0, 1000 * tick))
            self._left_s -= min(time.monotonic() - started, 2 * tick)

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            return "the decoder closed its pipe"
        if status == -signal.SIGKILL:
            return "the decoder was killed (signal 9, SIGKILL), perhaps for want of memory"
        if status < 0:
            return f"the decoder crashed (signal {-status}, {_signal_name(-status)})"
        return f"the decoder ended (exit status {status})"


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
