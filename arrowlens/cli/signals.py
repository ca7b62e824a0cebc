"""Ctrl-C: a long job is asked to stop first; a second one ends the process at once, without a traceback."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
_interrupts = 0


def end_on_interrupt() -> None:
    """Let a Ctrl-C end this process at once, which has nothing to clean up yet.

    For a process that is a command: a library keeps off its program's signals. While modules are imported nothing may
    be raised: numpy turns it into an ``ImportError`` of its own.
    """
    signal.signal(signal.SIGINT, _end_on_signal)
    sys.unraisablehook = _unraisable


def raise_on_interrupt() -> None:
    """Let the first Ctrl-C raise ``KeyboardInterrupt``, and each further one end this process, wherever it is."""
    signal.signal(signal.SIGINT, _interrupt)


def interrupted() -> bool:
    """Whether ``KeyboardInterrupt`` was raised, whatever the code that it passed made of it."""
    return _interrupts > 0


def say_interrupted() -> None:
    """Tell the user."""
    with contextlib.suppress(OSError):
        os.write(2, b"arrowlens: interrupted\n")  # not by a stream, which another write may hold


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that the job ends after what it is storing; the second one ends it."""
    stop = threading.Event()
    is_command = signal.getsignal(signal.SIGINT) is _interrupt

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            if is_command:
                _end()
            raise KeyboardInterrupt
        stop.set()
        with contextlib.suppress(OSError):
            os.write(2, b"\nstopping: what is encoded is being stored (Ctrl-C again stops at once)\n")

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, _end_on_signal if is_command and stop.is_set() else previous)


def ended() -> None:
    """The command has its exit status: from here on Ctrl-C has nothing to interrupt but the interpreter's end."""
    if signal.getsignal(signal.SIGINT) is _interrupt:
        signal.signal(signal.SIGINT, _end_on_signal)


def left(status: int) -> int:
    """The exit status of a process that is a command; one that was interrupted ends here.

    Python gives Ctrl-C back to the system before it has cleaned up, which would make another status of a second one.
    """
    if status == INTERRUPTED:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)
    return status


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    global _interrupts
    _interrupts += 1
    if _interrupts > 1:
        _end()
    raise KeyboardInterrupt


def _end_on_signal(_number: int, _frame: FrameType | None) -> None:
    _end()


def _end() -> NoReturn:
    """End now: what is on disk is whole at any moment, and workers end with their parent."""
    say_interrupted()
    os._exit(INTERRUPTED)


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Where Python would print a traceback and go on, as in a destructor, Ctrl-C ends the process instead."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        _end()
    sys.__unraisablehook__(unraisable)
