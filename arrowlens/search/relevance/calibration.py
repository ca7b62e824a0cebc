"""Relevance for any model: a route is calibrated by what the model itself makes of the bundled files, without labels.

What is alike is known of bundled files: two parts of one file are alike, files of different names are not, and a file
is what its name says. A question is compared with a file by how much closer they are than the question is to the
background, the bundled files on average:

    closeness = log((1 - mean cosine to the background) / (1 - cosine))

That is 0 for what is as far as the background, and grows without end towards the same vector, in spaces of narrow
cosines too. A logistic regression over closeness and the logarithm of the number of comparisons, among which the best
is taken, gives the probability that the best is alike. Its targets are Platt's (1999), so that it has a finite slope
where like and unlike are apart entirely. Nothing is carried over from one model to another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from arrowlens.search.relevance import Weights, relevance

LEAST_AREA = 0.75  # under the ROC curve of like and unlike pairs: below it a model cannot tell them apart
_ROUNDING = 1e-4  # of a cosine of float16 vectors: closer ones count as the same
_STEPS = 50  # of Newton's method, which needs about eight
_RIDGE = 1e-6


@dataclass(frozen=True, eq=False)
class Calibration:
    """What makes relevance of the scores of one route.

    Attributes:
        mean: (d,) float64, of the background's vectors.
        weights: of closeness, of the logarithm of the number of comparisons, and the constant.
    """

    mean: np.ndarray
    weights: Weights
    familiarity: None = None  # it rates files by their scores alone

    @classmethod
    def fitted(
        cls, mean: np.ndarray, questions: np.ndarray, files: np.ndarray, alike: np.ndarray, unlike: np.ndarray
    ) -> Self | None:
        """Calibrate a route; None where the model cannot tell like from unlike, so that nothing is claimed.

        Args:
            mean: (d,) of the background. questions: (q, d). files: (n, d); vectors of length one.
            alike: (q, n) boolean: pairs that are alike, at least one of each question.
            unlike: (q, n) boolean: pairs that are not. Pairs that are neither are left out.
        """
        return cls.of_scores(mean, questions, questions.astype(np.float64) @ files.T.astype(np.float64), alike, unlike)

    @classmethod
    def of_scores(
        cls, mean: np.ndarray, questions: np.ndarray, scores: np.ndarray, alike: np.ndarray, unlike: np.ndarray
    ) -> Self | None:
        """As ``fitted``, by the scores (q, n) of questions (q, d) and files, whatever vectors these have."""
        values = closeness(scores.astype(np.float64), (questions.astype(np.float64) @ mean)[:, None])
        if _area(values[alike], values[unlike]) < LEAST_AREA:
            return None
        slope, by_number, constant = _regression(*_trials(values, alike, unlike))
        return cls(mean, (slope, min(by_number, 0.0), constant)) if slope > 0 else None

    def relevance(
        self,
        question: np.ndarray,
        scores: np.ndarray,
        n_compared: int,
        *,
        composed: bool = False,
    ) -> np.ndarray:
        """Relevance of hits, (k,) float64 in [0, 1]; rises with the score.

        Args:
            question: (n, d), its vectors. scores: (k,) cosines.
            n_compared: pairs of vectors that were compared, at least 1.
            composed: whether it is made of several parts. The same here: a question's own mean counts in full always.
        """
        own = float((question.astype(np.float64) @ self.mean).mean())
        return relevance(closeness(scores.astype(np.float64), own), n_compared, self.weights)

    def of_each(self, questions: np.ndarray, scores: np.ndarray, n_compared: int) -> np.ndarray:
        """Relevance of the best hit of each of many questions, (k,) float64 in [0, 1].

        Args:
            questions: (k, d). scores: (k,), the cosine of each question's best hit.
            n_compared: vectors that each was compared with, at least 1.
        """
        own = questions.astype(np.float64) @ self.mean
        return relevance(closeness(scores.astype(np.float64), own), n_compared, self.weights)


def closeness(scores: np.ndarray, own: np.ndarray | float) -> np.ndarray:
    """How much closer than the background; the shape of ``scores``.

    Args:
        scores: cosines of questions and files. own: each question's mean cosine to the background.
    """
    near = np.maximum(1.0 - scores, 0.0) + _ROUNDING
    ordinary = np.maximum(1.0 - own, 0.0) + _ROUNDING
    result: np.ndarray = np.log(ordinary / near)
    return result


def _trials(values: np.ndarray, alike: np.ndarray, unlike: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ask libraries of 1, 2, 4, ... unlike files, drawn by a fixed seed, what is best in them.

    Returns:
        (m,) closeness of the best, (m,) number of comparisons, (m,) whether it is alike.
    """
    rng = np.random.default_rng(0)
    rows: list[tuple[float, int, bool]] = []
    for row, of_row in enumerate(values):
        others = rng.permutation(of_row[unlike[row]])
        for n in (2**power for power in range(len(others).bit_length())):
            rows.append((of_row[alike[row]].max(), n, True))
            rows.append((rng.choice(others, n, replace=False).max(), n, False))
    best, n_compared, is_alike = (np.array(column) for column in zip(*rows, strict=True))
    return best, n_compared, is_alike


def _regression(best: np.ndarray, n_compared: np.ndarray, is_alike: np.ndarray) -> Weights:
    """Logistic regression with Platt's targets, by Newton's method."""
    features = np.column_stack([best, np.log(n_compared)])
    middle, spread = features.mean(axis=0), features.std(axis=0) + 1e-9
    design = np.column_stack([(features - middle) / spread, np.ones(len(features))])
    n_each = len(np.unique(n_compared))  # a question counts once in Platt's numbers, whatever the sizes
    n_alike, n_unlike = is_alike.sum() / n_each, (~is_alike).sum() / n_each
    targets = np.where(is_alike, (n_alike + 1) / (n_alike + 2), 1 / (n_unlike + 2))
    weights = np.zeros(3)
    for _ in range(_STEPS):
        chances = 1 / (1 + np.exp(-design @ weights))
        curvature = (design * (chances * (1 - chances))[:, None]).T @ design + _RIDGE * len(design) * np.eye(3)
        weights -= np.clip(np.linalg.solve(curvature, design.T @ (chances - targets)), -1, 1)
    slopes = weights[:2] / spread
    return float(slopes[0]), float(slopes[1]), float(weights[2] - slopes @ middle)


def _area(alike: np.ndarray, unlike: np.ndarray) -> float:
    """Under the ROC curve: how often a like pair is closer than an unlike one."""
    below = np.searchsorted(np.sort(unlike), alike, side="left") + np.searchsorted(np.sort(unlike), alike, side="right")
    return float(below.mean() / (2 * len(unlike)))
