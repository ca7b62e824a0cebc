"""Ingesting folders of JPEGs: the share of what the cores allow, and the rate against a plain loop over transformers.

With ``d`` and ``e`` the core-seconds of decoding and of encoding a file, each measured alone and on all cores at once,
n cores could do n / (d + e) files a second.
"""

from __future__ import annotations

import io
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image

import arrowlens
from arrowlens import IngestReport, Library
from arrowlens.conversion import convert_clip_model
from arrowlens.embedding import EmbeddingPlan
from arrowlens.encoders import CLIPEngine
from arrowlens.encoders.runtime import encoding_threads
from arrowlens.ingest.batching import BATCH_OF_A_CORE
from arrowlens.ingest.prepare import Prepared, Preparer
from arrowlens.ingest.source import FolderSource
from arrowlens.ingest.walk import ScannedFile
from arrowlens.media import Limits
from arrowlens.media.decoded import large_bytes
from arrowlens.store import Root
from arrowlens.workers.pool import Workers
from arrowlens.workers.prefetch import ReadAhead
from arrowlens.workers.resources import Spent, n_cores
from benchmarks.measure import CACHE, converted, full_size_clip, header
from tests.support.reference import cosines

SIZES = [(640, 480), (1600, 1200), (4000, 3000)]  # 0.3, 1.9 and 12 megapixels
N_PICTURES = 48
DEMO = Path(arrowlens.__file__).parent / "demo" / "models" / "clip"
MEGAPIXELS = (0.1, 1, 4, 12)
N_SAMPLES = 64  # files decoded, and pictures encoded on each core, to measure d and e
SECONDS = 30.0  # about, of each run


def main() -> None:
    """Print the tables."""
    header("ingest")
    checkpoint = full_size_clip()
    directory = converted(checkpoint, convert_clip_model)
    for name, model in (("demo model", DEMO), ("ViT-B/16", directory)):
        for megapixels in MEGAPIXELS:
            share_of_the_cores(name, model, megapixels)
    against_a_loop(checkpoint, directory)


def share_of_the_cores(name: str, model: Path, megapixels: float) -> None:
    """Print a line: the rate of a run as a share of the cores' limit."""
    engine = CLIPEngine(model)
    decoding, prepared = core_seconds_of_decoding(engine, jpegs(megapixels, N_SAMPLES))
    encoding = core_seconds_of_encoding(
        engine, np.stack([one.inputs.segments[0] for one in prepared if one.inputs is not None])
    )
    limit = n_cores() / (decoding + encoding)
    folder = jpegs(megapixels, max(N_SAMPLES, round(SECONDS * limit)))
    report, seconds = ingest_warm(model, folder)
    assert report.skipped == 0
    rate = report.indexed / seconds
    print(
        f"{rate / limit:6.0%}  {name}, {report.indexed} JPEGs of {megapixels} megapixels: {rate:.1f} files/s of "
        f"{limit:.1f} ({n_cores()} cores, d {1000 * decoding:.2f} ms, e {1000 * encoding:.2f} ms), "
        f"bound by {report.bound}, peak {report.peak_memory / 1e6:.0f} MB",
        flush=True,
    )


def ingest_warm(model: Path, folder: Path) -> tuple[IngestReport, float]:
    """A run in a process and a library that have seen one before, and its seconds."""
    library_path = CACHE / "ingest.lens"
    shutil.rmtree(library_path, ignore_errors=True)
    with Library.open(library_path, models=f"vision={model}") as library:
        library.ingest(jpegs(0.1, 8))
        start = time.perf_counter()
        report = library.ingest(folder)
        return report, time.perf_counter() - start


def core_seconds_of_decoding(engine: CLIPEngine, folder: Path) -> tuple[float, list[Prepared]]:
    """Of a file, with a worker on each core; and what became of the files."""
    root = Root.at(str(folder))
    files = []
    for path in sorted(folder.iterdir()):
        status = path.stat()
        files.append(ScannedFile(bytes(path), root, path.name.encode(), "image", status.st_size, status.st_mtime_ns))
    preparer = Preparer(FolderSource((), CACHE), EmbeddingPlan(engine.image_processor), Limits())
    workers = Workers(preparer, 100.0, Spent(), large_bytes(Limits()))
    with ReadAhead(workers.open, files, n_cores(), lambda _: 1, threading.Event()) as results:
        prepared = list(results)
    return (workers.spent.busy - workers.spent.idle) / len(files), prepared


def core_seconds_of_encoding(engine: CLIPEngine, pictures: np.ndarray) -> float:
    """Of a picture, in batches on every core."""

    def encode(_: int) -> float:
        for _ in range(2):  # the first time is no measure
            start = time.thread_time()
            for first in range(0, len(pictures), BATCH_OF_A_CORE):
                engine.encode_image(pictures[first : first + BATCH_OF_A_CORE])
        return time.thread_time() - start

    with encoding_threads("cpu") as threads:
        seconds = list(threads.pool.map(encode, range(threads.n)))
    return sum(seconds) / len(seconds) / len(pictures)


def against_a_loop(checkpoint: Path, directory: Path) -> None:
    """Print the ratio to a plain loop over transformers, on the same files and weights."""
    folder = pictures()
    paths = sorted(folder.iterdir())
    library_path = CACHE / "ingest.lens"
    shutil.rmtree(library_path, ignore_errors=True)
    with Library.open(library_path, models=f"vision={directory}") as library:
        start = time.perf_counter()
        report = library.ingest(folder)
        ours = time.perf_counter() - start
        start = time.perf_counter()
        again = library.ingest(folder)
        unchanged = time.perf_counter() - start
    assert report.indexed == N_PICTURES
    assert again.unchanged == N_PICTURES
    model = transformers.CLIPModel.from_pretrained(checkpoint, dtype=torch.float32).eval()
    processor = transformers.CLIPImageProcessorPil()
    start = time.perf_counter()
    reference = plain_loop(model, processor, paths)
    theirs = time.perf_counter() - start
    print(
        f"{theirs / ours:6.1f}x  {N_PICTURES} JPEGs of 0.3, 1.9 and 12 megapixels: {N_PICTURES / ours:.1f} files/s "
        f"(ingest, models loaded in it) against {N_PICTURES / theirs:.1f} files/s (a loop over transformers in float32)"
    )
    print(f"        the same folder again, unchanged: {1000 * unchanged:.0f} ms")
    engine = CLIPEngine(directory)
    prepared = np.stack([engine.image_processor(Image.open(path), normalize=False) for path in paths[:6]])
    agreement = cosines(engine.encode_image(prepared), reference[:6])
    print(f"        cosine with the loop's vectors: average {agreement.mean():.6f}, lowest {agreement.min():.6f}")


def plain_loop(
    model: transformers.CLIPModel, processor: transformers.CLIPImageProcessorPil, paths: list[Path]
) -> np.ndarray:
    """What one would write first: open, prepare, encode, one file after the other, with the library's defaults."""
    vectors = []
    for path in paths:
        with Image.open(path) as image:
            pixels = processor(image.convert("RGB"), return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            vectors.append(model.get_image_features(pixel_values=pixels).pooler_output.numpy())
    return np.concatenate(vectors)


def pictures() -> Path:
    """A folder of smooth, noisy JPEGs, made once."""
    folder = CACHE / "jpegs"
    if not folder.exists():
        folder.mkdir(parents=True)
        rng = np.random.default_rng(0)
        for number in range(N_PICTURES):
            coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
            image = coarse.resize(SIZES[number % len(SIZES)], Image.Resampling.BICUBIC)
            image.save(folder / f"{number:03}.jpg", quality=90)
    return folder


def jpegs(megapixels: float, n_files: int) -> Path:
    """A folder of JPEGs of one size: eight pictures with the grain of a camera, each under many names.

    A few bytes behind the picture make every file a content of its own.
    """
    folder = CACHE / f"jpegs-{megapixels:g}-{n_files}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    with ThreadPoolExecutor(n_cores()) as threads:
        pictures = list(threads.map(lambda seed: _grainy(seed, height * 4 // 3, height), range(8)))
    for number in range(n_files):
        (folder / f"{number:05}.jpg").write_bytes(pictures[number % 8] + number.to_bytes(4, "little"))
    os.sync()  # gigabytes on their way to the disk would be written beside what is measured
    return folder


def _grainy(seed: int, width: int, height: int) -> bytes:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    grain = rng.integers(-8, 9, (height, width, 1), np.int16)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
