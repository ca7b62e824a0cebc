"""A library of four shards beside one that is not divided: milliseconds of a search, and what it finds.

Each is asked in turns, with two threads of queries for pictures and for texts. Writing is not counted.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from arrowlens.store import ModelRecord, MultimodalStorage, VectorRow
from benchmarks.encodings import queries, stored_vectors
from benchmarks.index_stages import TOLERANCE, K, digest, media_row
from benchmarks.measure import CACHE

N_SHARDS = (1, 4)
N_THREADS, N_TURNS, N_WARM = 2, 5, 10
BATCH = 20_000


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks shards")
    parser.add_argument("--rows", type=int, default=1_000_000, help="vectors in all (default: 1,000,000)")
    n_rows = parser.parse_args().rows
    asked = np.concatenate(queries())[::4]
    seconds = {n: written(n, n_rows) for n in N_SHARDS}
    storages = {n: MultimodalStorage(library(n), create=False) for n in N_SHARDS}
    for storage in storages.values():
        answers(storage, asked[:N_WARM])
    times: dict[int, list[float]] = {n: [] for n in N_SHARDS}
    for _ in range(N_TURNS):
        for n, storage in storages.items():
            times[n] += answers(storage, asked)
    one, divided = (statistics.median(times[n]) for n in N_SHARDS)
    print(
        f"{divided / one:6.2f}x  a search of {N_SHARDS[1]} shards of {n_rows // N_SHARDS[1]:,} beside one table of "
        f"{n_rows:,}: {divided:.1f} and {one:.1f} ms, {N_THREADS} threads; wanted: at most 1.5",
        flush=True,
    )
    exact = [scores(storages[1], query, exact=True) for query in asked[::4]]
    shares = [recall(storages[n], asked[::4], exact) for n in N_SHARDS]
    print(f"        recall@{K} {shares[1]:.4f} and {shares[0]:.4f}; written in {seconds[4]:.0f} and {seconds[1]:.0f} s")
    for storage in storages.values():
        storage.close()
        shutil.rmtree(storage.uri)


def library(n_shards: int) -> Path:
    return (CACHE / f"shards-{n_shards}.lens").absolute()


def written(n_shards: int, n_rows: int) -> float:
    """Write a library of so many pictures, but for their files and thumbnails; return the seconds."""
    shutil.rmtree(library(n_shards), ignore_errors=True)
    vectors, started = stored_vectors(n_rows), time.perf_counter()
    with MultimodalStorage(library(n_shards), n_shards=n_shards) as storage, storage.writing():
        storage.bind_models({"vision": ModelRecord(digest(), vectors.shape[1], "demo")})
        root = storage.add_root("/pictures").root_id
        for start in range(0, n_rows, BATCH):
            numbers = range(start, min(n_rows, start + BATCH))
            media = [media_row(root, number) for number in numbers]
            keys = [(str(row["media_id"]), str(row["content_hash"])) for row in media]
            rows = [VectorRow(*key, "image", vectors[number]) for key, number in zip(keys, numbers, strict=True)]
            storage.upsert_vectors("vision", rows)
            storage.upsert_media(media)
        storage.optimize(thorough=False)
    return time.perf_counter() - started


def answers(storage: MultimodalStorage, asked: np.ndarray) -> list[float]:
    """Milliseconds of each search, with several threads that search at once."""

    def timed(query: np.ndarray) -> float:
        started = time.perf_counter()
        scores(storage, query)
        return 1e3 * (time.perf_counter() - started)

    with ThreadPoolExecutor(N_THREADS) as pool:
        return list(pool.map(timed, asked))


def scores(storage: MultimodalStorage, query: np.ndarray, *, exact: bool = False) -> np.ndarray:
    """(K,) cosines, best first."""
    best: np.ndarray = storage.search("vision", digest(), query, K, "image", exact=exact)["score"].to_numpy()
    return best


def recall(storage: MultimodalStorage, asked: np.ndarray, exact: list[np.ndarray]) -> float:
    """Share of the best files that is found."""
    found = [scores(storage, query) for query in asked]
    right = [np.count_nonzero(ours >= best[-1] - TOLERANCE) for ours, best in zip(found, exact, strict=True)]
    return float(np.mean(right)) / K


if __name__ == "__main__":
    main()
