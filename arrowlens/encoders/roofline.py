"""How much arithmetic a model needs for an input, and how fast this machine can do it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from arrowlens.encoders.model_directory import ModelInfo
from arrowlens.encoders.runtime import Runtime, encoding_threads

_FRAMES_PER_SECOND = 100  # of the log-mel spectrum; the second convolution halves them


@dataclass(frozen=True)
class Arithmetic:
    """The arithmetic of encoding one input.

    Attributes:
        flops: multiplications and additions of all matrix products and convolutions of the architecture.
        n_tokens: rows of those products: patches and, for CLIP, the class token; or positions in time.
        width: columns of a layer.
        inner: columns of the wider one inside it.
    """

    flops: float
    n_tokens: int
    width: int
    inner: int


def of_a_picture(info: ModelInfo) -> Arithmetic:
    """Return the arithmetic of encoding a picture with a CLIP or SigLIP model."""
    vision, projected = info.dimensions["vision"], info.dimensions["projection_dim"]
    width, patch, inner = vision["hidden_size"], vision["patch_size"], vision["intermediate_size"]
    n_patches = (vision["image_size"] // patch) ** 2
    stem = 2 * n_patches * 3 * patch**2 * width
    if info.family == "siglip":  # one query attends to all patches, and a feed-forward part follows
        pooling = 4 * n_patches * width**2 + 4 * n_patches * width + 4 * width**2 + 4 * width * inner
        return _arithmetic(vision, n_patches, stem + pooling)
    return _arithmetic(vision, n_patches + 1, stem + 2 * width * projected)


def of_a_recording(info: ModelInfo, seconds: float, layer: int | None = None) -> Arithmetic:
    """Return the arithmetic of encoding a recording: up to 30 seconds with Whisper's encoder, without padding.

    CLAP's takes as much for any recording, since it fills all up to the same length.

    Args:
        info: the model's.
        seconds: of the recording.
        layer: of Whisper, whose output is read; None for the last one.
    """
    if info.family == "clap":
        return _of_a_swin(info.dimensions["audio"])
    sizes = dict(info.dimensions) if layer is None else {**info.dimensions, "num_layers": layer}
    width, n_frames = sizes["hidden_size"], round(seconds * _FRAMES_PER_SECOND)
    stem = 2 * 3 * n_frames * sizes["n_mels"] * width + 2 * 3 * (n_frames // 2) * width**2
    return _arithmetic(sizes, n_frames // 2, stem)


def calls_per_second(work: Callable[[], object], device: str, seconds: float) -> float:
    """Measure how often all cores together can do a piece of work in a second, each on its own as in ingest.

    On the CPU the time is that of the threads, so that other work on the same cores counts little.

    Args:
        work: must return only when what it started on the device is done.
        device: a torch device name.
        seconds: how long to repeat it, at least once on each core.
    """

    def repeat(_: int) -> float:
        work()  # warm up
        n, until, started = 0, time.perf_counter() + seconds, clock()
        while n == 0 or time.perf_counter() < until:
            work()
            n += 1
        return n / (clock() - started)

    with encoding_threads(device) as threads:
        clock = time.thread_time if threads.on_cpu else time.perf_counter
        return sum(threads.pool.map(repeat, range(threads.n)))


def products(arithmetic: Arithmetic, n_inputs: int, runtime: Runtime) -> tuple[Callable[[], object], float]:
    """Return a function that computes a layer's four matrix products for a batch, and its number of operations.

    Each thread writes its results to the same memory every time.
    """
    rows, width, inner = n_inputs * arithmetic.n_tokens, arithmetic.width, arithmetic.inner
    shapes = ((3 * width, width), (width, width), (inner, width), (width, inner))
    device, dtype = runtime.device, runtime.dtype
    weights = [torch.randn(shape).to(device, dtype) for shape in shapes]
    inputs = {columns: torch.randn(rows, columns).to(device, dtype) for columns in (width, inner)}
    own = threading.local()

    def work() -> None:
        if not hasattr(own, "results"):
            own.results = [torch.empty(rows, n_out, device=device, dtype=dtype) for n_out, _ in shapes]
        with torch.inference_mode():
            for weight, result in zip(weights, own.results, strict=True):
                torch.mm(inputs[weight.shape[1]], weight.t(), out=result)
            own.results[-1][0, 0].item()  # waits until the device has done them all

    return work, float(sum(2 * rows * n_out * n_in for n_out, n_in in shapes))


def matrix_rate(arithmetic: Arithmetic, n_inputs: int, runtime: Runtime, seconds: float) -> float:
    """Measure the FLOP/s of ``products`` on all cores at once; encoders with packed weights may be a little faster."""
    work, flops = products(arithmetic, n_inputs, runtime)
    return flops * calls_per_second(work, str(runtime.device), seconds)


def _of_a_swin(sizes: dict[str, Any]) -> Arithmetic:
    """Sum up a Swin Transformer; tokens and widths are those of the stage with the most layers."""
    n_tokens, width = (sizes["image_size"] // sizes["patch_size"]) ** 2, sizes["hidden_size"]
    inner, seen = 2 * sizes["mlp_ratio"], sizes["window_size"] ** 2  # the inner width, twice; tokens of a window
    flops, stages = 2 * n_tokens * sizes["patch_size"] ** 2 * width, []
    for depth in sizes["depths"]:
        flops += depth * (2 * n_tokens * (4 + inner) * width**2 + 4 * n_tokens * seen * width)
        stages.append((depth, n_tokens, width))
        flops += 4 * n_tokens * width**2 if len(stages) < len(sizes["depths"]) else 0  # patches merge
        n_tokens, width = n_tokens // 4, 2 * width
    _, n_tokens, width = max(stages)
    return Arithmetic(flops, n_tokens, width, sizes["mlp_ratio"] * width)


def _arithmetic(sizes: dict[str, int], n_tokens: int, ends: float) -> Arithmetic:
    """Sum up a transformer's layers: four products as wide as the layer, two with the inner width, attention."""
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    layer = 2 * n_tokens * (4 * width**2 + 2 * width * inner) + 4 * n_tokens**2 * width
    return Arithmetic(sizes["num_layers"] * layer + ends, n_tokens, width, inner)
