"""Measure the demo models on data they were never trained on, beside chance and simple baselines."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from catalogue import add_folders
from evaluate_pictures import CONCEPTS, SCENES, UNSEEN, PictureTests
from evaluate_sounds import SoundTests
from pictures import Sources

from arrowlens.encoders import AudioEncoder, CLIPEngine

DEMO = Path(__file__).resolve().parent.parent / "arrowlens/demo"


class Report:
    """Lines of: what, the value, the bar, and what it is to be compared with."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []

    def add(self, what: str, value: float, bar: float | None = None, beside: str = "") -> None:
        """One measure, printed at once."""
        self.rows.append({"what": what, "value": round(value, 4), "bar": bar, "beside": beside})
        verdict = "" if bar is None else f"bar {bar:g} {'reached' if value >= bar else 'MISSED'}"
        shown = f"{value:.3f}" if value < 10 else f"{value:.0f}"
        print(f"{what:62} {shown:>7}  {verdict:20} {beside}", flush=True)


def pictures(report: Report, tests: PictureTests, samples: Path) -> None:
    """Everything about the picture and text towers."""
    nearest = tests.pixels_with_names()
    for label, style, bars in (("new renderings", None, (0.85, 0.97)), ("unseen style", UNSEEN, (0.40, 0.65))):
        found, key = tests.text_to_picture(style), "unseen" if style else "trained"
        for (k, value), bar in zip(found.items(), bars, strict=True):
            beside = f"chance {k / CONCEPTS:.3f}, nearest pixels {nearest[f'{key} R@{k}']:.3f}"
            report.add(f"{label}, text to picture over {CONCEPTS}, R@{k}", value, bar, beside)
    scenes = tests.scenes()
    report.add(f"two objects, text to {SCENES} scenes, R@1", scenes[1], None, f"chance {1 / SCENES:.3f}")
    report.add(f"two objects, text to {SCENES} scenes, R@5", scenes[5], 0.70, f"chance {5 / SCENES:.3f}")
    across = tests.picture_to_picture()
    beside = f"chance {5 / CONCEPTS:.3f}, nearest pixels {across['pixels']:.3f}"
    report.add("picture to picture across styles, R@5", across["model"], 0.65, beside)
    pairs = tests.distinct_pairs(samples)
    report.add("distinct pairs, batches of 8: each text prefers its picture", pairs["rows"], 0.95)
    report.add("distinct pairs, batches of 8: all matching above all others", pairs["strict"], 0.95)
    report.add("pictures a second, two cores", tests.speed(), 300)


def recordings(report: Report, tests: SoundTests) -> None:
    """Everything about the sound encoder."""
    found = tests.neighbours()
    beside = ", ".join(f"{name} {found[name]:.3f}" for name in ("chance", "log-mel mean", "MFCC mean"))
    report.add("nearest recording is of the same kind", found["model"], 0.90, beside)
    print("    weakest:", ", ".join(f"{kind} {share:.2f}" for kind, share in tests.worst()))
    words = tests.text_to_sound()
    kinds = len(tests.kinds)
    report.add(f"text to sound over {kinds} kinds, R@1", words["R@1"], None, f"chance {1 / kinds:.3f}")
    report.add(f"text to sound over {kinds} kinds, R@5", words["R@5"], 0.80, f"chance {5 / kinds:.3f}")
    report.add(f"text to sound over {kinds} kinds, other words, R@5", words["words R@5"])
    report.add("five-second recordings a second, two cores", tests.speed(), 150)


def main() -> int:
    """Measure; exit status 0 when every bar is reached, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_folders(parser)
    parser.add_argument("--models", type=Path, default=DEMO / "models", help="folder with clip/ and audio/")
    parser.add_argument("--samples", type=Path, default=DEMO / "samples")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--only", choices=("pictures", "sounds"))
    options = parser.parse_args()
    report, engine = Report(), CLIPEngine(options.models / "clip")
    if options.only != "sounds":
        pictures(report, PictureTests(engine, Sources(options.npm, options.font)), options.samples)
    if options.only != "pictures":
        recordings(report, SoundTests(AudioEncoder(options.models / "audio"), engine))
    if options.json:
        options.json.write_text(json.dumps(report.rows, indent=1), encoding="utf-8")
    return int(any(row["bar"] is not None and row["value"] < row["bar"] for row in report.rows))  # type: ignore[operator]


if __name__ == "__main__":
    sys.exit(main())
