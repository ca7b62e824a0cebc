"""Draw what ``python -m benchmarks batches --save FILE`` saved: pictures a second by batch, and a roofline.

python -m benchmarks.plot_encoders FILE.json FIGURE.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

mpl.use("Agg")
mpl.rcParams |= {"svg.hashsalt": "arrowlens", "svg.fonttype": "none"}  # equal figures make equal files


def main() -> None:
    """Read the figures and write the picture."""
    source, target = map(Path, sys.argv[1:3])
    found: dict[str, Any] = json.loads(source.read_text(encoding="ascii"))
    shapes: dict[str, list[dict[str, Any]]] = found["shapes"]
    figure, axes = plt.subplots(1, len(shapes) + 1, figsize=(5 * len(shapes) + 5, 4.5), layout="constrained")
    for axis, (name, points) in zip(axes, shapes.items(), strict=False):
        throughput(axis, name, points)
    roofline(axes[-1], found["bytes_per_second"], shapes)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)
    print(target)


def throughput(axis: Axes, name: str, points: list[dict[str, Any]]) -> None:
    """Pictures a second over the size of a batch: ours, transformers', and what the products alone would do."""
    for number, precision in enumerate(dict.fromkeys(point["precision"] for point in points)):
        own = [point for point in points if point["precision"] == precision]
        batches = [point["batch"] for point in own]
        roof = [point["ours"] * point["roof"] / point["flops"] for point in own]
        for rates, label, style in (
            ([point["ours"] for point in own], "Arrowlens", {"marker": "o", "linewidth": 2.5}),
            ([point["transformers"] for point in own], "transformers", {"marker": "s", "linewidth": 1.2}),
            (roof, "matrix products alone", {"linestyle": "--", "linewidth": 1.2}),
        ):
            axis.plot(batches, rates, label=f"{label}, {precision}", color=f"C{number}", markersize=4, **style)
    axis.set(xscale="log", ylim=(0, None), title=name, xlabel="pictures in a batch", ylabel="pictures/s, all cores")
    axis.set_xticks(batches, labels=map(str, batches), minor=False)
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)


def roofline(axis: Axes, bandwidth: float, shapes: dict[str, list[dict[str, Any]]]) -> None:
    """FLOP/s over FLOP a byte, under what memory and what arithmetic allow (Williams et al. 2009)."""
    everything = [point for points in shapes.values() for point in points]
    reach = np.geomspace(1, max(point["intensity"] for point in everything) * 1.5, 100)
    for number, precision in enumerate(dict.fromkeys(point["precision"] for point in everything)):
        roof = max(point["roof"] for point in everything if point["precision"] == precision)
        axis.plot(
            reach, np.minimum(roof, bandwidth * reach) / 1e9, "--", color=f"C{number}", label=f"roof, {precision}"
        )
        for marker, (name, points) in zip("os^", shapes.items(), strict=False):
            own = [point for point in points if point["precision"] == precision]
            axis.plot(
                [point["intensity"] for point in own],
                [point["flops"] / 1e9 for point in own],
                marker,
                color=f"C{number}",
                label=f"{name}, {precision}",
            )
    axis.set(xscale="log", yscale="log", title="roofline", xlabel="FLOP a byte, at least moved", ylabel="GFLOP/s")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)


if __name__ == "__main__":
    main()
