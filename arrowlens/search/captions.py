"""Captions, descriptions and titles by what they mean: compared with a question by the library's text model.

Every caption has some cosine with every question; only those that are near count as found, as words are found or not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from arrowlens.modalities import TEXT_ROLE
from arrowlens.store import CAPTION_ROLE

if TYPE_CHECKING:
    from arrowlens.encoders import MultimodalEmbeddingProvider
    from arrowlens.search.query import Query
    from arrowlens.store import MultimodalStorage

__all__ = ["CAPTION_ROLE", "LEAST_CAPTION", "caption_vector", "encoded_together"]

# Of all-MiniLM-L6-v2: 6 in 10 questions that mean a caption in other words reach it, 3 in 1,000 that do not mean it
# (docs/performance.md).
LEAST_CAPTION = 0.4


def caption_vector(
    storage: MultimodalStorage, provider: MultimodalEmbeddingProvider, query: Query
) -> np.ndarray | None:
    """What captions are compared with, (d,); None where there are none, no model, or the question is not for them.

    Raises:
        ModelLoadError: the text model cannot be loaded.
    """
    if query.text is None or not _asks_captions(query, storage, provider):
        return None
    known = query.encoded.get((CAPTION_ROLE, query.text))
    vector: np.ndarray = provider.text_encoder.encode([query.text])[0] if known is None else known
    return vector


def encoded_together(
    queries: Sequence[Query], storage: MultimodalStorage, provider: MultimodalEmbeddingProvider
) -> list[Query]:
    """Queries that carry the vectors of their texts; each model runs once for all of them.

    Raises:
        ModelLoadError: a model cannot be loaded.
    """
    by_role: dict[str, set[str]] = {TEXT_ROLE: set(), CAPTION_ROLE: set()}
    for query in queries:
        if query.mode != "keyword" and provider.has(TEXT_ROLE):
            by_role[TEXT_ROLE].update(query.texts)
        if query.text is not None and _asks_captions(query, storage, provider):
            by_role[CAPTION_ROLE].add(query.text)
    encoded: dict[tuple[str, str], np.ndarray] = {}
    for role, texts in by_role.items():
        if texts:
            ordered = sorted(texts)
            encode = provider.clip_engine.encode_text if role == TEXT_ROLE else provider.text_encoder.encode
            encoded.update(zip(((role, text) for text in ordered), encode(ordered), strict=True))
    return [dataclasses.replace(query, encoded=encoded) for query in queries]


def _asks_captions(query: Query, storage: MultimodalStorage, provider: MultimodalEmbeddingProvider) -> bool:
    is_asked = query.mode == "auto" and not query.is_composed
    return is_asked and provider.has(CAPTION_ROLE) and storage.has_vectors(CAPTION_ROLE)
