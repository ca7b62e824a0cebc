"""The other side of ``workers``: a process that decodes one file at a time for as long as its parent lives.

Whatever a native decoder does to it, a crash, a hang, chatter on the terminal, stays here.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from arrowlens.workers.process import receive, send
from arrowlens.workers.resources import Spent

GRACE_S = 30.0  # beyond its limit, after which a worker that nobody ended ends itself
_PR_SET_PDEATHSIG = 1
_LEAST_RESERVED = 1_500_000_000  # bytes that a decoder may reserve, however few it may write to


def main(parent: int) -> None:
    """Serve ``parent``, a process id, over the standard streams until they are closed; does not return."""
    with contextlib.suppress(KeyboardInterrupt):
        requests, replies = _take_streams()
        _bind_to(parent)
        try:
            gc.disable()  # the modules of the step are imported here, a tenth faster so
            step = receive(requests)
            gc.freeze()
            gc.enable()
            send(replies, ("ready", None, None))
            while True:
                _answer(step, receive(requests), replies)
        except (EOFError, BrokenPipeError):
            pass  # nobody asks any more
        except BaseException:  # a fault of the worker itself, which its parent reports
            with contextlib.suppress(OSError):
                send(replies, ("error", traceback.format_exc(), None))
    os._exit(0)


def _answer(step: Any, request: Any, replies: int) -> None:  # noqa: ANN401 - a step and a request of any kind
    """Answer one request: a method of the step, its arguments, and the seconds and the bytes that it may take."""
    method, arguments, limit_s, max_bytes = request
    _limit_memory(max_bytes)
    spent = Spent()
    # Held by the kernel: it works where a decoder holds the interpreter, and where the parent is gone.
    signal.setitimer(signal.ITIMER_REAL, limit_s + GRACE_S)
    kind, result = "result", None
    with spent.timed():
        try:
            result = getattr(step, method)(*arguments)
        except MemoryError:
            kind = "out of memory"
    signal.setitimer(signal.ITIMER_REAL, 0)
    send(replies, (kind, result, spent), consume=True)


def _limit_memory(max_bytes: int) -> None:
    """Have the system refuse memory far beyond the limit, at which the parent ends this process.

    The parent looks every few milliseconds at what is written to; this is for what is faster than that. The system
    counts what is reserved, which is far more for some decoders, and those would call a healthy file damaged.
    """
    if sys.platform != "linux":
        return
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        reserved = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))
    except (OSError, StopIteration):
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = reserved + max(_LEAST_RESERVED, 2 * max_bytes)
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _take_streams() -> tuple[int, int]:
    """Return the pipes of the parent; what libraries write to the standard streams goes nowhere from here on."""
    requests, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    return requests, replies


def _bind_to(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":  # elsewhere the closed pipe and the timer have to do
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before that
        os._exit(0)
