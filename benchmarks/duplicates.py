"""Duplicates: how well copies are told from look-alikes, and what comparing everything with everything costs.

python -m benchmarks.duplicates [--every N] [--items N]

The first part takes some minutes, the second builds a library of 100,000 pictures in a temporary folder (2 GB, some ten
minutes) and prints the time and the memory that the command takes for it. ``--every 0`` or ``--items 0`` leaves one
out.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from arrowlens import Library
from arrowlens.search.clustering import Close
from arrowlens.store import MultimodalStorage, VectorRow, media_id_of
from benchmarks.measure import header
from tests.support import duplicate_cases, duplicate_recordings
from tests.support.duplicate_measures import (
    Labels,
    families,
    found_by,
    grouped,
    of_one,
    prepared_pictures,
    prepared_recordings,
)

PICTURES = (duplicate_cases.RECODED, duplicate_cases.EDITED, duplicate_cases.CROPPED)
RECORDINGS = (duplicate_recordings.RECODED, duplicate_recordings.LOW_RATE, duplicate_recordings.EDITED)
DIMENSION = 512
A_CLUSTER = 50  # vectors of one subject
A_COPY = 20  # one picture in so many is a copy of the one before it
AT_ONCE = 4_000  # pictures written
SIZE = (320, 240)
# A process of its own: what a child is said to have taken at most begins with what its parent had.
MEASURE = """
import json, os, subprocess, sys, time
started = time.perf_counter()
_, status, usage = os.wait4(subprocess.Popen(sys.argv[1:]).pid, 0)
seconds = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
print(json.dumps([*seconds, usage.ru_maxrss // 1024]), file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1, help="take every N-th source only")
    parser.add_argument("--items", type=int, default=100_000)
    options = parser.parse_args()
    header("duplicates")
    if options.every:
        labels, pictures = prepared_pictures(options.every)
        accuracy("pictures", labels, pictures.copies, PICTURES)
        accuracy("pictures that are nearly the same", labels, pictures.near, PICTURES)
        labels, recordings = prepared_recordings(options.every)
        accuracy("recordings", labels, recordings.copies, RECORDINGS)
        accuracy("recordings that are nearly the same", labels, recordings.near, RECORDINGS)
    if options.items:
        speed(options.items)


def accuracy(title: str, labels: Labels, close: Close, kinds: tuple[str, ...]) -> None:
    """Recall of each kind of copy, precision, and what was wrong."""
    found = found_by(labels, close, kinds)
    n_distinct = len(labels.distinct())
    print(f"{title}: {len(labels.names):,} files, {n_distinct * (n_distinct - 1) // 2:,} pairs of different ones")
    print("  found with their source:", ", ".join(f"{kind} {share:.3f}" for kind, share in found.recall.items()))
    print("  recoded, by family:", ", ".join(f"{name} {share:.2f}" for name, share in worst(found.by_family)))
    wrong = [pair for pair in found.wrong if not of_one(*pair)]
    print(f"  precision {found.precision:.4f}; {len(found.wrong)} wrong pairs, {len(wrong)} not of one source")
    print(f"  wrong: {families(found.wrong) or 'none'}")
    together, strangers = grouped(labels, close)
    print(f"  in a group with their source: {together:.3f}; files in a group led by another source's: {strangers}")


def worst(shares: dict[str, float]) -> list[tuple[str, float]]:
    """The eight lowest."""
    return sorted(shares.items(), key=lambda item: item[1])[:8]


def speed(n_items: int) -> None:
    """What the command takes in a library of pictures, from its start to the printed groups."""
    with tempfile.TemporaryDirectory(prefix="arrowlens-") as folder:
        library, started = Path(folder) / "a.lens", time.perf_counter()
        build(library, n_items)
        print(f"{n_items:,} pictures written in {time.perf_counter() - started:.0f} s", flush=True)
        command = [Path(sys.executable).with_name("arrowlens"), "duplicates", "--library", library, "--json"]
        measured = subprocess.run([sys.executable, "-c", MEASURE, *command], capture_output=True, text=True, check=True)
    wall, cores, memory = json.loads(measured.stderr.splitlines()[-1])
    kinds = Counter(group["kind"] for group in json.loads(measured.stdout)["groups"])
    print(f"duplicates: {wall:.0f} s, {cores:.0f} core-seconds, at most {memory:,} MB; groups: {dict(kinds)}")


def build(path: Path, n_items: int) -> None:
    """A library of drawn noise, some of it twice, with clustered vectors; never more than a part is in memory."""
    centres = np.random.default_rng(0).standard_normal((n_items // A_CLUSTER + 1, DIMENSION), dtype=np.float32)
    Library.open(path, models="demo").close()
    with (
        MultimodalStorage(path, create=False) as storage,
        ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool,
    ):
        root = storage.add_root("/media")
        for start in range(0, n_items, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, n_items))
            rows = list(media(root.root_id, numbers))
            vectors = [
                VectorRow(row["media_id"], row["content_hash"], "image", vector(number, centres))
                for number, row in zip(numbers, rows, strict=True)
            ]
            jpegs = pool.map(thumbnail, numbers, chunksize=100)
            with storage.writing():
                storage.upsert_vectors("vision", vectors)
                storage.upsert_thumbnails({row["content_hash"]: jpeg for row, jpeg in zip(rows, jpegs, strict=True)})
                storage.upsert_media(rows)
        storage.optimize()


def media(root_id: str, numbers: range) -> Iterator[dict[str, Any]]:
    """Rows of ``media``."""
    for number in numbers:
        path = f"{number}.jpg"
        yield {
            "media_id": media_id_of(root_id, path.encode()),
            "root_id": root_id,
            "path": path,
            "path_bytes": path.encode(),
            "content_hash": f"{number:032x}",
            "size": 100_000 + number % 977,
            "modality": "image",
            "format": "jpeg",
            "width": 640,
            "height": 480,
            "modified_ns": number,
            "trivial": False,
            "state": "indexed",
        }


def drawn_as(number: int) -> int:
    """What a picture shows: itself, or the one before it."""
    return number - 1 if number % A_COPY == A_COPY - 1 else number


def vector(number: int, centres: np.ndarray) -> np.ndarray:
    """One of a cluster's; a copy's is a little beside its original's."""
    shown = drawn_as(number)
    rng = np.random.default_rng((1, shown))
    found = centres[rng.integers(len(centres))] + 0.7 * rng.standard_normal(DIMENSION, dtype=np.float32)
    found /= np.linalg.norm(found)
    return found + 0.005 * np.random.default_rng((2, number)).standard_normal(DIMENSION, dtype=np.float32)


def thumbnail(number: int) -> bytes:
    """A JPEG of the size that ingest makes: soft coloured noise; a copy is the same in another quality."""
    rng = np.random.default_rng((3, drawn_as(number)))
    coarse = Image.fromarray(rng.integers(0, 256, (18, 24, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize(SIZE, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=80 if drawn_as(number) == number else 50)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
