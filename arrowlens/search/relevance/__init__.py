"""How likely a hit is right: its cosine, measured by what scores are in that model when nothing matches.

A cosine alone says little, since its range differs by model, by question and by kind of file; a place within the
library says as little, since the best of 100,000 files is the best whether or not it is right. What scores are without
a match is therefore measured once for each set of models, with what comes with the package: *ordinary questions* (some
400 texts; for pictures and recordings that are asked with, the bundled ones) over a *background* of bundled files. Then

    standing  = (score - middle - (own - middle) / 2) / spread
    relevance = 1 / (1 + exp(-(a * standing + b * log(n) + c)))

where ``middle`` and ``spread`` are the mean and the deviation of the scores of ordinary questions over the background,
``own`` is the mean of this question's scores over it, and n is the number of comparisons, each of which may score high
by chance. A question's own mean counts by half, since in part it is what the question has to do with the background.

For one question relevance rises with the score, whatever else is found; and but for n nothing in it is of one library:
five files are no special case. (a, b, c) were fitted with the demo models (``training/fit_relevance.py``) for each kind
of question and of files, and hold for them alone: ``calibration.py`` calibrates any other model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

MATCHING = 0.5  # relevance from which a hit counts as a match
OWN_SHARE = 0.5  # by which a question's own mean counts; that of a composed one, whose scores lie anywhere, in full
_LEAST_SPREAD = 1e-3

Kind = Literal["text", "image", "audio"]
Weights = tuple[float, float, float]
"""a, b and c of the formula above."""


@dataclass(frozen=True, eq=False)
class ScoreCalibration:
    """What scores are, between questions of one kind and files of one kind, when nothing matches.

    Attributes:
        mean: (d,) float64, of the background's vectors.
        middle, spread: of the scores of ordinary questions over the background.
    """

    mean: np.ndarray
    middle: float
    spread: float

    @classmethod
    def measured(cls, ordinary: np.ndarray, background: np.ndarray, *, same: bool = False) -> Self:
        """Measure a model.

        Args:
            ordinary: (q, d) questions. background: (n, d) files. All of length one; at least two of each.
            same: whether both are the same files: none is compared with itself.
        """
        mean = background.mean(axis=0, dtype=np.float64)
        scores = ordinary.astype(np.float64) @ background.T.astype(np.float64)  # (q, n)
        counts = ~np.eye(len(ordinary), dtype=bool) if same else np.ones(scores.shape, dtype=bool)
        middle = float(scores[counts].mean())
        own = scores.mean(axis=1, where=counts, keepdims=True)
        spread = float((scores - OWN_SHARE * (own - middle))[counts].std())
        return cls(mean, middle, max(spread, _LEAST_SPREAD))

    def standing(self, question: np.ndarray, scores: np.ndarray, *, composed: bool = False) -> np.ndarray:
        """How far scores stand above what is ordinary, in spreads: (k,) float64.

        Args:
            question: (n, d), its vectors. scores: (k,) cosines.
            composed: whether it is made of several parts.
        """
        own = float((question.astype(np.float64) @ self.mean).mean())
        share = 1.0 if composed else OWN_SHARE
        standing: np.ndarray = (scores.astype(np.float64) - self.middle - share * (own - self.middle)) / self.spread
        return standing


def relevance(standing: np.ndarray, n_compared: int, weights: Weights) -> np.ndarray:
    """Relevance of hits, (k,) float64 in [0, 1]; rises with ``standing``.

    Args:
        standing: (k,) as ``ScoreCalibration.standing`` gives it.
        n_compared: pairs of vectors that were compared, at least 1.
    """
    slope, by_number, constant = weights
    logits = slope * standing + by_number * np.log(n_compared) + constant
    found: np.ndarray = 1.0 / (1.0 + np.exp(-np.clip(logits, -500.0, 500.0)))
    return found
