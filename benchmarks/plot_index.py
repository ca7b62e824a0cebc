"""Draw what ``python -m benchmarks index --save FILE`` saved: latency, memory and build time from 10k to 1M.

python -m benchmarks.plot_index FILE.json FIGURE.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

mpl.use("Agg")
mpl.rcParams |= {"svg.hashsalt": "arrowlens", "svg.fonttype": "none"}  # equal figures make equal files
PANELS = (
    ("p50_ms", "median search, ms"),
    ("p99_ms", "99th percentile, ms"),
    ("seconds", "built in, s"),
    ("peak_mb", "peak memory, MB (ours: of building)"),
)
NAMES = {
    "ours": "Arrowlens",
    "lancedb_exact": "LanceDB, exact",
    "numpy_exact": "numpy, exact",
    "faiss_flat": "faiss, exact",
    "faiss_ivf": "faiss, IVF",
    "usearch": "usearch",
    "hnswlib": "hnswlib",
}


def main() -> None:
    """Read the figures and write the picture."""
    source, target = map(Path, sys.argv[1:3])
    sizes: dict[str, Any] = json.loads(source.read_text(encoding="ascii"))["sizes"]
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    for axis, (key, title) in zip(axes.flat, PANELS, strict=True):
        for number, (name, label) in enumerate(NAMES.items()):
            points = [(int(n), value) for n, found in sizes.items() if (value := figure_of(found, name, key))]
            if points:
                width = 2.5 if name == "ours" else 1.2
                style = {"color": f"C{number}", "marker": "o", "markersize": 4, "linewidth": width}
                axis.plot(*zip(*points, strict=True), label=label, **style)
        axis.set(xscale="log", yscale="log", title=title, xlabel="vectors")
        axis.grid(alpha=0.3)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)
    print(target)


def figure_of(found: dict[str, Any], name: str, key: str) -> float | None:
    """A figure of one size; ours is built in a step of its own."""
    step = "build" if name == "ours" and key in ("seconds", "peak_mb") else name
    value: float | None = found.get(step, {}).get(key)
    return value


if __name__ == "__main__":
    main()
