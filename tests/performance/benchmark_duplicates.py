"""Duplicates: how well copies are told from look-alikes, and what comparing everything with everything costs.

python -m tests.performance.benchmark_duplicates [--every N] [--items 100000]
"""

from __future__ import annotations

import argparse
import io
import resource
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from arrowlens.search.closeness import Close, stars
from arrowlens.search.fingerprints import Fingerprints
from arrowlens.search.resemblance import Pictures
from tests import duplicate_cases, duplicate_recordings
from tests.duplicate_measures import Labels, families, found_by, grouped, of_one, prepared_pictures, prepared_recordings
from tests.performance.measure import header

PICTURES = (duplicate_cases.RECODED, duplicate_cases.EDITED, duplicate_cases.CROPPED)
RECORDINGS = (duplicate_recordings.RECODED, duplicate_recordings.LOW_RATE, duplicate_recordings.EDITED)
DIMENSION = 512
A_CLUSTER = 50  # vectors of one subject
COPIED = 0.05  # of the items are copies of others
THUMBNAILS = 2_000


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1, help="take every N-th source only")
    parser.add_argument("--items", type=int, default=100_000)
    options = parser.parse_args()
    header("duplicates")
    labels, pictures = prepared_pictures(options.every)
    accuracy("pictures", labels, pictures.copies, PICTURES)
    accuracy("pictures that are nearly the same", labels, pictures.near, PICTURES)
    labels, recordings = prepared_recordings(options.every)
    accuracy("recordings", labels, recordings.copies, RECORDINGS)
    accuracy("recordings that are nearly the same", labels, recordings.near, RECORDINGS)
    speed(options.items)


def accuracy(title: str, labels: Labels, close: Close, kinds: tuple[str, ...]) -> None:
    """Recall of each kind of copy, precision, and what was wrong."""
    found = found_by(labels, close, kinds)
    n_distinct = len(labels.distinct())
    print(f"{title}: {len(labels.names):,} files, {n_distinct * (n_distinct - 1) // 2:,} pairs of different ones")
    print("  found with their source:", ", ".join(f"{kind} {share:.3f}" for kind, share in found.recall.items()))
    print("  recoded, by family:", ", ".join(f"{name} {share:.2f}" for name, share in worst(found.by_family)))
    wrong = [pair for pair in found.wrong if not of_one(*pair)]
    print(f"  precision {found.precision:.4f}; {len(found.wrong)} wrong pairs, {len(wrong)} not of one source")
    print(f"  wrong: {families(found.wrong) or 'none'}")
    together, strangers = grouped(labels, close)
    print(f"  in a group with their source: {together:.3f}; files in a group led by another source's: {strangers}")


def worst(shares: dict[str, float]) -> list[tuple[str, float]]:
    """The eight lowest."""
    return sorted(shares.items(), key=lambda item: item[1])[:8]


def speed(n_items: int) -> None:
    """Core-seconds and memory of all pairs of clustered random vectors and hashes, and of fingerprints."""
    pictures = random_pictures(n_items)
    before = peak()
    for name, close in (("copies, by hashes", pictures.copies), ("near, by vectors", pictures.near)):
        n_groups, wall, cores = timed(lambda close=close: len(stars(np.arange(n_items), close)))
        print(f"{name}: {n_items:,} in {wall:.0f} s, {cores:.0f} core-seconds, {n_groups:,} groups")
    print(f"memory: {before:,} MB before, {peak():,} MB after")
    thumbnails = [thumbnail(seed) for seed in range(20)] * (THUMBNAILS // 20)
    _, wall, cores = timed(lambda: len(Fingerprints.of(thumbnails).signs))
    for_all = n_items / THUMBNAILS
    print(f"fingerprints: {THUMBNAILS:,} in {wall:.1f} s, for {n_items:,} {cores * for_all:.0f} core-seconds")


def random_pictures(n_items: int) -> Pictures:
    """Clustered vectors and random hashes; some items are copies of others, both in vector and hash."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((n_items // A_CLUSTER, DIMENSION)).astype(np.float32)
    vectors = centres[rng.integers(0, len(centres), n_items)]
    vectors += 0.7 * rng.standard_normal(vectors.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    bits = rng.standard_normal((n_items, 256)).astype(np.float32)
    copies = rng.choice(n_items, int(n_items * COPIED), replace=False)
    sources = rng.integers(0, n_items, len(copies))
    vectors[copies] = vectors[sources] + 0.005 * rng.standard_normal((len(copies), DIMENSION)).astype(np.float32)
    bits[copies] = bits[sources] + 0.15 * rng.standard_normal((len(copies), 256)).astype(np.float32)
    colours = rng.integers(-60, 60, (n_items, 128)).astype(np.int8)
    colours[copies] = colours[sources]
    return Pictures(Fingerprints(np.where(bits > 0, 1, -1).astype(np.int8), colours), vectors.astype(np.float16))


def thumbnail(seed: int) -> bytes:
    """A JPEG as ingest makes them."""
    image = duplicate_cases.scene(seed)
    image.thumbnail((320, 320), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def timed(work: Callable[[], int]) -> tuple[int, float, float]:
    """What work gives, its seconds, and the processor's seconds on all cores."""
    wall, cores = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - wall, time.process_time() - cores


def peak() -> int:
    """Megabytes that this process has taken at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
