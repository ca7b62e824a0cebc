"""Encoding recordings and texts, clap-htsat-unfused's shape with random weights, against transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers

from arrowlens.conversion import convert_clap_model
from arrowlens.encoders import ClapEncoder
from benchmarks.measure import CACHE, converted, halve, header, medians, report
from tests.support.checkpoints import HTSAT_TINY, ROBERTA_BASE, clap_checkpoint
from tests.support.reference import cosines

N_CLIPS, RATE = 4, 48_000
TEXTS = ["This is a sound of rain.", "a dog barks", "somebody plays the piano in a large hall", "waves"] * 4


def main() -> None:
    """Print the table."""
    header("clap, clap-htsat-unfused")
    checkpoint = _checkpoint()
    encoder = ClapEncoder(converted(checkpoint, convert_clap_model))
    models = {
        name: transformers.ClapModel.from_pretrained(checkpoint, dtype=dtype).eval()
        for name, dtype in {"transformers float32": torch.float32, "transformers bfloat16": torch.bfloat16}.items()
    }
    extractor = transformers.ClapFeatureExtractor.from_pretrained(checkpoint)
    ours = f"ours {encoder.precision}"
    print(f"        ours runs in {encoder.precision}: {encoder.precision_reason}")
    waves = (0.1 * np.random.default_rng(0).normal(size=(N_CLIPS, 10 * RATE))).astype(np.float32)

    def of_recordings(n: int) -> dict[str, Callable[[], object]]:
        references = {name: _recordings(model, extractor, waves[:n]) for name, model in models.items()}
        return {ours: lambda: encoder.encode(waves[:n]), **references}

    def of_texts(texts: list[str]) -> dict[str, Callable[[], object]]:
        tokens = encoder.tokenizer(texts)
        ids, mask = (torch.from_numpy(np.asarray(part)) for part in (tokens.ids, tokens.mask))
        references = {name: _texts(model, ids, mask) for name, model in models.items()}
        return {ours: lambda: encoder.encode_text(texts), **references}

    report("one recording of 10 s", medians(of_recordings(1), repeats=3))
    report("recordings of 10 s in bulk", medians(of_recordings(N_CLIPS), 3, seconds=0), N_CLIPS, "clips/s")
    report("one text query", medians(of_texts(TEXTS[:1]), repeats=9))
    report("texts in bulk", medians(of_texts(TEXTS), 3, seconds=0), len(TEXTS), "texts/s")
    expected = _recordings(models["transformers float32"], extractor, waves)().float().numpy()
    agreement = cosines(encoder.encode(waves, normalize=False), expected)
    print(f"        cosine with transformers in float32: average {agreement.mean():.6f}, lowest {agreement.min():.6f}")


def _checkpoint() -> Path:
    """In float16, made once."""
    path = CACHE / "clap-checkpoint"
    if not (path / "config.json").exists():
        clap_checkpoint(path, HTSAT_TINY, {**ROBERTA_BASE, "vocab_size": 2048}, projection_dim=512)
        halve(path, transformers.ClapModel)
    return path


def _recordings(
    model: transformers.ClapModel, extractor: transformers.ClapFeatureExtractor, waves: np.ndarray
) -> Callable[[], torch.Tensor]:
    """From the samples on, as ours."""

    def run() -> torch.Tensor:
        features = extractor(list(waves), sampling_rate=RATE, return_tensors="pt")["input_features"]
        with torch.inference_mode():
            return model.get_audio_features(input_features=features.to(model.dtype)).pooler_output

    return run


def _texts(model: transformers.ClapModel, ids: torch.Tensor, mask: torch.Tensor) -> Callable[[], torch.Tensor]:
    def run() -> torch.Tensor:
        with torch.inference_mode():
            return model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output

    return run


if __name__ == "__main__":
    main()
