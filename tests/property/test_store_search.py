"""What the store finds equals an independent, exhaustive search, ties and collapse included."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from arrowlens.store import ModelRecord, MultimodalStorage, VectorRow, media_id_of

DIGEST = "a" * 64
D = 4


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def cosine(stored: np.ndarray, query: np.ndarray) -> float:
    """In exact sums, rounded once to float32."""
    stored, query = stored.astype(np.float64), query.astype(np.float64)
    dot = math.fsum(a * b for a, b in zip(stored, query, strict=True))
    return float(
        np.float32(dot / math.sqrt(math.fsum(a * a for a in stored)) / math.sqrt(math.fsum(b * b for b in query)))
    )


def exhaustive(files, query, k, modality):
    """(media_id, score, start) of the best files: the first of each content, its best window."""
    best = {}
    for media_id, content, kind, is_indexed, windows in files:
        if is_indexed and modality in (None, kind):
            score, start = min((-cosine(window, query), 5.0 * n) for n, window in enumerate(windows))
            candidate = (score, media_id, start)
            best[content] = min(best.get(content, candidate), candidate)
    return [(media_id, -score, start) for score, media_id, start in sorted(best.values())[:k]]


def half(vector: np.ndarray) -> np.ndarray:
    """As it is stored."""
    wide = vector.astype(np.float32)
    wide = wide / np.abs(wide).max()
    return (wide / np.linalg.norm(wide)).astype(np.float16)


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**64 - 1))
def test_search_equals_an_exhaustive_one(folder, seed):
    """Coarse ``steps`` make equal scores of unequal vectors, few contents make copies, many windows crowd the top."""
    with tempfile.TemporaryDirectory(dir=folder) as path:
        expected = check(path, seed)
    event(f"hits: {min(len(expected), 3)}{'+' if len(expected) > 3 else ''}")
    event("ties" if len({score for _, score, _ in expected}) < len(expected) else "no ties")


IN_A_BUCKET = 4  # libraries, each with requests for every table; the others in make soak


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=pytest.mark.soak if seed >= IN_A_BUCKET else ()) for seed in range(40)]
)
def test_search_in_a_bucket_equals_an_exhaustive_one(bucket, seed):
    check(bucket, seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(40))
def test_search_over_shards_equals_an_exhaustive_one(tmp_path, seed):
    MultimodalStorage(tmp_path / "library", n_shards=4)
    check(tmp_path / "library", seed)


def check(address, seed):
    """Search a random library, made at an address; return what was to be found."""
    rng = np.random.default_rng(seed)
    n_files, n_contents = rng.integers(0, 25), rng.choice([2, 8, 20])
    max_windows, steps, k = rng.choice([1, 3, 90]), rng.choice([1, 1, 2, 1000]), int(rng.choice([1, 4, 8, 30]))
    modality = (None, None, "audio", "image")[rng.integers(4)]
    contents = {}
    for number in range(n_contents):
        vectors = rng.integers(-steps, steps + 1, (rng.integers(1, max_windows + 1), D))
        vectors[~vectors.any(axis=1), 0] = 1  # zero has no direction
        contents[f"content {number}"] = ("audio" if rng.random() < 0.8 else "image", vectors.astype(np.float32))
    query = rng.integers(-steps, steps + 1, D).astype(np.float32)
    query[0] = query[0] or 1.0
    files, rows, media = [], [], []
    for number in range(n_files):
        content = str(rng.choice(list(contents)))
        kind, vectors = contents[content]
        media_id, is_indexed = media_id_of("root", str(number).encode()), rng.random() < 0.9
        files.append((media_id, content, kind, is_indexed, [half(vector) for vector in vectors]))
        rows += [VectorRow(media_id, content, kind, v, n, 5.0 * n, 5.0 * n + 10) for n, v in enumerate(vectors)]
        state = "indexed" if is_indexed else "skipped"
        media.append({"media_id": media_id, "content_hash": content, "modality": kind, "state": state})
    storage = MultimodalStorage(address)
    storage.bind_models({"audio": ModelRecord(DIGEST, D)})
    storage.upsert_vectors("audio", rows)
    storage.upsert_media(media)
    table = storage.search("audio", DIGEST, query, k, modality)
    expected = exhaustive(files, query / np.linalg.norm(query), k, modality)
    got = list(zip(*(table[name].to_pylist() for name in ("media_id", "score", "start")), strict=True))
    assert [(media_id, start) for media_id, _, start in got] == [(media_id, start) for media_id, _, start in expected]
    np.testing.assert_allclose([score for _, score, _ in got], [score for _, score, _ in expected], atol=1e-6)
    return expected
