"""Measuring side by side: interleaved repeats, medians, ratios first.

With ``OMP_NUM_THREADS=1`` it is the processor's time that is measured, which a busy machine changes far less.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

from tests.support.checkpoints import TEXT_B, VIT_B16, WHISPER_BASE, clip_checkpoint, whisper_checkpoint

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
CACHE = Path("build/benchmark")


def processor_time() -> float:
    """Seconds of the processor that this process used, and the processes it waited for."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


CLOCK = processor_time if torch.get_num_threads() == 1 else time.perf_counter


def medians(works: dict[str, Callable[[], object]], repeats: int = 5, seconds: float = 2.0) -> dict[str, float]:
    """Median seconds of each work; repeats are interleaved, so that a busy moment of the machine hits all alike.

    Args:
        repeats: at least so many rounds.
        seconds: and rounds go on until every work ran so long.
    """
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    while any(len(t) < repeats or sum(t) < seconds for t in times.values()) and len(next(iter(times.values()))) < 200:
        for name, work in works.items():
            start = CLOCK()
            work()
            times[name].append(CLOCK() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def report(title: str, seconds: dict[str, float], per: float = 1, unit: str = "ms", target: str = "") -> None:
    """One line a work: how many times faster ours (the first) is than each reference, then both figures.

    Args:
        per: items in a work, for rates.
        unit: ``ms`` (time a work) or what is counted a second, as ``images/s``.
        target: the specification's absolute target, shown beside ours.
    """
    ours, *others = seconds
    for other in others:
        ratio = seconds[other] / seconds[ours]
        figures = " against ".join(f"{_figure(seconds[name], per, unit)} ({name})" for name in (ours, other))
        print(f"{ratio:6.1f}x  {title}: {figures}{f'; target {target}' if target else ''}", flush=True)


def share(seconds: float, flops: float, rates: dict[str, float]) -> None:
    """One line: the rate of the architecture's arithmetic beside that of bare matrix products in the same run.

    Args:
        flops: of the work, by its architecture.
        rates: FLOP/s by name, ours first.
    """
    limit = next(iter(rates.values()))
    bare = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in rates.items())
    print(
        f"{100 * flops / seconds / limit:6.0f} %  of the limit: {flops / seconds / 1e9:.0f} GFLOP/s; bare {bare}",
        flush=True,
    )


def header(name: str) -> None:
    """What the figures were measured on."""
    model = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), "")
    capability, load = torch.backends.cpu.get_cpu_capability(), os.getloadavg()[0]
    print(f"\n{name}: {os.cpu_count()} cores {model or platform.processor()} {capability}, torch {torch.__version__}")
    kind = "processor's time" if CLOCK is processor_time else "wall clock"
    print(f"        load {load:.1f}, {torch.get_num_threads()} threads, {kind}")


def full_size_clip(patch_size: int = 16) -> Path:
    """A ViT-B/16 (or B/32) CLIP checkpoint in float16 with random weights, made once."""
    path = CACHE / ("clip-checkpoint" if patch_size == 16 else f"clip-{patch_size}-checkpoint")
    if not (path / "config.json").exists():
        text = {**TEXT_B, "vocab_size": 49408, "max_position_embeddings": 77}
        clip_checkpoint(path, {**VIT_B16, "patch_size": patch_size}, text, projection_dim=512)
        halve(path, transformers.CLIPModel)
    return path


def full_size_whisper() -> Path:
    """A whisper-base checkpoint in float16 with random weights, made once."""
    path = CACHE / "whisper-checkpoint"
    if not (path / "config.json").exists():
        whisper_checkpoint(path, **WHISPER_BASE)
        halve(path, transformers.WhisperModel)
    return path


def converted(checkpoint: Path, convert: Callable[..., object]) -> Path:
    """The model directory of a checkpoint, converted once."""
    path = checkpoint.with_name(checkpoint.name.replace("checkpoint", "model"))
    if not path.exists():
        convert(checkpoint, path, verify=False)
    return path


def halve(path: Path, kind: type[transformers.PreTrainedModel]) -> None:
    """Store a checkpoint in float16, as published ones mostly are."""
    kind.from_pretrained(path).half().save_pretrained(path)


def _figure(seconds: float, per: float, unit: str) -> str:
    return f"{1000 * seconds:.1f} ms" if unit == "ms" else f"{per / seconds:.1f} {unit}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
