"""``Library``: the Python query API, and the one place where the rooms are put together."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event as StopEvent
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

import numpy as np
from PIL import Image

from arrowlens import ingest
from arrowlens.contents import LibraryContents, Original
from arrowlens.encoders import MultimodalEmbeddingProvider
from arrowlens.errors import InputError, LibraryNotFoundError
from arrowlens.media import MEDIA_SUFFIXES, Limits
from arrowlens.media.decoded import large_bytes
from arrowlens.modalities import Modality
from arrowlens.models import resolve
from arrowlens.query_engine import Serving, bind, model_records, provider_of, remembered_models
from arrowlens.search import Example, Hit, Mode, Query, Results, ViewOptions, as_tuple, make_view
from arrowlens.status import LibraryStatus, SkippedFile
from arrowlens.store import MultimodalStorage, restored
from arrowlens.store.folder import require_usable
from arrowlens.workers.isolated import Isolated, directly

if TYPE_CHECKING:
    from arrowlens.conversion import OnProgress
    from arrowlens.doctor import Finding
    from arrowlens.ingest import IngestEvent, IngestPlan, IngestReport, MigrationReport

__all__ = ["MEDIA_SUFFIXES", "Library", "LibraryStatus", "Original", "SkippedFile"]

DEFAULT_MODELS = "base"  # of a new library

StrPath = str | os.PathLike[str]


class Library(LibraryContents):
    """A folder on disk that remembers pictures and recordings, and finds them again. Open one with ``Library.open``.

    Safe to share between threads: any number may search while one ingests. A context manager.
    """

    def __init__(self, storage: MultimodalStorage, provider: MultimodalEmbeddingProvider, guarded: bool = True) -> None:
        self._guard = Isolated(Limits().max_decode_s, large_bytes(Limits())) if guarded else None
        super().__init__(storage, self._guard or directly)
        self._serving = Serving(storage, provider, self._guard or directly)

    @classmethod
    def open(
        cls,
        path: StrPath,
        models: str | None = None,
        create: bool = False,
        device: str | None = None,
        precision: str = "auto",
        *,
        guarded: bool = True,
        on_progress: OnProgress | None = None,
    ) -> Self:
        """Open a library; make it where there is none, if ``models`` is given or ``create`` is true.

        Args:
            path: the library's folder; ``~`` is expanded.
            models: ``demo``, ``base`` (the default of a new library) or ``clip=DIR,audio=DIR,text=DIR``. A library
                remembers its models: for one that is there, this only has to agree.
            create: whether to make a library where there is none.
            device: torch device; None takes CUDA when there, else the CPU.
            precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``; no part of a library's identity.
            guarded: decode examples, waveforms and spectrograms as ``ingest`` decodes, in processes of their own with
                limits of time and memory, which start with the first such file and end with ``close``. False decodes
                in this process, which a damaged file can then end.
            on_progress: called with each step of downloading and converting ``base`` models.

        Raises:
            LibraryNotFoundError: none there, and none is to be made. LibraryVersionError: a newer Arrowlens wrote it.
            ModelMismatchError: it was made with other models than ``models``. ModelError: its models cannot be had.
        """
        storage: MultimodalStorage | None = None
        try:
            storage = MultimodalStorage(path, create=False)
        except LibraryNotFoundError:
            if models is None and not create:
                raise
            require_usable(Path(path).expanduser().absolute())  # before models are downloaded, or folders made
        remembered = remembered_models(storage.settings) if storage is not None else None
        # Models come first: when they cannot be had, no library is left behind.
        model_set = resolve(models or remembered or DEFAULT_MODELS, on_progress)
        provider = provider_of(model_set, device, precision)
        storage = storage or MultimodalStorage(path, create=True)
        bind(storage, model_records(model_set, provider), named=models is not None)
        return cls(storage, provider, guarded)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files and processes; a library that is used again opens and starts them again."""
        if self._guard is not None:
            self._guard.close()
        self._storage.close()

    @property
    def path(self) -> Path:
        """The library's folder, absolute."""
        return self._storage.path

    @property
    def text_reaches_audio(self) -> bool:
        """Whether ``search`` finds recordings too: the models hold texts and sounds in one space."""
        return self._storage.settings.text_reaches_audio

    # -- asking ---------------------------------------------------------------------------------------------------

    def search(
        self,
        text: str | None = None,
        k: int = 20,
        modality: Modality | None = None,
        *,
        plus: Sequence[str] = (),
        minus: Sequence[str] = (),
        like: Sequence[StrPath | Hit | Example] = (),
        unlike: Sequence[StrPath | Hit | Example] = (),
        weights: Mapping[str, float] | None = None,
        mode: Mode = "auto",
        **view: Unpack[ViewOptions],
    ) -> Results:
        """The ``k`` files nearest to a text: pictures, and recordings where ``text_reaches_audio``.

        Args:
            text: in the language the models know; the demo and base models know English. May be left out where there
                is something else to look for.
            k: how many, from 1 on.
            modality: "image" or "audio" keeps one kind.
            plus: texts to look for as well. minus: texts to keep away from.
            like: files, hits and uploads (``example``) to come close to: pictures, or recordings where they share the
                texts' space. unlike: such to keep away from.
            weights: of parts of the question, by text, path or name; others weigh 1, ``minus`` and ``unlike`` 0.5.
            mode: "vector", "keyword" or "auto", which is both.
            view: ``where`` (conditions such as "width >= 1000", one or several), ``offset`` (results to pass over),
                ``collapse`` (what looks the same once), ``sort`` ("relevance", "date"); see ``arrowlens.search.View``.

        Raises:
            InputError: ``k``, the text, a condition or a weight is unusable, or parts do not meet in one space.
            MediaError: a file cannot be decoded. ModelLoadError: the library has no CLIP model.
        """
        near, far = (
            tuple(map(self._example, as_tuple(examples, name)))
            for examples, name in ((like, "like"), (unlike, "unlike"))
        )
        query = Query(text, as_tuple(plus, "plus"), as_tuple(minus, "minus"), near, weights or {}, modality, mode, far)
        return self._serving.asked(lambda: self._serving.searcher.search(query, make_view(k, **view)))

    def search_many(
        self,
        texts: Sequence[str],
        k: int = 20,
        modality: Modality | None = None,
        *,
        mode: Mode = "auto",
        **view: Unpack[ViewOptions],
    ) -> list[Results]:
        """``search`` for each of many texts, in their order: faster, since the model takes all of them at once.

        ``took_ms`` of each is without that. Half precision may order near-equal files differently than ``search``.

        Raises:
            InputError: as ``search``, for any of them; or one text was given instead of several.
            ModelLoadError: as ``search``.
        """
        if isinstance(texts, str):
            raise InputError("search_many takes several texts; search takes one")
        queries = [Query(text, modality=modality, mode=mode) for text in texts]
        return self._serving.asked(lambda: self._serving.searcher.search_many(queries, make_view(k, **view)))

    def similar(self, path: StrPath, k: int = 20, **view: Unpack[ViewOptions]) -> Results:
        """The ``k`` files that look or sound most like a file, of the same kind as it; ``view`` as for ``search``.

        The file need not be in the library; where its content is, it comes first with a score of 1 within float16's
        precision. Recordings longer than a window are compared window by window (at most 32 of the
        query, evenly spread); the best pair counts.

        Raises:
            MediaError: the file is missing or cannot be decoded; says why. InputError: ``k`` or ``view`` is unusable.
            ModelLoadError: the library has no model for that kind.
        """
        return self._serving.similar(lambda examples: examples.file(path), make_view(k, **view))

    def search_by_upload(self, data: bytes, name: str, k: int = 20, **view: Unpack[ViewOptions]) -> Results:
        """As ``similar``, for a file's bytes. ``name`` is only for messages; nothing is stored.

        Raises:
            MediaError: the bytes cannot be decoded; says why. InputError, ModelLoadError: as ``similar``.
        """
        return self._serving.similar(lambda examples: examples.upload(data, name), make_view(k, **view))

    def similar_to(self, hit: Hit | Example, k: int = 20, **view: Unpack[ViewOptions]) -> Results:
        """The ``k`` files most like one that was found, itself first; by its stored vectors, without reading it.

        Empty when the library no longer holds it. Also takes what ``example`` gives.

        Raises:
            InputError: ``k`` or ``view`` is unusable, or the hit carries no content hash.
        """
        return self._serving.similar(lambda _: self._example(hit), make_view(k, **view))

    def example(self, data: bytes, name: str) -> Example:
        """A file's bytes as a part of questions, encoded once; ``name`` is for messages and weights. Nothing is stored.

        Raises:
            MediaError: the bytes cannot be decoded; says why. ModelLoadError: there is no model for that kind.
        """
        return self._serving.asked(lambda: self._serving.searcher.encode(self._serving.examples.upload(data, name)))

    def search_by_image(self, image: Image.Image, k: int = 20, **view: Unpack[ViewOptions]) -> Results:
        """The ``k`` pictures nearest to a picture in memory, of any mode and size; turned upright, over white.

        Raises:
            InputError: ``k`` or ``view`` is unusable, or no PIL image. MediaError: pixels that are not finite.
            ModelLoadError: the library has no CLIP model.
        """
        return self._serving.similar(lambda examples: examples.picture(image), make_view(k, **view))

    def search_by_audio(self, samples: np.ndarray, rate: int, k: int = 20, **view: Unpack[ViewOptions]) -> Results:
        """The ``k`` recordings nearest to a recording in memory: float32 (n,) mono, at ``rate`` Hz, of any length.

        Raises:
            AudioValidationError: unusable samples or rate. InputError: ``k`` or ``view`` is unusable.
            ModelLoadError: the library has no audio model.
        """
        return self._serving.similar(lambda examples: examples.samples(samples, rate), make_view(k, **view))

    # -- keeping --------------------------------------------------------------------------------------------------

    def ingest(
        self,
        *folders: StrPath,
        on_event: Callable[[IngestEvent], None] | None = None,
        stop: StopEvent | None = None,
        workers: int | None = None,
        prune: bool | None = None,
        retry: bool = False,
        exact: bool = False,
        limits: Limits | None = None,
    ) -> IngestReport:
        """Index everything below folders that is new or has changed, and forget what is gone from them.

        Args:
            folders: with ``~`` expanded.
            on_event: called with the progress, in the order of things, never at the same time from two threads.
            stop: once it is set, the run ends after storing what is encoded; the next run goes on from there.
            workers: how many files are decoded at a time, each in a process of its own; None is one a core.
            prune: False keeps files that are no longer on disk, True removes them. None removes them unless they are
                too many to be removed unasked: more than half of a root's files and at least 20, or more than 1,000.
                Then nothing of that root is removed, and ``held_back`` of the report has the number.
            retry: read files again that could not be read, though they have not changed.
            exact: decode pictures in full: slower, vectors barely differ.
            limits: ``arrowlens.media.Limits``, what a file may be at most, and how long decoding it may take.

        Raises:
            FolderError: a folder is missing or unreadable. LibraryBusyError: another process is writing.
            StorageError: the disk or the database refused. ModelError: a model cannot be loaded.
            WorkerError: no process for decoding can be started.
        """
        options = ingest.IngestOptions(
            workers=workers, prune=prune, retry=retry, exact=exact, limits=limits or Limits()
        )
        paths = [Path(folder).expanduser() for folder in folders]
        report = self._serving.asked(
            lambda: ingest.run(self._storage, self._serving.provider, paths, options, on_event, stop)
        )
        if report.indexed and not (stop is not None and stop.is_set()):
            self._serving.prepare_bank()
        return report

    def migrate(
        self,
        models: str,
        on_event: Callable[[IngestEvent], None] | None = None,
        stop: StopEvent | None = None,
        *,
        workers: int | None = None,
        limits: Limits | None = None,
        on_progress: OnProgress | None = None,
    ) -> MigrationReport:
        """Change the library to other models: encode every file and caption anew, then let the new models serve.

        Searches go on meanwhile, here and in other processes, with the models that the library has; the change is one
        step for all of them. A run that ends early, whatever ends it, loses nothing: the next one goes on from there.
        Files that cannot be read any more leave the results with the change and are among ``skipped()``. Until then
        both sets of vectors are on disk. To give up a change that was begun, migrate to the models that serve.

        Args:
            models: as for ``open``.
            on_event, stop, workers, limits: as for ``ingest``.
            on_progress: called with each step of downloading and converting ``base`` models.

        Raises:
            ModelError: the models cannot be had. ModelMismatchError: they are for other kinds of files than the
            library holds. FolderError: a folder of the library is missing. LibraryBusyError: another process is
            writing. StorageError: the disk or the database refused. WorkerError: as ``ingest``.
        """
        model_set = resolve(models, on_progress)
        provider = provider_of(model_set, self._serving.provider.device, self._serving.provider.precision)
        options = ingest.IngestOptions(workers=workers, limits=limits or Limits())
        records = model_records(model_set, provider)
        report = ingest.migrate(self._storage, provider, records, options, on_event, stop)
        if report.switched:
            self._serving.replace(provider)
            self._serving.prepare_bank()
        return report

    def plan(self, *folders: StrPath, prune: bool | None = None, retry: bool = False) -> IngestPlan:
        """What ``ingest`` would do with folders: counts of files, and the bytes to read. Changes nothing.

        Raises:
            FolderError: a folder is missing or unreadable. StorageError: the database refused.
        """
        return ingest.plan(self._storage, [Path(folder).expanduser() for folder in folders], prune=prune, retry=retry)

    def status(self) -> LibraryStatus:
        """What the library holds and how it works; loads no model."""
        return LibraryStatus.of(
            self.path, self._storage.settings, self._storage.statistics(), self._serving.provider.runtime
        )

    def skipped(self) -> list[SkippedFile]:
        """Files that could not be read, with reasons, by path."""
        return [SkippedFile.of(row) for row in self._storage.skipped().to_pylist()]

    def remove(self, paths: Sequence[StrPath]) -> int:
        """Forget files, and folders with everything below them; the files themselves stay. Returns how many it were.

        The next ingest of their folder finds them again.

        Raises:
            InputError: the library knows nothing at one of the paths; nothing is forgotten then.
            LibraryBusyError, StorageError: another process is writing; the database refused.
        """
        return self._storage.forget([Path(path).expanduser() for path in as_tuple(paths, "paths")])

    def optimize(self) -> None:
        """Compact the library's files and drop what is no longer used; ingesting does this by itself when it pays.

        Raises:
            LibraryBusyError, StorageError: another process is writing; the database refused.
        """
        self._storage.optimize()

    def doctor(self, *, n_vectors: int = 50, n_files: int = 8) -> list[Finding]:
        """Examine the library and change nothing: its searches, tables, models and files, and what to do about each.

        Args:
            n_vectors: stored vectors, of pictures and of recordings, that are searched for by the index and exactly.
            n_files: files that are encoded again and compared with their stored vectors.

        Raises:
            InputError: one of them is below 1. StorageError: the database refused.
        """
        from arrowlens.doctor import Doctor  # deferred: searches need none

        if min(n_vectors, n_files) < 1:
            raise InputError(f"n_vectors is {n_vectors} and n_files {n_files}; each is a number from 1 on")
        return list(Doctor(self._storage, self._serving.provider, self._guard or directly).findings(n_vectors, n_files))

    @staticmethod
    def restore_settings(path: StrPath) -> bool:
        """Put back a lost or damaged ``library.json`` from its copy; returns whether that was needed.

        Raises:
            LibraryNotFoundError: no library there. LibraryBusyError: another process is writing to it.
            StorageError: there is no copy, or the disk refused.
        """
        return restored(path)

    def repair(self) -> None:
        """Restore damaged tables from copies, build indexes anew from rows and missing thumbnails from unchanged files.

        Raises:
            LibraryBusyError, StorageError: another process is writing; the database refused.
        """
        from arrowlens.doctor import Doctor  # deferred: searches need none

        Doctor(self._storage, self._serving.provider, self._guard or directly).repair()

    def _example(self, like: StrPath | Hit | Example) -> Example:
        if isinstance(like, Example):
            return like
        if not isinstance(like, Hit):
            return self._serving.examples.file(like)
        if like.content_hash is None:
            raise InputError(f"{like.path} carries no content hash; use a hit that this library gave, or similar(path)")
        return Example(str(like.path), like.modality, like.content_hash)  # by its stored vectors
