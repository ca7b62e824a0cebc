"""Measures that several tests take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def area(right: Sequence[float] | np.ndarray, wrong: Sequence[float] | np.ndarray) -> float:
    """Under the ROC curve: how often something right stands above something wrong, a draw counting half."""
    return float((np.sign(np.asarray(right)[:, None] - np.asarray(wrong)[None]).mean() + 1) / 2)
