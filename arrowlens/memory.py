"""Memory of this process that nothing uses any more: given back, or kept for the next work."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt


def trim_memory() -> None:
    """Give freed memory back to the system, where the allocator (glibc's) would keep it for each thread; 20 ms."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def keep_memory() -> None:
    """Have the allocator (glibc's) keep freed memory for a model's next layer: blocks up to 16 MB, 128 MB at the end.

    Decoders give each megabyte back to the system at once (``workers.process``); a model that takes and frees hundreds
    of blocks for a picture would spend 40 % of its time there.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, 1 << 24)
            mallopt(_TRIM_THRESHOLD, 1 << 27)
