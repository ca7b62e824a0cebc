"""``make bench``: run the benchmarks, each in a process of its own, and print their tables.

python -m benchmarks [loading first vision batches audio clip siglip clap text memory ingest ...]
python -m benchmarks index --rows 100000    options after the name of one benchmark are its own
"""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = (
    *("loading", "first", "vision", "batches", "audio", "clip", "siglip", "clap", "text", "memory", "precision"),
    *("ingest", "duplicates", "relevance", "cold", "page", "index", "turns", "compare", "scale", "shards"),
)


def main() -> int:
    """Run the named benchmarks, or all of them; the exit status is that of the worst."""
    given = sys.argv[1:]
    n_names = next((number for number, argument in enumerate(given) if argument.startswith("-")), len(given))
    chosen, options = given[:n_names] or list(BENCHMARKS), given[n_names:]
    if options and len(chosen) > 1:
        print(f"{options[0]} belongs to one benchmark; name it first", file=sys.stderr)
        return 2
    unknown = set(chosen) - set(BENCHMARKS)
    if unknown:
        print(f"no benchmark named {sorted(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    return max(subprocess.call([sys.executable, "-m", f"benchmarks.{name}", *options]) for name in chosen)


if __name__ == "__main__":
    raise SystemExit(main())
