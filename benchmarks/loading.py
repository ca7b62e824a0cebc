"""Loading a model as users do, against transformers' from_pretrained in the same type and in its fastest."""

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
    in_which = CLIPEngine(directory).precision
    found = medians(
        {
            "weights.arrow": lambda: CLIPEngine(directory),
            f"from_pretrained {in_which}": lambda: transformers.CLIPModel.from_pretrained(
                checkpoint, dtype=getattr(torch, in_which)
            ),
            "from_pretrained float32": lambda: transformers.CLIPModel.from_pretrained(checkpoint, dtype=torch.float32),
        },
        repeats=15,
    )
    report(f"a ViT-B/16 CLIP, ready to encode in {in_which}", found, target="10x in the same type, 5x in its fastest")
    mapped = medians({"mapped tensors": lambda: WeightLoader(directory).load_weights()}, repeats=15)
    report("its tensors alone", {**mapped, "from_pretrained float32": found["from_pretrained float32"]})
    whisper = full_size_whisper()
    audio = converted(whisper, convert_whisper_model)
    found = medians(
        {
            "weights.arrow": lambda: AudioEncoder(audio),
            f"from_pretrained {in_which}": lambda: transformers.WhisperModel.from_pretrained(
                whisper, dtype=getattr(torch, in_which)
            ),
            "from_pretrained float32": lambda: transformers.WhisperModel.from_pretrained(whisper, dtype=torch.float32),
        },
        repeats=15,
    )
    report(
        f"a whisper-base encoder in {in_which} (transformers loads its decoder too)",
        found,
        target="10x in the same type, 5x in its fastest",
    )


if __name__ == "__main__":
    main()
