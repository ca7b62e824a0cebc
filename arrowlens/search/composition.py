"""Several texts, pictures and recordings as one question: what to come close to, and what to keep away from.

The question is one vector of length one::

    q = normalised(sum of weight * part over what is wanted - sum of weight * part over what is not)

where each part is a vector of length one: a text's, a picture's, or the mean over a recording's windows. A file's score
is its cosine with q, so that subtracting a part takes its weighted cosine off every file's score. What is wanted weighs
1 unless told otherwise, what is not 0.5: over pictures of two things, "an A and a B" without "a B" then finds pictures
of A alone best, while "an A" without "a B" finds almost what "an A" does (docs/performance.md).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import numpy as np

from arrowlens.errors import InputError
from arrowlens.modalities import MODALITIES, ROLE_OF, Input

PLUS_WEIGHT = 1.0
MINUS_WEIGHT = 0.5
MAX_WEIGHT = 100.0
_PICTURES: tuple[Input, ...] = ("image",)
_SMALLEST = 1e-3  # of the composed vector against its parts: below, what is left is rounding


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A vector with its weight in a question.

    Attributes:
        kind: a text, or what an example shows: a film counts by its shots.
        vector: (d,) float32 of length one; a text's is in the space of what it is compared with.
        weight: below 0 for what to keep away from.
    """

    kind: Literal["text", "image", "audio"]
    vector: np.ndarray
    weight: float = PLUS_WEIGHT


def composed(parts: Sequence[Part], one_space: bool, texts: Collection[Input] = _PICTURES) -> np.ndarray:
    """Return the question's vector, (d,) float32 of length one.

    Args:
        parts: at least one.
        one_space: whether pictures and recordings share a space.
        texts: what texts find. Without one space, vectors of texts lie in the space of the recordings that they are
            composed with, else in that of pictures.

    Raises:
        InputError: the parts lie in different spaces, or cancel one another out.
    """
    kinds = {part.kind for part in parts}
    meet = {"audio", "text"} if "audio" in texts else {"audio"}
    if "audio" in kinds and not one_space and not kinds <= meet:
        others = " and ".join(
            sorted("texts" if kind == "text" else MODALITIES[kind].plural for kind in kinds - {"audio"})
        )
        raise InputError(
            f"recordings and {others} use different embedding spaces in this library; search for them separately"
        )
    total = np.sum([part.weight * part.vector.astype(np.float64) for part in parts], axis=0)
    length = float(np.linalg.norm(total))
    if length <= _SMALLEST * max(abs(part.weight) for part in parts):
        raise InputError("what is wanted and what is not cancel each other out; change a text or a weight")
    unit: np.ndarray = (total / length).astype(np.float32)
    return unit


def reached(
    kinds: Collection[Literal["text"] | Input],
    one_space: bool,
    modality: Input | None = None,
    texts: Collection[Input] = _PICTURES,
) -> tuple[Input, ...]:
    """Return what a question is compared with: pictures and shots, or sound.

    A text is compared with everything that texts find, an example with files of its own modality; a text with an
    example, with everything in the example's space. ``modality`` asks for one only, which may also be another one than
    the example's where both share a space.

    Args:
        kinds: of the question's parts.
        one_space: whether pictures and recordings share a space.
        modality: what is asked for; None for all.
        texts: what texts find.
    """
    asked = set(kinds)
    examples = asked - {"text"}
    shared = {"image", "audio"} if one_space else {"audio"} if "audio" in examples else examples or set(texts)
    own = shared if "text" in asked else asked
    wanted = own if modality is None else shared & {modality}
    return tuple(kind for kind in ROLE_OF if kind in wanted)


def mean_vector(vectors: np.ndarray) -> np.ndarray:
    """Return the mean of (n, d) vectors of windows, (d,) float32 of length one.

    Raises:
        InputError: the windows cancel one another out.
    """
    mean = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).mean(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(mean))
    if length <= _SMALLEST:
        raise InputError("the recording's windows have nothing in common; ask with one of its moments")
    unit: np.ndarray = (mean / length).astype(np.float32)
    return unit


def checked_weights(weights: Mapping[str, float] | None, names: Sequence[str]) -> dict[str, float]:
    """Return the weights by the text or path that they belong to.

    Raises:
        InputError: a weight is not a number above 0 and at most 100, or belongs to no part of the question.
    """
    checked = {}
    for name, weight in (weights or {}).items():
        if name not in names:
            raise InputError(f"a weight is given for {name!r:.60}, which is no part of the question")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= MAX_WEIGHT:
            raise InputError(
                f"the weight of {name!r:.60} is {weight!r:.20}; it is a number above 0, at most {MAX_WEIGHT:g}"
            )
        assert math.isfinite(weight)
        checked[name] = float(weight)
    return checked
