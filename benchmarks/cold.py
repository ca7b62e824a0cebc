"""A search from the start of the process to the printed results, against importing torch and lancedb alone.

python -m benchmarks.cold [--items 10000] [--rounds 7]
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import CACHE, header
from tests.support.cold_library import made_library

TARGET_S = 1.5
COMMAND = Path(sys.executable).with_name("arrowlens")
IMPORTS = "import torch, lancedb"
PACKAGES = 8  # of the most expensive imports


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    header("cold")
    library = made_library(CACHE / f"cold-{options.items}.lens", options.items)
    search = [str(COMMAND), "search", "a red bicycle", "--library", str(library)]
    imports = [sys.executable, "-c", IMPORTS]
    for command in (search, imports):
        seconds(command)  # fills the file cache
    rounds = [(seconds(imports), seconds(search)) for _ in range(options.rounds)]
    print(f"{options.items:,} items, {options.rounds} rounds, load {os.getloadavg()[0]:.1f}")
    for kind, name in enumerate(("from start to end", "of the processor")):
        alone, whole = ([times[kind] for times in column] for column in zip(*rounds, strict=True))
        more = statistics.median(mine - theirs for mine, theirs in zip(whole, alone, strict=True))
        figures = f"{statistics.median(whole):.2f} s, imports alone {statistics.median(alone):.2f} s"
        print(f"  {name}: a search {figures}: {more:.2f} s more, target {TARGET_S} s")
    print(f"  of them in the library itself: {asked(search):.2f} s (took_ms, models loaded in it)")
    print("  imports (seconds, own and what they bring):", expensive_imports(search))


def seconds(command: list[str]) -> tuple[float, float]:
    """From the start of a process to its end; and of the processor, which a busy machine changes less."""
    started, before = time.perf_counter(), os.times()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    cores = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, cores


def asked(command: list[str]) -> float:
    """What the command itself says it took for the question."""
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    found = re.search(r"in ([\d,]+) ms", said)
    assert found is not None, said
    return int(found[1].replace(",", "")) / 1e3


def expensive_imports(command: list[str]) -> str:
    """The outermost packages by the time that importing them took, from ``-X importtime``."""
    said = subprocess.run(
        [sys.executable, "-X", "importtime", *command],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    ).stderr
    own: dict[str, float] = {}
    for line in said.splitlines():
        match = re.match(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", line)
        if match is not None:
            package = match[2].split(".")[0]
            own[package] = own.get(package, 0.0) + int(match[1]) / 1e6
    most = sorted(own.items(), key=lambda item: -item[1])[:PACKAGES]
    return ", ".join(f"{name} {cost:.2f}" for name, cost in most)


if __name__ == "__main__":
    main()
