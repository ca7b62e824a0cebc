"""Inputs of many files -> vectors, in batches; an input that cannot be encoded costs only its own file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from arrowlens.errors import InputError
from arrowlens.ingest.prepare import Prepared

if TYPE_CHECKING:
    from arrowlens.encoders import ImageProcessor

Encode = Callable[[Sequence[np.ndarray]], np.ndarray]
_NO_DIRECTION = "the model gives it a vector without direction"


class ModelFailure(str):
    """A reason that lies with the model or the machine, memory that ran out for one, and says nothing of the file."""

    __slots__ = ()


class ImageEncoder(Protocol):
    """What ingest needs of a CLIP engine."""

    @property
    def image_processor(self) -> ImageProcessor:
        """Prepares pictures for ``encode_image``."""

    def encode_image(self, images: np.ndarray, normalize: bool = True) -> np.ndarray:
        """(n, S, S, 3) uint8 -> (n, d)."""


class SoundEncoder(Protocol):
    """What ingest needs of an audio encoder."""

    def encode(self, audio: Sequence[np.ndarray], normalize: bool = True, context: str = "padded") -> np.ndarray:
        """n arrays (n_samples,) -> (n, d)."""


class Provider(Protocol):
    """What ingest needs of a model set: ``MultimodalEmbeddingProvider`` has it."""

    @property
    def clip_engine(self) -> ImageEncoder:
        """Loaded when first asked for."""

    @property
    def audio_encoder(self) -> SoundEncoder:
        """Loaded when first asked for."""

    def has(self, role: str) -> bool:
        """Whether there is a model for a role."""

    def digest(self, role: str) -> str:
        """64 hex characters."""

    def dimension(self, role: str) -> int:
        """Length of the role's vectors."""

    def space(self, role: str) -> str | None:
        """Name of the space that the role shares with others."""


@dataclass(eq=False, slots=True)
class Pending:
    """A readable file on its way to the store.

    Attributes:
        prepared: the file; its inputs are dropped once they are encoded.
        vectors: (d,) for each input, filled in by the batches. failure: why one of them is missing; a
            ``ModelFailure`` unless some input of the file was refused for what it holds.
        copies: further files of the same content, which take its vectors.
    """

    prepared: Prepared
    vectors: list[np.ndarray | None]
    failure: str | None = None
    copies: list[Prepared] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether nothing remains to encode."""
        return self.failure is not None or all(vector is not None for vector in self.vectors)


class Batcher:
    """Collects inputs over files and encodes them ``batch_size`` at a time."""

    def __init__(self, encode: Encode, batch_size: int) -> None:
        self._encode, self._batch_size = encode, batch_size
        self._waiting: list[tuple[Pending, int, np.ndarray]] = []

    def add(self, pending: Pending, inputs: Sequence[np.ndarray]) -> None:
        """Take a file's inputs; encodes whenever a batch is full."""
        for index, value in enumerate(inputs):
            self._waiting.append((pending, index, value))
            if len(self._waiting) >= self._batch_size:
                self.flush()

    def flush(self) -> None:
        """Encode what is waiting."""
        batch, self._waiting = self._waiting, []
        if not batch:
            return
        results = encode_each(self._encode, [value for _, _, value in batch])
        for (pending, index, _), result in zip(batch, results, strict=True):
            if isinstance(result, str):
                if pending.failure is None or not isinstance(result, ModelFailure):
                    pending.failure = result
            else:
                pending.vectors[index] = result


def encode_each(encode: Encode, inputs: Sequence[np.ndarray]) -> list[np.ndarray | str]:
    """A vector for each input, or the reason why it has none: a ``ModelFailure`` where the model itself failed.

    The batch is tried whole; if that fails or gives an unusable vector, the others are encoded one by one.

    Raises:
        RuntimeError: every one of several inputs failed for another reason than being unusable: it is the model that
            does not work, and no file should be blamed.
    """
    if (whole := _try(encode, inputs)) is not None:
        return whole
    results: list[np.ndarray | str] = []
    errors: list[RuntimeError] = []
    for value in inputs:
        try:
            vector = np.asarray(encode([value]))[0]
            results.append(vector if is_usable(vector) else _NO_DIRECTION)
        except InputError as error:
            results.append(f"cannot be encoded: {error}")
        except RuntimeError as error:  # torch's, out of memory included
            errors.append(error)
            cause = str(error).splitlines()[0] if str(error) else "no reason given"
            results.append(ModelFailure(f"the model failed, the next run tries again: {cause}"))
    if len(errors) == len(inputs) > 1:
        raise errors[0]
    return results


def is_usable(vector: np.ndarray) -> bool:
    """Whether a vector is finite and has a direction."""
    return bool(np.isfinite(vector).all() and np.abs(vector).max(initial=0.0) > 1e-12)


def _try(encode: Encode, inputs: Sequence[np.ndarray]) -> list[np.ndarray | str] | None:
    try:
        vectors = np.asarray(encode(inputs))
    except (InputError, RuntimeError):
        return None  # found out below, one by one
    return list(vectors) if all(is_usable(vector) for vector in vectors) else None
