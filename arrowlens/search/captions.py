"""Captions, descriptions and titles by what they mean: compared with a question by the library's text model.

Every caption has some cosine with every question; only those that are near count as found, as words are found or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arrowlens.store import CAPTION_ROLE

if TYPE_CHECKING:
    from arrowlens.encoders import MultimodalEmbeddingProvider
    from arrowlens.store import MultimodalStorage

__all__ = ["CAPTION_ROLE", "LEAST_CAPTION", "caption_vector"]

# Of all-MiniLM-L6-v2: 6 in 10 questions that mean a caption in other words reach it, 3 in 1,000 that do not mean it
# (docs/performance.md).
LEAST_CAPTION = 0.4


def caption_vector(
    storage: MultimodalStorage, provider: MultimodalEmbeddingProvider, text: str | None
) -> np.ndarray | None:
    """The vector (d,) of a text that captions are compared with; None where there are none, or no model for them.

    Raises:
        ModelLoadError: the text model cannot be loaded.
    """
    if text is None or not provider.has(CAPTION_ROLE) or not storage.has_vectors(CAPTION_ROLE):
        return None
    vector: np.ndarray = provider.text_encoder.encode([text])[0]
    return vector
