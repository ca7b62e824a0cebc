"""Encoding recordings, whisper-base with random weights, against transformers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import transformers
from torch.nn import functional

from arrowlens.conversion import convert_whisper_model
from arrowlens.encoders import AudioEncoder
from arrowlens.encoders.roofline import of_a_recording, products
from benchmarks.measure import converted, full_size_whisper, header, medians, report, share
from tests.support.reference import WhisperReference, cosines

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
    arithmetic = of_a_recording(encoder.info, 30)
    limit, flops = products(arithmetic, N_CLIPS, encoder.runtime)
    found = medians({**works(long, "padded"), "products": limit}, 3, seconds=0)
    rate = flops / found.pop("products")
    report("recordings of 30 s in bulk", found, N_CLIPS, "clips/s", "3x, 50 clips/s")
    share(found[ours], N_CLIPS * arithmetic.flops, {f"products {encoder.precision}": rate})
    found = medians(works(short, "clip"), repeats=3)
    report("recordings of 5 s, their own frames (transformers pads to 30 s)", found, N_CLIPS, "clips/s")
    same = {f"{name}, its layers on the same 250 positions": _own_frames(m, short) for name, m in models.items()}
    report(
        "recordings of 5 s", medians({ours: lambda: encoder.encode(short, context="own"), **same}), N_CLIPS, "clips/s"
    )
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


def _own_frames(model: torch.nn.Module, waves: np.ndarray) -> Callable[[], object]:
    """transformers' layers on the recordings' own frames, its position table cut: the function that ours computes."""
    dtype = next(model.parameters()).dtype
    extractor = transformers.WhisperFeatureExtractor()

    def run() -> object:
        features = extractor(list(waves), sampling_rate=16_000, return_tensors="pt", padding="do_not_pad")
        with torch.inference_mode():
            frames = functional.gelu(model.conv1(features["input_features"].to(dtype)))
            hidden = functional.gelu(model.conv2(frames)).transpose(1, 2)
            hidden = hidden + model.embed_positions.weight[: hidden.shape[1]]
            for layer in model.layers:
                output = layer(hidden, None)
                hidden = output[0] if isinstance(output, tuple) else output
            return model.layer_norm(hidden).mean(dim=1)

    return run


if __name__ == "__main__":
    main()
