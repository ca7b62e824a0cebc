"""A small library for tests of searching: 60 pictures and 40 recordings, engines without models, and brute force."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from arrowlens.encoders.runtime import choose_runtime
from arrowlens.modalities import Recipe
from arrowlens.store import ModelRecord, MultimodalStorage, VectorRow, media_id_of

DIMENSION = 16
DIGESTS = {"vision": "c" * 64, "audio": "a" * 64}
WINDOWS = {"image": 1, "audio": 3}


def vector(*seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
    return values / np.linalg.norm(values)


class Tokenizer:
    """Reads the first ten characters."""

    def part_read(self, text):
        return text[:10] if len(text) > 40 else None


class Engine:
    """Texts and pictures name their vectors; so does the first sample of a recording."""

    tokenizer = Tokenizer()

    def encode_text(self, texts, normalize=True):
        return np.stack([vector(7, *text.encode()) for text in texts])

    def image_processor(self, pixels, normalize=True, box=None):
        return pixels

    def encode_image(self, images, normalize=True):
        return np.stack([vector(1, int(image[0, 0, 0])) for image in images])

    def encode(self, audio, normalize=True, context="padded", layer=None, sample_rate=None):
        assert (context, layer, sample_rate) == ("own", None, 16_000)
        return np.stack([vector(2, int(samples[0])) for samples in audio])


@dataclass
class Provider:
    """Models by role, as ``MultimodalEmbeddingProvider`` offers them."""

    text_reaches_audio: bool = True
    clip_engine: Engine = field(default_factory=Engine)
    audio_encoder: Engine = field(default_factory=Engine)
    recipe: Recipe = field(default_factory=Recipe)

    @property
    def runtime(self):
        return choose_runtime("cpu", "float32")

    @property
    def has_one_space(self):
        return self.text_reaches_audio and self.has("vision")

    def language(self, role):
        return None

    def templates(self, role):
        return ()

    def text_role(self, modality):
        return "vision" if self.has("vision") and (modality == "image" or self.text_reaches_audio) else None

    def has(self, role):
        return role in DIGESTS

    def digest(self, role):
        return DIGESTS[role]

    def recipe_digest(self, role):
        return DIGESTS[role]

    def dimension(self, role):
        return DIMENSION


@dataclass
class Row:
    """What brute force needs to know of a vector."""

    media_id: str
    content_hash: str
    modality: str
    start: float | None
    vector: np.ndarray


def filled_storage(folder: Path) -> Iterator[tuple[MultimodalStorage, list[Row]]]:
    """60 pictures (two pairs of equal content) and 40 recordings of three windows."""
    storage = MultimodalStorage(folder / "a.lens")
    storage.bind_models({role: ModelRecord(digest, DIMENSION, "test", "one") for role, digest in DIGESTS.items()})
    root = storage.add_root("/media")
    rows: list[Row] = []
    media = []
    for modality, role, count in (("image", "vision", 60), ("audio", "audio", 40)):
        vectors = []
        for number in range(count):
            content = number - 1 if modality == "image" and number in (11, 31) else number
            path = os.fsencode(f"{modality}/{number} é\n.x")
            media_id, content_hash = media_id_of(root.root_id, path), f"{modality[0]}{content:031x}"
            for window in range(WINDOWS[modality]):
                start = 5.0 * window if modality == "audio" else None
                end = start + 10.0 if start is not None else None
                value = vector(3 if role == "vision" else 4, content, window)
                vectors.append(VectorRow(media_id, content_hash, modality, value, window, start, end))
                rows.append(Row(media_id, content_hash, modality, start, value.astype(np.float16).astype(np.float32)))
            media.append(
                {
                    "media_id": media_id,
                    "root_id": root.root_id,
                    "path": os.fsdecode(path),
                    "path_bytes": path,
                    "content_hash": content_hash,
                    "modality": modality,
                    "format": "png" if modality == "image" else "wav",
                    "size": 100 + number,
                    "width": 640 if modality == "image" else None,
                    "duration": 20.0 if modality == "audio" else None,
                    "metadata": [("title", str(number))],
                    "state": "indexed",
                }
            )
        storage.upsert_vectors(role, vectors)
    storage.upsert_media(media)
    yield storage, rows
    storage.close()


def brute_force(rows, queries, modalities, k):
    """(media_id, score, start) of the k best files: every query with every window, equal content once."""
    best: dict[str, tuple[float, str, float]] = {}
    for row in rows:
        if row.modality in modalities:
            score = max(float(np.dot(row.vector, query) / np.linalg.norm(row.vector)) for query in queries)
            candidate = (-score, row.media_id, row.start or 0.0)
            if row.content_hash not in best or candidate < best[row.content_hash]:
                best[row.content_hash] = candidate
    ordered = sorted(best.values())[:k]
    return [(media_id, -score, start) for score, media_id, start in ordered]


def assert_same(results, expected):
    assert [hit.media_id for hit in results] == [media_id for media_id, _, _ in expected]
    np.testing.assert_allclose([hit.score for hit in results], [score for _, score, _ in expected], atol=1e-6)
    assert [hit.start or 0.0 for hit in results] == [start for _, _, start in expected]
