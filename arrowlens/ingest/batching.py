"""Encodes the inputs of many files in batches. An input that cannot be encoded costs only its own file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field

import numpy as np

from arrowlens.errors import InputError
from arrowlens.ingest.prepare import Prepared
from arrowlens.workers.resources import Spent

Encode = Callable[[Sequence[np.ndarray]], np.ndarray]
BATCH = 32
BATCH_OF_A_CORE = 8  # fits its cache: a ViT-B/16 takes 10 % longer for an item with 32
_BATCHES_A_THREAD = 2  # under way, so that a thread finds the next one when it is done
_NO_DIRECTION = "the model gives it a vector without direction"


class ModelFailure(str):
    """A reason that lies with the model or the machine, such as too little memory, and says nothing of the file."""

    __slots__ = ()


@dataclass(eq=False, slots=True)
class Pending:
    """A readable file that is being encoded.

    Attributes:
        prepared: the file, without its inputs.
        vectors: (d,) for each input, filled in by the batches.
        failure: why one of them is missing; a ``ModelFailure`` unless some input was refused for what it holds.
        copies: further files of the same content.
        n_missing: inputs that are not encoded yet.
    """

    prepared: Prepared
    vectors: list[np.ndarray | None]
    failure: str | None = None
    copies: list[Prepared] = field(default_factory=list)

    n_missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.n_missing = len(self.vectors)

    def take(self, index: int, result: np.ndarray | str) -> None:
        """Take the vector of an input, or the reason why it has none."""
        self.n_missing -= 1
        if not isinstance(result, str):
            self.vectors[index] = result
        elif self.failure is None or not isinstance(result, ModelFailure):
            self.failure = result

    @property
    def is_complete(self) -> bool:
        """Whether nothing remains to encode."""
        return self.n_missing == 0


_Batch = list[tuple[Pending, int, np.ndarray]]
_Results = list["np.ndarray | str"]


class Batches:
    """Batches under way in threads. Everything but the encoding itself happens in the thread that calls.

    Args:
        threads: run the batches.
        n_threads: how many they are.
        spent: gets the seconds of all threads in the model, as batches end.
    """

    def __init__(self, threads: Executor, n_threads: int, spent: Spent) -> None:
        self.spent = spent
        self._threads, self._most = threads, _BATCHES_A_THREAD * n_threads
        self._under_way: dict[Future[tuple[_Results, Spent]], list[tuple[Pending, int]]] = {}
        self._complete: list[Pending] = []

    def encode(self, encode: Encode, batch: _Batch) -> None:
        """Begin a batch, once there are not too many under way."""
        while len(self._under_way) >= self._most:
            self._collect(wait(self._under_way, return_when=FIRST_COMPLETED).done)
        future = self._threads.submit(_encode_timed, encode, [value for _, _, value in batch])
        self._under_way[future] = [(pending, index) for pending, index, _ in batch]  # the inputs go when they are done

    def complete(self) -> list[Pending]:
        """Return the files that have become complete since the last call; does not wait.

        Raises:
            RuntimeError: the model does not work.
        """
        self._collect({future for future in self._under_way if future.done()})
        complete, self._complete = self._complete, []
        return complete

    def finish(self) -> None:
        """Wait for all that is under way."""
        self._collect(wait(self._under_way).done)

    def _collect(self, futures: set[Future[tuple[_Results, Spent]]]) -> None:
        for future in futures:
            batch = self._under_way.pop(future)
            results, spent = future.result()
            self.spent.busy += spent.busy
            self.spent.idle += spent.idle
            for (pending, index), result in zip(batch, results, strict=True):
                pending.take(index, result)
            touched = {id(pending): pending for pending, _ in batch}
            self._complete.extend(pending for pending in touched.values() if pending.is_complete)


class Batcher:
    """Collects inputs over files for one model; begins a batch when there are ``size`` of them.

    Args:
        batches: runs the model.
        encode: the model.
        size: inputs of a batch.
        fits: whether an input is encoded with others; one that is not is a batch by itself.
    """

    def __init__(
        self, batches: Batches, encode: Encode, size: int, fits: Callable[[np.ndarray], bool] = lambda _: True
    ) -> None:
        self._batches, self._encode, self._size, self._fits = batches, encode, size, fits
        self._waiting: _Batch = []

    def add(self, pending: Pending, inputs: Sequence[np.ndarray]) -> None:
        """Take a file's inputs; may wait for earlier batches."""
        for index, value in enumerate(inputs):
            if not self._fits(value):
                self._batches.encode(self._encode, [(pending, index, value)])
                continue
            self._waiting.append((pending, index, value))
            if len(self._waiting) == self._size:
                self.flush()
        # A few windows that wait must not keep a long recording in memory, nor one window between long silences.
        self._waiting = [
            (owner, index, value.copy() if owner is pending and value.base is not None else value)
            for owner, index, value in self._waiting
        ]

    def flush(self) -> None:
        """Begin a batch of what is waiting."""
        batch, self._waiting = self._waiting, []
        if batch:
            self._batches.encode(self._encode, batch)


def _encode_timed(encode: Encode, inputs: Sequence[np.ndarray]) -> tuple[_Results, Spent]:
    spent = Spent()
    with spent.timed():
        results = encode_each(encode, inputs)
    return results, spent


def encode_each(encode: Encode, inputs: Sequence[np.ndarray]) -> list[np.ndarray | str]:
    """Encode inputs: a vector for each, or the reason why it has none, a ``ModelFailure`` where the model failed.

    The batch is tried whole; if that fails or gives an unusable vector, the inputs are encoded one by one. One on which
    the model breaks twice, and not because memory ran out, while it works on others is to blame itself.

    Raises:
        RuntimeError: the model works on none of several inputs, and on noise neither: no file should be blamed.
    """
    if (whole := _try(encode, inputs)) is not None:
        return whole
    results = [_one(encode, value) for value in inputs]
    errors = [result for result in results if isinstance(result, RuntimeError)]
    if errors and len(errors) == len(inputs) and isinstance(_one(encode, _noise_like(inputs[0])), RuntimeError):
        if len(inputs) > 1:
            raise errors[0]
        return [_model_failure(errors[0])]
    pairs = zip(inputs, results, strict=True)
    return [_second_time(encode, value) if isinstance(result, RuntimeError) else result for value, result in pairs]


def _one(encode: Encode, value: np.ndarray) -> np.ndarray | str | RuntimeError:
    try:
        vector = np.asarray(encode([value]))[0]
    except InputError as error:
        return f"cannot be encoded: {error}"
    except RuntimeError as error:  # torch's, out of memory included
        return error
    return vector if is_usable(vector) else _NO_DIRECTION


def _second_time(encode: Encode, value: np.ndarray) -> np.ndarray | str:
    result = _one(encode, value)
    if not isinstance(result, RuntimeError):
        return result
    if "memory" in str(result).lower():
        return _model_failure(result)
    return f"the model cannot encode it: {_first_line(result)}"


def _model_failure(error: RuntimeError) -> ModelFailure:
    return ModelFailure(f"the model failed, the next run tries again: {_first_line(error)}")


def _first_line(error: RuntimeError) -> str:
    return str(error).splitlines()[0] if str(error) else "no reason given"


def _noise_like(value: np.ndarray) -> np.ndarray:
    """Return an input of the same shape that no model has trouble with."""
    noise = np.random.default_rng(0).random(value.shape)
    return (255 * noise if value.dtype == np.uint8 else 0.1 * (noise - 0.5)).astype(value.dtype)


def is_usable(vector: np.ndarray) -> bool:
    """Return whether a vector is finite and has a direction."""
    return bool(np.isfinite(vector).all() and np.abs(vector).max(initial=0.0) > 1e-12)


def _try(encode: Encode, inputs: Sequence[np.ndarray]) -> list[np.ndarray | str] | None:
    try:
        vectors = np.asarray(encode(inputs))
    except (InputError, RuntimeError):
        return None  # the inputs are tried one by one then
    return list(vectors) if all(is_usable(vector) for vector in vectors) else None
