"""Make everything below `arrowlens/demo` anew: fetch the drawings, train both models, convert them, write the
samples, fit relevance.

Needs npm, Debian's fonts-noto-color-emoji and espeak-ng, and the packages of `requirements.txt`. A step that was
stopped is taken up again by starting this script once more; `--from` skips the steps before one, `--to`
those after one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from catalogue import BUILD, HERE, NOTO

PACKAGES = ("@twemoji/svg@15.0.0", "fluentui-emoji@1.3.0", "openmoji@17.0.0", "emojibase-data@17.0.0")
STEPS = ("fetch", "render", "pictures", "synthesise", "sounds", "convert", "samples", "relevance")


def commands(options: argparse.Namespace) -> dict[str, list[list[str]]]:
    """The commands of every step."""
    npm, work, demo = options.build / "sources/node_modules", options.build / "training", HERE.parent / "arrowlens/demo"
    sources = ["--npm", str(npm)]
    checkpoints = work / "checkpoints"

    def script(name: str, *arguments: str) -> list[str]:
        return [sys.executable, str(HERE / f"{name}.py"), *arguments]

    working = [*sources, "--font", str(options.font), "--work", str(work)]
    return {
        "fetch": [["npm", "install", "--no-audit", "--no-fund", "--prefix", str(npm.parent), *PACKAGES]],
        "render": [script("render_sprites", *working)],
        "pictures": [
            script("train_clip", *working, "--output", str(checkpoints / "clip"), "--minutes", str(options.minutes))
        ],
        "synthesise": [script("make_audio_pool", *working)],
        "sounds": [
            script(
                "train_audio",
                *working,
                "--output",
                str(checkpoints / "audio"),
                "--minutes",
                str(options.minutes * 0.25),
            )
        ],
        "convert": [script("convert_models", str(checkpoints))],
        "samples": [script("make_samples", *sources, "--font", str(options.font), "--output", str(demo / "samples"))],
        "relevance": [script("fit_relevance", *working)],
    }


def main() -> None:
    """Run the steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=BUILD, help="for the sources and everything that is not kept")
    parser.add_argument("--font", type=Path, default=NOTO, help="Noto Color Emoji")
    parser.add_argument("--minutes", type=float, default=155, help="for the pictures; the sounds take a quarter of it")
    parser.add_argument("--from", dest="first", choices=STEPS, default=STEPS[0])
    parser.add_argument("--to", dest="last", choices=STEPS, default=STEPS[-1])
    options = parser.parse_args()
    steps = commands(options)
    for step in STEPS[STEPS.index(options.first) : STEPS.index(options.last) + 1]:
        for command in steps[step]:
            print(f"-- {step}", flush=True)
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
