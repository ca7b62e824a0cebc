"""Loading a model: weights.arrow against transformers' from_pretrained of the same weights in the same type."""

from __future__ import annotations

import torch
import transformers

from arrowlens.conversion import convert_clip_model, convert_whisper_model
from arrowlens.encoders import AudioEncoder, CLIPEngine, WeightLoader
from benchmarks.measure import converted, full_size_clip, full_size_whisper, header, medians, report


def main() -> None:
    """Print the table."""
    header("loading")
    checkpoint = full_size_clip()
    directory = converted(checkpoint, convert_clip_model)
    found = medians(
        {
            "weights.arrow": lambda: CLIPEngine(directory, precision="float16"),
            "from_pretrained": lambda: transformers.CLIPModel.from_pretrained(checkpoint, dtype=torch.float16),
        },
        repeats=15,
    )
    report("a float16 ViT-B/16 CLIP, ready to encode", found, target="10x, < 500 ms")
    mapped = medians({"mapped tensors": lambda: WeightLoader(directory).load_weights()}, repeats=15)
    report("its tensors alone", {**mapped, "from_pretrained": found["from_pretrained"]})
    whisper = full_size_whisper()
    audio = converted(whisper, convert_whisper_model)
    found = medians(
        {
            "weights.arrow": lambda: AudioEncoder(audio, precision="float16"),
            "from_pretrained": lambda: transformers.WhisperModel.from_pretrained(whisper, dtype=torch.float16),
        },
        repeats=15,
    )
    report("a float16 whisper-base encoder (transformers loads its decoder too)", found, target="10x, < 500 ms")


if __name__ == "__main__":
    main()
