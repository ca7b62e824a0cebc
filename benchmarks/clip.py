"""Encoding texts, CLIP's text tower with random weights, against transformers."""

from __future__ import annotations

from collections.abc import Callable

import torch
import transformers

from arrowlens.conversion import convert_clip_model
from arrowlens.encoders import CLIPEngine
from benchmarks.measure import converted, full_size_clip, header, medians, report

TEXTS = ["a photo of two cats", "rain", "a red bicycle in front of a blue wall", "the sea at night"] * 8


def main() -> None:
    """Print the table."""
    header("clip")
    checkpoint = full_size_clip()
    engine = CLIPEngine(converted(checkpoint, convert_clip_model))
    tokenizer = transformers.CLIPTokenizer.from_pretrained(checkpoint)
    models = {
        name: transformers.CLIPModel.from_pretrained(checkpoint, dtype=dtype).eval()
        for name, dtype in {"transformers float32": torch.float32, "transformers bfloat16": torch.bfloat16}.items()
    }
    ours = f"ours {engine.precision}"

    def works(texts: list[str]) -> dict[str, Callable[[], object]]:
        references = {name: _reference(model, tokenizer, texts) for name, model in models.items()}
        return {ours: lambda: engine.encode_text(texts), **references}

    report("one text query", medians(works(TEXTS[:1]), repeats=9), target="2-3x")
    report("texts in bulk", medians(works(TEXTS), repeats=3), len(TEXTS), "texts/s", "3x")


def _reference(
    model: transformers.CLIPModel, tokenizer: transformers.PreTrainedTokenizerBase, texts: list[str]
) -> Callable[[], object]:
    def run() -> object:
        tokens = tokenizer(texts, padding=True, return_tensors="pt")
        with torch.inference_mode():
            return model.get_text_features(**tokens).pooler_output

    return run


if __name__ == "__main__":
    main()
