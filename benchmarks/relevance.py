"""What relevance adds to a search: the same questions with and without it. Exits with 1 where it is more than a tenth.

python -m benchmarks.relevance [--items 10000]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from arrowlens.embedding import ExampleReader
from arrowlens.encoders import MultimodalEmbeddingProvider
from arrowlens.models import resolve
from arrowlens.search import Query, Searcher, View
from arrowlens.search.relevance.background import Bank
from arrowlens.store import MultimodalStorage
from benchmarks.duplicates import build
from benchmarks.measure import header, medians

MOST_SHARE = 0.1  # of a search
QUERY = Query("a red bicycle", modality="image", mode="vector")


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=10_000)
    options = parser.parse_args()
    header("relevance")
    models = resolve("demo")
    provider = MultimodalEmbeddingProvider(clip_model_path=models.vision, audio_model_path=models.audio)
    with tempfile.TemporaryDirectory(prefix="arrowlens-") as folder:
        build(Path(folder) / "a.lens", options.items)
        with MultimodalStorage(Path(folder) / "a.lens", create=False) as storage:
            bank = Bank(provider, ExampleReader(provider).file, Path(folder) / "bank")
            searchers = {"with": Searcher(storage, provider, bank), "without": Searcher(storage, provider)}
            share = share_of_relevance(searchers, options.items)
    return 1 if share > MOST_SHARE else 0


def share_of_relevance(searchers: dict[str, Searcher], n_items: int) -> float:
    """Print the milliseconds that relevance takes of a search; its share of one with it."""
    works = {name: lambda searcher=searcher: searcher.search(QUERY, View(20)) for name, searcher in searchers.items()}
    seconds = {name: 1e3 * value for name, value in medians(works, repeats=100).items()}
    difference = seconds["with"] - seconds["without"]
    share = difference / seconds["with"]
    facts = f"{seconds['with']:.1f} ms with, {difference:.2f} ms more than without"
    print(f"among {n_items:,} pictures: {facts}, {share:.1%} of the search (at most {MOST_SHARE:.0%})")
    return share


if __name__ == "__main__":
    sys.exit(main())
