"""This version beside an earlier commit, in turns: searches with their vector given, and a page of thumbnails.

python -m benchmarks turns [--commit 81856d4] [--rows 100000] [--thumbnails 300000] [--rounds 3] [--checkout FOLDER]

Each version builds the library of ``index_stages`` with its own code. The questions are the same, each round of a
version is a process of its own (``turns_step``), and ratios are of this version to the commit. Other work on the
machine changes the processor's time least; the bars are of the clock, on a quiet machine.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np

from benchmarks.encodings import queries, stored_vectors
from benchmarks.measure import CACHE, header

HERE = Path(__file__).parents[1]
STEP = Path(__file__).with_name("turns_step.py").absolute()
BARS = (
    "bars, of the clock: p50 <= .45 at 10,000 and 100,000, <= .5 at 1,000,000; p99 <= .6; 48 thumbnails <= .4; "
    "8 threads at 1,000,000: p50 <= .4, p99 <= .25"
)


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--commit", default="81856d4")
    parser.add_argument("--checkout", type=Path, help="folder with that commit's files; made where it is not given")
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000])
    parser.add_argument("--thumbnails", type=int, default=300_000, help="rows of their table; 0 leaves them out")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    header("turns")
    queries()
    for n in options.rows:
        stored_vectors(n)
    versions = {"before": options.checkout or checkout(options.commit), "now": HERE}
    for n in options.rows:
        for folder in versions.values():
            link_vectors(folder, n)
            if not (folder / CACHE / f"index-{n}.lens").exists():
                for stage in ("fill", "build"):
                    run(folder, ["-m", "benchmarks.index_stages", stage, str(n)])
        report(f"{n:,} vectors, Library.search, k = 20", rounds(versions, ["search", str(n)], options.rounds))
        report(f"{n:,} vectors, 8 threads", rounds(versions, ["threads", str(n)], options.rounds))
    if options.thumbnails:
        for folder in versions.values():
            run(folder, [str(STEP), "fill_thumbnails", str(options.thumbnails)])
        times = rounds(versions, ["thumbnails", str(options.thumbnails)], options.rounds)
        report(f"48 thumbnails of {options.thumbnails:,}", times)
    print(BARS)


def checkout(commit: str) -> Path:
    """The files of a commit, in a folder of their own under ``build``.

    Raises:
        SystemExit: git does not know it.
    """
    folder = CACHE.parent.absolute() / f"commit-{commit}"
    if not folder.exists():
        done = subprocess.run(["git", "archive", commit], capture_output=True, check=False, cwd=HERE)
        if done.returncode:
            raise SystemExit(f"git has no commit {commit!r} here; name another with --commit")
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
    return folder


def link_vectors(folder: Path, n: int) -> None:
    """Let a version use the vectors and questions that are there already."""
    (folder / CACHE).mkdir(parents=True, exist_ok=True)
    for name in ("pictures.npy", "texts.npy", f"vectors-{n}.npy"):
        if not (folder / CACHE / name).exists():
            (folder / CACHE / name).symlink_to((CACHE / name).resolve())


def rounds(versions: dict[str, Path], step: list[str], n_rounds: int) -> dict[str, list[np.ndarray]]:
    """The times of each version's rounds, in turns: (n, 2) milliseconds by the clock and of the processor."""
    times: dict[str, list[np.ndarray]] = {name: [] for name in versions}
    for _ in range(n_rounds):
        for name, folder in versions.items():
            times[name].append(np.array(json.loads(run(folder, [str(STEP), *step]).splitlines()[-1])))
    return times


def report(title: str, times: dict[str, list[np.ndarray]]) -> None:
    """Ratios first: of the medians of all rounds' p50 and p99 by the clock, and of the processor's mean."""
    figures = {
        name: (
            float(np.median([np.median(each[:, 0]) for each in of_rounds])),
            float(np.median([np.percentile(each[:, 0], 99) for each in of_rounds])),
            float(np.median([each[:, 1].mean() for each in of_rounds])),
        )
        for name, of_rounds in times.items()
    }
    kinds = ("p50", "p99", "processor")
    line = ", ".join(
        f"{kind} {now / before:.2f} ({now:.1f} against {before:.1f} ms)"
        for kind, now, before in zip(kinds, figures["now"], figures["before"], strict=True)
    )
    print(f"  {title}: {line}; load {os.getloadavg()[0]:.1f}", flush=True)


def run(folder: Path, arguments: list[str]) -> str:
    """What a version prints, run in its folder.

    Raises:
        SystemExit: it failed; says how.
    """
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} in {folder} failed:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
