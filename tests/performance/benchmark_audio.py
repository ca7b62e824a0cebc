"""Encoding recordings, whisper-base with random weights, against transformers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import transformers

from arrowlens.conversion import convert_whisper_model
from arrowlens.encoders import AudioEncoder
from tests.performance.measure import converted, full_size_whisper, header, medians, report
from tests.reference import WhisperReference, cosines

N_CLIPS = 4


def main() -> None:
    """Print the table."""
    header("audio")
    checkpoint = full_size_whisper()
    encoder = AudioEncoder(converted(checkpoint, convert_whisper_model))
    models = {
        name: transformers.WhisperModel.from_pretrained(checkpoint, dtype=dtype).get_encoder().eval()
        for name, dtype in {"transformers float32": torch.float32, "transformers bfloat16": torch.bfloat16}.items()
    }
    extractor = transformers.WhisperFeatureExtractor()
    ours = f"ours {encoder.precision}"
    print(f"        ours runs in {encoder.precision}: {encoder.precision_reason}")
    rng = np.random.default_rng(0)
    long = (0.1 * rng.normal(size=(N_CLIPS, 480_000))).astype(np.float32)
    short = long[:, : 5 * 16_000].copy()

    def works(waves: np.ndarray, context: str) -> dict[str, Callable[[], object]]:
        references = {name: _reference(model, extractor, waves) for name, model in models.items()}
        return {ours: lambda: encoder.encode(waves, context=context), **references}

    report("one recording of 30 s", medians(works(long[:1], "padded"), repeats=3), target="2-3x, < 200 ms")
    found = medians(works(long, "padded"), repeats=3)
    report("recordings of 30 s in bulk", found, N_CLIPS, "clips/s", "3x, 50 clips/s")
    found = medians(works(short, "clip"), repeats=3)
    report("recordings of 5 s, their own frames (transformers pads to 30 s)", found, N_CLIPS, "clips/s")
    reference = WhisperReference(transformers.WhisperModel.from_pretrained(checkpoint))
    agreement = cosines(encoder.encode(long[:2], normalize=False), reference.padded(list(long[:2])))
    print(f"        cosine with transformers in float32: average {agreement.mean():.6f}, lowest {agreement.min():.6f}")


def _reference(
    model: torch.nn.Module, extractor: transformers.WhisperFeatureExtractor, waves: np.ndarray
) -> Callable[[], object]:
    dtype = next(model.parameters()).dtype

    def run() -> object:
        features = extractor(list(waves), sampling_rate=16_000, return_tensors="pt")["input_features"]
        with torch.inference_mode():
            return model(features.to(dtype)).last_hidden_state.mean(dim=1)

    return run


if __name__ == "__main__":
    main()
