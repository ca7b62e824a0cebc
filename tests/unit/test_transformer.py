"""The Transformer stack by itself: its short cuts give what the long way gives."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from arrowlens.encoders import InferenceCore
from arrowlens.encoders.transformer import BLOCK, LONG, LazyParameters, attend, attend_by_products

WIDTH, HEADS = 32, 2


def stack(*, dtype: torch.dtype = torch.float32, **options: object) -> InferenceCore:
    """Two layers with random weights."""
    core = InferenceCore(WIDTH, 2, HEADS, 2 * WIDTH, **options)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    for part in core.modules():
        if isinstance(part, LazyParameters):
            for name, shape in part.shapes.items():
                weight = torch.randn(shape, generator=generator) / (shape[-1] ** 0.5 if len(shape) > 1 else 4)
                part.register_parameter(name, torch.nn.Parameter(weight.to(dtype), requires_grad=False))
    return core


def tokens(batch: int, n_tokens: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(batch, n_tokens, WIDTH, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("n_tokens", [LONG, BLOCK + 3])
def test_attention_by_products_is_that_of_torch(dtype: torch.dtype, masked: bool, n_tokens: int) -> None:
    query, key, value = torch.randn(3, 3, HEADS, n_tokens, 16, generator=torch.Generator().manual_seed(2)).to(dtype)
    mask = None
    if masked:
        mask = (torch.arange(n_tokens) < torch.tensor([[n_tokens], [5], [n_tokens - 7]]))[:, None, None]
    expected = functional.scaled_dot_product_attention(query.float(), key.float(), value.float(), attn_mask=mask)
    found = attend_by_products(query, key, value, mask)
    bound = 1e-5 if dtype == torch.float32 else 0.05
    assert (found.float() - expected).abs().max() < bound
    # Items do not change one another: each alone gives the same bits.
    alone = [
        attend_by_products(
            *(part[item : item + 1] for part in (query, key, value)), mask if mask is None else mask[[item]]
        )
        for item in range(3)
    ]
    assert torch.equal(torch.cat(alone), found)
    both = attend(query, key, value, mask, causal=False)
    assert (both.float() - expected.transpose(1, 2).reshape(both.shape)).abs().max() < bound


@pytest.mark.parametrize("options", [{"causal": True, "activation": "quick_gelu"}, {"norm": "post"}, {}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_token_read_is_the_same_as_all_of_them(options: dict[str, object], dtype: torch.dtype) -> None:
    core, hidden = stack(dtype=dtype, **options), tokens(3, LONG, dtype)
    read = torch.tensor([0, 17, LONG - 1])
    with torch.inference_mode():
        every, one = core(hidden), core(hidden, read=read)
    assert every.shape == hidden.shape
    assert one.shape == (3, WIDTH)
    close = 1e-5 if dtype == torch.float32 else 0.1
    assert (every[torch.arange(3), read].float() - one.float()).abs().max() < close


def test_quick_gelu_is_what_its_name_says() -> None:
    core, hidden = stack(activation="quick_gelu"), tokens(1, 4)[0]
    mlp = core.layers[0].mlp
    wide = functional.linear(hidden, mlp.fc1.weight, mlp.fc1.bias)
    expected = 1 + functional.linear(wide * torch.sigmoid(1.702 * wide), mlp.fc2.weight, mlp.fc2.bias)
    residual = torch.ones(4, WIDTH)
    mlp.add_to(residual, hidden, torch.empty(4 * 2 * WIDTH))
    assert (residual - expected).abs().max() < 1e-5


def test_the_input_is_left_as_it_was() -> None:
    hidden = tokens(2, 5)
    before = hidden.clone()
    stack()(hidden)
    assert torch.equal(hidden, before)
