"""Ingesting a folder of JPEGs with a ViT-B/16, against a plain loop over transformers on the same files and weights."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image

from arrowlens import Library
from arrowlens.conversion import convert_clip_model
from arrowlens.encoders import CLIPEngine
from tests.performance.measure import CACHE, converted, full_size_clip, header
from tests.reference import cosines

SIZES = [(640, 480), (1600, 1200), (4000, 3000)]  # 0.3, 1.9 and 12 megapixels
N_PICTURES = 48


def main() -> None:
    """Print the table."""
    header("ingest")
    checkpoint = full_size_clip()
    directory = converted(checkpoint, convert_clip_model)
    folder = pictures()
    paths = sorted(folder.iterdir())
    library_path = CACHE / "ingest.lens"
    shutil.rmtree(library_path, ignore_errors=True)
    with Library.open(library_path, models=f"clip={directory}") as library:
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


if __name__ == "__main__":
    main()
