"""Examples -> vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arrowlens.errors import InputError
from arrowlens.search.query import Example

if TYPE_CHECKING:
    from arrowlens.encoders import MultimodalEmbeddingProvider

MAX_QUERY_WINDOWS = 32  # each costs a search of the store; two hours of recording have 1,440


def encoded(provider: MultimodalEmbeddingProvider, example: Example) -> np.ndarray:
    """(n, d) of a picture, or of a recording's windows, at most ``MAX_QUERY_WINDOWS`` of them.

    Raises:
        InputError: a recording without windows. ImageValidationError, AudioValidationError: an unusable example.
        ModelLoadError: there is no model for that kind.
    """
    if example.pixels is not None:
        engine = provider.clip_engine
        pictures: np.ndarray = engine.encode_image(engine.image_processor(example.pixels, box=example.box)[None])
        return pictures
    if not example.windows:
        raise InputError("a recording without samples finds nothing; give at least one window")
    windows = [example.windows[index] for index in spread(len(example.windows))]
    return provider.audio_encoder.encode(windows, context="clip")


def spread(n: int) -> list[int]:
    """At most ``MAX_QUERY_WINDOWS`` of n positions, evenly, the first and the last included."""
    if n <= MAX_QUERY_WINDOWS:
        return list(range(n))
    return [round(step * (n - 1) / (MAX_QUERY_WINDOWS - 1)) for step in range(MAX_QUERY_WINDOWS)]
