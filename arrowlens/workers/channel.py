"""Objects over a pipe between two processes that trust each other; arrays travel as they lie in memory."""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle
import struct
import sys
from collections.abc import Callable

import numpy as np

_COUNT = struct.Struct("<I")
_LARGE = 1 << 25  # bytes; smaller arrays may lie among other things
_MOST_AT_ONCE = 1 << 30  # bytes; a single read or write takes no more than 2 GB


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
