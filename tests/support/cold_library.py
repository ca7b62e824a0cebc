"""A library of the demo models with random vectors, made in a second: for what does not depend on their values."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from arrowlens.models import resolve
from arrowlens.query_engine import model_records, provider_of
from arrowlens.store import MultimodalStorage, VectorRow, media_id_of


def made_library(path: Path, n_items: int) -> Path:
    """Pictures, and a recording for each twenty of them, with random vectors; made once."""
    if (path / "library.json").exists():
        return path
    shutil.rmtree(path, ignore_errors=True)
    rng, models = np.random.default_rng(0), resolve("demo")
    with MultimodalStorage(path) as storage:
        storage.bind_models(model_records(models, provider_of(models, None, "auto", {})))
        root = storage.add_root("/pictures").root_id
        for start in range(0, n_items, 5_000):
            rows = []
            vectors: dict[str, list[VectorRow]] = {"vision": [], "audio": []}
            for number in range(start, min(start + 5_000, n_items)):
                modality, role = ("audio", "audio") if number % 20 == 0 else ("image", "vision")
                name = f"{number % 100:02d}/{modality} {number:06d}.{'wav' if role == 'audio' else 'jpg'}"
                media_id, content = media_id_of(root, name.encode()), f"{number:032x}"
                row = {"media_id": media_id, "root_id": root, "path": name, "path_bytes": name.encode()}
                rows.append(row | {"content_hash": content, "modality": modality, "state": "indexed", "metadata": []})
                vectors[role].append(VectorRow(media_id, content, modality, rng.standard_normal(512)))
            for role, found in vectors.items():
                storage.upsert_vectors(role, found)
            storage.upsert_media(rows)
        storage.optimize()
    return path
