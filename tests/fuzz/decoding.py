"""A process that decodes mutated files: ``python -m tests.fuzz.decoding SOURCE FIRST STEP END``.

SOURCE is ``bytes`` or ``structure``. Writes one line to its output before each file, its number, and one behind it:
what came of it. One file again: ``python -m tests.fuzz.decoding structure 1234 1 1235``; with FUZZ_SAVE=DIR its bytes
are written to that folder, too.
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
from tests.fuzz.structures import structured

LIMITS = Limits(max_pixels=2_000_000, max_seconds=60)
SOURCES = {"bytes": mutated, "structure": structured}
_MEMORY = 3 * 1024**3  # bytes of address space beyond what the process has from the start
# What ``Limits`` promises, over what a small file of the same format takes.
_PIXEL_BYTES = 8 * 3  # the format whose decoder takes most; a refused picture may have been decoded up to the limit
_SECOND_BYTES = 2 * 64_000
_FILE_COPIES = 4
_DECODER_BYTES = 64 << 20  # tables, threads and blocks of decoders


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
    if decoded.modality == "video":
        fit = all(frame.dtype == np.uint8 and frame.ndim == 3 and frame.size for frame in decoded.frames)
        if not fit or not decoded.frames or len(decoded.frames) != len(decoded.shots) or not decoded.thumbnail:
            return f"unfit frames: {len(decoded.frames)} of {len(decoded.shots)} shots"
        if decoded.samples is None:
            return None
    if decoded.samples is None:
        return "neither contents nor a reason"
    if not np.isfinite(decoded.samples).all() or not 0 < len(decoded.samples) <= LIMITS.max_seconds * 16_000:
        return f"unfit samples {decoded.samples.shape}"
    return None


def memory_fault(decoded: Decoded, n_bytes: int, memory: int) -> str | None:
    """Whether decoding took more memory than the limits let a file of its size take, pixels and seconds included."""
    budget = _DECODER_BYTES + _FILE_COPIES * n_bytes + _PIXEL_BYTES * LIMITS.max_pixels
    if decoded.modality == "audio":
        budget = _DECODER_BYTES + _FILE_COPIES * n_bytes + int(_SECOND_BYTES * LIMITS.max_seconds)
    if memory <= budget:
        return None
    return f"took {memory / 2**20:,.0f} MB for {n_bytes:,} bytes, {budget / 2**20:,.0f} MB at most"


def _memory(key: str) -> int:
    """Bytes; getrusage would hand on the maximum of the process that started this one."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(key))


def _decode(source: str, number: int) -> dict:
    name, data = SOURCES[source](number)
    if folder := os.environ.get("FUZZ_SAVE"):
        Path(folder, f"{source}-{number}").write_bytes(data)
    Path("/proc/self/clear_refs").write_text("5")  # the peak anew, from what is held now
    before, started = _memory("VmRSS"), time.process_time()
    decoded = decode("x", LIMITS, data=data, min_side=16 if number % 3 else None)
    seconds, memory = time.process_time() - started, _memory("VmHWM") - before
    return {
        "name": name,
        "fault": fault(decoded),
        "memory_fault": memory_fault(decoded, len(data), memory),
        "reason": decoded.reason,
        "seconds": seconds,
        "memory": memory,
    }


def main() -> None:
    source, (first, step, end) = sys.argv[1], (int(argument) for argument in sys.argv[2:])
    output = os.fdopen(os.dup(1), "w", buffering=1)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)  # decoders' own remarks
    for number in range(8):  # what decoders load once is no file's
        _decode(source, number)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _MEMORY, size + _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in range(first, end, step):
        print(number, file=output)
        print(json.dumps(_decode(source, number)), file=output)


if __name__ == "__main__":
    main()
