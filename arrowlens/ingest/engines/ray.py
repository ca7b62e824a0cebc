"""The engine of a Ray cluster: one step on each node decodes and encodes; this process alone writes. Needs ``ray``.

Files go to the nodes in chunks, and outcomes without pixels come back. Each worker has two chunks at most, so that it
decodes one while the last batch of the other is encoded, and whatever is slow, the nodes, the writer or a bucket, holds
back the rest. What is under way when this process dies is lost, and no more: workers end with it, and the next run asks
the library what it has.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Event as StopEvent
from typing import Any

from arrowlens.encoders import MultimodalEmbeddingProvider
from arrowlens.encoders.model_directory import install_model, model_files
from arrowlens.errors import WorkerError
from arrowlens.ingest.diff import Known, decide
from arrowlens.ingest.engines import RayOptions
from arrowlens.ingest.prepare import Prepared
from arrowlens.ingest.progress import Progress
from arrowlens.ingest.step import EncodeStep, Outcome, StepSpec
from arrowlens.ingest.walk import ScannedFile
from arrowlens.media import Decoded
from arrowlens.media.decoded import large_bytes
from arrowlens.workers.isolated import Isolated
from arrowlens.workers.resources import Spent

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as error:
    raise WorkerError("--engine ray needs Ray; install it with: pip install 'arrowlens[ray]'") from error

CHUNK = 64  # files; Ray takes 1 to 3 ms for a chunk, whatever is in it
_CHUNK_BYTES = 256 * 1024**2  # of its files; a film is a chunk by itself
_CHUNKS_A_WORKER = 2
_ATTEMPTS = 3  # of a chunk, and of starting workers
_MOST_ALIKE = 64  # known files of a size that are sent with a chunk
_TICK_S = 0.25
_NODE_DIED = "its node has died"  # Ray has no other sign of it
_START_LIMIT_S = 300.0  # without a worker; a node that is gone is noticed after some 35 s


@dataclasses.dataclass(frozen=True, slots=True)
class _Costs:
    """What a worker has spent since it started."""

    decoding: Spent
    encoding: Spent


class _Worker:
    """A step on a node, with its models and its decoding processes. Ray makes an actor of it.

    Args:
        spec: what outcomes depend on, with models as this node finds them.
        models: the files of each role's model by their digest, to be taken where this node does not have them.
        n_processes: that decode.
    """

    def __init__(self, spec: StepSpec, models: Mapping[str, tuple[str, Any]], n_processes: int) -> None:
        self._spec, self._models, self._n_processes = spec, models, n_processes
        self._open = ExitStack()
        self._step: EncodeStep | None = None

    def start(self) -> str:
        """Make the step ready, and return the name of the node.

        Raises:
            ModelLoadError: a model cannot be loaded.
        """
        from arrowlens.encoders.runtime import encoding_threads  # deferred: torch; the driver does not encode

        spec = dataclasses.replace(self._spec, models=with_local_models(self._spec.models, self._models, ray.get))
        limits = spec.limits
        max_bytes = large_bytes(limits, exact=spec.exact, sample_rate=spec.models.recipe.sample_rate)
        isolated = Isolated(limits.max_decode_s, max_bytes, self._n_processes)
        threads = self._open.enter_context(encoding_threads(spec.device))
        self._step = EncodeStep(spec, isolated, threads, self._n_processes)
        node: str = ray.get_runtime_context().get_node_id()
        return node

    def encode(self, files: Sequence[ScannedFile], known: Mapping[str, Known]) -> tuple[list[Outcome], _Costs]:
        """Return the outcomes of files, as of ``EncodeStep``, and what all since ``start`` took."""
        assert self._step is not None
        outcomes = self._step(files, known)
        return outcomes, _Costs(self._step.decoding, self._step.encoding)


def with_local_models(models: Any, files: Mapping[str, tuple[str, Any]], get: Any) -> Any:  # noqa: ANN401 - a provider
    """Return models that load from directories of this machine: the named ones, or copies in the cache folder.

    Args:
        models: a provider; another one than ``MultimodalEmbeddingProvider`` travels by itself.
        files: for each role the model's digest, and what ``get`` turns into its files, as of ``install_model``.
        get: fetches the files.

    Raises:
        ModelLoadError: a model cannot be written here.
    """
    if not isinstance(models, MultimodalEmbeddingProvider):
        return models
    paths = {role: install_model(models.path(role), digest, partial(get, ref)) for role, (digest, ref) in files.items()}
    return models.elsewhere(paths, models.device, models.precision)


@dataclasses.dataclass(slots=True, eq=False)
class _Chunk:
    """Files that are encoded together; ``n_lost`` workers died over them."""

    files: Sequence[ScannedFile]
    n_lost: int = 0

    def again(self, reason: str) -> list[_Chunk]:
        """Return what is to be tried after a worker died: the same, or its halves; nothing for a file alone."""
        self.n_lost += 1
        if self.n_lost < _ATTEMPTS:
            return [self]
        middle = len(self.files) // 2
        return [_Chunk(self.files[:middle]), _Chunk(self.files[middle:])] if middle else []


class RayEngine:
    """Decodes and encodes on the nodes of a Ray cluster.

    Args:
        options: which cluster, and how much of it.
        progress: gets the seconds that the work takes, and the number of nodes.
    """

    def __init__(self, options: RayOptions, progress: Progress) -> None:
        self._options, self._progress = options, progress

    def outcomes(
        self, spec: StepSpec, files: Sequence[ScannedFile], known: Mapping[str, Known], stop: StopEvent
    ) -> Generator[list[Outcome], None, None]:
        """Yield the outcomes of files, as of ``Engine``; a list for each chunk.

        A chunk whose worker dies is tried three times, then its halves are; a file over which three workers died when
        it was alone is skipped with that reason, and tried again by the next run.

        Raises:
            WorkerError: the cluster cannot be reached, has no room, or its workers die before they begin.
            Others as ``Engine``.
        """
        with _connected(self._options.address):
            crew = _Crew(spec, self._options, self._progress)
            try:
                yield from self._run(crew, spec, files, _Contents(known), stop)
            finally:
                crew.close()
        self._progress.stop_reading()

    def _run(
        self, crew: _Crew, spec: StepSpec, files: Sequence[ScannedFile], contents: _Contents, stop: StopEvent
    ) -> Iterator[list[Outcome]]:
        size = min(CHUNK, max(1, -(-len(files) // (_CHUNKS_A_WORKER * crew.n_workers))))
        chunks = deque(_Chunk(part) for part in split(files, size))
        while crew.n_under_way or (chunks and not stop.is_set()):
            while chunks and not stop.is_set() and crew.has_room:
                crew.begin(chunk := chunks.popleft(), contents.of(chunk.files))
            for chunk, result in crew.wait():
                if not isinstance(result, str):
                    yield result
                    continue
                again = chunk.again(result)
                chunks.extend(again)
                if not again:
                    yield [_lost(chunk.files[0], result, contents.known, spec)]
            yield []  # so that the caller can look at the clock


class _Contents:
    """Finds what a chunk has to know of the library: of its own files, and of files that they may be copies of."""

    def __init__(self, known: Mapping[str, Known]) -> None:
        self.known = known
        self._by_size: dict[int | None, list[str]] = {}
        for media_id, row in known.items():
            if row.indexed:
                self._by_size.setdefault(row.size, []).append(media_id)

    def of(self, files: Sequence[ScannedFile]) -> dict[str, Known]:
        """Return the rows by media id; equal contents have equal sizes.

        Where very many files have one size, as uncompressed pictures of a camera do, copies are encoded again.
        """
        own = {file.media_id for file in files}
        of_a_size = (self._by_size.get(size, ()) for size in {file.size for file in files})
        alike = {media_id for media_ids in of_a_size if len(media_ids) <= _MOST_ALIKE for media_id in media_ids}
        return {media_id: self.known[media_id] for media_id in own | alike if media_id in self.known}


class _Crew:
    """The workers of a run on the cluster, those that start included. One that died is replaced."""

    def __init__(self, spec: StepSpec, options: RayOptions, progress: Progress) -> None:
        self._progress = progress
        self.n_workers, n_cpus = shares(_nodes(), options)
        self._n_processes = max(1, int(n_cpus))
        models = spec.models
        self._models: dict[str, tuple[str, Any]] = {}
        if isinstance(models, MultimodalEmbeddingProvider):
            for role in sorted(spec.roles & {*models.roles} - {"text"}):
                self._models[role] = (models.digest(role), ray.put(model_files(models.path(role))))
            models = models.elsewhere({}, None if options.num_gpus else "cpu", models.runtime.precision)
        self._spec = dataclasses.replace(spec, models=models)
        self._actor = ray.remote(_Worker).options(
            num_cpus=n_cpus,
            num_gpus=options.num_gpus,
            max_concurrency=_CHUNKS_A_WORKER,
            scheduling_strategy="SPREAD",
        )
        progress.n_decoding = progress.n_encoding = self.n_workers * self._n_processes
        self._starting: dict[Any, Any] = {}  # what start() will give -> worker
        self._room: dict[Any, int] = {}  # worker -> chunks that it can take
        self._node_of: dict[Any, str] = {}
        self._under_way: dict[Any, tuple[Any, _Chunk]] = {}
        self._costs: dict[Any, _Costs] = {}
        self._n_failed_starts = 0
        self._idle_since = time.monotonic()
        self._has_begun = False
        for _ in range(self.n_workers):
            self._start()

    @property
    def n_under_way(self) -> int:
        """Chunks that workers have."""
        return len(self._under_way)

    @property
    def has_room(self) -> bool:
        """Whether a worker can take a chunk."""
        return any(self._room.values())

    def begin(self, chunk: _Chunk, known: Mapping[str, Known]) -> None:
        """Give a chunk to the worker that has least to do."""
        worker = max(self._room, key=lambda worker: self._room[worker])
        self._room[worker] -= 1
        self._under_way[worker.encode.remote(chunk.files, known)] = (worker, chunk)

    def wait(self) -> list[tuple[_Chunk, list[Outcome] | str]]:
        """Wait a moment for chunks: the outcomes of each that is done, or the reason why its worker died over it.

        Raises:
            WorkerError: no worker starts. Others as ``Engine``.
        """
        done, _ = ray.wait([*self._under_way, *self._starting], num_returns=1, timeout=_TICK_S)
        results: list[tuple[_Chunk, list[Outcome] | str]] = []
        for ref in done:
            if ref in self._starting:
                self._welcome(ref)
            else:
                worker, chunk = self._under_way.pop(ref)
                results.append((chunk, self._take(ref, worker)))
        if self._room:
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since > _START_LIMIT_S:
            raise WorkerError(
                f"no node of the Ray cluster had room for a worker within {_START_LIMIT_S:.0f} s; end other jobs, or "
                "use a smaller --num-gpus or a larger --concurrency"
            )
        return results

    def close(self) -> None:
        """End all workers; what they are at is dropped."""
        for worker in [*self._room, *self._starting.values()]:
            ray.kill(worker)

    def _start(self) -> None:
        worker: Any = self._actor.remote(self._spec, self._models, self._n_processes)
        self._starting[worker.start.remote()] = worker

    def _welcome(self, ref: Any) -> None:  # noqa: ANN401 - Ray's
        worker = self._starting.pop(ref)
        try:
            self._node_of[worker] = ray.get(ref)
        except RayTaskError as error:
            raise _cause(error) from error
        except RayError as error:
            self._n_failed_starts += _NODE_DIED not in str(error)  # its node's end says nothing of the worker
            if self._n_failed_starts >= _ATTEMPTS:
                raise WorkerError(f"workers on Ray do not start: {_first_line(error)}; see Ray's logs") from error
            self._start()
            return
        self._n_failed_starts = 0
        if not self._has_begun:
            self._has_begun = True
            self._progress.start_reading()  # the start of workers is no part of the rate
        self._room[worker] = _CHUNKS_A_WORKER
        self._progress.n_nodes = len({*self._node_of.values()})

    def _take(self, ref: Any, worker: Any) -> list[Outcome] | str:  # noqa: ANN401 - Ray's
        try:
            outcomes, costs = ray.get(ref)
        except RayTaskError as error:
            raise _cause(error) from error
        except RayError as error:  # the worker is gone, or its node with what it had answered
            if worker in self._room:
                del self._room[worker], self._node_of[worker]
                ray.kill(worker)
                self._progress.n_nodes = len({*self._node_of.values()})
                self._start()
            return _first_line(error)
        if worker in self._room:
            self._room[worker] += 1
        self._costs[worker] = costs
        for total, name in ((self._progress.decoding, "decoding"), (self._progress.encoding, "encoding")):
            spent = [getattr(each, name) for each in self._costs.values()]
            total.busy, total.idle = sum(each.busy for each in spent), sum(each.idle for each in spent)
        return list(outcomes)


def split(files: Sequence[ScannedFile], size: int) -> Iterator[Sequence[ScannedFile]]:
    """Yield files in their order, in parts of ``size`` files or 256 MB at most; a film alone.

    Files are what takes the time of small ones, and bytes that of large ones. A file of more bytes is a part by itself.
    """
    part: list[ScannedFile] = []
    n_bytes = 0
    for file in files:
        n_more = _CHUNK_BYTES if file.modality == "video" else max(1, file.size or 0)
        if part and (len(part) == size or n_bytes + n_more > _CHUNK_BYTES):
            yield part
            part, n_bytes = [], 0
        part.append(file)
        n_bytes += n_more
    if part:
        yield part


def shares(nodes: Sequence[Mapping[str, float]], options: RayOptions) -> tuple[int, int]:
    """Return how many workers a cluster gets, and how many CPUs each of them.

    Without ``concurrency`` it is one worker for each node of equal nodes, or for each GPU (``num_gpus`` of them); with
    it, that many, with equal shares of the CPUs.

    Args:
        nodes: the resources of each, by Ray's names.
        options: of the run.

    Raises:
        WorkerError: no node has what a worker needs.
    """
    nodes = [node for node in nodes if node.get("CPU", 0) >= 1 and node.get("GPU", 0) >= options.num_gpus]
    if not nodes:
        needs = f"a CPU and {options.num_gpus:g} GPUs" if options.num_gpus else "a CPU"
        raise WorkerError(f"no node of the Ray cluster has {needs}; add one, or change --num-gpus")
    cpus = [int(node["CPU"]) for node in nodes]
    if options.concurrency is not None:
        n_workers = options.concurrency
    elif options.num_gpus:
        n_workers = sum(int(node["GPU"] / options.num_gpus) for node in nodes)
    else:
        return sum(n // min(cpus) for n in cpus), min(cpus)
    n_cpus = next((n for n in range(max(cpus), 0, -1) if sum(each // n for each in cpus) >= n_workers), 1)
    return n_workers, n_cpus


def _nodes() -> list[Mapping[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster, unless this process has; without an address, and none in RAY_ADDRESS, start one here.

    Raises:
        WorkerError: there is no cluster.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a cluster that is started here
    where = address or os.environ.get("RAY_ADDRESS")
    here: dict[str, Any] = {} if where else {"include_dashboard": False}
    try:
        ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR, **here)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise WorkerError(
            f"the Ray cluster at {where or 'this machine'} cannot be used ({_first_line(error)}); start one with "
            "`ray start --head` and name it with --address"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _lost(file: ScannedFile, reason: str, known: Mapping[str, Known], spec: StepSpec) -> Outcome:
    told = f"{_ATTEMPTS} workers died over it ({reason}); the next run tries again"
    prepared = Prepared(file, Decoded(file.modality, told, None, file.size or 0), unread=True)
    return Outcome(prepared, decide(known.get(file.media_id), prepared, spec.roles))


def _cause(error: RayTaskError) -> BaseException:
    """Return what a worker raised."""
    cause = error.cause
    return cause if isinstance(cause, Exception) else RuntimeError(_first_line(error))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip().rstrip(".:") if lines else type(error).__name__
