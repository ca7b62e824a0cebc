"""The run: walk, compare, decode ahead in processes, encode in batches, commit, prune."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from arrowlens.embedding import EmbeddingPlan, Provider, encode
from arrowlens.encoders.runtime import EncodingThreads, encoding_threads
from arrowlens.ingest.batching import Batcher, Batches, ModelFailure, Pending, is_usable
from arrowlens.ingest.diff import Action, Plan, compare, content_of, decide, decide_pruning, former_mounts, pair
from arrowlens.ingest.prepare import Prepared, Preparer
from arrowlens.ingest.progress import IngestEvent, IngestOptions, IngestReport, Progress
from arrowlens.ingest.walk import ScannedFile, resolve_folders, walk
from arrowlens.ingest.writer import Committer, Gathering
from arrowlens.media.decoded import Decoded, large_bytes
from arrowlens.modalities import MODALITIES, ROLE_OF, Modality
from arrowlens.store import CAPTION_ROLE, ROLES, ModelRecord, MultimodalStorage
from arrowlens.workers.pool import Workers
from arrowlens.workers.prefetch import ReadAhead
from arrowlens.workers.resources import MemoryWatch, n_cores, proportional_memory, trim_memory

BATCH = 32
BATCH_OF_A_CORE = 8  # what stays in its cache: a ViT-B/16 takes 10 % longer for an item with 32
_TEXTS_AT_ONCE = 128


def run(
    storage: MultimodalStorage,
    provider: Provider,
    folders: Sequence[str | os.PathLike[str]],
    options: IngestOptions | None = None,
    on_event: Callable[[IngestEvent], None] | None = None,
    stop: threading.Event | None = None,
) -> IngestReport:
    """Bring the library up to date with folders.

    Args:
        storage: the library; this thread becomes its one writer.
        provider: its models; a library without any is bound to them.
        folders: walked; each becomes a root of the library unless a root holds it already.
        options: how to work; None takes the defaults.
        on_event: called in this thread with the progress.
        stop: once set, what is decoded is still encoded and written, and the run ends.

    Raises:
        FolderError: a folder is missing or unreadable; nothing was touched.
        LibraryBusyError: another run is writing. ModelMismatchError: the library was made with other models.
        ModelLoadError: a model cannot be loaded. StorageError: the disk or the database refused.
    """
    options, stop = options or IngestOptions(), stop or threading.Event()
    former = former_mounts(storage, storage.settings) if options.prune else ()
    scopes = resolve_folders(folders, storage.path, sorted({*storage.settings.mounts} - {*former}))
    with storage.writing():
        storage.forget_mounts(former)
        storage.bind_models(_models(provider))
        for scope in scopes:
            storage.add_root(scope)
        return _Run(storage, provider, options, Progress(on_event), stop).run(scopes)


class _Run:
    """One run; the writer lock is held around it."""

    def __init__(
        self,
        storage: MultimodalStorage,
        provider: Provider,
        options: IngestOptions,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self._storage, self._provider, self._options = storage, provider, options
        self._progress, self._stop = progress, stop

    def run(self, scopes: tuple[str, ...]) -> IngestReport:
        self._progress.emit("walk")
        started = time.perf_counter()
        n_repaired = self._storage.repair()
        seen = walk(scopes, self._storage.settings, self._storage.path)
        self._storage.add_mounts(seen.mounts)
        plan = compare(self._storage, seen, retry=self._options.retry)
        self._progress.timings["walking"] = time.perf_counter() - started
        self._progress.total = len(seen.files)
        committer = self._index(plan)
        has_written = committer.has_written
        stopped = self._stop.is_set()
        removed = not stopped and self._prune(plan, committer)
        if has_written and not removed:
            self._storage.repair()  # vectors of contents that were replaced
        self._progress.counts["captions"] = keep_captions(self._storage, self._provider, self._stop)
        if has_written or removed or n_repaired or self._storage.needs_optimizing():
            self._progress.emit("optimize")
            self._storage.optimize(thorough=False)
        self._progress.peak_memory = max(self._progress.peak_memory, proportional_memory(os.getpid()))
        self._progress.emit("done")
        return self._progress.report(stopped, seen)

    def _prune(self, plan: Plan, committer: Committer) -> bool:
        """Remove what has left its place, as far as that needs no confirmation; whether there was anything."""
        known = plan.known
        moved = pair(plan.gone, known, content_of, committer.contents)
        superseded = [
            media_id
            for media_id, there in plan.superseded.items()
            if not known[media_id].indexed or there in committer.readable or (there in known and known[there].indexed)
        ]
        pruning = decide_pruning(plan, self._storage.settings.roots, self._options.prune, moved, superseded)
        leaving = [*pruning.removed, *pruning.moved]
        if leaving:
            self._progress.emit("prune")
            self._storage.delete_media(leaving)
        self._progress.counts["removed"], self._progress.counts["moved"] = len(pruning.removed), len(pruning.moved)
        self._progress.held_back = pruning.held_back
        return bool(leaving)

    def _index(self, plan: Plan) -> Committer:
        committer = Committer(self._storage, self._progress, self._options.commit_every)
        for _ in plan.unchanged:
            self._progress.count("unchanged")
        for found in plan.moved_disk:
            committer.record(found)
            committer.commit_if_due()
        for _, reason in plan.still_bad:
            self._progress.count("skipped", reason=reason)
        for found, reason in plan.refused:
            refused = Prepared(found, Decoded(found.modality, reason), unread=True)
            committer.execute(refused, decide(plan.known.get(found.media_id), refused, self._storage.models))
        self._progress.emit("index")
        if plan.to_read and not self._stop.is_set():
            Stream(self._storage, self._provider, self._options, self._progress, committer, plan).run(self._stop)
        committer.commit()
        return committer


class Stream:
    """Files from the decoding processes through the encoders to the committer."""

    def __init__(
        self,
        storage: MultimodalStorage,
        provider: Provider,
        options: IngestOptions,
        progress: Progress,
        committer: Gathering,
        plan: Plan,
    ) -> None:
        self._provider, self._options, self._progress = provider, options, progress
        self._committer, self._plan = committer, plan
        self._models = storage.models
        self._n_left = len(plan.to_read)
        self._pending: dict[str, Pending] = {}  # by content, until it is encoded
        self._batchers: dict[str, Batcher] = {}

    def run(self, stop: threading.Event) -> None:
        """Take all files; once ``stop`` is set, those that are decoded."""
        progress, files, n_workers = self._progress, self._plan.to_read, self._options.n_workers
        progress.n_decoding = min(n_workers, n_cores())
        limits = self._options.limits
        max_bytes = large_bytes(limits, exact=self._options.exact)
        workers = Workers(self._preparer(), limits.max_decode_s, progress.decoding, max_bytes)
        ahead = ReadAhead[ScannedFile, Prepared](
            workers.open, files, n_workers, lambda prepared: prepared.n_bytes, stop
        )
        with MemoryWatch(lambda: workers.pids) as memory, encoding_threads(self._device()) as threads:
            progress.start_reading()
            progress.n_encoding = threads.n
            batches = Batches(threads.pool, threads.n, progress.encoding)
            size = self._batch_size(threads)
            self._batchers = {
                modality: Batcher(batches, partial(self._encode, modality), size) for modality in MODALITIES
            }
            with ahead as results:
                try:
                    self._take_all(results, batches, workers)
                finally:
                    workers.close()
            for batcher in self._batchers.values():
                batcher.flush()
            batches.finish()
            self._hand_over(batches)
            progress.stop_reading()
        progress.peak_memory = memory.peak

    def _preparer(self) -> Preparer:
        options = self._options
        plan = EmbeddingPlan.of(self._provider, exact=options.exact)
        return Preparer(plan, options.limits, concurrent=True)

    def _device(self) -> str:
        return (
            self._provider.clip_engine.device
            if ROLE_OF["image"] in self._models
            else self._provider.audio_encoder.device
        )

    def _batch_size(self, threads: EncodingThreads) -> Callable[[int], int]:
        """Batches get smaller towards the end, so that the threads have done at about the same time."""
        most = self._options.batch_size or (BATCH_OF_A_CORE if threads.on_cpu else BATCH)
        return lambda n_more: max(1, min(most, -(-(self._n_left + n_more) // (2 * threads.n))))

    def _take_all(self, results: Iterator[Prepared], batches: Batches, workers: Workers[ScannedFile, Prepared]) -> None:
        while self._take_next(results, workers):
            self._hand_over(batches)
            if self._committer.commit_if_due():
                trim_memory()

    def _take_next(self, results: Iterator[Prepared], workers: Workers[ScannedFile, Prepared]) -> bool:
        """Take a result, if there is one more; what it holds is let go before the next one is waited for."""
        started = time.perf_counter()
        prepared = next(results, None)
        self._progress.timings["waiting"] += time.perf_counter() - started
        if prepared is None:
            return False
        self._n_left -= 1
        self._take(prepared)
        workers.used(prepared)
        return True

    def _take(self, prepared: Prepared) -> None:
        action = self._decide(prepared)
        if action.writes != "vectors":
            self._committer.execute(prepared, action)
            return
        content, modality = prepared.decoded.content_hash, prepared.decoded.modality
        assert content is not None
        assert modality is not None
        if content in self._pending:
            self._pending[content].copies.append(prepared.bare())
        elif self._plan.contents.get(content) == modality:
            self._committer.copy(prepared)
        else:
            assert prepared.inputs is not None
            segments = prepared.inputs.segments
            self._pending[content] = pending = Pending(prepared.bare(), [None] * len(segments))
            self._batchers[modality].add(pending, segments)

    def _hand_over(self, batches: Batches) -> None:
        """Files whose vectors are complete go on to the committer."""
        for pending in batches.complete():
            content = pending.prepared.decoded.content_hash or ""
            del self._pending[content]
            if pending.failure is None:
                self._committer.index(pending)
                self._plan.contents[content] = pending.prepared.decoded.modality or ""
                continue
            for prepared in (pending.prepared, *pending.copies):
                failed = prepared.failed(pending.failure, unread=isinstance(pending.failure, ModelFailure))
                self._committer.execute(failed, self._decide(failed))

    def _decide(self, prepared: Prepared) -> Action:
        return decide(self._plan.known.get(prepared.found.media_id), prepared, self._models)

    def _encode(self, modality: Modality, segments: Sequence[np.ndarray]) -> np.ndarray:
        return encode(modality, segments, self._provider)


def _models(provider: Provider) -> dict[str, ModelRecord]:
    return {role: ModelRecord.of(provider, role) for role in ROLES if provider.has(role)}


def keep_captions(storage: MultimodalStorage, provider: Provider, stop: threading.Event) -> int:
    """Encode captions that have no vectors yet, and delete vectors of captions that are no more.

    Captions are kept apart from decoding: one that changed is encoded again without its picture, and a library that
    gets a text model later catches up. Does nothing without a text model. Once ``stop`` is set it ends early; the next
    call goes on from there.

    Returns:
        How many captions it encoded; equal ones count each.

    Raises:
        LibraryBusyError, StorageError: as for writing. ModelLoadError: the text model cannot be loaded.
    """
    if CAPTION_ROLE not in storage.models:
        return 0
    wanted = {caption.embedding_id: caption for caption in storage.captions()}
    held = storage.vector_ids(CAPTION_ROLE)
    storage.delete_vectors(CAPTION_ROLE, sorted(held - wanted.keys()))
    missing = [wanted[name] for name in sorted(wanted.keys() - held)]
    for start in range(0, len(missing), _TEXTS_AT_ONCE):
        if stop.is_set():
            return start
        part = missing[start : start + _TEXTS_AT_ONCE]
        texts = sorted({caption.text for caption in part})
        vectors = dict(zip(texts, provider.text_encoder.encode(texts), strict=True))
        rows = [caption.row(vectors[caption.text]) for caption in part]
        storage.upsert_vectors(CAPTION_ROLE, [row for row in rows if is_usable(row.embedding)])
    return len(missing)
