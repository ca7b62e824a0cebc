"""Changes a library to another model set: encodes everything while the old models serve, then switches.

Vectors are made by the same steps as in a run over folders, into tables of their own. What has been encoded stays when
a run ends early, and the next one goes on from there; until the switch, which is one write, nobody sees any of it.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow.compute as pc

from arrowlens.addresses import is_bucket
from arrowlens.embedding import Provider
from arrowlens.errors import FolderError, InputError, MediaError, ModelMismatchError
from arrowlens.ingest.bucket import READS_AT_ONCE, BucketSource, Sources, require_objects
from arrowlens.ingest.diff import Known, Plan
from arrowlens.ingest.engines.local import LocalEngine
from arrowlens.ingest.pipeline import encode_files, keep_texts
from arrowlens.ingest.prepare import Prepared
from arrowlens.ingest.progress import IngestEvent, IngestOptions, Progress
from arrowlens.ingest.source import FolderSource, Source
from arrowlens.ingest.step import Outcome, StepSpec
from arrowlens.ingest.walk import ScannedFile, Walk, resolve_folders, unmounted
from arrowlens.ingest.writer import Writer
from arrowlens.modalities import MEDIA_ROLES, RAW_EXTRA, ROLE_OF, ROLES_OF, Modality, reads_raw, roles_of
from arrowlens.store import INDEXED, SKIPPED, ModelRecord, MultimodalStorage, Root

_COLUMNS = ["media_id", "root_id", "path_bytes", "content_hash", "modality", "state", "real_path", "file_id"]
_COLUMNS += ["sample_rate", "format"]
_CHANGED = "has changed since it was indexed; `arrowlens ingest` reads it again"


@dataclasses.dataclass(frozen=True, slots=True)
class MigrationReport:
    """What a change of models did.

    Attributes:
        encoded: files that got vectors of the new models.
        unchanged: files that had them, from an interrupted run, or since their modality keeps its model.
        captions: captions encoded.
        lost: files that could not be encoded, and so left the results; `arrowlens skipped` names them.
        reasons: how many were lost for which reason, the most frequent first.
        seconds: from start to end.
        switched: whether the new models serve; False when the run was asked to stop before it had come to its end, or
            a bucket refused files or did not answer. Nothing is lost then, and the next run goes on from there.
    """

    encoded: int = 0
    unchanged: int = 0
    captions: int = 0
    lost: int = 0
    reasons: dict[str, int] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    switched: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain values for JSON."""
        return dataclasses.asdict(self)


def migrate(
    storage: MultimodalStorage,
    provider: Provider,
    models: Mapping[str, ModelRecord],
    options: IngestOptions | None = None,
    on_event: Callable[[IngestEvent], None] | None = None,
    stop: threading.Event | None = None,
) -> MigrationReport:
    """Encode everything in the library with other models, and switch to them.

    A file that can no longer be read is recorded with its reason, as one that a run over its folder could not read, and
    leaves the results with the switch. While a bucket refuses a file, or does not answer, there is no switch.

    Args:
        storage: the library; this thread becomes its one writer.
        provider: the new models.
        models: the same, as the library remembers them.
        options: how to work; of them, ``workers``, ``batch_size``, ``commit_every``, ``exact`` and ``limits``.
        on_event: called in this thread with the progress.
        stop: once set, what is decoded is still encoded and written, and the run ends.

    Raises:
        ModelMismatchError: the new set has no model for a kind of file that the library holds.
        FolderError: a folder of the library is missing, or on a disk that is not mounted, or a bucket cannot be
            reached.
        InputError: the library holds raw photographs, and the extra that reads them is not installed. In these cases
            nothing is changed.
        LibraryBusyError: another run is writing.
        ModelLoadError: a model cannot be loaded.
        StorageError: the disk or the database refused.
    """
    options, stop, progress = options or IngestOptions(), stop or threading.Event(), Progress(on_event)
    with storage.writing():
        storage.repair()
        rows = _searchable(storage)
        _check_kinds(rows, models)
        _check_raw(storage, rows, models)
        _check_folders(storage, rows)
        storage.begin_change(models)
        return _Migration(storage, provider, options, progress, stop).run(rows)


class _Migration:
    """One run. Whoever calls it holds the writer lock."""

    def __init__(
        self,
        storage: MultimodalStorage,
        provider: Provider,
        options: IngestOptions,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self._storage, self._new = storage, storage.building()
        self._source = Sources(FolderSource((), storage.path), BucketSource())  # the library says which files there are
        self._provider, self._options = provider, options
        self._progress, self._stop = progress, stop
        self._started = time.perf_counter()

    def run(self, rows: list[_Row]) -> MigrationReport:
        plan, rewriter = self._plan(rows)
        self._progress.total = len(rows)
        for _ in plan.unchanged:
            self._progress.count("unchanged")
        self._progress.emit("index")
        if plan.to_read and not self._stop.is_set():
            engine = LocalEngine(self._options.n_workers, self._progress)
            spec = StepSpec.of(self._new, self._provider, self._source, self._options)
            encode_files(engine, spec, plan, rewriter, self._stop)
        rewriter.commit()
        n_captions = keep_texts(self._new, self._provider, self._stop)
        if self._stop.is_set() or rewriter.n_unreachable:
            return self._report(n_captions, rewriter)
        self._progress.emit("optimize")
        self._storage.optimize(thorough=False)  # with the indexes of the new vectors
        self._lose(rewriter.lost)
        self._storage.finish_change()
        if rewriter.lost:
            self._storage.repair()
            self._storage.optimize(thorough=False)
        self._progress.emit("done")
        return self._report(n_captions, rewriter, switched=True)

    def _plan(self, rows: list[_Row]) -> tuple[Plan, Rewriter]:
        roots = {root.root_id: root for root in self._storage.settings.roots}
        has = {role: self._new.vector_keys(role) for role in MEDIA_ROLES if role in self._new.models}
        plan = Plan()
        with ThreadPoolExecutor(READS_AT_ONCE, "look") as threads:
            files = list(threads.map(lambda row: row.file(roots[row.root_id], self._source), rows))
        for row, file in zip(rows, files, strict=True):
            held = frozenset(role for role, keys in has.items() if (row.media_id, row.content_hash) in keys)
            if held:
                plan.known[row.media_id] = row.known(held)
            (plan.unchanged if held >= row.roles & has.keys() else plan.to_read).append(file)
        contents = {row.media_id: row.content_hash for row in rows}
        return plan, Rewriter(self._new, contents, self._progress, self._options.commit_every)

    def _lose(self, lost: Mapping[str, tuple[str, str | None]]) -> None:
        """Record a file that could not be encoded; the next ingest tries again, unless its content is the cause."""
        rows = self._storage.media(sorted(lost)).drop_columns(["absolute_path"]).to_pylist()
        for row in rows:
            row["state"] = SKIPPED
            row["reason"], row["content_hash"] = lost[row["media_id"]]
        if rows:
            self._storage.upsert_media(rows)

    def _report(self, n_captions: int, rewriter: Rewriter, *, switched: bool = False) -> MigrationReport:
        report = self._progress.report(not switched, Walk(()))
        return MigrationReport(
            encoded=report.indexed,
            unchanged=report.unchanged,
            captions=n_captions,
            lost=len(rewriter.lost),
            reasons=report.reasons,
            seconds=report.seconds,
            switched=switched,
        )


class Rewriter(Writer):
    """Writes vectors only; rows of ``media`` stay as they are.

    Args:
        storage: the library, with the models that are to serve.
        contents: the content hashes of its files, by id.
        progress: is told of each file.
        commit_every: files between two commits at most.

    Attributes:
        lost: files that cannot be encoded, by id; with the reason, and the content hash if the content is at fault.
        n_unreachable: how many of them a bucket refused, or did not answer for.
    """

    def __init__(
        self, storage: MultimodalStorage, contents: Mapping[str, str], progress: Progress, commit_every: int | None
    ) -> None:
        super().__init__(storage, progress, commit_every)
        self._contents = contents
        self._n_readable = 0
        self.lost: dict[str, tuple[str, str | None]] = {}
        self.n_unreachable = 0

    def _execute(self, outcome: Outcome) -> None:
        """Record a file that gets no vectors of the new models."""
        prepared, file = outcome.prepared, outcome.prepared.file
        content = None if prepared.unread else prepared.decoded.content_hash
        self.n_unreachable += prepared.unreachable
        if content is not None and content != self._contents[file.media_id]:
            self._lose(file, _CHANGED, None)
        else:
            self._lose(file, outcome.action.reason or "", content)

    def _lose(self, file: ScannedFile, reason: str, content: str | None) -> None:
        self.lost[file.media_id] = (reason, content)
        self._progress.count("skipped", file.path, reason)

    def _count_readable(self, prepared: Prepared) -> None:
        self._n_readable += 1
        if prepared.decoded.content_hash != self._contents[prepared.file.media_id]:
            self._lose(prepared.file, _CHANGED, None)  # its vectors count for copies of the new content only
        else:
            self._progress.count("indexed", prepared.file.path)

    @property
    def _n_waiting(self) -> int:
        return self._n_readable

    def _write_files(self) -> None:
        if self._n_readable and self._is_on_disk:
            self._storage.optimize_meanwhile()
        self._n_readable = 0


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    """What the library holds of a searchable file."""

    media_id: str
    root_id: str
    path_bytes: bytes
    content_hash: str
    modality: Modality
    real_path: bytes | None
    file_id: str | None
    sample_rate: int | None
    format: str | None

    @property
    def roles(self) -> frozenset[str]:
        """Those that it has vectors of."""
        return frozenset(roles_of(self.modality, has_sound=self.sample_rate is not None))

    def file(self, root: Root, source: Source) -> ScannedFile:
        """Return the file as it is now, at the place where it was read; decoding says what is wrong with it."""
        file = self.scanned(root)
        try:
            return source.look(file)
        except MediaError:
            return file

    def scanned(self, root: Root) -> ScannedFile:
        """Return the file at the place where it was read, without its version."""
        path = root.absolute(self.path_bytes)
        # A row of an earlier layout does not say where its file really lay. Its content is compared, whatever it is.
        is_real = self.file_id is not None or is_bucket(root.path)
        real = self.real_path or (path if is_real else os.path.realpath(path))
        return ScannedFile(path, root, self.path_bytes, self.modality, 0, 0, real_path=real)

    def known(self, roles: frozenset[str]) -> Known:
        """Return what the library holds of a file that has vectors of some of the new models."""
        return Known(
            self.root_id,
            self.path_bytes,
            None,
            None,
            self.content_hash,
            None,
            indexed=True,
            modality=self.modality,
            roles=roles,
        )


def _searchable(storage: MultimodalStorage) -> list[_Row]:
    rows = storage.all_media(_COLUMNS)
    rows = rows.filter(pc.equal(rows["state"], INDEXED)).drop_columns(["state"])
    return [_Row(**row) for row in rows.to_pylist()]


def _check_kinds(rows: list[_Row], models: Mapping[str, ModelRecord]) -> None:
    for modality, roles in ROLES_OF.items():
        n_files = sum(row.modality == modality for row in rows)
        if n_files and not any(role in models for role in roles):
            raise ModelMismatchError(
                f"the library holds {n_files:,} {modality} files and the new set has no {roles[0]} model; name one "
                f"too, as {roles[0]}=DIR, or remove the files from the library"
            )


def _check_raw(storage: MultimodalStorage, rows: list[_Row], models: Mapping[str, ModelRecord]) -> None:
    """Refuse to start without the package that reads the library's raw photographs: they would be lost."""
    if reads_raw() or models.get(ROLE_OF["image"]) == storage.settings.models.get(ROLE_OF["image"]):
        return
    n_files = sum(row.format == "raw" for row in rows)
    if n_files:
        raise InputError(
            f"raw photographs of the library ({n_files:,}) cannot be read; pip install "
            f"'arrowlens[{RAW_EXTRA}]', or remove them from the library; nothing was changed"
        )


def _check_folders(storage: MultimodalStorage, rows: list[_Row]) -> None:
    """Refuse to start while a folder, a disk or a bucket of the library is missing: its files would be lost."""
    settings = storage.settings
    held = {row.root_id for row in rows}
    roots = {root.root_id: root for root in settings.roots if root.root_id in held}
    if not roots:
        return
    folders = [root.path for root in roots.values() if not is_bucket(root.path)]
    if folders:
        resolve_folders(folders, storage.path, settings.mounts)
    for root in roots.values():
        if is_bucket(root.path):
            _check_bucket(root, next(row for row in rows if row.root_id == root.root_id))
    paths = [roots[row.root_id].absolute(row.path_bytes) for row in rows]
    for mount in unmounted(settings.mounts):
        if any(path.startswith(os.fsencode(os.path.join(mount, ""))) for path in paths):  # noqa: PTH118 - bytes
            raise FolderError(f"the disk that was mounted at {mount} is not mounted now; nothing was changed")


def _check_bucket(root: Root, row: _Row) -> None:
    """Look at one object. Where there is none, list the root: keys that may only read cannot do that.

    Raises:
        FolderError: the bucket cannot be reached, or the root is empty.
    """
    source = BucketSource((root.path,))
    try:
        source.look(row.scanned(root))
    except MediaError:
        require_objects(root.path)
