"""Memory of processes that encode pictures, ours and transformers': one of them, and four at a time.

The unique set of a process (USS) is what ends with it, from Linux's ``smaps_rollup``; the proportional set (PSS) counts
what several processes map once in all, so its sum over four is what the machine has to hold.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import converted, full_size_clip, header

FOUR = 4
KINDS = {
    "only torch imported": ("nothing", ""),
    "ours, stored in bfloat16": ("ours", "bfloat16"),
    "ours, stored in float16": ("ours", "float16"),
    "transformers float32 (its default)": ("transformers", "float32"),
    "transformers bfloat16": ("transformers", "bfloat16"),
}
_MIB = 1024  # of the kB that the kernel counts in


def main() -> None:
    """Print the table; with ``--child``, be one of the processes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--child", nargs=3, metavar=("KIND", "DTYPE", "PATH"))
    options = parser.parse_args()
    if options.child is not None:
        encode_and_wait(*options.child)
        return
    header("memory")
    checkpoint = full_size_clip()
    print("        unique set of one process; of four at a time: their proportional sets together")
    for name, (kind, dtype) in KINDS.items():
        path = checkpoint if kind != "ours" else _stored(checkpoint, dtype)
        one, _ = together(1, kind, dtype, path)
        _, four = together(FOUR, kind, dtype, path)
        print(f"{one:6.0f} MiB, four {four:6.0f} MiB  {name}", flush=True)


def together(n: int, kind: str, dtype: str, path: Path) -> tuple[float, float]:
    """Mean unique set and sum of proportional sets of ``n`` processes that have all encoded, in MiB."""
    command = [sys.executable, "-m", "benchmarks.memory", "--child", kind, dtype, str(path)]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(n)]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "encoded\n"
        sizes = [sets(child.pid) for child in children]
    finally:
        for child in children:
            child.communicate("")
    return sum(unique for unique, _ in sizes) / n, sum(proportional for _, proportional in sizes)


def sets(pid: int) -> tuple[float, float]:
    """Unique and proportional set of a process in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return (kib["Private_Clean"] + kib["Private_Dirty"]) / _MIB, kib["Pss"] / _MIB


def encode_and_wait(kind: str, dtype: str, path: str) -> None:
    """Encode eight pictures, say so, and stay until the input ends."""
    import numpy as np
    import torch

    pixels = np.zeros((8, 224, 224, 3), np.float32)
    if kind == "ours":
        from arrowlens.encoders import VisionEncoder

        encoder = VisionEncoder(path)
        encoder.encode(pixels)
    elif kind == "transformers":
        import transformers

        model = transformers.CLIPVisionModel.from_pretrained(path, dtype=getattr(torch, dtype)).eval()
        with torch.inference_mode():
            model(pixel_values=torch.from_numpy(pixels).permute(0, 3, 1, 2).to(model.dtype))
    print("encoded", flush=True)
    sys.stdin.read()


def _stored(checkpoint: Path, dtype: str) -> Path:
    from arrowlens.conversion import convert_clip_model

    if dtype == "float16":
        return converted(checkpoint, convert_clip_model)
    path = checkpoint.with_name(f"clip-model-{dtype}")
    if not path.exists():
        convert_clip_model(checkpoint, path, dtype=dtype, verify=False)
    return path


if __name__ == "__main__":
    main()
