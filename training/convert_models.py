"""Replace the bundled models by the trained checkpoints, converted and verified."""

from __future__ import annotations

import argparse
from pathlib import Path

from catalogue import HERE

from arrowlens.conversion import convert_clip_model, convert_whisper_model


def main() -> None:
    """Convert both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", type=Path, help="folder with clip/ and audio/ in Hugging Face's layout")
    parser.add_argument("--output", type=Path, default=HERE.parent / "arrowlens/demo/models")
    options = parser.parse_args()
    for name, convert in (("clip", convert_clip_model), ("audio", convert_whisper_model)):
        report = convert(options.checkpoints / name, options.output / name, overwrite=True)
        agreement = ", ".join(f"{part.kind} {part.minimum:.7f}" for part in report.verified)
        print(f"{name}: digest {report.digest[:8]}, {report.converted_bytes:,} bytes, cosine at least {agreement}")


if __name__ == "__main__":
    main()
