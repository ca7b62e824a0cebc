"""Commands from the start of the process to the printed results, against importing torch and lancedb alone.

python -m benchmarks.cold [--items 10000] [--rounds 9]
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

COMMAND = Path(sys.executable).with_name("arrowlens")
IMPORTS = "import torch, lancedb"
PACKAGES = 8  # of the most expensive imports
QUESTION = "a red bicycle"
COMMANDS = {  # the most that each may take, in times of the imports
    ("search", QUESTION): 1.15,
    ("search", QUESTION, "--mode", "keyword"): 0.8,
    ("status",): 0.8,
    ("skipped",): 0.8,
}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    header("cold")
    library = made_library(CACHE / f"cold-{options.items}.lens", options.items)
    commands = {given: [str(COMMAND), *given, "--library", str(library)] for given in COMMANDS}
    imports = [sys.executable, "-c", IMPORTS]
    for command in (imports, *commands.values()):
        seconds(command)  # fills the file cache
    rounds = [(seconds(imports), *map(seconds, commands.values())) for _ in range(options.rounds)]
    print(f"{options.items:,} items, {options.rounds} rounds, load {os.getloadavg()[0]:.1f}; seconds of the processor")
    alone, *each = (statistics.median(cores for _, cores in column) for column in zip(*rounds, strict=True))
    print(f"  python -c {IMPORTS!r}: {alone:.2f}")
    for (given, bar), cores in zip(COMMANDS.items(), each, strict=True):
        print(f"  arrowlens {' '.join(given)}: {cores:.2f}, {cores / alone:.2f} times the imports (bar {bar})")
    search = commands["search", QUESTION]
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
