"""What ``turns`` measures of one version, which is that of the working folder.

python benchmarks/turns_step.py STEP ROWS    prints a JSON list of times: milliseconds by the clock, of the processor
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from arrowlens import Library
from arrowlens.store import MultimodalStorage
from benchmarks.encodings import queries
from benchmarks.index_stages import digest, library
from benchmarks.measure import CACHE

N_WARM, N_ASKED = 20, 120
N_THREADS, N_EACH = 8, 15
PAGE = 48
_BATCH = 20_000

Times = list[tuple[float, float]]


def search(n: int) -> Times:
    """``Library.search`` for 20 files; texts and pictures are asked for in turns, as vectors."""
    opened = Library.open(library(n))
    asked = np.stack(queries(), axis=1).reshape(-1, queries()[0].shape[1])[:N_ASKED]
    current = [asked[0]]
    engine = opened._engine.provider.clip_engine
    encode = engine.encode_text

    def encode_text(texts: list[str], *arguments: object, **options: object) -> np.ndarray:
        is_question = len(texts) == 1  # what relevance is measured by comes in batches
        return current[0][None] if is_question else encode(texts, *arguments, **options)  # type: ignore[arg-type]

    engine.encode_text = encode_text  # type: ignore[method-assign,assignment]

    def ask(number: int) -> None:
        current[0] = asked[number]
        assert len(opened.search(f"question {number}", k=20, mode="vector")) == 20

    return timed(ask, len(asked))


def threads(n: int) -> Times:
    """``MultimodalStorage.search`` for 10 files by eight threads at once, each its own questions."""
    storage = MultimodalStorage(library(n), create=False)
    asked = np.concatenate(queries())
    times: Times = []
    started = time.process_time()

    def ask(first: int) -> None:
        for number in range(N_EACH):
            began = time.perf_counter()
            storage.search("vision", digest(), asked[(first + number) % len(asked)], 10, "image")
            times.append((1e3 * (time.perf_counter() - began), 0.0))

    for warm in (True, False):
        times.clear()
        started = time.process_time()
        several = [threading.Thread(target=ask, args=(37 * thread + 200 * warm,)) for thread in range(N_THREADS)]
        for thread in several:
            thread.start()
        for thread in several:
            thread.join()
    used = 1e3 * (time.process_time() - started) / len(times)
    return [(clock, used) for clock, _ in times]


def fill_thumbnails(n: int) -> Times:
    """Write a table of n thumbnails of 1,000 bytes, as a run leaves it."""
    path = (CACHE / f"thumbnails-{n}.lens").absolute()
    if not path.exists():
        storage = MultimodalStorage(path)
        with storage.writing():
            for start in range(0, n, _BATCH):
                numbers = range(start, min(n, start + _BATCH))
                storage.upsert_thumbnails({content(number): content(number).encode() * 31 for number in numbers})
        storage.optimize(thorough=False)
    return []


def thumbnails(n: int) -> Times:
    """A page of thumbnails, one by one as a browser asks for them."""
    storage = MultimodalStorage((CACHE / f"thumbnails-{n}.lens").absolute(), create=False)
    numbers = np.random.default_rng(1).integers(0, n, (12, PAGE))

    def ask(number: int) -> None:
        for each in numbers[number % len(numbers)]:
            assert storage.thumbnails([content(int(each))])

    return timed(ask, 8, 2)


def content(number: int) -> str:
    """A content hash."""
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def timed(ask: Callable[[int], None], n: int, n_warm: int = N_WARM) -> Times:
    """The times of n questions, after some that do not count."""
    for number in range(n_warm):
        ask(number)
    times = []
    for number in range(n):
        clock, processor = time.perf_counter(), time.process_time()
        ask(number)
        times.append((1e3 * (time.perf_counter() - clock), 1e3 * (time.process_time() - processor)))
    return times


STEPS = (search, threads, fill_thumbnails, thumbnails)

if __name__ == "__main__":
    step = {step.__name__: step for step in STEPS}[sys.argv[1]]
    print(json.dumps(step(int(sys.argv[2]))))
