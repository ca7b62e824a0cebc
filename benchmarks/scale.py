"""Ray beside the local engine on the same cores, what Ray costs a file, and a bucket 30 ms away beside a folder.

Rates are from the first file read to the last one, without the start of processes, of Ray and of models.
"""

from __future__ import annotations

import argparse
import logging
import os
import pickle
import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import obstore
import ray
from PIL import Image

import arrowlens
from arrowlens import IngestReport, Library
from arrowlens.encoders import MultimodalEmbeddingProvider
from arrowlens.ingest import IngestOptions, RayOptions, run
from arrowlens.ingest.bucket import Sources
from arrowlens.ingest.step import EncodeStep, StepSpec
from arrowlens.media import Limits
from arrowlens.store import MultimodalStorage, Settings
from arrowlens.workers.resources import n_cores
from benchmarks.compare import fill
from benchmarks.measure import CACHE, header, medians
from tests.support.object_store import running_object_store, running_proxy

DEMO = Path(arrowlens.__file__).parent / "demo" / "models" / "clip"
MEGAPIXELS = (4, 12)  # from, to
CHUNK = 64
N_ROUNDS = 30
DELAY_S = 0.03
N_SEARCHED = 50_000
N_TURNS = 3


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale")
    parser.add_argument("--files", type=int, default=1000, help="JPEGs of 4 to 12 megapixels (default: 1000)")
    n_files = parser.parse_args().files
    header("scale")
    folder = jpegs(n_files)
    local = ingest([folder])
    with cluster():
        on_ray = ingest([folder], RayOptions(concurrency=n_cores()))
        ms = overhead_ms(folder)
    ratio = on_ray.rate / local.rate
    print(
        f"{ratio:6.2f}  Ray with {n_cores()} workers beside the local engine: {on_ray.rate:.1f} and {local.rate:.1f} "
        f"files/s (bound by {on_ray.bound} and {local.bound}), {n_files} JPEGs of 4 to 12 megapixels; wanted: 0.9",
        flush=True,
    )
    print(f"{ms:6.2f}  ms a file for Ray itself, in chunks of {CHUNK} there and back; wanted: at most 0.1", flush=True)
    print(
        f"{replica_ratio():6.2f}  a search in the copy of a bucket at {1000 * DELAY_S:.0f} ms beside a folder, "
        f"{N_SEARCHED:,} pictures; wanted: at most 1.1",
        flush=True,
    )
    there, here = rates_of_places(folder)
    print(
        f"{there / here:6.2f}  from a bucket at {1000 * DELAY_S:.0f} ms beside a folder: {there:.1f} and {here:.1f} "
        "files/s; wanted: 0.85",
        flush=True,
    )


def rates_of_places(folder: Path) -> tuple[float, float]:
    """Median files a second of runs over a bucket and over the folder with the same files, in turns."""
    rates: dict[str | Path, list[float]] = {}
    with bucket_of(folder) as address:
        for place in N_TURNS * [address, folder]:
            rates.setdefault(place, []).append(ingest([place]).rate)
    return statistics.median(rates[address]), statistics.median(rates[folder])


def replica_ratio() -> float:
    """The time of a search by words in the copy of a library in a bucket 30 ms away, beside one in a folder.

    Both are asked in turns, with the looks for changes that ``Library`` takes; the first copy is not counted.
    """
    place, texts = CACHE / "replica.lens", [f"{color} {thing}" for color in ("red", "blue") for thing in ("cat", "car")]
    shutil.rmtree(place, ignore_errors=True)
    os.environ["ARROWLENS_CACHE"] = str((CACHE / "replica-cache").absolute())
    shutil.rmtree(os.environ["ARROWLENS_CACHE"], ignore_errors=True)
    with running_object_store() as server, running_proxy(server.port, DELAY_S) as proxy:
        os.environ.update(proxy.environment)
        address = server.new_prefix()
        for library in (str(place), address):
            with Library.open(library, models="demo", replica=False) as opened:
                fill(opened._storage, N_SEARCHED)
        with Library.open(place) as folder, Library.open(address) as bucket:
            works = {
                name: partial(lambda library: [library.search(text) for text in texts], library)
                for name, library in (("replica", bucket), ("folder", folder))
            }
            seconds = medians(works, repeats=15, seconds=1.0)
    return seconds["replica"] / seconds["folder"]


def ingest(places: list[str | Path], engine: RayOptions | None = None) -> IngestReport:
    """A run into a new library."""
    library = CACHE / "scale.lens"
    shutil.rmtree(library, ignore_errors=True)
    report = run(MultimodalStorage(library), models(), places, IngestOptions(), engine=engine)
    assert report.skipped == 0
    return report


def models() -> MultimodalEmbeddingProvider:
    return MultimodalEmbeddingProvider(clip_model_path=DEMO)


def jpegs(n: int) -> Path:
    """A folder of JPEGs of 4 to 12 megapixels, each with content of its own; made once."""
    folder = CACHE / f"scale-{n}"
    if folder.exists():
        return folder
    folder.mkdir(parents=True)
    dice = np.random.default_rng(0)
    small = dice.integers(0, 255, (48, 64, 3)).astype(np.uint8)
    for number in range(n):
        height = round((1e6 * dice.uniform(*MEGAPIXELS) * 3 / 4) ** 0.5)
        picture = Image.fromarray(np.roll(small, number, axis=1)).resize(
            (height * 4 // 3, height), Image.Resampling.BILINEAR
        )
        picture.save(folder / f"{number:05d}.jpg", quality=85)
    return folder


@contextmanager
def cluster() -> Iterator[None]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=n_cores(), include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def overhead_ms(folder: Path) -> float:
    """Milliseconds a file, of sending a chunk's files to a worker and its outcomes back."""
    source = Sources.of([folder], None, ())
    files = source.walk(Settings().with_root(str(source.roots[0]))).files[:CHUNK]
    step = EncodeStep(StepSpec(source, models(), frozenset({"vision"}), Limits()))
    outcomes = pickle.dumps(step(files, {}))

    @ray.remote
    class Echo:
        def __init__(self, outcomes: bytes) -> None:
            self.outcomes = pickle.loads(outcomes)

        def answer(self, files: object) -> object:
            return self.outcomes

    echo = Echo.remote(outcomes)
    ray.get(echo.answer.remote(files))
    started = time.perf_counter()
    for _ in range(N_ROUNDS):
        ray.get(echo.answer.remote(files))
    return 1000 * (time.perf_counter() - started) / N_ROUNDS / len(files)


@contextmanager
def bucket_of(folder: Path) -> Iterator[str]:
    """The address of a bucket with a folder's files, behind a proxy that is 30 ms away."""
    with running_object_store() as server, running_proxy(server.port, DELAY_S) as proxy:
        os.environ.update(server.environment)
        address = server.new_prefix()
        store = obstore.store.from_url(address, client_options={"allow_http": True})
        for path in folder.iterdir():
            obstore.put(store, path.name, path)
        os.environ.update(proxy.environment)
        yield address


if __name__ == "__main__":
    main()
