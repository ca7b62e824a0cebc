"""Whether ordinary questions that find a file easily should count against it (NNN retrieval, Chowdhury et al. 2024).

python -m benchmarks.debias [FOLDER PAIRS.csv] [--models demo]

A file's bias is the mean of its highest scores with the ordinary questions that relevance is measured by; a share of it
is taken off each score. Prints recall by texts without and with it, of the bundled samples by their names, or of files
and captions as ``arrowlens eval`` takes them. No search does it: with the bundled models it gains nothing
(docs/performance.md).
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np

from arrowlens.embedding import question_encoder
from arrowlens.evaluation import _answers, recall
from arrowlens.modalities import MODALITIES, TEXT_ROLE
from arrowlens.models import resolve
from arrowlens.query_engine import provider_of
from arrowlens.search.relevance.background import SAMPLES
from arrowlens.search.relevance.questions import questions
from benchmarks.measure import header

SHARES = (0.25, 0.5, 0.75, 1.0)
NEAREST = (1, 16, 128)  # questions of each file


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*", type=Path, metavar="FOLDER PAIRS.csv")
    parser.add_argument("--models", default="demo")
    options = parser.parse_args()
    header("debias")
    provider = provider_of(resolve(options.models), None, "float32", {})
    with tempfile.TemporaryDirectory() as name:
        folder, pairs = options.files or (SAMPLES, _names(Path(name) / "pairs.csv"))
        answers, _ = _answers(folder, pairs, provider)
    for each in answers:
        role = provider.text_role(each.kind) or TEXT_ROLE
        asked = question_encoder(role, provider).encode_text(list(questions()))
        ordinary = np.stack([(asked @ vectors.T).max(axis=1) for vectors in each.vectors], axis=1)
        n_texts, n_files = each.scores.shape
        print(f"{MODALITIES[each.kind].plural}: {n_texts} texts, {n_files} files; R@1 and R@5")
        print(f"  as they are                {_recall(each.scores, each.right)}")
        for n in NEAREST:
            bias = np.sort(ordinary, axis=0)[-n:].mean(axis=0)
            shown = (f"{share:g}: {_recall(each.scores - share * bias, each.right)}" for share in SHARES)
            print(f"  less a share, of {n:3d} nearest ", ", ".join(shown))


def _names(path: Path) -> Path:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "caption"])
        for sample in sorted(SAMPLES.rglob("*.*")):
            rows.writerow([sample.relative_to(SAMPLES), " ".join(sample.stem.split("-")[:-1])])
    return path


def _recall(scores: np.ndarray, right: np.ndarray) -> str:
    at, _ = recall(scores, right)
    return f"{at[1]:.3f} {at[5]:.3f}"


if __name__ == "__main__":
    main()
