"""Pictures by size of batch and number format, ours and transformers', and how near that comes to the machine's roof.

python -m benchmarks batches --save FILE.json

Every core encodes batches of its own, as an ingest does, and seconds are the threads' own (``calls_per_second``).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from arrowlens.conversion import convert_clip_model
from arrowlens.encoders import VisionEncoder, choose_runtime
from arrowlens.encoders.roofline import calls_per_second, matrix_rate, of_a_picture
from benchmarks.measure import converted, full_size_clip, header
from tests.support.reference import pictures

PATCHES = {"ViT-B/32": 32, "ViT-B/16": 16}
BATCHES = (1, 2, 4, 8, 16, 32, 64)
MAX_ROWS = 3_200  # of a batch, all pictures' tokens together: larger ones take minutes
SECONDS = 2.0
_COPIED = 64 * 2**20  # bytes, more than any cache of a core

Point = dict[str, Any]


def main() -> None:
    """Print a line for each point, and save all of them for the plot."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--save", type=Path)
    save = parser.parse_args().save
    header("batches")
    bandwidth = bytes_per_second()
    print(f"        memory: {bandwidth / 1e9:.1f} GB/s read and written, all cores")
    found = {"bytes_per_second": bandwidth, "shapes": {name: measured(name, patch) for name, patch in PATCHES.items()}}
    if save is not None:
        save.write_text(json.dumps(found, indent=1) + "\n", encoding="ascii")


def measured(name: str, patch: int) -> list[Point]:
    """All points of a model: in float32, and in what is fast on this machine."""
    checkpoint = full_size_clip(patch)
    directory, points = converted(checkpoint, convert_clip_model), []
    for precision in dict.fromkeys(("float32", choose_runtime().precision)):
        encoder = VisionEncoder(directory, "cpu", precision)
        dtype = encoder.runtime.dtype
        reference = transformers.CLIPVisionModel.from_pretrained(checkpoint, dtype=dtype).eval()
        for n in BATCHES:
            if n * of_a_picture(encoder.info).n_tokens <= MAX_ROWS:
                points.append(point(encoder, reference, n))
                print(line(name, points[-1]), flush=True)
    return points


def point(encoder: VisionEncoder, reference: transformers.CLIPVisionModel, n: int) -> Point:
    """Batches of n: pictures/s of both, FLOP/s of ours and of the products alone (the roof), FLOP a byte moved."""
    arithmetic, dtype = of_a_picture(encoder.info), encoder.runtime.dtype
    batch = encoder.image_processor.normalize(np.resize(pictures(224), (n, 224, 224, 3)))
    pixels = torch.from_numpy(batch).permute(0, 3, 1, 2).to(dtype)

    def theirs() -> object:
        with torch.inference_mode():
            return reference(pixel_values=pixels).pooler_output

    ours = n * calls_per_second(lambda: encoder.encode(batch), "cpu", SECONDS)
    return {
        "precision": encoder.precision,
        "batch": n,
        "ours": ours,
        "transformers": n * calls_per_second(theirs, "cpu", SECONDS),
        "flops": ours * arithmetic.flops,
        "roof": matrix_rate(arithmetic, n, encoder.runtime, SECONDS),
        "intensity": n * arithmetic.flops / n_bytes(encoder, n),
    }


def line(name: str, found: Point) -> str:
    """A point for people, the ratio first."""
    return (
        f"{found['ours'] / found['transformers']:6.2f}x  {name}, {found['batch']} at a time, {found['precision']}: "
        f"{found['ours']:.1f} images/s against {found['transformers']:.1f} (transformers {found['precision']}); "
        f"{found['flops'] / found['roof']:.0%} of the matrix products ({found['roof'] / 1e9:.0f} GFLOP/s)"
    )


def n_bytes(encoder: VisionEncoder, n: int) -> float:
    """What a batch moves at least: all weights of the layers once, and each product's rows in and out."""
    arithmetic = of_a_picture(encoder.info)
    width, inner, rows = arithmetic.width, arithmetic.inner, n * arithmetic.n_tokens
    weights = 4 * width**2 + 2 * width * inner
    moved = rows * ((width + 3 * width) + 2 * width + 2 * (width + inner))
    return float(encoder.info.dimensions["vision"]["num_layers"] * encoder.runtime.dtype.itemsize * (weights + moved))


def bytes_per_second() -> float:
    """Read and written by copying what no cache holds, on every core at once."""
    source = torch.zeros(_COPIED, dtype=torch.uint8)
    return 2 * _COPIED * calls_per_second(source.clone, "cpu", SECONDS)


if __name__ == "__main__":
    main()
