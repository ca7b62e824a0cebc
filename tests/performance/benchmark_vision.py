"""Encoding pictures, ViT-B/16 with random weights, against transformers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import transformers

from arrowlens.conversion import convert_clip_model
from arrowlens.encoders import VisionEncoder
from tests.performance.measure import converted, full_size_clip, header, medians, report
from tests.reference import ClipReference, cosines, pictures

BATCH = 16


def main() -> None:
    """Print the table."""
    header("vision")
    checkpoint = full_size_clip()
    encoder = VisionEncoder(converted(checkpoint, convert_clip_model))
    models = {
        name: transformers.CLIPVisionModel.from_pretrained(checkpoint, dtype=dtype).eval()
        for name, dtype in {"transformers float32": torch.float32, "transformers bfloat16": torch.bfloat16}.items()
    }
    ours = f"ours {encoder.precision}"
    print(f"        ours runs in {encoder.precision}: {encoder.precision_reason}")
    batch = encoder.image_processor.normalize(np.tile(pictures(224), (BATCH // 8, 1, 1, 1)))

    def works(n: int) -> dict[str, Callable[[], object]]:
        return {
            ours: lambda: encoder.encode(batch[:n]),
            **{name: _reference(m, batch[:n]) for name, m in models.items()},
        }

    report("one picture", medians(works(1)), target="2-3x, < 100 ms")
    report("pictures in bulk", medians(works(BATCH), repeats=3), BATCH, "images/s", "3x, 150 images/s")
    reference = ClipReference(transformers.CLIPModel.from_pretrained(checkpoint))
    agreement = cosines(encoder.encode(pictures(224), normalize=False), reference.pooled(pictures(224)))
    print(f"        cosine with transformers in float32: average {agreement.mean():.6f}, lowest {agreement.min():.6f}")


def _reference(model: transformers.CLIPVisionModel, batch: np.ndarray) -> Callable[[], object]:
    pixels = torch.from_numpy(batch).permute(0, 3, 1, 2).to(model.dtype)

    def run() -> object:
        with torch.inference_mode():
            return model(pixel_values=pixels).pooler_output

    return run


if __name__ == "__main__":
    main()
