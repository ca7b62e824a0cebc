"""Encoding pictures and texts, SigLIP 2 B/16-224 with random weights, against transformers.

The token table has 2,048 of 256,000 rows, which changes no time of either.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers

from arrowlens.conversion import convert_siglip_model
from arrowlens.encoders import SiglipEngine
from benchmarks.measure import CACHE, converted, halve, header, medians, report
from tests.support.reference import cosines, pictures
from tests.support.siglip import BASE, siglip_checkpoint

BATCH = 8  # what an ingest encodes at a time
TEXTS = ["a photo of two cats", "rain", "a red bicycle in front of a blue wall", "the sea at night"] * 4


def main() -> None:
    """Print the table."""
    header("siglip, SigLIP 2 B/16-224")
    checkpoint = _checkpoint()
    engine = SiglipEngine(converted(checkpoint, convert_siglip_model))
    models = {
        name: transformers.SiglipModel.from_pretrained(checkpoint, dtype=dtype).eval()
        for name, dtype in {"transformers float32": torch.float32, "transformers bfloat16": torch.bfloat16}.items()
    }
    ours = f"ours {engine.precision}"
    print(f"        ours runs in {engine.precision}: {engine.precision_reason}")
    batch = engine.image_processor.normalize(pictures(224))

    def of_pictures(n: int) -> dict[str, Callable[[], object]]:
        references = {name: _pictures(model, batch[:n]) for name, model in models.items()}
        return {ours: lambda: engine.encode_image(batch[:n]), **references}

    def of_texts(texts: list[str]) -> dict[str, Callable[[], object]]:
        ids = torch.from_numpy(np.asarray(engine.tokenizer(texts).ids))
        references = {name: _texts(model, ids) for name, model in models.items()}
        return {ours: lambda: engine.encode_text(texts), **references}

    report("one picture", medians(of_pictures(1)))
    report("pictures in bulk", medians(of_pictures(BATCH), 5, seconds=0), BATCH, "images/s")
    report("one text query", medians(of_texts(TEXTS[:1]), repeats=9))
    report("texts in bulk", medians(of_texts(TEXTS), 3, seconds=0), len(TEXTS), "texts/s")
    expected = _pictures(models["transformers float32"], batch)().float().numpy()
    agreement = cosines(engine.encode_image(batch, normalize=False), expected)
    print(f"        cosine with transformers in float32: average {agreement.mean():.6f}, lowest {agreement.min():.6f}")


def _checkpoint() -> Path:
    """In float16, made once."""
    path = CACHE / "siglip-checkpoint"
    if not (path / "config.json").exists():
        siglip_checkpoint(path, {**BASE, "image_size": 224, "patch_size": 16}, BASE)
        halve(path, transformers.SiglipModel)
    return path


def _pictures(model: transformers.SiglipModel, batch: np.ndarray) -> Callable[[], torch.Tensor]:
    pixels = torch.from_numpy(batch).permute(0, 3, 1, 2).to(model.dtype)

    def run() -> torch.Tensor:
        with torch.inference_mode():
            return model.get_image_features(pixel_values=pixels).pooler_output

    return run


def _texts(model: transformers.SiglipModel, ids: torch.Tensor) -> Callable[[], torch.Tensor]:
    def run() -> torch.Tensor:
        with torch.inference_mode():
            return model.get_text_features(input_ids=ids).pooler_output

    return run


if __name__ == "__main__":
    main()
