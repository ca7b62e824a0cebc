"""What a run over unchanged files takes besides listing them, at two sizes: seconds and memory of compare and repair.

Rows are written directly, into a folder. Memory is the peak of a process above what it held before: the list of files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from arrowlens.ingest.diff import compare
from arrowlens.ingest.walk import ScannedFile, Walk
from arrowlens.store import MEDIA_LAYOUT, ModelRecord, MultimodalStorage, Root, VectorRow, media_schema
from arrowlens.store.identifiers import vector_table_name
from arrowlens.store.vectors import vector_table

CACHE = Path("build/benchmark")
DIGEST, D = "c" * 64, 64
FOLDER = "/pictures"
ROWS_A_WRITE = 50_000
STEPS = ("compare", "repair")


def main() -> None:
    """Print a line for each step; with ``--child``, be the process that is measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks compare")
    parser.add_argument("--files", type=int, nargs=2, default=[100_000, 300_000], help="two sizes of a library")
    parser.add_argument("--child", nargs=2, metavar=("STEP", "LIBRARY"))
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(measured(options.child[0], Path(options.child[1]))))
        return
    figures: dict[str, list[tuple[float, float]]] = {step: [] for step in STEPS}
    for n_files in options.files:
        library = written(n_files)
        for step in STEPS:
            command = [sys.executable, "-m", "benchmarks.compare", "--child", step, str(library)]
            figures[step].append(tuple(json.loads(subprocess.check_output(command))))
        shutil.rmtree(library)
    for step, ((seconds, mb), (seconds_more, mb_more)) in figures.items():
        few, many = options.files
        print(
            f"{mb_more / mb:6.2f}x  the memory of {step} at {many:,} files beside {few:,}: {mb_more:.0f} and {mb:.0f} "
            f"MB, {seconds_more:.1f} and {seconds:.1f} s of a core",
            flush=True,
        )


def file(number: int) -> ScannedFile:
    """The file of a number, as a walk lists it."""
    relative = f"{number // 1000:04d}/{number:07d}.jpg".encode()
    path = f"{FOLDER}/".encode() + relative
    return ScannedFile(path, Root.at(FOLDER), relative, "image", 1000 + number, number, file_id=f"1:{number}")


def written(n_files: int) -> Path:
    """A library of so many pictures that are as they were."""
    library = (CACHE / f"compare-{n_files}.lens").absolute()
    shutil.rmtree(library, ignore_errors=True)
    storage = MultimodalStorage(library)
    storage.bind_models({"vision": ModelRecord(DIGEST, D)})
    fill(storage, n_files)
    return library


def fill(storage: MultimodalStorage, n_files: int) -> None:
    """Write so many pictures, with random vectors of the library's model, past everything that is slow."""
    record, root = storage.models["vision"], storage.add_root(FOLDER)
    table_name = vector_table_name("vision", record.recipe_digest)
    dice = np.random.default_rng(0)
    with storage.writing():
        for start in range(0, n_files, ROWS_A_WRITE):
            files = [file(number) for number in range(start, min(start + ROWS_A_WRITE, n_files))]
            contents = [hashlib.sha256(each.relative).hexdigest() for each in files]
            vectors = dice.standard_normal((len(files), record.dimension)).astype(np.float32)
            pairs = zip(files, contents, vectors, strict=True)
            rows = [VectorRow(each.media_id, content, "image", vector) for each, content, vector in pairs]
            table = vector_table("vision", record.digest[:8], record.dimension, rows)
            storage._tables.merge(table_name, "embedding_id", table)
            storage.upsert_thumbnails(dict.fromkeys(contents, b"\xff\xd8\xff\xff\xd9"))
            common = {"root_id": root.root_id, "modality": "image", "format": "JPEG", "state": "indexed"}
            media = [
                {
                    **common,
                    "media_id": each.media_id,
                    "path": os.fsdecode(each.relative),
                    "path_bytes": each.relative,
                    "size": each.size,
                    "modified_ns": each.modified_ns,
                    "file_id": each.file_id,
                    "content_hash": content,
                    "layout": MEDIA_LAYOUT,
                    "trivial": False,
                }
                for each, content in zip(files, contents, strict=True)
            ]
            storage._tables.merge("media", "media_id", pa.Table.from_pylist(media, schema=media_schema()))
        storage.optimize()


def measured(step: str, library: Path) -> tuple[float, float]:
    """Seconds of a core and MB of a step; the library is one of ``written``."""
    storage = MultimodalStorage(library, create=False)
    files = [file(number) for number in range(storage.n_vectors("vision", DIGEST))]
    before, started = resident(), time.process_time()
    if step == "repair":
        assert storage.repair() == 0
    else:
        plan = compare(storage, Walk((FOLDER,), files), retry=False)
        assert len(plan.unchanged) == len(files)
        assert not plan.known
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return seconds, (peak - before) / 1e6


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
