"""Measures that several tests take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arrowlens import Library

EVERYDAY = """footsteps; dog; cat; rain; music; car; bird; door; water; wind; fire; train; phone; bell; clock; baby;
laughter; applause; thunder; engine; guitar; piano; drum; kitchen; horse; cow; sheep; house; tree; flower; bread; apple;
coffee; book; chair; table; bicycle; ship; mountain; child""".replace("\n", " ").split("; ")
"""Forty words of which none is said or heard in the recordings of spoken digits."""


def area(right: Sequence[float] | np.ndarray, wrong: Sequence[float] | np.ndarray) -> float:
    """Under the ROC curve: how often something right stands above something wrong, a draw counting half."""
    return float((np.sign(np.asarray(right)[:, None] - np.asarray(wrong)[None]).mean() + 1) / 2)


def claimed(library: Library, words: Sequence[str]) -> list[str]:
    """Which of the words match something by meaning, as the library says."""
    answers = library.search_many(words, k=1, mode="vector")
    return [word for word, results in zip(words, answers, strict=True) if results.has_match]
