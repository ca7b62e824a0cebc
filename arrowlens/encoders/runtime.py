"""The device and number format that a model runs in, and the base class of all encoders."""

from __future__ import annotations

import logging
import platform
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from arrowlens.encoders.weights import WeightLoader
from arrowlens.errors import InputError, ModelLoadError

logger = logging.getLogger(__name__)
GPU_MIB = 1024  # free memory that a GPU needs to be the default; a ViT-B/16 CLIP and a batch take less
GPU_THREADS = 2  # while one's batch computes, the other's is copied
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Runtime:
    """A device and a number format, with the reason for the format. They are no part of a model's identity."""

    device: torch.device
    dtype: torch.dtype
    reason: str

    @property
    def precision(self) -> str:
        """float32, bfloat16 or float16."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def summary(self) -> str:
        """All three, for people."""
        return f"{self.device} in {self.precision}: {self.reason}"


def choose_runtime(device: str | None = None, precision: str = "auto") -> Runtime:
    """Choose the device and the number format.

    Args:
        device: a torch device name; None takes a CUDA device when there is one, else the CPU. A CUDA device that is
            full or cannot be used is passed over with a warning, and ``reason`` says so.
        precision: ``auto`` takes half precision where the processor is fast at it.

    Raises:
        ModelLoadError: a device that was named cannot be used, or an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ModelLoadError(f"precision {precision!r} is unknown; use one of {', '.join(PRECISIONS)}")
    chosen, trouble = (_device(device), "") if device is not None else _best_device()
    if precision != "auto":
        dtype, reason = getattr(torch, precision), f"{precision} was asked for"
    elif chosen.type != "cpu":
        dtype, reason = torch.float16, f"{chosen.type} devices are fast in float16"
    else:
        dtype, reason = _cpu_format(_cpu_flags())
    return Runtime(chosen, dtype, f"{reason}; {trouble}" if trouble else reason)


@cache
def _best_device() -> tuple[torch.device, str]:
    """Return the GPU or the CPU, and why a GPU is not used. Determined, and warned of, once in a process."""
    if not torch.cuda.is_available():
        return torch.device("cpu"), ""
    try:
        device = _device("cuda")
        free = torch.cuda.mem_get_info(device)[0] // 2**20
        if free >= GPU_MIB:
            return device, ""
        trouble = f"the GPU is full: {free} MiB are free, {GPU_MIB} are needed"
    except (ModelLoadError, RuntimeError) as error:
        trouble = str(error).splitlines()[0].removesuffix("; use --device cpu")
    logger.warning("encoding on the CPU, since %s", trouble)
    return torch.device("cpu"), trouble


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        detail = str(error).splitlines()[0]
        raise ModelLoadError(f"device {name!r} cannot be used ({detail}); use --device cpu") from error
    return device


def _cpu_format(flags: frozenset[str]) -> tuple[torch.dtype, str]:
    if "amx_fp16" in flags:
        return torch.float16, "this processor multiplies float16 in AMX tiles"
    if "amx_bf16" in flags:
        return torch.bfloat16, "this processor multiplies bfloat16 in AMX tiles"
    if "avx512_bf16" in flags:
        return torch.bfloat16, "this processor multiplies bfloat16 natively (AVX-512)"
    return torch.float32, "this processor has no fast half precision (no AMX, no AVX-512 bfloat16)"


@cache
def _cpu_flags() -> frozenset[str]:
    """Return the instruction-set flags of the processor; none where the system does not list them as Linux does."""
    path = Path("/proc/cpuinfo")
    if platform.machine() not in ("x86_64", "AMD64") or not path.exists():
        return frozenset()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


@dataclass(frozen=True)
class EncodingThreads:
    """Threads that encode batches side by side.

    Attributes:
        pool: runs the batches.
        n: the number of threads.
        on_cpu: whether each thread computes on a core of its own.
    """

    pool: ThreadPoolExecutor
    n: int
    on_cpu: bool


@contextmanager
def encoding_threads(device: str) -> Iterator[EncodingThreads]:
    """Provide threads that encode many batches side by side.

    On the CPU there are as many threads as torch would use for one batch, and each computes by itself: threads that
    share a batch wait for one another at every layer, and on busy cores they mostly wait. A GPU gets two, each with a
    stream of its own, so that it computes while pictures are copied. Other devices get one. The number of threads that
    torch uses for other work, such as a search, does not change. Leaving the block cancels what has not begun.

    Args:
        device: a torch device name.
    """
    kind = torch.device(device).type
    on_cpu = kind == "cpu"
    n_threads = torch.get_num_threads() if on_cpu else GPU_THREADS if kind == "cuda" else 1
    begin = partial(_take_stream, torch.device(device)) if kind == "cuda" else None
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="encode", initializer=begin)
    try:
        if on_cpu:
            _keep_to_themselves(pool, n_threads)
        yield EncodingThreads(pool, n_threads, on_cpu)
    finally:
        pool.shutdown(cancel_futures=True)


def _take_stream(device: torch.device) -> None:
    """Give this thread a stream of its own on a GPU, so that its work waits only for the model to be loaded."""
    torch.cuda.synchronize(device)
    torch.cuda.set_stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]


def _keep_to_themselves(pool: ThreadPoolExecutor, n_threads: int) -> None:
    """Limit torch to one core in each thread of a pool."""
    all_there = threading.Barrier(n_threads)

    def keep_to_itself() -> None:
        torch.get_num_threads()  # copies the process's number: only one set after it is the thread's own
        torch.set_num_threads(1)
        all_there.wait()

    for future in [pool.submit(keep_to_itself) for _ in range(n_threads)]:
        future.result()
    torch.set_num_threads(n_threads)  # set_num_threads also sets the default of later threads: restore it


def to_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor to the device that a model runs on. A GPU copies while the caller goes on."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)  # asynchronous only from pinned memory


def load_module(module: Module, loader: WeightLoader, runtime: Runtime, prefix: str = "") -> Module:
    """Put the loader's tensors into a module; they are cast once where the stored type is another.

    Raises:
        ModelLoadError: a tensor is missing or has the wrong shape.
    """
    loader.load_into(module, prefix, device=runtime.device, dtype=runtime.dtype)
    return module


class Encoder:
    """The base class of encoders: a model's identity and runtime. Stateless after loading, so threads may share it."""

    def __init__(self, loader: WeightLoader, runtime: Runtime) -> None:
        self.info = loader.info
        self.runtime = runtime

    @property
    def digest(self) -> str:
        """The model's identity, 64 hex digits."""
        return self.info.digest

    @property
    def dimension(self) -> int:
        """The length of the vectors that ``encode`` gives."""
        return self.info.dimension

    @property
    def space(self) -> str | None:
        """The name of the vector space shared with another model, None when there is none."""
        return self.info.space

    @property
    def device(self) -> str:
        """The name of the device that the model runs on."""
        return str(self.runtime.device)

    @property
    def precision(self) -> str:
        """float32, bfloat16 or float16."""
        return self.runtime.precision

    @property
    def precision_reason(self) -> str:
        """Why the model runs in that precision, for people."""
        return self.runtime.reason


def to_vectors(hidden: torch.Tensor, *, normalize: bool, error: type[InputError] = InputError) -> np.ndarray:
    """Convert a model's output to vectors.

    Args:
        hidden: (n, dimension) in any float type.
        normalize: scale vectors to length one.
        error: raised for a vector that is zero or not finite, with its row.

    Returns:
        (n, dimension) float32.
    """
    vectors = hidden.float()
    norms = vectors.norm(dim=-1, keepdim=True)
    bad = ~(torch.isfinite(norms) & (norms > 0)).squeeze(-1)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        raise error(
            f"input {row} encodes to a vector of length {float(norms[row])}, which has no direction; leave it out, "
            f"or use precision='float32'"
        )
    vectors = vectors / norms if normalize else vectors
    result: np.ndarray = vectors.cpu().numpy()
    return result
