"""InferenceCore: the one Transformer stack under every tower.

Pre-norm with a residual stream for CLIP (Radford et al. 2021), SigLIP (Zhai et al. 2023) and Whisper (Radford et al.
2022), post-norm for BERT (Devlin et al. 2018). Queries, keys and values come from one packed matrix, in that order.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from arrowlens.encoders.onednn import added, fold, pack, packs_alike, product, should_fold

ACTIVATIONS = ("gelu", "gelu_pytorch_tanh", "quick_gelu", "relu")
NORMS = ("pre", "post")
QUICK = 1.702  # quick_gelu, of OpenAI's CLIP, is x * sigmoid(1.702 x)
LONG = 64  # tokens; from here on attention in bfloat16 is faster as matrix products than in torch's fused kernel
PACKED_AFTER = 32  # products; packing a weight costs what some ten of them save
BLOCK = 256  # queries multiplied with all keys at a time


def activate_(hidden: torch.Tensor, activation: str) -> torch.Tensor:
    """Apply an activation in place.

    Args:
        hidden: of any shape; overwritten.
        activation: ``none``, ``gelu`` (the exact one, with the error function), ``gelu_pytorch_tanh`` (approximated by
            a tanh), ``silu`` or ``relu``.
    """
    if activation == "none":
        return hidden
    if activation == "silu":
        return functional.silu(hidden, inplace=True)
    if activation in ("gelu", "gelu_pytorch_tanh"):
        activated: torch.Tensor = torch.ops.aten.gelu_(hidden, approximate="none" if activation == "gelu" else "tanh")
        return activated
    return functional.relu_(hidden)


def take(scratch: torch.Tensor, *shape: int) -> torch.Tensor:
    """Return a view of the first elements of a flat tensor in another shape."""
    return scratch[: math.prod(shape)].view(shape)


class LazyParameters(nn.Module):
    """A module whose parameters do not exist until a WeightLoader places them.

    Drawing random weights only to replace them costs far more than mapping the real ones.

    Args:
        shapes: the shape of each parameter, by name.
    """

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.shapes = shapes

    def place(self, name: str, tensor: torch.Tensor, device: torch.device | None, dtype: torch.dtype | None) -> None:
        """Set a parameter; with device and type None it stays in the mapping, in its stored type."""
        placed = tensor.to(device=device, dtype=dtype)
        self.register_parameter(name, nn.Parameter(placed, requires_grad=False))

    def place_folded(self, name: str, tensor: torch.Tensor, stored: torch.dtype) -> None:
        """Set a parameter to what ``place`` would make of it on this processor.

        Args:
            name: of the parameter.
            tensor: its values; may lie in a mapping.
            stored: type of what ``place`` would be given.
        """
        LazyParameters.place(self, name, tensor, None, None)


class Linear(LazyParameters):
    """A linear layer with scales and an activation: activation(s x W^T + t b).

    Weights that must be cast for the processor are folded: they hold s W and t b, and scales and activation are part of
    oneDNN's product (see ``onednn``). After some calls they are packed as well, where that changes no bit.

    Args:
        in_features: columns of x.
        out_features: columns of the result.
        scale: s.
        bias_scale: t.
        activation: a name that ``activate_`` knows.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        scale: float = 1.0,
        bias_scale: float = 1.0,
        activation: str = "none",
    ) -> None:
        super().__init__(weight=(out_features, in_features), bias=(out_features,))
        self.scale, self.bias_scale, self.activation = scale, bias_scale, activation
        self.is_folded = False
        self.packed: torch.Tensor | None = None  # in place of the weight
        self._n_calls = 0

    def place(self, name: str, tensor: torch.Tensor, device: torch.device | None, dtype: torch.dtype | None) -> None:
        """As ``LazyParameters``; what is cast for the processor is folded, too. The weight comes first."""
        if name == "weight":
            self.is_folded = should_fold(tensor.dtype, device, dtype)
        if not self.is_folded:
            super().place(name, tensor, device, dtype)
            return
        self.place_folded(
            name, fold(tensor, self.scale if name == "weight" else self.bias_scale, dtype), stored=tensor.dtype
        )
        if name == "weight" and not packs_alike(self.weight.dtype):
            self.pack()

    def place_folded(self, name: str, tensor: torch.Tensor, stored: torch.dtype) -> None:
        """As ``LazyParameters``; where the weight had to be cast, scales are part of both parameters."""
        super().place_folded(name, tensor, stored)
        if name == "weight":  # a bias may be stored in another type: it follows the weight
            self.is_folded = should_fold(stored, None, tensor.dtype)

    def pack(self) -> None:
        """Give a folded weight the layout of ``packed``; the folded one goes."""
        weight = self._parameters.get("weight")
        if weight is not None:  # else another thread was first
            self.packed = pack(weight)
            self._parameters.pop("weight", None)

    def into(self, scratch: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Apply the layer: (rows, in_features) -> (rows, out_features), in ``scratch`` or in new memory."""
        if self.is_folded:
            return product(hidden, self._multiplied(), self.bias, self.activation)
        out = take(scratch, len(hidden), len(self.bias))
        torch.addmm(self.bias, hidden, self.weight.t(), beta=self.bias_scale, alpha=self.scale, out=out)
        return activate_(out, self.activation)

    def add_to(self, residual: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Add s x W^T + t b to ``residual``, which may be overwritten: (rows, in_features) -> (rows, out_features)."""
        if self.is_folded:
            return added(residual, hidden, self._multiplied(), self.bias)
        return residual.add_(self.bias, alpha=self.bias_scale).addmm_(hidden, self.weight.t(), alpha=self.scale)

    def _multiplied(self) -> torch.Tensor:
        """Return the weight as it is held; the call that makes packing worth its time packs it."""
        weight = self._parameters.get("weight")  # first: another thread may pack it after this line
        if self.packed is not None:
            return self.packed
        assert weight is not None, "a weight is folded or packed"
        self._n_calls += 1
        if self._n_calls == PACKED_AFTER:
            self.pack()
        return weight


class LayerNorm(LazyParameters):
    """Layer norm: zero mean and unit variance over the last axis, then scaled and shifted."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, width: int, eps: float) -> None:
        super().__init__(weight=(width,), bias=(width,))
        self.eps = eps

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Shapes: (..., width) -> the same."""
        return functional.layer_norm(hidden, self.weight.shape, self.weight, self.bias, self.eps)


class Embedding(LazyParameters):
    """A table of vectors."""

    weight: torch.Tensor

    def __init__(self, n_rows: int, width: int) -> None:
        super().__init__(weight=(n_rows, width))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Shapes: (...) int64 -> (..., width)."""
        return functional.embedding(ids, self.weight)


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, *, causal: bool
) -> torch.Tensor:
    """Mix values by the softmax of the scaled products of queries and keys (Vaswani et al. 2017).

    Args:
        query: (batch, heads, queries, head width).
        key, value: (batch, heads, tokens, head width).
        mask: boolean (batch, 1, 1, tokens), True where a token may be attended to; None for all.
        causal: each token sees itself and those before it.

    Returns:
        (batch * queries, heads * head width).
    """
    batch, _, queries, _ = query.shape
    by_products = query.device.type == "cpu" and query.dtype == torch.bfloat16 and queries >= LONG and not causal
    mixed = (
        attend_by_products(query, key, value, mask)
        if by_products
        else functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
    )
    return mixed.transpose(1, 2).reshape(batch * queries, -1)


def attend_by_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """Compute ``scaled_dot_product_attention`` as two matrix products, in parts whose scores fit into the cache."""
    batch, heads, queries, width = query.shape
    scratch = query.new_empty(heads * min(BLOCK, queries) * key.shape[2])
    mixed = query.new_empty(batch, queries, heads, width).transpose(1, 2)
    for item in range(batch):
        seen = slice(None) if mask is None else mask[item, 0, 0]
        keys, values = key[item][:, seen].contiguous(), value[item][:, seen].contiguous()
        scaled = query[item] * width**-0.5
        for part, out in zip(torch.split(scaled, BLOCK, 1), torch.split(mixed[item], BLOCK, 1), strict=True):
            scores = take(scratch, heads, part.shape[1], keys.shape[1])
            torch.bmm(part, keys.transpose(1, 2), out=scores)
            torch.softmax(scores, dim=-1, out=scores)
            out.copy_(torch.bmm(scores, values))
    return mixed


class Attention(nn.Module):
    """Multi-head self-attention, without the output projection and the residual, which ``Layer`` adds in one step."""

    def __init__(self, hidden_size: int, num_heads: int, *, causal: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.causal = causal
        self.qkv = Linear(hidden_size, 3 * hidden_size)
        self.out = Linear(hidden_size, hidden_size)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor | None, scratch: torch.Tensor) -> torch.Tensor:
        """Shapes: (batch, tokens, hidden) -> (batch * tokens, hidden); ``mask`` as for ``attend``."""
        batch, tokens, width = hidden.shape
        packed = self.qkv.into(scratch, hidden.flatten(0, 1))
        heads = packed.view(batch, tokens, 3, self.num_heads, width // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (batch, heads, tokens, head width) each
        return attend(query, key, value, mask, causal=self.causal)

    def one_each(
        self, hidden: torch.Tensor, mask: torch.Tensor | None, scratch: torch.Tensor, read: torch.Tensor
    ) -> torch.Tensor:
        """As ``forward``, for one query token of each item: (batch, tokens, hidden), (batch,) -> (batch, hidden)."""
        batch, tokens, width = hidden.shape
        packed = self.qkv.into(scratch, hidden.flatten(0, 1))
        heads = packed.view(batch, tokens, 3, self.num_heads, width // self.num_heads)
        query = pick(heads[:, :, 0], read)[:, :, None]  # (batch, heads, 1, head width)
        key, value = heads[:, :, 1:].permute(2, 0, 3, 1, 4)
        if self.causal:
            mask = (torch.arange(tokens, device=read.device) <= read[:, None])[:, None, None, :]
        return attend(query, key, value, mask, causal=False)


def pick(hidden: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
    """Select one token of each item: (batch, tokens, ...) and (batch,) int64 -> (batch, ...)."""
    return hidden[torch.arange(len(read), device=read.device), read]


class FeedForward(nn.Module):
    """Two linear layers with the activation between them.

    quick_gelu(x) is SiLU(1.702 x) / 1.702; the factors become scales of the linear layers.
    """

    def __init__(self, hidden_size: int, intermediate_size: int, activation: str) -> None:
        super().__init__()
        scale, activation = (QUICK, "silu") if activation == "quick_gelu" else (1.0, activation)
        self.fc1 = Linear(hidden_size, intermediate_size, scale=scale, bias_scale=scale, activation=activation)
        self.fc2 = Linear(intermediate_size, hidden_size, scale=1 / scale)

    def add_to(self, residual: torch.Tensor, hidden: torch.Tensor, scratch: torch.Tensor) -> torch.Tensor:
        """Add the result to ``residual``, which may be overwritten: (rows, hidden) -> (rows, hidden)."""
        return self.fc2.add_to(residual, self.fc1.into(scratch, hidden))


class Layer(nn.Module):
    """Attention and feed-forward, each with a residual and a norm before (pre) or after (post) it."""

    def __init__(self, width: int, attention: Attention, mlp: FeedForward, *, layer_norm_eps: float, norm: str) -> None:
        super().__init__()
        self.pre_norm = norm == "pre"
        self.norm1 = LayerNorm(width, layer_norm_eps)
        self.attention = attention
        self.norm2 = LayerNorm(width, layer_norm_eps)
        self.mlp = mlp

    def forward(
        self, hidden: torch.Tensor, mask: torch.Tensor | None, scratch: torch.Tensor, read: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Shapes: (batch, tokens, hidden) -> the same, or (batch, hidden) with ``read``. ``hidden`` is overwritten."""
        attended = self.norm1(hidden) if self.pre_norm else hidden
        if read is None:
            mixed, rows = self.attention(attended, mask, scratch), hidden.flatten(0, 1)
        else:
            mixed, rows = self.attention.one_each(attended, mask, scratch, read), pick(hidden, read)
        rows = self.attention.out.add_to(rows, mixed)
        if self.pre_norm:
            rows = self.mlp.add_to(rows, self.norm2(rows), scratch)
        else:
            rows = self.norm1(rows)
            rows = self.norm2(self.mlp.add_to(rows, rows, scratch))
        return rows.view(hidden.shape) if read is None else rows


class InferenceCore(nn.Module):
    """A stack of Transformer layers.

    Args:
        hidden_size: width of the residual stream; a multiple of ``num_heads``.
        num_layers: number of layers.
        num_heads: attention heads a layer.
        intermediate_size: width inside the feed-forward part.
        layer_norm_eps: added to the variance in each layer norm.
        activation: one of ``ACTIVATIONS``.
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
        self.widest = max(3 * hidden_size, intermediate_size)
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

    def forward(
        self,
        hidden: torch.Tensor,
        mask: torch.Tensor | None = None,
        read: torch.Tensor | None = None,
        n_layers: int | None = None,
    ) -> torch.Tensor:
        """Run the stack, or its first layers.

        Args:
            hidden: (batch, tokens, hidden_size).
            mask: boolean (batch, tokens), True where a token is real and may be attended to; None when all are. Not
                together with ``causal``, which needs none: padding comes after the tokens that are read.
            read: (batch,) int64, the one token of each item to return; the last layer is computed for it alone. None
                returns all tokens.
            n_layers: how many layers to run, at least 1; None runs all.

        Returns:
            (batch, tokens, hidden_size), where rows of padding hold no meaning; with ``read`` (batch, hidden_size).
        """
        attention_mask = None if mask is None else mask[:, None, None, :]
        batch, tokens, _ = hidden.shape
        # All layers write their widest results to the same memory: new memory costs a page fault every 4 KB.
        scratch = hidden.new_empty(batch * tokens * self.widest)
        hidden = hidden.clone()
        *before, last = self.layers[:n_layers]
        for layer in before:
            hidden = layer(hidden, attention_mask, scratch)
        result: torch.Tensor = last(hidden, attention_mask, scratch, read)
        return result
