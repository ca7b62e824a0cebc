"""The first vector of a process: imports, loading and encoding, ours against transformers.

python -m benchmarks.first [--rounds 7]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable

from arrowlens.conversion import convert_clip_model, convert_whisper_model
from benchmarks.measure import converted, full_size_clip, full_size_whisper, header, medians, report

ENVIRONMENT = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}  # both on the processor
PICTURE = "np.random.default_rng(0).random((1, 224, 224, 3), dtype=np.float32)"
RECORDING = "np.random.default_rng(0).random(5 * 16_000, dtype=np.float32)"
OURS = {
    "picture": f"""
import numpy as np
from arrowlens.encoders import VisionEncoder
VisionEncoder({{path!r}}).encode({PICTURE})
""",
    "recording": f"""
import numpy as np
from arrowlens.encoders import AudioEncoder
AudioEncoder({{path!r}}).encode({RECORDING}, context="padded")
""",
}
REFERENCE = {
    "picture": f"""
import numpy as np
import torch
from transformers import CLIPVisionModel
model = CLIPVisionModel.from_pretrained({{path!r}}, dtype=torch.{{dtype}})
with torch.inference_mode():
    model(pixel_values=torch.from_numpy({PICTURE}).permute(0, 3, 1, 2).to(model.dtype)).pooler_output.float().numpy()
""",
    "recording": f"""
import numpy as np
import torch
from transformers import WhisperFeatureExtractor, WhisperModel
model = WhisperModel.from_pretrained({{path!r}}, dtype=torch.{{dtype}}).get_encoder()
features = WhisperFeatureExtractor()({RECORDING}, sampling_rate=16_000, return_tensors="pt")["input_features"]
with torch.inference_mode():
    model(features.to(model.dtype)).last_hidden_state.mean(dim=1).float().numpy()
""",
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    header("first vector of a process")
    alone = medians({"import torch": process("import torch")}, rounds, seconds=0)["import torch"]
    print(f"        importing torch alone: {1000 * alone:.0f} ms")
    for what, title, checkpoint, convert in (
        ("picture", "one picture, ViT-B/16", full_size_clip(), convert_clip_model),
        ("recording", "one recording padded to 30 s, whisper-base", full_size_whisper(), convert_whisper_model),
    ):
        ours = {"ours": process(OURS[what].format(path=str(converted(checkpoint, convert))))}
        theirs = {
            f"transformers {dtype}": process(REFERENCE[what].format(path=str(checkpoint), dtype=dtype))
            for dtype in ("float32", "bfloat16")
        }
        report(f"{title}, from the start of the process", medians({**ours, **theirs}, rounds, seconds=0), target="2x")


def process(code: str) -> Callable[[], None]:
    """Runs code in a Python of its own, to its end."""

    def run() -> None:
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, env=ENVIRONMENT)

    return run


if __name__ == "__main__":
    main()
