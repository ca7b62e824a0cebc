"""Recordings between two seconds of silence, whose vectors must be those of the recordings alone."""

from __future__ import annotations

import numpy as np

from arrowlens.embedding import EmbeddingPlan, embed, prepare
from arrowlens.encoders import MultimodalEmbeddingProvider
from arrowlens.media import Decoded
from tests.support.reference import cosines


def sound(samples: np.ndarray) -> Decoded:
    """A decoded recording, (n,) float32 at 16 kHz."""
    return Decoded("audio", None, samples=samples)


def silent_around(samples: np.ndarray) -> np.ndarray:
    """With two seconds of silence before and after, which do not end where a frame of the model does."""
    return np.pad(samples, (31_871, 32_005))


def assert_silence_changes_nothing(recordings: list[np.ndarray], models: MultimodalEmbeddingProvider) -> None:
    plan = EmbeddingPlan.of(models)
    alone = [embed(prepare(sound(samples), plan), models) for samples in recordings]
    padded = [embed(prepare(sound(silent_around(samples)), plan), models) for samples in recordings]
    assert [len(vectors) for vectors in padded] == [len(vectors) for vectors in alone]
    assert cosines(np.concatenate(padded), np.concatenate(alone)).min() > 0.99
    assert neighbours(padded, alone) == neighbours(alone, alone)


def neighbours(asked: list[np.ndarray], held: list[np.ndarray]) -> list[list[int]]:
    """Of each recording the others, nearest first, by the best pair of windows."""
    scores = np.array([[(a @ b.T).max() for b in held] for a in asked])
    return [[column for column in row if column != asking] for asking, row in enumerate((-scores).argsort(1).tolist())]
