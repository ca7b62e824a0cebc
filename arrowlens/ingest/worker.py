"""The other side of ``workers``: a process that decodes one file at a time for as long as its parent lives.

Whatever a native decoder does to it, a crash, a hang, chatter on the terminal, stays here.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import traceback
from typing import Any

from arrowlens.ingest.channel import receive, send
from arrowlens.ingest.measuring import Spent, peak_memory

GRACE_S = 30.0  # beyond its limit, after which a worker that nobody ended ends itself
_PR_SET_PDEATHSIG = 1


def main(parent: int) -> None:
    """Serve ``parent``, a process id, over the standard streams until they are closed; does not return."""
    with contextlib.suppress(KeyboardInterrupt):
        requests, replies = _take_streams()
        _bind_to(parent)
        try:
            step = receive(requests)
            send(replies, ("ready", None, None))
            while True:
                _answer(step, receive(requests), replies)
        except (EOFError, BrokenPipeError):
            pass  # nobody asks any more
        except BaseException:  # what is wrong with the worker itself: its parent says so
            with contextlib.suppress(OSError):
                send(replies, ("error", traceback.format_exc(), None))
    os._exit(0)


def _answer(step: Any, request: Any, replies: int) -> None:  # noqa: ANN401 - a step and a request of any kind
    """One request: a method of the step, its arguments, and the seconds that it may take."""
    method, arguments, limit_s = request
    spent = Spent()
    # Held by the kernel: it works where a decoder holds the interpreter, and where the parent is gone.
    signal.setitimer(signal.ITIMER_REAL, limit_s + GRACE_S)
    with spent.timed():
        result = getattr(step, method)(*arguments)
    signal.setitimer(signal.ITIMER_REAL, 0)
    send(replies, ("result", result, (spent, 0 if sys.platform == "linux" else peak_memory())))


def _take_streams() -> tuple[int, int]:
    """The pipes of the parent; what libraries write to the standard streams goes nowhere from here on."""
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
