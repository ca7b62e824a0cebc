"""Swin Transformer: attention within windows of a grid, which every second layer shifts, and patches that merge.

Source: Liu et al. 2021. The layers are those of ``transformer.py``; only what attends to what differs. CLAP's audio
tower (HTSAT, Chen et al. 2022) is one over a spectrogram.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from arrowlens.encoders.transformer import Attention, FeedForward, Layer, LayerNorm, LazyParameters

MERGE_EPS = 1e-5  # of the norm before patches merge, whatever that of the layers


class PositionBias(LazyParameters):
    """What is added to the scores of attention: a learnt number for each offset between two positions of a window.

    Where windows are shifted, positions from opposite edges of the grid share a window and must not see each other.

    Args:
        grid: rows and columns of the grid.
        window: rows and columns of a window; divides ``grid``.
        shift: rows and columns by which windows are shifted.
        num_heads: attention heads.
    """

    scores: torch.Tensor
    """(1, n_windows * num_heads, window², window²), with one window for all where they are not shifted."""

    def __init__(self, grid: int, window: int, shift: int, num_heads: int) -> None:
        super().__init__(table=((2 * window - 1) ** 2, num_heads))
        self.grid, self.window, self.shift = grid, window, shift

    def place(self, name: str, tensor: torch.Tensor, device: torch.device | None, dtype: torch.dtype | None) -> None:
        """As ``LazyParameters``; the table is laid out once for all pairs of positions."""
        offsets = relative_offsets(self.window)
        bias = tensor.float()[offsets].permute(2, 0, 1)  # (heads, window², window²)
        if self.shift:
            region = windows_of(shifted_regions(self.grid, self.window, self.shift), self.window)
            apart = region[:, None, :] != region[:, :, None]  # (n_windows, window², window²)
            bias = bias.masked_fill(apart[:, None], float("-inf")).flatten(0, 1)
        else:
            bias = bias.repeat((self.grid // self.window) ** 2, 1, 1)
        super().place("scores", bias[None].to(tensor.dtype), device, dtype)


def relative_offsets(window: int) -> torch.Tensor:
    """Return the row of the table for each pair of a window's positions: (window², window²) int64."""
    rows, columns = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    down = rows.flatten()[:, None] - rows.flatten()[None, :] + window - 1
    right = columns.flatten()[:, None] - columns.flatten()[None, :] + window - 1
    return down * (2 * window - 1) + right


def shifted_regions(grid: int, window: int, shift: int) -> torch.Tensor:
    """Return which part of the shifted grid each place belongs to, (grid, grid) int64: equal ones were neighbours."""
    places = torch.arange(grid)
    part = (places >= grid - window).long() + (places >= grid - shift).long()
    return 3 * part[:, None] + part[None, :]


def windows_of(values: torch.Tensor, window: int) -> torch.Tensor:
    """Cut a grid into windows: (grid, grid) -> (n_windows, window²)."""
    n = len(values) // window
    return values.view(n, window, n, window).transpose(1, 2).reshape(n * n, window * window)


class WindowAttention(Attention):
    """Multi-head self-attention within each window of a grid."""

    def __init__(self, hidden_size: int, num_heads: int, *, grid: int, window: int, shift: int) -> None:
        super().__init__(hidden_size, num_heads, causal=False)
        self.position_bias = PositionBias(grid, window, shift, num_heads)
        self.window = window
        places = torch.arange(grid * grid).view(grid, grid).roll((-shift, -shift), (0, 1))
        self.order = windows_of(places, window).flatten()  # the places of the grid, window by window
        self.back = self.order.argsort()

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor | None, scratch: torch.Tensor) -> torch.Tensor:
        """Shapes: (batch, grid², hidden) -> (batch * grid², hidden); there is no ``mask``."""
        batch, tokens, width = hidden.shape
        length = self.window**2
        packed = self.qkv.into(scratch, hidden[:, self.order.to(hidden.device)].flatten(0, 1))
        heads = packed.view(batch, tokens // length, length, 3, self.num_heads, width // self.num_heads)
        # (batch, n_windows * heads, window², head width) each
        query, key, value = heads.permute(3, 0, 1, 4, 2, 5).flatten(2, 3)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=self.position_bias.scores)
        mixed = mixed.view(batch, tokens // length, self.num_heads, length, -1).transpose(2, 3)
        return mixed.reshape(batch, tokens, width)[:, self.back.to(hidden.device)].flatten(0, 1)


class PatchMerging(LazyParameters):
    """Four neighbouring patches become one of twice the width."""

    weight: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__(weight=(2 * width, 4 * width))
        self.norm = LayerNorm(4 * width, MERGE_EPS)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Shapes: (batch, grid², width) -> (batch, grid² / 4, 2 width)."""
        batch, tokens, width = hidden.shape
        grid = round(tokens**0.5)
        # Columns before rows: the upper left, the lower left, the upper right, the lower right.
        four = hidden.view(batch, grid // 2, 2, grid // 2, 2, width).permute(0, 1, 3, 4, 2, 5)
        merged: torch.Tensor = functional.linear(self.norm(four.reshape(batch, tokens // 4, 4 * width)), self.weight)
        return merged


class Stage(nn.Module):
    """Layers over a grid of one size, and the merging after them."""

    def __init__(
        self,
        width: int,
        depth: int,
        num_heads: int,
        *,
        grid: int,
        window: int,
        mlp_ratio: int,
        layer_norm_eps: float,
        activation: str,
        is_last: bool,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Layer(
                width,
                WindowAttention(
                    width,
                    num_heads,
                    grid=grid,
                    window=window,
                    shift=window // 2 if number % 2 and window < grid else 0,
                ),
                FeedForward(width, mlp_ratio * width, activation),
                layer_norm_eps=layer_norm_eps,
                norm="pre",
            )
            for number in range(depth)
        )
        self.merging = None if is_last else PatchMerging(width)

    def forward(self, hidden: torch.Tensor, scratch: torch.Tensor) -> torch.Tensor:
        """Shapes: (batch, grid², width) -> (batch, grid² / 4, 2 width), or the same of the last stage."""
        for block in self.blocks:
            hidden = block(hidden, None, scratch)
        return hidden if self.merging is None else self.merging(hidden)


class Swin(nn.Module):
    """A stack of stages: each halves the grid and doubles width and heads.

    Args:
        hidden_size: width of the first stage.
        depths: number of layers of each stage.
        num_heads: attention heads of the first stage.
        grid: rows and columns of patches at first; each stage's is a multiple of ``window``.
        window: rows and columns of a window.
        mlp_ratio: width inside the feed-forward part, in widths of the stage.
        layer_norm_eps: added to the variance in each layer norm.
        activation: a name of ``transformer.ACTIVATIONS``.

    Raises:
        ValueError: a stage's grid cannot be cut into windows, or cannot be halved.
    """

    def __init__(
        self,
        hidden_size: int,
        depths: tuple[int, ...],
        num_heads: int,
        *,
        grid: int,
        window: int,
        mlp_ratio: int = 4,
        layer_norm_eps: float = 1e-5,
        activation: str = "gelu",
    ) -> None:
        super().__init__()
        grids = [grid >> stage for stage in range(len(depths))]
        if grid % (1 << (len(depths) - 1)) or any(each % window for each in grids):
            raise ValueError(f"a grid of {grid} patches has no {len(depths)} stages in windows of {window}")
        self.widest = max(3, mlp_ratio) * hidden_size * grid * grid  # elements an item, in the first stage
        self.stages = nn.ModuleList(
            Stage(
                hidden_size << stage,
                depth,
                num_heads << stage,
                grid=grids[stage],
                window=window,
                mlp_ratio=mlp_ratio,
                layer_norm_eps=layer_norm_eps,
                activation=activation,
                is_last=stage == len(depths) - 1,
            )
            for stage, depth in enumerate(depths)
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Shapes: (batch, grid², hidden_size) -> (batch, last grid², last width). ``hidden`` is overwritten."""
        scratch = hidden.new_empty(len(hidden) * self.widest)  # as in InferenceCore; later stages need less
        for stage in self.stages:
            hidden = stage(hidden, scratch)
        return hidden
