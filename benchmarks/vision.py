"""Encoding pictures, ViT-B/16 and B/32 with random weights, against transformers and the machine's limit.

python -m benchmarks.vision [--patch 16] [--precision float32]

OpenVINO stands beside it where it is installed: ``pip install --no-deps openvino`` (without what reports its use).

As most users' processors, without AVX-512: ``--precision float32`` (which leaves the reference in bfloat16 out) and
ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 in the environment.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch
import transformers

from arrowlens.conversion import convert_clip_model
from arrowlens.encoders import VisionEncoder, choose_runtime
from arrowlens.encoders.roofline import of_a_picture, products
from benchmarks.measure import converted, full_size_clip, header, medians, report, share
from tests.support.reference import ClipReference, cosines, pictures

BATCH = 8  # what an ingest encodes at a time


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--patch", type=int, choices=(16, 32))
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    for patch in (16, 32) if options.patch is None else (options.patch,):
        measure(patch, options.precision)


def measure(patch: int, precision: str) -> None:
    """The rows of one model."""
    header(f"vision, ViT-B/{patch}")
    checkpoint = full_size_clip(patch)
    encoder = VisionEncoder(converted(checkpoint, convert_clip_model), precision=precision)
    models = {
        name: transformers.CLIPVisionModel.from_pretrained(checkpoint, dtype=dtype).eval()
        for name, dtype in {"transformers float32": torch.float32, "transformers bfloat16": torch.bfloat16}.items()
        if precision == "auto" or dtype == torch.float32
    }
    ours = f"ours {encoder.precision}"
    print(f"        ours runs in {encoder.precision}: {encoder.precision_reason}")
    batch = encoder.image_processor.normalize(np.tile(pictures(224), (BATCH // 8, 1, 1, 1)))
    arithmetic = of_a_picture(encoder.info)
    limits = {
        f"products {name}": products(arithmetic, BATCH, choose_runtime("cpu", name))
        for name in dict.fromkeys((encoder.precision, "float32"))
    }

    def works(n: int) -> dict[str, Callable[[], object]]:
        return {
            ours: lambda: encoder.encode(batch[:n]),
            **{name: _reference(m, batch[:n]) for name, m in models.items()},
        }

    report("one picture", medians(works(1)), target="2-3x, < 100 ms")
    beside = {
        **{name: work for name, (work, _) in limits.items()},
        **_openvino(transformers.CLIPVisionModel.from_pretrained(checkpoint), batch, encoder.precision),
    }
    found = medians({**works(BATCH), **beside}, 5, seconds=0)
    rates = {name: flops / found.pop(name) for name, (_, flops) in limits.items()}
    report("pictures in bulk", found, BATCH, "images/s", "3x, 150 images/s")
    share(found[ours], BATCH * arithmetic.flops, rates)
    reference = ClipReference(transformers.CLIPModel.from_pretrained(checkpoint))
    agreement = cosines(encoder.encode(pictures(224), normalize=False), reference.pooled(pictures(224)))
    print(f"        cosine with transformers in float32: average {agreement.mean():.6f}, lowest {agreement.min():.6f}")


def _reference(model: transformers.CLIPVisionModel, batch: np.ndarray) -> Callable[[], object]:
    pixels = torch.from_numpy(batch).permute(0, 3, 1, 2).to(model.dtype)

    def run() -> object:
        with torch.inference_mode():
            return model(pixel_values=pixels).pooler_output

    return run


def _openvino(
    model: transformers.CLIPVisionModel, batch: np.ndarray, precision: str
) -> dict[str, Callable[[], object]]:
    """The network in OpenVINO, compiled for the batch and as many threads as torch has."""
    if find_spec("openvino") is None:
        print("        OpenVINO is not installed, and not beside it")
        return {}
    import openvino

    pixels = torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing: sizes are fixed
        network = openvino.convert_model(_Pooled(model.eval()), example_input=pixels)
    network.reshape(list(pixels.shape))
    hint = {"bfloat16": "bf16", "float16": "f16", "float32": "f32"}[precision]
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(network, "CPU", settings).create_infer_request()
    return {f"OpenVINO {precision}": lambda: request.infer([pixels.numpy()])}


class _Pooled(torch.nn.Module):
    def __init__(self, model: transformers.CLIPVisionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.model(pixel_values=pixels).pooler_output
        return pooled


if __name__ == "__main__":
    main()
