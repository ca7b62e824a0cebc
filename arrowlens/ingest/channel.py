"""Objects over a pipe between two processes that trust each other; arrays travel as they lie in memory."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable

import numpy as np

_COUNT = struct.Struct("<I")
_MOST_AT_ONCE = 1 << 30  # bytes; a single read or write takes no more than 2 GB


def send(fd: int, value: object) -> None:
    """Write an object: how many parts, their sizes, the pickle, then the memory of each array.

    Raises:
        OSError: the other side is gone.
    """
    arrays: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(value, protocol=5, buffer_callback=arrays.append)
    parts = [array.raw() for array in arrays]
    sizes = (len(pickled), *(part.nbytes for part in parts))
    header = _COUNT.pack(len(sizes)) + struct.pack(f"<{len(sizes)}Q", *sizes)
    for part in (memoryview(header + pickled), *parts):
        start = 0
        while start < part.nbytes:
            start += os.write(fd, part[start : start + _MOST_AT_ONCE])


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
