"""Encoding texts of mixed lengths, MiniLM-L6's shape, random weights, against sentence-transformers' defaults."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from arrowlens.conversion import convert_text_model
from arrowlens.encoders import TextEncoder
from benchmarks.measure import CACHE, converted, header, medians, report
from tests.support.checkpoints import WORDS, bert_checkpoint
from tests.support.reference import cosines

MINI_LM = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12}
N_TEXTS = 128


def main() -> None:
    """Print the table."""
    header("text")
    if importlib.util.find_spec("sentence_transformers") is None:
        print("        sentence-transformers is not installed: nothing to measure beside")
        return
    checkpoint = full_size_mini_lm()
    encoder = TextEncoder(converted(checkpoint, convert_text_model))
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, length)) for length in rng.integers(1, 45, N_TEXTS)]
    models = {f"sentence-transformers {name}": reference(checkpoint, name) for name in ("float32", "bfloat16")}
    ours = f"ours {encoder.precision}"

    def works(chosen: list[str]) -> dict[str, Callable[[], object]]:
        return {ours: lambda: encoder.encode(chosen), **{n: lambda e=e: e(chosen) for n, e in models.items()}}  # type: ignore[misc]

    report("one text", medians(works(texts[:1]), repeats=9))
    report("texts of 3 to 46 tokens", medians(works(texts)), N_TEXTS, "texts/s")
    found = cosines(encoder.encode(texts), np.asarray(models["sentence-transformers float32"](texts)))
    print(f"        cosine with the reference in float32: average {found.mean():.6f}, lowest {found.min():.6f}")


def reference(checkpoint: Path, dtype: str) -> Callable[[list[str]], object]:
    """``SentenceTransformer.encode`` with its own batches of 32, sorted by length, and its mean over tokens."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(checkpoint), device="cpu", model_kwargs={"dtype": getattr(torch, dtype)})
    return lambda texts: model.encode(texts, convert_to_numpy=True).astype(np.float32)


def full_size_mini_lm() -> Path:
    """A checkpoint of MiniLM's size, made once."""
    path = CACHE / "text-checkpoint"
    if not (path / "config.json").exists():
        bert_checkpoint(path, vocab_size=30522, max_position_embeddings=512, **MINI_LM)
        folders = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
        modules = [
            {"idx": i, "name": str(i), "path": folder, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, folder) in enumerate(folders.items())
        ]
        (path / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
