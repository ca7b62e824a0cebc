"""The machine's limit: how fast it multiplies matrices of a model's sizes, and what share of that a model reaches."""

from __future__ import annotations

from collections.abc import Callable

import torch

from arrowlens.encoders import AudioConfig, VisionConfig


def product(dtype: torch.dtype, rows: int, config: VisionConfig | AudioConfig) -> tuple[Callable[[], object], float]:
    """One layer's four products and nothing else: the work, and its GFLOP (2 for each multiplication and addition)."""
    width, wide = config.hidden_size, config.intermediate_size
    shapes = [(width, 3 * width), (width, width), (width, wide), (wide, width)]
    generator = torch.Generator().manual_seed(0)
    works = [
        (
            torch.randn(rows, inner, generator=generator).to(dtype),
            torch.randn(outer, inner, generator=generator).to(dtype),
            torch.empty(rows, outer, dtype=dtype),
        )
        for inner, outer in shapes
    ]

    def run() -> None:
        for hidden, weight, out in works:
            torch.mm(hidden, weight.t(), out=out)

    return run, sum(2 * rows * inner * outer for inner, outer in shapes) / 1e9


def gflop(config: VisionConfig | AudioConfig, tokens: int) -> float:
    """GFLOP of one input by the architecture, whatever of it an implementation leaves out.

    Linear layers and attention's two products for every token, and the stem: patches, or the two convolutions.
    """
    width, wide = config.hidden_size, config.intermediate_size
    layer = 2 * tokens * (4 * width * width + 2 * width * wide) + 4 * tokens * tokens * width
    if isinstance(config, VisionConfig):
        stem = 2 * config.num_patches * 3 * config.patch_size**2 * width
    else:  # three frames wide; the first at twice the rate
        stem = 2 * 2 * tokens * 3 * config.n_mels * width + 2 * tokens * 3 * width * width
    return (config.num_layers * layer + stem) / 1e9
