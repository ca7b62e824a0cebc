"""Products with oneDNN: scale, bias, activation and residual in one step, with weights in the layout that it likes.

A *folded* weight is s W, in the type that is computed in. oneDNN brings it into its own layout at every product, unless
it was *packed* once; in bfloat16 both give the same numbers to the last bit. A packed weight cannot be mapped from a
file, a folded one can (``encoders.folding``).

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


def should_fold(stored: torch.dtype, device: torch.device | None, dtype: torch.dtype | None) -> bool:
    """Return whether weights of a stored type should be folded for computing on a device in a type."""
    on_cpu = device is None or device.type == "cpu"
    return on_cpu and dtype not in (None, stored) and available(dtype)


def fold(tensor: torch.Tensor, scale: float, dtype: torch.dtype | None) -> torch.Tensor:
    """Return ``scale`` times a weight, (n_out, n_in), or a bias, rounded once to float32 or bfloat16."""
    # Large enough for a mapping of its own, which the system takes back at once: smaller ones leave gaps in the heap.
    room = torch.empty(max(tensor.numel(), _MAPPED), dtype=dtype)[: tensor.numel()].view(tensor.shape)
    # A few rows at a time stay in the cache: a float32 copy of the whole weight would fault in new pages.
    for rows, stored in zip(torch.split(room, _ROWS_AT_A_TIME), torch.split(tensor, _ROWS_AT_A_TIME), strict=True):
        rows.copy_(stored.float() * scale)
    return room


def pack(folded: torch.Tensor) -> torch.Tensor:
    """Return a folded weight in oneDNN's layout. Only ``product`` and ``added`` can read it."""
    packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(folded, _ROWS)
    return packed


def product(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, activation: str = "none") -> torch.Tensor:
    """Compute activation(x W^T + b), with a folded or packed W: (rows, n_in) -> (rows, n_out)."""
    name, algorithm = _FUSED[activation]
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(hidden, weight, bias, name, [], algorithm)
    return result


def added(residual: torch.Tensor, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Compute r + x W^T + b, rounded once, with a folded or packed W: (rows, n_out), (rows, n_in) -> (rows, n_out)."""
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(hidden, residual, weight, bias, "add")
    return result


@cache
def packs_alike(dtype: torch.dtype) -> bool:
    """Return whether packed weights give what folded ones give here, to the last bit, so that packing can wait.

    In float32 they do not: a single row is summed in another order.
    """
    if dtype != torch.bfloat16 or not available(dtype):
        return False
    generator = torch.Generator().manual_seed(0)
    weight = (torch.randn((256, 320), generator=generator) / 4).to(dtype)
    bias, packed = weight[:, 0].contiguous(), pack(weight)
    for n_rows in (1, 7, 50, 197):
        hidden = torch.randn((n_rows, 320), generator=generator).to(dtype)
        if not torch.equal(product(hidden, weight, bias, "gelu"), product(hidden, packed, bias, "gelu")):
            return False
    return True


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
        packed = pack(weight)
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
