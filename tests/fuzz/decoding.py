"""A process that decodes mutated files: ``python -m tests.fuzz.decoding FIRST STEP END``.

Writes one line to its output before each, its number, and one behind it: what came of it.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

from arrowlens.media import Decoded, Limits, decode
from tests.fuzz.mutations import mutated

LIMITS = Limits(max_pixels=2_000_000, max_seconds=60)
_MEMORY = 3 * 1024**3  # bytes of address space beyond what the process has from the start


def fault(decoded: Decoded) -> str | None:
    """What is wrong with an outcome; None for a reason that can be shown, and for valid contents."""
    if decoded.reason is not None:
        if not decoded.reason or not decoded.reason.isprintable() or len(decoded.reason) > 500:
            return f"an unfit reason: {decoded.reason!r}"
        return None if decoded.pixels is decoded.samples is None else "contents beside a reason"
    if decoded.pixels is not None:
        fit = decoded.pixels.dtype == np.uint8 and decoded.pixels.ndim == 3 and decoded.pixels.shape[2] == 3
        if not fit or decoded.pixels.size == 0 or decoded.width * decoded.height > LIMITS.max_pixels:
            return f"unfit pixels {decoded.pixels.shape} of {decoded.width} x {decoded.height}"
        return None if decoded.thumbnail else "no thumbnail"
    if decoded.samples is None:
        return "neither contents nor a reason"
    if not np.isfinite(decoded.samples).all() or not 0 < len(decoded.samples) <= LIMITS.max_seconds * 16_000:
        return f"unfit samples {decoded.samples.shape}"
    return None


def _most_memory() -> int:
    """Bytes; getrusage would hand on the maximum of the process that started this one."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def main() -> None:
    first, step, end = (int(argument) for argument in sys.argv[1:])
    output = os.fdopen(os.dup(1), "w", buffering=1)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)  # decoders' own remarks
    mutated(0)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _MEMORY, size + _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in range(first, end, step):
        name, data = mutated(number)
        print(number, file=output)
        started = time.process_time()
        decoded = decode("x", LIMITS, data=data, min_side=16 if number % 3 else None)
        outcome = {
            "name": name,
            "fault": fault(decoded),
            "reason": decoded.reason,
            "seconds": time.process_time() - started,
            "memory": _most_memory(),
        }
        print(json.dumps(outcome), file=output)


if __name__ == "__main__":
    main()
