"""Measures how well two sets of vectors agree."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from arrowlens.errors import InputError, QualityError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Agreement:
    """Cosines between our vectors and the reference's, row by row."""

    average: float
    minimum: float


def validate_embedding_precision(
    our_embeddings: np.ndarray, reference_embeddings: np.ndarray, threshold: float = 0.95, model_name: str = "model"
) -> Agreement:
    """Compare vectors with a reference's, row by row, by their cosines.

    Args:
        our_embeddings: (n, dimension).
        reference_embeddings: (n, dimension).
        threshold: the average cosine must be above it.
        model_name: for messages.

    Returns:
        The average and the lowest cosine.

    Raises:
        InputError: the shapes differ, or there is nothing to compare.
        QualityError: the average is not above the threshold, or a vector is zero or not finite.
    """
    ours, reference = np.asarray(our_embeddings, np.float64), np.asarray(reference_embeddings, np.float64)
    if ours.shape != reference.shape or ours.ndim != 2 or not len(ours):
        raise InputError(f"want two arrays of one shape (n, dimension), got {ours.shape} and {reference.shape}")
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(reference, axis=1)
    if not (np.isfinite(lengths).all() and lengths.min() > 0):
        raise QualityError(f"{model_name}: a vector is zero or not finite; convert the model again")
    cosines = (ours * reference).sum(axis=1) / lengths
    agreement = Agreement(float(cosines.mean()), float(cosines.min()))
    logger.info("%s: cosine %.6f on average, %.6f at least", model_name, agreement.average, agreement.minimum)
    if agreement.average <= threshold:
        raise QualityError(
            f"{model_name}: average cosine {agreement.average:.4f} against the reference is not above {threshold}; "
            "the model is not converted or loaded correctly"
        )
    if agreement.minimum <= threshold:
        logger.warning("%s: lowest cosine %.4f is not above %s", model_name, agreement.minimum, threshold)
    return agreement
