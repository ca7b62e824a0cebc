"""Folded and packed weights give what plain ones give, and only weights that are cast are folded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from arrowlens.conversion import convert_clip_model
from arrowlens.encoders import CLIPEngine, onednn
from arrowlens.encoders.transformer import PACKED_AFTER, Linear
from tests.support.checkpoints import clip_checkpoint
from tests.support.reference import cosines, pictures

CPU = torch.device("cpu")
TEXTS = ["the cat", "a dog on the sea", "the"]


def places(linear: Linear, dtype: torch.dtype) -> Linear:
    """A linear layer with random float16 weights, for computing in ``dtype``."""
    generator = torch.Generator().manual_seed(0)
    for name, shape in linear.shapes.items():
        linear.place(name, (torch.randn(shape, generator=generator) / 4).half(), CPU, dtype)
    return linear


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    if not onednn.available(request.param):
        pytest.skip(f"no operators for {request.param} on this processor")
    return request.param


@pytest.mark.parametrize("activation", ["none", "gelu", "gelu_pytorch_tanh", "silu", "relu"])
@pytest.mark.parametrize("rows", [1, 11, 197])
def test_a_packed_product_is_the_plain_one(dtype: torch.dtype, activation: str, rows: int) -> None:
    linear = places(Linear(96, 64, scale=1.7, bias_scale=0.6, activation=activation), dtype)
    linear.pack()
    assert linear.packed is not None
    generator = torch.Generator().manual_seed(0)
    weight, bias = ((torch.randn(shape, generator=generator) / 4).half().float() for shape in ((64, 96), (64,)))
    hidden, residual = torch.randn(rows, 96).to(dtype), torch.randn(rows, 64).to(dtype)
    plain = 1.7 * functional.linear(hidden.float(), weight) + 0.6 * bias
    activated = {
        "none": plain,
        "gelu": functional.gelu(plain),
        "gelu_pytorch_tanh": functional.gelu(plain, approximate="tanh"),
        "silu": functional.silu(plain),
        "relu": plain.relu(),
    }
    close = {"rtol": 1e-5, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.1}
    torch.testing.assert_close(linear.into(torch.empty(0), hidden).float(), activated[activation], **close)
    torch.testing.assert_close(linear.add_to(residual.clone(), hidden).float(), plain + residual.float(), **close)
    rounded = functional.linear(hidden, weight.to(dtype), bias.to(dtype))
    unscaled = places(Linear(96, 64), dtype).into(torch.empty(0), hidden)
    assert dtype == torch.float32 or torch.equal(unscaled, rounded), "oneDNN makes the same layout by itself"


def test_rows_do_not_change_one_another(dtype: torch.dtype) -> None:
    linear, hidden = places(Linear(96, 64, activation="gelu"), dtype), torch.randn(40, 96).to(dtype)
    together = linear.into(torch.empty(0), hidden)
    alone = torch.cat([linear.into(torch.empty(0), row[None]) for row in hidden])
    torch.testing.assert_close(together.float(), alone.float(), rtol=1e-5, atol=1e-5)


def test_a_weight_of_the_file_s_own_type_stays_in_the_mapping() -> None:
    stored = torch.randn(64, 96)
    linear = Linear(96, 64)
    linear.place("weight", stored, CPU, torch.float32)
    assert linear.packed is None
    assert linear.weight.data_ptr() == stored.data_ptr()


def test_a_packed_weight_is_held_once(dtype: torch.dtype) -> None:
    linear = places(Linear(96, 64), dtype)
    linear.pack()
    assert [name for name, _ in linear.named_parameters()] == ["bias"]


@pytest.mark.parametrize("activation", ["none", "gelu", "silu"])
@pytest.mark.parametrize(("width", "n_out"), [(96, 64), (512, 1536), (3072, 768)])
def test_packing_waits_for_enough_work_and_changes_no_bit(width: int, n_out: int, activation: str) -> None:
    if not onednn.packs_alike(torch.bfloat16):
        pytest.skip("packed weights give other bits on this processor: they are packed at once")
    linear = places(Linear(width, n_out, scale=1.7, activation=activation), torch.bfloat16)
    many = [torch.randn(rows, width).bfloat16() for rows in (1, 7, 50, 77, 197, 400)]
    before = [linear.into(torch.empty(0), hidden) for hidden in many]
    sums = [linear.add_to(torch.ones(len(hidden), n_out).bfloat16(), hidden) for hidden in many]
    assert linear.packed is None
    while linear.packed is None:
        linear.into(torch.empty(0), many[0])
    for hidden, expected, added in zip(many, before, sums, strict=True):
        assert torch.equal(linear.into(torch.empty(0), hidden), expected)
        assert torch.equal(linear.add_to(torch.ones(len(hidden), n_out).bfloat16(), hidden), added)


def test_threads_that_pack_at_once_compute_the_same() -> None:
    if not onednn.packs_alike(torch.bfloat16):
        pytest.skip("weights are packed when they are loaded on this processor")
    linear, hidden = places(Linear(96, 64), torch.bfloat16), torch.randn(9, 96).bfloat16()
    expected = linear.into(torch.empty(0), hidden)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: linear.into(torch.empty(0), hidden), range(4 * PACKED_AFTER)))
    assert linear.packed is not None
    assert all(torch.equal(each, expected) for each in found)


def test_without_the_operators_the_public_ones_do_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    convert_clip_model(clip_checkpoint(tmp_path / "checkpoint"), tmp_path / "half", dtype="float16", verify=False)
    packed = CLIPEngine(tmp_path / "half", precision="float32")
    with monkeypatch.context() as patched:
        patched.setattr(torch.ops.mkldnn, "_reorder_linear_weight", _refuses, raising=False)
        onednn.available.cache_clear()
        plain = CLIPEngine(tmp_path / "half", precision="float32")
    onednn.available.cache_clear()
    layers = [engine.text_tower.transformer.layers[0].mlp.fc1.packed is not None for engine in (packed, plain)]
    assert layers == [onednn.available(torch.float32), False]
    assert cosines(packed.encode_text(TEXTS), plain.encode_text(TEXTS)).min() > 0.999999
    assert cosines(packed.encode_image(pictures(32)), plain.encode_image(pictures(32))).min() > 0.999999


def _refuses(*_: object) -> None:
    raise RuntimeError("mkldnn_reorder: this build has none")
