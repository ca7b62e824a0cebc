"""Searching among 10,000 to 1,000,000 pictures: our store beside exact scans, faiss, usearch and hnswlib.

python -m benchmarks index [--rows N ...] [--alone] [--graphs-up-to N] [--save FILE]

Every step runs in a process of its own (``index_stages``); what was measured is saved and drawn (``plot_index``).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.encodings import queries, stored_vectors
from benchmarks.index_stages import library, truth
from benchmarks.measure import CACHE, header

ROWS = (10_000, 30_000, 100_000, 300_000, 1_000_000)
EXACT = ("lancedb_exact", "numpy_exact", "faiss_flat")
GRAPHS = ("usearch", "hnswlib")
RIVALS = (*EXACT, "faiss_ivf", *GRAPHS)
NEEDS = {"faiss_flat": "faiss", "faiss_ivf": "faiss", "usearch": "usearch", "hnswlib": "hnswlib"}
BARS = (
    "at 1,000,000: recall@10 >= 0.97, 30 times as fast as LanceDB's exact scan, p50 <= 8 ms, p99 <= 30 ms,\n"
    "built in under 120 s with a peak under 3,000 MB, at most 1,280 bytes an item; beside an ingest p99 under 5 times"
)


def main() -> None:
    """Print the figures of each size, and save them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument(
        "--graphs-up-to", type=int, default=100_000, help="rows; usearch and hnswlib take minutes to build beyond"
    )
    parser.add_argument("--alone", action="store_true", help="leave out what ours is measured beside, and the crowd")
    parser.add_argument("--save", type=Path, default=CACHE / "index.json")
    options = parser.parse_args()
    header("index")
    started = time.perf_counter()
    stored_vectors(max(options.rows))
    queries()
    print(f"vectors made or found in {time.perf_counter() - started:.0f} s; load {os.getloadavg()[0]:.1f}", flush=True)
    found: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "sizes": {}}
    options.save.parent.mkdir(parents=True, exist_ok=True)
    for n in sorted(options.rows):
        found["sizes"][str(n)] = figures = {"load": os.getloadavg()[0]}
        try:
            crowd = not options.alone and n == max(options.rows)
            one_size(n, figures, () if options.alone else RIVALS, options.graphs_up_to, with_crowd=crowd)
        finally:  # a step that fails does not take the others' figures along
            options.save.write_text(json.dumps(found, indent=1) + "\n", encoding="ascii")
            shutil.rmtree(library(n), ignore_errors=True)
    first, last = min(options.rows), max(options.rows)
    slope = found["sizes"][str(last)]["ours"]["p50_ms"] / found["sizes"][str(first)]["ours"]["p50_ms"]
    print(f"p50 at {last:,} is {slope:.2f} times that at {first:,} (bar from 1,000,000 to 10,000,000: 3)")
    print(f"{BARS}\nin {time.perf_counter() - started:.0f} s; saved to {options.save}")


def one_size(n: int, found: dict[str, Any], rivals: Sequence[str], graphs_up_to: int, *, with_crowd: bool) -> None:
    """All steps at one size, into ``found``; what cannot run is said and left out."""
    truth(n)
    print(f"\n{n:,} vectors x 512 float16, load {os.getloadavg()[0]:.1f}", flush=True)
    found |= {name: step(name, n) for name in ("fill", "build", "ours")}
    found["ours"] |= {"seconds": found["build"]["seconds"], "bytes_an_item": found["build"]["bytes_an_item"]}
    print(
        f"  filled in {found['fill']['seconds']:.0f} s; built in {found['build']['seconds']:.1f} s "
        f"({found['build']['processor_seconds']:.1f} of the processor), with media's words and ids in "
        f"{found['build']['all_seconds']:.1f} s, peak {found['build']['peak_mb']:,.0f} MB; "
        f"{found['build']['vector_bytes_an_item']:,.0f} bytes an item in vectors and their index, the rest in media"
    )
    line("ours", found["ours"], found["ours"])
    for rival in rivals:
        if rival in GRAPHS and n > graphs_up_to:
            print(f"  {rival}: left out, it would take minutes to build (--graphs-up-to {n} builds it)")
        elif rival in NEEDS and importlib.util.find_spec(NEEDS[rival]) is None:
            print(f"  {rival}: left out, {NEEDS[rival]} is not installed (hnswlib needs a C++ compiler)")
        else:
            found[rival] = step(rival, n)
            line(rival, found[rival], found["ours"])
    if with_crowd:
        found["crowd"] = crowd = step("crowd", n)
        ratio = crowd["ingest_p99_ms"] / crowd["alone_p99_ms"]
        print(
            f"  8 threads: p50 {crowd['alone_p50_ms']:.1f} ms, p99 {crowd['alone_p99_ms']:.1f}; beside an ingest of "
            f"{crowd['indexed']:,} pictures p50 {crowd['ingest_p50_ms']:.1f}, p99 {crowd['ingest_p99_ms']:.1f}: "
            f"{ratio:.1f} times",
            flush=True,
        )


def step(name: str, n: int) -> dict[str, Any]:
    """One step in a process of its own.

    Raises:
        SystemExit: it failed; says how.
    """
    command = [sys.executable, "-m", "benchmarks.index_stages", name, str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} with {n:,} rows failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def line(name: str, figures: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """A row of the table; how many times as long as ours comes first."""
    details = [f"p50 {figures['p50_ms']:.2f} ms", f"p99 {figures['p99_ms']:.2f}"]
    details.append(f"recall@10 {figures['recall_pictures']:.3f} pictures, {figures['recall_texts']:.3f} texts")
    if "seconds" in figures:
        details.append(f"built in {figures['seconds']:.1f} s")
    if "bytes_an_item" in figures:
        details.append(f"{figures['bytes_an_item']:,.0f} bytes an item")
    details.append(f"peak {figures['peak_mb']:,.0f} MB")
    print(f"{figures['p50_ms'] / ours['p50_ms']:7.2f}x  {name}: {', '.join(details)}", flush=True)


if __name__ == "__main__":
    main()
