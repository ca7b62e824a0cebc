"""Weights in the layout that oneDNN multiplies with, made once instead of at every product.

A weight in this layout cannot be mapped from a file. So only weights that are cast to another type on loading are
packed: a process has a copy of these in any case.

torch has no public operators for this; these are the ones that its compiler puts into frozen models. They are tried
once, and where they fail, ``transformer.Linear`` uses the public ones.
"""

from __future__ import annotations

import logging
from functools import cache

import torch
from torch.nn import functional

logger = logging.getLogger(__name__)

# oneDNN's name and algorithm of each activation; it applies them before a result is rounded.
_FUSED = {
    "none": ("none", ""),
    "gelu": ("gelu", "none"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "silu": ("swish", ""),
    "relu": ("relu", ""),
}
_ROWS_AT_A_TIME = 64  # rows cast together
_ROWS = 1024  # rows of input that the layout is optimised for; results are the same for any number

_MAPPED = 32 << 20  # elements; C libraries map allocations from 32 MiB on separately


def should_pack(weight: torch.Tensor, device: torch.device | None, dtype: torch.dtype | None) -> bool:
    """Return whether a stored weight, (n_out, n_in), should be packed for computing on a device in a type."""
    on_cpu = device is None or device.type == "cpu"
    return on_cpu and dtype not in (None, weight.dtype) and available(dtype)


def pack(weight: torch.Tensor, scale: float, dtype: torch.dtype | None) -> torch.Tensor:
    """Return ``scale`` times a weight, (n_out, n_in), as float32 or bfloat16 in oneDNN's layout.

    Only ``product`` and ``added`` can read the result.
    """
    # Large enough for a mapping of its own, which the system takes back at once: smaller ones leave gaps in the heap.
    room = torch.empty(max(weight.numel(), _MAPPED), dtype=dtype)[: weight.numel()].view(weight.shape)
    # A few rows at a time stay in the cache: a float32 copy of the whole weight would fault in new pages.
    for rows, stored in zip(torch.split(room, _ROWS_AT_A_TIME), torch.split(weight, _ROWS_AT_A_TIME), strict=True):
        rows.copy_(stored.float() * scale)
    packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(room, _ROWS)
    return packed


def product(hidden: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor, activation: str = "none") -> torch.Tensor:
    """Compute activation(x W^T + b): (rows, n_in) -> (rows, n_out)."""
    name, algorithm = _FUSED[activation]
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(hidden, packed, bias, name, [], algorithm)
    return result


def added(residual: torch.Tensor, hidden: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Compute r + x W^T + b, rounded once: (rows, n_out) and (rows, n_in) -> (rows, n_out)."""
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(hidden, residual, packed, bias, "add")
    return result


@cache
def available(dtype: torch.dtype | None) -> bool:
    """Return whether torch has these operators here and they agree with the public ones."""
    built_in: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if dtype not in (torch.float32, torch.bfloat16) or not built_in:
        return False
    generator = torch.Generator().manual_seed(0)
    weight, hidden, residual = (torch.randn(shape, generator=generator) / 4 for shape in ((48, 32), (5, 32), (5, 48)))
    bias = torch.randn(48, generator=generator)
    weight, hidden, residual, bias = (each.to(dtype) for each in (weight, hidden, residual, bias))
    plain = functional.linear(hidden.float(), weight.float(), bias.float())
    try:
        packed = pack(weight, 1.0, dtype)
        results = {name: product(hidden, packed, bias, name) for name in _FUSED}
        sums = added(residual, hidden, packed, bias)
    except (AttributeError, RuntimeError) as error:  # another torch, or another processor
        logger.debug("weights are not packed: %s", str(error).partition("\n")[0])
        return False
    expected = {
        "none": plain,
        "gelu": functional.gelu(plain),
        "gelu_pytorch_tanh": functional.gelu(plain, approximate="tanh"),
        "silu": functional.silu(plain),
        "relu": plain.relu(),
    }
    close = 1e-5 if dtype == torch.float32 else 0.05
    pairs = [(results[name], each) for name, each in expected.items()] + [(sums, plain + residual.float())]
    return all(bool(torch.allclose(found.float(), right, rtol=close, atol=close)) for found, right in pairs)
