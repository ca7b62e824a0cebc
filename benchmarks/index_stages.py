"""The steps of the index benchmark, each run in a process of its own, so that its peak memory is its own.

python -m benchmarks.index_stages STEP ROWS    prints one JSON object; steps are the functions of ``STEPS``
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from arrowlens.encoders import model_info
from arrowlens.store import ModelRecord, MultimodalStorage, VectorRow, media_id_of
from arrowlens.store.index import nearest
from benchmarks.encodings import DEMO, queries, rendered, stored_vectors
from benchmarks.measure import CACHE

K = 10
N_EXACT = 20  # queries of what scans everything
N_WARM = 20
THREADS, SECONDS = 8, 10.0
N_INGESTED = 1_500
TOLERANCE = 3e-4  # of a cosine: float16 sums differ by as much
_BATCH = 20_000

Answer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # a query -> rows and cosines, best first


def fill(n: int) -> dict[str, object]:
    """A library of n pictures, written as an ingest writes them, but for their files and thumbnails."""
    shutil.rmtree(library(n), ignore_errors=True)
    storage = MultimodalStorage(library(n))
    storage.bind_models({"vision": ModelRecord(digest(), 512, "demo")})
    root, vectors = storage.add_root("/pictures").root_id, stored_vectors(n)
    started = time.perf_counter()
    with storage.writing():
        for start in range(0, n, _BATCH):
            numbers = range(start, min(n, start + _BATCH))
            media = [media_row(root, number) for number in numbers]
            keys = [(str(row["media_id"]), str(row["content_hash"])) for row in media]
            rows = [VectorRow(*key, "image", vectors[number]) for key, number in zip(keys, numbers, strict=True)]
            storage.upsert_vectors("vision", rows)
            storage.upsert_media(media)
    return {"seconds": time.perf_counter() - started}


def build(n: int) -> dict[str, object]:
    """What the end of a run does: indexes, compaction."""
    storage = MultimodalStorage(library(n), index_from=1)
    started, used = time.perf_counter(), time.process_time()
    with storage.writing():
        storage._maintenance.optimize_table(f"clip_embeddings__{digest()[:8]}", thorough=False)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    storage.optimize(thorough=False)
    return {
        "seconds": seconds,  # of the vectors' index and compaction, which the rivals have to do too
        "processor_seconds": used,
        "all_seconds": time.perf_counter() - started,  # with the words and ids of media
        "bytes_an_item": n_bytes(library(n)) / n,
        "vector_bytes_an_item": n_bytes(library(n) / f"clip_embeddings__{digest()[:8]}.lance") / n,
        "peak_mb": peak_mb(),
    }


def ours(n: int) -> dict[str, object]:
    """Searches through the store, as the library makes them."""
    storage = MultimodalStorage(library(n), create=False)

    def answer(query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hits = storage.search("vision", digest(), query, K, "image")
        return hits["media_id"].to_numpy(), hits["score"].to_numpy()

    return {**measured(n, answer), "kind": storage.index_states()["vision"].kind}


def lancedb_exact(n: int) -> dict[str, object]:
    """LanceDB's own scan of the same table."""
    storage = MultimodalStorage(library(n), create=False)
    table = storage._tables.shards[0].table(f"clip_embeddings__{digest()[:8]}")
    assert table is not None

    def answer(query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = nearest(table, query, K, ["source_id"], exact=True)
        return rows["source_id"].to_numpy(), 1 - rows["_distance"].to_numpy()

    return measured(n, answer, N_EXACT)


def numpy_exact(n: int) -> dict[str, object]:
    """One product with a float32 matrix, and a partial sort."""
    started = time.perf_counter()
    matrix = stored_vectors(n).astype(np.float32)

    def answer(query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores = matrix @ query
        best = np.argpartition(-scores, K)[:K]
        best = best[np.argsort(-scores[best])]
        return best, scores[best]

    return {"seconds": time.perf_counter() - started, **measured(n, answer, N_EXACT), "bytes_an_item": 2048}


def faiss_flat(n: int) -> dict[str, object]:
    """faiss's exact scan."""
    import faiss

    index = faiss.IndexFlatIP(512)
    return _faiss(n, index, N_EXACT)


def faiss_ivf(n: int) -> dict[str, object]:
    """faiss's inverted lists over float16 vectors, as many as the square root of the rows, 32 of them looked into."""
    import faiss

    index = faiss.index_factory(512, f"IVF{int(n**0.5)},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.nprobe = 32
    return _faiss(n, index)


def usearch(n: int) -> dict[str, object]:
    """usearch's graph over float16 vectors, its defaults."""
    from usearch.index import Index

    started = time.perf_counter()
    index = Index(ndim=512, metric="cos", dtype="f16")
    vectors = stored_vectors(n)
    for start in range(0, n, _BATCH):
        part = np.ascontiguousarray(vectors[start : start + _BATCH])
        index.add(np.arange(start, start + len(part)), part)
    seconds = time.perf_counter() - started

    def answer(query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = index.search(query.astype(np.float16), K)
        return found.keys, 1 - found.distances

    saved = CACHE / "rival.usearch"
    index.save(str(saved))
    return {"seconds": seconds, **_sized(saved, n), **measured(n, answer)}


def hnswlib(n: int) -> dict[str, object]:
    """hnswlib's graph over float32 vectors: M 16, 200 neighbours while building, 64 while searching."""
    import hnswlib as library_

    started = time.perf_counter()
    index = library_.Index(space="cosine", dim=512)
    index.init_index(max_elements=n, M=16, ef_construction=200)
    vectors = stored_vectors(n)
    for start in range(0, n, _BATCH):
        index.add_items(vectors[start : start + _BATCH].astype(np.float32))
    index.set_ef(64)
    seconds = time.perf_counter() - started

    def answer(query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, distances = index.knn_query(query[None], K)
        return rows[0], 1 - distances[0]

    saved = CACHE / "rival.hnswlib"
    index.save_index(str(saved))
    return {"seconds": seconds, **_sized(saved, n), **measured(n, answer)}


def crowd(n: int) -> dict[str, object]:
    """Eight threads that search for some seconds: alone, and while a folder of pictures is ingested."""
    storage = MultimodalStorage(library(n), create=False)
    folder = CACHE / "ingested"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(N_INGESTED):
        if not (folder / f"{number}.jpg").exists():
            rendered(5_000_000 + number).resize((640, 640)).save(folder / f"{number}.jpg")
    alone = crowded(storage, lambda: time.sleep(SECONDS))
    code = "import sys; from arrowlens.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "ingest", str(folder), "--library", str(library(n)), "--json"]
    report: dict[str, object] = {}

    def ingest() -> None:
        report.update(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))

    beside = crowded(storage, ingest)
    return {
        "alone_p50_ms": float(np.median(alone)),
        "alone_p99_ms": float(np.percentile(alone, 99)),
        "ingest_p50_ms": float(np.median(beside)),
        "ingest_p99_ms": float(np.percentile(beside, 99)),
        "indexed": report["indexed"],
        "ingest_seconds": report["seconds"],
    }


def crowded(storage: MultimodalStorage, meanwhile: Callable[[], None]) -> list[float]:
    """Milliseconds of every search that threads made while something went on."""
    pictures, texts = queries()
    asked, done = np.concatenate([pictures, texts]), threading.Event()
    times: list[float] = []

    def search(first: int) -> None:
        number = first
        while not done.is_set():
            started = time.perf_counter()
            hits = storage.search("vision", digest(), asked[number % len(asked)], K, "image")
            times.append(1e3 * (time.perf_counter() - started))
            assert hits.num_rows == K
            number += 1

    threads = [threading.Thread(target=search, args=(37 * thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        meanwhile()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    return times


def truth(n: int) -> np.ndarray:
    """The ``K`` best cosines of each query, (2 * N_QUERIES, K) falling; by float32 products, kept on disk."""
    path = CACHE / f"truth-{n}.npy"
    if not path.exists():
        asked, vectors = np.concatenate(queries()), stored_vectors(n)
        best = np.full((len(asked), K), -2.0, np.float32)
        for start in range(0, n, 50_000):
            scores = asked @ vectors[start : start + 50_000].astype(np.float32).T
            best = -np.sort(np.partition(-np.concatenate([best, scores], axis=1), K, axis=1)[:, :K], axis=1)
        np.save(path, best)
    found: np.ndarray = np.load(path)
    return found


def measured(n: int, answer: Answer, n_queries: int | None = None) -> dict[str, object]:
    """Milliseconds and recall@10 over queries for pictures and texts in turns, after some that do not count."""
    pictures, texts = queries()
    order = np.arange(len(pictures) + len(texts)).reshape(2, -1).T.ravel()[:n_queries]
    asked, best = np.concatenate([pictures, texts]), truth(n)
    for number in order[: min(N_WARM, len(order) // 5)]:
        answer(asked[number])
    times, shares = [], {True: [], False: []}
    for number in order:
        started = time.perf_counter()
        _, scores = answer(asked[number])
        times.append(1e3 * (time.perf_counter() - started))
        right = np.count_nonzero(np.asarray(scores) >= best[number, -1] - TOLERANCE)
        shares[bool(number < len(pictures))].append(right / K)
    return {
        "p50_ms": float(np.median(times)),
        "p99_ms": float(np.percentile(times, 99)),
        "recall_pictures": float(np.mean(shares[True])),
        "recall_texts": float(np.mean(shares[False])),
        "n_queries": len(order),
        "peak_mb": peak_mb(),
    }


def _faiss(n: int, index: object, n_queries: int | None = None) -> dict[str, object]:
    import faiss

    started, vectors = time.perf_counter(), stored_vectors(n)
    sample = np.random.default_rng(0).choice(n, min(n, 50_000), replace=False)
    index.train(vectors[np.sort(sample)].astype(np.float32))  # type: ignore[attr-defined]
    for start in range(0, n, _BATCH):
        index.add(vectors[start : start + _BATCH].astype(np.float32))  # type: ignore[attr-defined]
    seconds = time.perf_counter() - started

    def answer(query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores, rows = index.search(query[None], K)  # type: ignore[attr-defined]
        return rows[0], scores[0]

    saved = CACHE / "rival.faiss"
    faiss.write_index(index, str(saved))
    return {"seconds": seconds, **_sized(saved, n), **measured(n, answer, n_queries)}


def _sized(saved: Path, n: int) -> dict[str, object]:
    size = saved.stat().st_size
    saved.unlink()
    return {"bytes_an_item": size / n}


def n_bytes(folder: Path) -> int:
    """Of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def library(n: int) -> Path:
    """Where the library of n pictures is."""
    return (CACHE / f"index-{n}.lens").absolute()


def digest() -> str:
    """Of the demo model."""
    return model_info(DEMO / "models" / "clip").digest


def name(number: int) -> bytes:
    """A camera's."""
    return f"{2000 + number % 24}/{number % 12 + 1:02d}/IMG_{number:08d}.jpg".encode()


def media_row(root: str, number: int) -> dict[str, object]:
    """What an ingest writes of a photograph."""
    path, taken = name(number), dt.datetime(2010, 1, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=7 * number)
    return {
        "media_id": media_id_of(root, path),
        "root_id": root,
        "path": path.decode(),
        "path_bytes": path,
        "content_hash": hashlib.sha256(path).hexdigest()[:32],
        "size": 2_000_000 + number,
        "modified_ns": int(taken.timestamp()) * 10**9,
        "modified": taken,
        "taken": taken.replace(tzinfo=None),
        "modality": "image",
        "format": "JPEG",
        "width": 4000,
        "height": 3000,
        "trivial": False,
        "state": "indexed",
        "layout": 2,
    }


def peak_mb() -> float:
    """Megabytes that this process has taken at most, mapped files that it read included.

    Not ``ru_maxrss``, which begins with that of the process that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


STEPS = (fill, build, ours, lancedb_exact, numpy_exact, faiss_flat, faiss_ivf, usearch, hnswlib, crowd)

if __name__ == "__main__":
    step = {step.__name__: step for step in STEPS}[sys.argv[1]]
    print(json.dumps(step(int(sys.argv[2]))))
