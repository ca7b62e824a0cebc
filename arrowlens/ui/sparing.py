"""A log that nobody can fill a disk with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TextIO

_SPAN_S = 60.0
_MAX_CHARACTERS = 50_000  # in a span of time; a traceback has some 5,000


class SparingStream:
    """Writes to another stream; beyond so many characters a minute it only counts what it leaves out, and says so.

    It takes the place of ``sys.stderr``, so that it holds for every logger and for what is printed.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._lock = threading.RLock()  # a signal's handler may write while its thread does
        self._started, self._n_written, self._n_left_out = clock(), 0, 0

    def write(self, text: str) -> int:
        """Write a text, or leave it out."""
        with self._lock:
            now = self._clock()
            if now - self._started >= _SPAN_S:
                left_out, self._started, self._n_written, self._n_left_out = self._n_left_out, now, 0, 0
                if left_out:
                    self._stream.write(f"arrowlens: {left_out:,} characters of log were left out\n")
            if self._n_left_out or self._n_written + len(text) > _MAX_CHARACTERS:
                if not self._n_left_out:
                    self._stream.write("arrowlens: the log is too long; the rest of this minute is left out\n")
                self._n_left_out += len(text)
                return len(text)
            self._n_written += len(text)
            return self._stream.write(text)

    def __getattr__(self, name: str) -> object:
        """Everything else is the stream's own."""
        return getattr(self._stream, name)
