"""The arithmetic of a model is what torch counts in the reference's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from arrowlens.conversion import (
    convert_clap_model,
    convert_clip_model,
    convert_siglip_model,
    convert_whisper_model,
)
from arrowlens.encoders import choose_runtime, model_info
from arrowlens.encoders.roofline import Arithmetic, calls_per_second, matrix_rate, of_a_picture, of_a_recording
from tests.support.checkpoints import (
    clap_checkpoint,
    clap_model,
    clip_checkpoint,
    clip_model,
    whisper_checkpoint,
    whisper_model,
)
from tests.support.siglip import siglip_checkpoint, siglip_model


def counted(model: torch.nn.Module, inputs: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(inputs)
    return int(counter.get_total_flops())


@pytest.mark.parametrize(("size", "patch"), [(32, 8), (45, 7)])
def test_arithmetic_of_a_picture(tmp_path: Path, size: int, patch: int) -> None:
    sizes: dict[str, Any] = {"image_size": size, "patch_size": patch, "intermediate_size": 72}
    convert_clip_model(clip_checkpoint(tmp_path / "checkpoint", sizes), tmp_path / "model", verify=False)
    model = clip_model(sizes)
    model.set_attn_implementation("eager")  # torch counts no other attention on the CPU
    reference = counted(model.vision_model, torch.zeros(1, 3, size, size)) + 2 * 32 * 16  # the projection
    found = of_a_picture(model_info(tmp_path / "model"))
    assert (found.flops, found.n_tokens) == (reference, (size // patch) ** 2 + 1)
    assert (found.width, found.inner) == (32, 72)


def test_arithmetic_of_a_picture_with_siglip(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"image_size": 45, "patch_size": 7, "intermediate_size": 72}
    convert_siglip_model(siglip_checkpoint(tmp_path / "checkpoint", sizes), tmp_path / "model", verify=False)
    model = siglip_model(sizes)
    model.set_attn_implementation("eager")
    # torch counts none of the products inside the head's attention.
    patches, width, inner = torch.zeros(1, 36, 32), 32, 72
    head = counted(model.vision_model.head, patches)
    own = 4 * 36 * width**2 + 4 * 36 * width + 4 * width**2 + 4 * width * inner
    reference = counted(model.vision_model, torch.zeros(1, 3, 45, 45)) - head + own
    found = of_a_picture(model_info(tmp_path / "model"))
    assert (found.flops, found.n_tokens) == (reference, 36)


def test_arithmetic_of_a_recording(tmp_path: Path) -> None:
    convert_whisper_model(whisper_checkpoint(tmp_path / "checkpoint"), tmp_path / "model", verify=False)
    model = whisper_model(max_source_positions=250)
    model.set_attn_implementation("eager")
    found = of_a_recording(model_info(tmp_path / "model"), 5.0)
    assert (found.flops, found.n_tokens) == (counted(model.encoder, torch.zeros(1, 80, 500)), 250)
    n_layers = len(model.encoder.layers)
    model.encoder.layers = model.encoder.layers[: n_layers // 2]
    half = of_a_recording(model_info(tmp_path / "model"), 5.0, n_layers // 2)
    assert half.flops == counted(model.encoder, torch.zeros(1, 80, 500)) < found.flops


def test_arithmetic_of_a_recording_by_clap(tmp_path: Path) -> None:
    convert_clap_model(clap_checkpoint(tmp_path / "checkpoint"), tmp_path / "model", verify=False)
    found = of_a_recording(model_info(tmp_path / "model"), 5.0)
    reference = counted(clap_model().audio_model, torch.zeros(1, 1, 1001, 64))
    assert (found.flops, found.n_tokens, found.width, found.inner) == (reference, 256, 16, 64)


def test_every_core_repeats_a_work() -> None:
    n_calls = []
    rate = calls_per_second(lambda: n_calls.append(sum(range(10_000))), "cpu", 0.05)
    assert len(n_calls) > 2 * torch.get_num_threads()
    assert 0 < rate < 1e6


def test_products_of_half_the_size_are_done_at_some_such_rate() -> None:
    """A rate does not grow with the work, as a count that forgets a factor would."""
    runtime = choose_runtime("cpu", "float32")
    rates = [matrix_rate(Arithmetic(0, 64, width, 4 * width), 8, runtime, 0.1) for width in (128, 256)]
    assert 0.1 < rates[0] / rates[1] < 10
