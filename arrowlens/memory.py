"""Memory of this process that nothing uses any more."""

from __future__ import annotations

import ctypes
import sys


def trim_memory() -> None:
    """Give freed memory back to the system, where the allocator (glibc's) would keep it for each thread; 20 ms."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
