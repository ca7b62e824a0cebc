"""InferenceCore: the one Transformer stack under every tower.

Pre-norm with a residual stream for CLIP (Radford et al. 2021) and Whisper (Radford et al. 2022), post-norm for BERT
(Devlin et al. 2018). Queries, keys and values come from one packed matrix, rows in that order.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

ACTIVATIONS = ("gelu", "quick_gelu", "relu")
NORMS = ("pre", "post")


def activate(hidden: torch.Tensor, activation: str) -> torch.Tensor:
    """Apply an activation by its name in the checkpoint's config.

    ``quick_gelu`` is OpenAI CLIP's x * sigmoid(1.702 x), ``gelu`` the exact one (with the error function).
    """
    if activation == "quick_gelu":
        return hidden * torch.sigmoid(1.702 * hidden)
    if activation == "gelu":
        return functional.gelu(hidden)
    return functional.relu(hidden)


class Loaded(nn.Module):
    """A part of a network whose parameters come from a file; none are made before.

    Drawing random weights only to replace them costs far more than mapping the real ones.

    Args:
        shapes: of each parameter, by name; a WeightLoader puts tensors of these shapes in their place.
    """

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.shapes = shapes


class Linear(Loaded):
    """x W^T + b."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(weight=(out_features, in_features), bias=(out_features,))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Shapes: (..., in_features) -> (..., out_features)."""
        return functional.linear(hidden, self.weight, self.bias)


class LayerNorm(Loaded):
    """Zero mean and unit variance over the last axis, then scaled and shifted."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, width: int, eps: float) -> None:
        super().__init__(weight=(width,), bias=(width,))
        self.eps = eps

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Shapes: (..., width) -> the same."""
        return functional.layer_norm(hidden, self.weight.shape, self.weight, self.bias, self.eps)


class Embedding(Loaded):
    """A table of vectors."""

    weight: torch.Tensor

    def __init__(self, n_rows: int, width: int) -> None:
        super().__init__(weight=(n_rows, width))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Shapes: (...) int64 -> (..., width)."""
        return functional.embedding(ids, self.weight)


class Attention(nn.Module):
    """Multi-head self-attention, scaled by the square root of the head's width (Vaswani et al. 2017)."""

    def __init__(self, hidden_size: int, num_heads: int, *, causal: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.causal = causal
        self.qkv = Linear(hidden_size, 3 * hidden_size)
        self.out = Linear(hidden_size, hidden_size)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Shapes: (batch, tokens, hidden) -> the same; ``mask`` is boolean (batch, 1, 1, tokens), True where real."""
        batch, tokens, width = hidden.shape
        packed = self.qkv(hidden).view(batch, tokens, 3, self.num_heads, width // self.num_heads)
        query, key, value = packed.permute(2, 0, 3, 1, 4)  # (batch, heads, tokens, head width) each
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=self.causal)
        out: torch.Tensor = self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return out


class FeedForward(nn.Module):
    """Two linear layers with the activation between them."""

    def __init__(self, hidden_size: int, intermediate_size: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.fc1 = Linear(hidden_size, intermediate_size)
        self.fc2 = Linear(intermediate_size, hidden_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Shapes: (batch, tokens, hidden) -> the same."""
        out: torch.Tensor = self.fc2(activate(self.fc1(hidden), self.activation))
        return out


class Layer(nn.Module):
    """Attention and feed-forward, each with a residual; the norm comes before (pre) or after (post) them."""

    def __init__(self, width: int, attention: Attention, mlp: FeedForward, *, layer_norm_eps: float, norm: str) -> None:
        super().__init__()
        self.pre_norm = norm == "pre"
        self.norm1 = LayerNorm(width, layer_norm_eps)
        self.attention = attention
        self.norm2 = LayerNorm(width, layer_norm_eps)
        self.mlp = mlp

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Shapes: (batch, tokens, hidden) -> the same."""
        if self.pre_norm:
            hidden = hidden + self.attention(self.norm1(hidden), mask)
            hidden = hidden + self.mlp(self.norm2(hidden))
        else:
            hidden = self.norm1(hidden + self.attention(hidden, mask))
            hidden = self.norm2(hidden + self.mlp(hidden))
        return hidden


class InferenceCore(nn.Module):
    """A stack of Transformer layers, described by its dimensions; its weights are loaded into it.

    Args:
        hidden_size: width of the residual stream; a multiple of ``num_heads``.
        num_layers: number of layers.
        num_heads: attention heads a layer.
        intermediate_size: width inside the feed-forward part.
        layer_norm_eps: added to the variance in each layer norm.
        activation: ``gelu``, ``quick_gelu`` or ``relu``.
        norm: ``pre`` (CLIP, Whisper) or ``post`` (BERT).
        causal: each token sees itself and those before it (CLIP's text tower).

    Raises:
        ValueError: an unknown activation or norm, or a width that the heads do not divide.
    """

    def __init__(
        self,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        intermediate_size: int,
        layer_norm_eps: float = 1e-5,
        *,
        activation: str = "gelu",
        norm: str = "pre",
        causal: bool = False,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS or norm not in NORMS:
            raise ValueError(f"activation {activation!r} must be one of {ACTIVATIONS}, norm {norm!r} one of {NORMS}")
        if hidden_size % num_heads:
            raise ValueError(f"hidden_size {hidden_size} must be a multiple of num_heads {num_heads}")
        self.layers = nn.ModuleList(
            Layer(
                hidden_size,
                Attention(hidden_size, num_heads, causal=causal),
                FeedForward(hidden_size, intermediate_size, activation),
                layer_norm_eps=layer_norm_eps,
                norm=norm,
            )
            for _ in range(num_layers)
        )

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Run the stack.

        Args:
            hidden: (batch, tokens, hidden_size).
            mask: boolean (batch, tokens), True where a token is real and may be attended to; None when all are. Not
                together with ``causal``, which needs none: padding comes after the tokens that are read.

        Returns:
            (batch, tokens, hidden_size); rows of padding hold no meaning.
        """
        attention_mask = None if mask is None else mask[:, None, None, :]
        for layer in self.layers:
            hidden = layer(hidden, attention_mask)
        return hidden
