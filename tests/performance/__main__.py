"""``make bench``: run the benchmarks, each in a process of its own, and print their tables.

python -m tests.performance [loading vision audio clip ingest duplicates relevance cold]
"""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = ("loading", "vision", "audio", "clip", "ingest", "duplicates", "relevance", "cold")


def main() -> int:
    """Run the named benchmarks, or all of them; the exit status is that of the worst."""
    chosen = sys.argv[1:] or list(BENCHMARKS)
    unknown = set(chosen) - set(BENCHMARKS)
    if unknown:
        print(f"no benchmark named {sorted(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    return max(subprocess.call([sys.executable, "-m", f"tests.performance.benchmark_{name}"]) for name in chosen)


if __name__ == "__main__":
    raise SystemExit(main())
