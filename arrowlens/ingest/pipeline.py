"""A run over folders and buckets: walk, compare, encode by an engine, write, prune, read and encode texts."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress

from arrowlens.embedding import Provider
from arrowlens.errors import StorageError
from arrowlens.ingest.batching import is_usable
from arrowlens.ingest.bucket import Sources
from arrowlens.ingest.diff import Plan, compare, content_of, decide, decide_pruning, former_mounts, pair
from arrowlens.ingest.engines import Engine, RayOptions
from arrowlens.ingest.engines.local import LocalEngine
from arrowlens.ingest.known_content import known_outcomes
from arrowlens.ingest.prepare import Prepared
from arrowlens.ingest.progress import IngestEvent, IngestOptions, IngestReport, Progress
from arrowlens.ingest.reading import read_texts
from arrowlens.ingest.source import Source
from arrowlens.ingest.step import Outcome, StepSpec
from arrowlens.ingest.walk import Walk
from arrowlens.ingest.writer import LibraryWriter, Writer
from arrowlens.media.decoded import Decoded
from arrowlens.memory import trim_memory
from arrowlens.store import CAPTION_ROLE, ROLES, ModelRecord, MultimodalStorage
from arrowlens.workers.resources import proportional_memory

_TEXTS_AT_ONCE = 128


def run(
    storage: MultimodalStorage,
    provider: Provider,
    folders: Sequence[str | os.PathLike[str]],
    options: IngestOptions | None = None,
    on_event: Callable[[IngestEvent], None] | None = None,
    stop: threading.Event | None = None,
    engine: Engine | RayOptions | None = None,
) -> IngestReport:
    """Bring the library up to date with folders.

    Args:
        storage: the library; this thread becomes its one writer.
        provider: its models; a library without any is bound to them.
        folders: walked; each becomes a root of the library unless a root holds it already. Prefixes of buckets are
            listed, and manifests read, as of ``bucket.Sources``.
        options: how to work; None takes the defaults.
        on_event: called in this thread with the progress.
        stop: once set, what is decoded is still encoded and written, and the run ends.
        engine: decodes and encodes: a Ray cluster, or another one; None takes this machine's processes and threads.

    Raises:
        FolderError: a folder is missing or unreadable; nothing was touched.
        LibraryBusyError: another run is writing.
        ModelMismatchError: the library was made with other models.
        ModelLoadError: a model cannot be loaded.
        StorageError: the disk or the database refused.
        WorkerError: no process for decoding can be started, or the cluster cannot be used.
    """
    options, stop = options or IngestOptions(), stop or threading.Event()
    former = former_mounts(storage, storage.settings) if options.prune else ()
    mounts = sorted({*storage.settings.mounts} - {*former})
    source = Sources.of(folders, storage.path, mounts, [root.path for root in storage.settings.roots])
    progress = Progress(on_event)
    engine = _engine(engine, options, progress)
    with storage.writing():
        storage.forget_mounts(former)
        storage.bind_models(_models(provider))
        for root in source.roots:
            storage.add_root(root)
        return _Run(storage, provider, source, engine, options, progress, stop).run()


def _engine(engine: Engine | RayOptions | None, options: IngestOptions, progress: Progress) -> Engine:
    if isinstance(engine, RayOptions):
        from arrowlens.ingest.engines.ray import RayEngine  # deferred: needs an extra

        return RayEngine(engine, progress)
    return engine or LocalEngine(options.n_workers, progress)


class _Run:
    """One run. Whoever calls it holds the writer lock."""

    def __init__(
        self,
        storage: MultimodalStorage,
        provider: Provider,
        source: Source,
        engine: Engine,
        options: IngestOptions,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self._storage, self._provider, self._source = storage, provider, source
        self._engine, self._options = engine, options
        self._progress, self._stop = progress, stop

    def run(self) -> IngestReport:
        self._progress.emit("walk")
        started = time.perf_counter()
        n_repaired = self._storage.repair()
        seen = self._source.walk(self._storage.settings)
        self._storage.add_mounts(seen.mounts)
        plan = compare(self._storage, seen, retry=self._options.retry)
        self._progress.timings["walking"] = time.perf_counter() - started
        self._progress.total = len(seen.files)
        writer = self._index(plan)
        has_written = writer.has_written
        stopped = self._stop.is_set()
        removed = not stopped and self._prune(plan, writer)
        if has_written and not removed:
            self._storage.repair()  # vectors of contents that were replaced
        self._progress.counts["captions"] = keep_texts(self._storage, self._provider, self._stop)
        if has_written or removed or n_repaired or self._storage.needs_optimizing():
            self._progress.emit("optimize")
            self._storage.optimize(thorough=False)
        self._read_texts(seen)
        self._progress.peak_memory = max(self._progress.peak_memory, proportional_memory(os.getpid()))
        self._progress.emit("done")
        return self._progress.report(stopped or (bool(self._options.readers) and self._stop.is_set()), seen)

    def _read_texts(self, seen: Walk) -> None:
        """Read texts where that was asked for; the pictures and recordings are found by now."""
        n_read = 0
        for reader in self._options.readers:
            n = read_texts(self._storage, self._source, seen.files, reader, self._options, self._progress, self._stop)
            self._progress.texts_read[reader.source] += n
            n_read += n
        if n_read:
            self._progress.counts["captions"] += keep_texts(self._storage, self._provider, self._stop)
            self._storage.optimize(thorough=False)

    def _prune(self, plan: Plan, writer: LibraryWriter) -> bool:
        """Remove files that are gone, as far as that needs no confirmation; return whether there were any."""
        known = plan.known
        moved = pair(plan.gone, known, content_of, writer.contents)
        superseded = [
            media_id
            for media_id, there in plan.superseded.items()
            if not known[media_id].indexed or there in writer.readable or (there in known and known[there].indexed)
        ]
        pruning = decide_pruning(plan, self._storage.settings.roots, self._options.prune, moved, superseded)
        leaving = [*pruning.removed, *pruning.moved]
        if leaving:
            self._progress.emit("prune")
            self._storage.delete_media(leaving)
        self._progress.counts["removed"], self._progress.counts["moved"] = len(pruning.removed), len(pruning.moved)
        self._progress.held_back = pruning.held_back
        return bool(leaving)

    def _index(self, plan: Plan) -> LibraryWriter:
        """Write what becomes of the files that the walk saw."""
        writer = LibraryWriter(self._storage, self._progress, self._options.commit_every)
        for _ in plan.unchanged:
            self._progress.count("unchanged")
        for file in plan.moved_disk:
            writer.record(file)
            writer.commit_if_due()
        for _, reason in plan.still_bad:
            self._progress.count("skipped", reason=reason)
        spec = StepSpec.of(self._storage, self._provider, self._source, self._options)
        for file in plan.refused:
            refused = Prepared(file, Decoded(file.modality, None), unread=True)
            writer.execute(Outcome(refused, decide(plan.known.get(file.media_id), refused, spec.roles)))
        self._progress.emit("index")
        plan = self._write_known_contents(spec, plan, writer)
        if plan.to_read and not self._stop.is_set():
            try:
                encode_files(self._engine, spec, plan, writer, self._stop)
            except Exception:
                with suppress(StorageError):  # what was encoded is not lost with what failed
                    writer.commit()
                raise
        writer.commit()
        return writer

    def _write_known_contents(self, spec: StepSpec, plan: Plan, writer: LibraryWriter) -> Plan:
        """Write files whose content the library holds at another place; return the plan without them."""
        written, replaced = set(), {file.media_id for file in plan.to_read}
        for outcomes in known_outcomes(self._storage, spec, plan.to_read, plan.known, self._stop):
            for outcome in outcomes:
                writer.execute(outcome)
                written.add(outcome.prepared.file.media_id)
            writer.commit_if_due()
        return dataclasses.replace(
            plan,
            to_read=[file for file in plan.to_read if file.media_id not in written],
            known={
                media_id: dataclasses.replace(row, is_read_anew=media_id in replaced)
                for media_id, row in plan.known.items()
            },
        )


def encode_files(engine: Engine, spec: StepSpec, plan: Plan, writer: Writer, stop: threading.Event) -> None:
    """Have an engine encode the files of a plan, and the writer write what becomes of them.

    Args:
        engine: does the work.
        spec: what outcomes depend on.
        plan: its ``to_read`` are the files, its ``known`` is what the library holds.
        writer: is asked to write whenever it is due; its last commit is the caller's.
        stop: once it is set, what is decoded is still encoded and written.

    Raises:
        StorageError: the disk or the database refused. Others as ``Engine.outcomes``.
    """
    done: set[str] = set()
    with closing(engine.outcomes(spec, plan.to_read, plan.known, stop)) as stream:
        for outcomes in stream:
            for outcome in outcomes:
                media_id = outcome.prepared.file.media_id
                if media_id not in done:  # engines may give one twice
                    done.add(media_id)
                    writer.execute(outcome)
            if writer.commit_if_due():
                trim_memory()


def _models(provider: Provider) -> dict[str, ModelRecord]:
    return {role: ModelRecord.of(provider, role) for role in ROLES if provider.has(role)}


def keep_texts(storage: MultimodalStorage, provider: Provider, stop: threading.Event) -> int:
    """Encode texts without vectors, and delete the vectors of texts that are gone.

    Texts are kept apart from decoding: one that changed is encoded again without its picture, and a library that gets a
    text model later catches up. Does nothing without a text model. Once ``stop`` is set it ends early; the next call
    goes on from there.

    Returns:
        How many texts it encoded; equal ones count each.

    Raises:
        LibraryBusyError, StorageError: as for writing.
        ModelLoadError: the text model cannot be loaded.
    """
    if CAPTION_ROLE not in storage.models:
        return 0
    wanted = {text.embedding_id: text for text in storage.file_texts()}
    held = storage.vector_ids(CAPTION_ROLE)
    storage.delete_vectors(CAPTION_ROLE, sorted(held - wanted.keys()))
    missing = [wanted[name] for name in sorted(wanted.keys() - held)]
    for start in range(0, len(missing), _TEXTS_AT_ONCE):
        if stop.is_set():
            return start
        part = missing[start : start + _TEXTS_AT_ONCE]
        texts = sorted({each.text.text for each in part})
        vectors = dict(zip(texts, provider.text_encoder.encode(texts), strict=True))
        rows = [each.row(vectors[each.text.text]) for each in part]
        storage.upsert_vectors(CAPTION_ROLE, [row for row in rows if is_usable(row.embedding)])
    return len(missing)
