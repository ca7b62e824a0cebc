"""``Library``: the Python query API, and the one place where the rooms are put together."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from threading import Event as StopEvent
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from PIL import Image

from arrowlens import ingest
from arrowlens.addresses import absolute, as_path, is_bucket, local_path, scheme_of
from arrowlens.deprecation import renamed_method, renamed_property, warn_renamed
from arrowlens.embedding import Example
from arrowlens.encoders import MultimodalEmbeddingProvider
from arrowlens.encoders.model_directory import cache_directory
from arrowlens.errors import InputError, LibraryNotFoundError, MediaError
from arrowlens.library_status import FolderStatus, LibraryStatus, SkippedFile
from arrowlens.media import MEDIA_SUFFIXES, Limits
from arrowlens.media.decoded import large_bytes
from arrowlens.modalities import Modality, TextSource
from arrowlens.models import resolve, speech_model
from arrowlens.originals import Original, OriginalFile
from arrowlens.query_engine import (
    ExampleLike,
    QueryEngine,
    StrPath,
    bind,
    model_records,
    provider_of,
    remembered_models,
)
from arrowlens.search import (
    KINDS,
    DuplicateKind,
    Duplicates,
    EmbeddingMap,
    Hit,
    Member,
    Mode,
    Query,
    Results,
    View,
    as_tuple,
    complete_fingerprints,
    draw_map,
    find_duplicates,
    listing,
    parse,
    printable,
)
from arrowlens.search.query import Sort
from arrowlens.search.where import Where, to_store_filters
from arrowlens.store import FACETS, WRITTEN, MediaText, MultimodalStorage, restored, strip_key
from arrowlens.store.location import location_at
from arrowlens.texts import TextReader, installed_version
from arrowlens.workers.isolated import Isolated, directly

if TYPE_CHECKING:
    from arrowlens.conversion import OnProgress
    from arrowlens.doctor import Finding
    from arrowlens.encoders import Runtime
    from arrowlens.evaluation import Evaluation
    from arrowlens.ingest import IngestEvent, IngestPlan, IngestReport, MigrationReport
    from arrowlens.store import Facets
    from arrowlens.store.replica import Replica

__all__ = ["MEDIA_SUFFIXES", "FolderStatus", "Library", "LibraryStatus", "Original", "SkippedFile"]

DEFAULT_MODELS = "base"  # of a new library
DEFAULT_SPEECH_MODEL = "base"
EngineName = Literal["local", "ray"]
_REPLICA_CHECK_S = 5.0  # how long what is copied of a library in a bucket passes for its newest state


class Library:
    """Remembers pictures and recordings, and finds them again. Open one with ``Library.open``.

    It lies in a folder on disk, or in a bucket.

    Safe to share between threads: any number may search while one ingests. A context manager.
    """

    def __init__(
        self, storage: MultimodalStorage, provider: MultimodalEmbeddingProvider, isolate_decoding: bool = True
    ) -> None:
        self._storage = storage
        max_bytes = large_bytes(Limits(), sample_rate=provider.recipe.sample_rate)
        self._isolated = Isolated(Limits().max_decode_s, max_bytes) if isolate_decoding else None
        self._decode = self._isolated or directly
        self._engine = QueryEngine(storage, provider, self._decode)
        self._replica: Replica | None = None
        self._copy: tuple[MultimodalStorage, QueryEngine] | None = None  # what the replica is asked with
        self._copied_at = -math.inf  # seconds of the monotonic clock
        self._copying = threading.Lock()

    @classmethod
    def open(
        cls,
        path: StrPath,
        models: str | None = None,
        create: bool = False,
        device: str | None = None,
        precision: str = "auto",
        *,
        isolate_decoding: bool = True,
        use_templates: bool = True,
        guarded: bool | None = None,
        on_progress: OnProgress | None = None,
        storage_options: Mapping[str, str] | None = None,
        replica: bool = True,
        n_shards: int | None = None,
    ) -> Self:
        """Open a library; make it where there is none, if ``models`` is given or ``create`` is true.

        Args:
            path: the library's folder, where ``~`` is expanded, or ``s3://bucket/prefix``.
            models: the name of a set of ``arrowlens models``, ``base`` for a new library by default;
                ``vision=DIR,audio=DIR,text=DIR``; or both, as in ``base,audio=DIR`` (``arrowlens.models.resolve``). A
                library remembers its models: for one that is there, this only has to agree.
            create: whether to make a library where there is none.
            device: torch device; None takes CUDA when there, else the CPU.
            precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``; no part of a library's identity.
            isolate_decoding: decode examples, waveforms and spectrograms as ``ingest`` decodes files, in processes of
                their own with limits of time and memory. They start with the first such file and end with ``close``.
                False decodes in this process, which a damaged file can then end.
            use_templates: ask CLIP and CLAP for the name of a thing ("a red bicycle") in the sentences that their
                makers recommend, such as "This is a sound of {}."; any other text is encoded as it is.
            guarded: deprecated; the old name of ``isolate_decoding``.
            on_progress: called with each step of downloading and converting ``base`` models.
            storage_options: how to reach a bucket, over what the environment says (``AWS_ACCESS_KEY_ID``, ...):
                ``endpoint``, ``region``, ``access_key_id``, ``secret_access_key``, ... Never stored.
            replica: search a library in a bucket in a copy of its vectors, indexes and media, in the user's cache
                folder. The first search makes it; later ones copy what is missing. False searches the bucket itself.
            n_shards: parts that a new library is divided into, each with its own index: a power of two up to 256; None
                for one, which serves up to some ten million files. A library keeps the number that it was made with.

        Raises:
            LibraryNotFoundError: none there, and none is to be made. LibraryVersionError: a newer Arrowlens wrote it.
            ModelMismatchError: it was made with other models than ``models``. ModelError: its models cannot be had.
            InputError: an unusable address, storage option or number of shards; the library has another number of
                shards; or the extra ``s3`` is not installed.
        """
        if guarded is not None:
            warn_renamed("guarded", "isolate_decoding")
            isolate_decoding = guarded
        storage: MultimodalStorage | None = None
        try:
            storage = MultimodalStorage(path, create=False, storage_options=storage_options, n_shards=n_shards)
        except LibraryNotFoundError:
            if models is None and not create:
                raise
            location_at(path, storage_options).require_usable()  # before models are downloaded, or folders made
        remembered = remembered_models(storage.settings) if storage is not None else None
        # Models come first: when they cannot be had, no library is left behind.
        model_set = resolve(models or remembered or DEFAULT_MODELS, on_progress)
        known = storage.settings.models if storage is not None else {}
        provider = provider_of(model_set, device, precision, known, use_templates=use_templates)
        storage = storage or MultimodalStorage(path, storage_options=storage_options, n_shards=n_shards)
        bind(storage, model_records(model_set, provider), named=models is not None)
        library = cls(storage, provider, isolate_decoding)
        if replica:
            library._replica = storage.replica(cache_directory() / "replicas")
        return library

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files and processes; a library that is used again opens and starts them again."""
        if self._isolated is not None:
            self._isolated.close()
        self._storage.close()
        if self._copy is not None:
            self._copy[0].close()

    def _reading(self) -> tuple[MultimodalStorage, QueryEngine]:
        """What questions are asked of: the replica, seconds behind at most, or else the library itself.

        Raises:
            LibraryNotFoundError, StorageError: the replica cannot be brought up to date.
        """
        if self._replica is None:
            return self._storage, self._engine
        with self._copying:
            if self._copy is None or time.monotonic() - self._copied_at > _REPLICA_CHECK_S:
                self._replica.update()
                self._copied_at = time.monotonic()
            if self._copy is None:
                storage = self._storage.opened_replica(self._replica.path)
                self._copy = storage, QueryEngine(storage, self._engine.provider, self._decode)
            return self._copy

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Have the next question after a block see what the block wrote, and ask it with the models of then."""
        try:
            yield
        finally:
            with self._copying:
                self._copied_at = -math.inf
                if self._copy is not None and self._copy[1].provider is not self._engine.provider:
                    self._copy[0].close()
                    self._copy = None

    @property
    def path(self) -> Path | None:
        """The library's folder, absolute; None for a library in a bucket."""
        return self._storage.path

    @property
    def uri(self) -> str:
        """The library's address: its folder, or ``s3://bucket/prefix``."""
        return self._storage.uri

    @property
    def text_reaches_audio(self) -> bool:
        """Whether ``search`` finds recordings too: the models hold texts and recordings in one space."""
        return self._storage.settings.text_reaches_audio

    @property
    def has_one_space(self) -> bool:
        """Whether pictures and recordings can be compared, and lie on one map: their models share a space."""
        return self._storage.settings.has_one_space

    # -- searching ------------------------------------------------------------------------------------------------

    def search(
        self,
        text: str | None = None,
        k: int = 20,
        modality: Modality | None = None,
        *,
        plus: Sequence[str] = (),
        minus: Sequence[str] = (),
        like: Sequence[ExampleLike] = (),
        unlike: Sequence[ExampleLike] = (),
        weights: Mapping[str, float] | None = None,
        mode: Mode = "auto",
        sources: Sequence[TextSource] = (),
        where: Where = (),
        offset: int = 0,
        collapse: bool = False,
        sort: Sort = "relevance",
    ) -> Results:
        """Return the ``k`` files nearest to a text, matches first: pictures and films; recordings where they can be.

        Args:
            text: in a language that the models know; the demo and base models know English. It may be left out where
                there is something else to look for. One example alone is looked for as ``similar`` does. Words in
                double quotes are looked for exactly as they stand, and nothing but texts is searched then.
            k: number of results, from 1 on.
            modality: "image", "audio" or "video" keeps only these.
            plus: further texts to look for.
            minus: texts to keep away from.
            like: examples to come close to, each as ``similar`` takes one: pictures, or recordings where they share the
                texts' space.
            unlike: examples to keep away from.
            weights: of parts of the question, by text, path or name. The default is 1, and 0.5 for ``minus`` and
                ``unlike``.
            mode: "vector" compares meanings, "keyword" looks for the words, "auto" does both.
            sources: look for the text in texts of these sources only: "speech", "ocr" (read in pictures), "caption",
                "description", "title" (with artist and album), "name" (with folders).
            where: one or several conditions that files must satisfy, such as "width >= 1000".
            offset: number of results to skip.
            collapse: show files that look or sound the same once, as the best of them.
            sort: "relevance", or "date" for the newest of the matches first, of the best 1,000 where there are more.

        Raises:
            InputError: ``k``, the text, a condition or a weight is unusable, or parts use different embedding spaces.
            MediaError: a file cannot be decoded.
            ModelLoadError: a model that the question needs is missing.
        """
        _, engine = self._reading()
        near, far = (
            tuple(map(engine.example, as_tuple(examples, name)))
            for examples, name in ((like, "like"), (unlike, "unlike"))
        )
        query = Query(text, as_tuple(plus, "plus"), as_tuple(minus, "minus"), near, weights or {}, modality, mode, far)
        query = dataclasses.replace(query, sources=as_tuple(sources, "sources"))
        view = View(k, offset, parse(where), collapse, sort)
        results = engine.retry_on_model_change(lambda: engine.searcher.search(query, view))
        return results.with_thumbnails(self.thumbnails)

    def search_many(
        self,
        texts: Sequence[str],
        k: int = 20,
        modality: Modality | None = None,
        *,
        mode: Mode = "auto",
        where: Where = (),
        offset: int = 0,
        collapse: bool = False,
        sort: Sort = "relevance",
    ) -> list[Results]:
        """Search for each of many texts, as ``search`` does: faster, since all are encoded together.

        ``took_ms`` of each does not contain the encoding. Half precision may order near-equal files differently than
        ``search``.

        Args:
            texts: one question each.
            k: number of results, from 1 on.
            modality: "image", "audio" or "video" keeps only these.
            mode: as for ``search``.
            where: as for ``search``.
            offset: as for ``search``.
            collapse: as for ``search``.
            sort: as for ``search``.

        Raises:
            InputError: as ``search``, for any of them; or one text was given instead of several.
            ModelLoadError: as ``search``.
        """
        if isinstance(texts, str):
            raise InputError("search_many takes several texts; search takes one")
        queries = [Query(text, modality=modality, mode=mode) for text in texts]
        view = View(k, offset, parse(where), collapse, sort)
        _, engine = self._reading()
        answers = engine.retry_on_model_change(lambda: engine.searcher.search_many(queries, view))
        return [results.with_thumbnails(self.thumbnails) for results in answers]

    def similar(
        self,
        example: ExampleLike,
        k: int = 20,
        *,
        where: Where = (),
        offset: int = 0,
        collapse: bool = False,
        sort: Sort = "relevance",
        at: float | None = None,
    ) -> Results:
        """Return the ``k`` files that look or sound most like an example.

        A picture finds pictures, and films that show the like; a recording finds recordings, and films that sound the
        like. A film finds films, by what is seen and what is heard; a moment of a film, ``at``,
        finds pictures and films that show the like.

        The example need not be in the library; where its content is, it comes first with a score of 1 within float16's
        precision, and ``n_matches`` and ``has_match`` are of the others. A copy of it in another file matches whatever
        the models say (``Hit.found_by`` is "copy"), as one of the 16 nearest. Recordings longer than a window are
        compared window by window (at most 32 of the example, evenly spaced); the best pair counts. A hit is compared by
        its stored vectors, without reading the file.

        Args:
            example: a path, a file's bytes, a PIL image, ``(samples, rate)`` with float32 or float64 samples, (n,) or
                (n, channels), and a rate in Hz, a ``Hit``, or an ``Example`` as ``example`` returns it.
            k: number of results, from 1 on.
            where: as for ``search``.
            offset: as for ``search``.
            collapse: as for ``search``.
            sort: as for ``search``.
            at: seconds of a moment of a film or a recording that the library holds: only the film's shot, or the
                recording's windows, there are compared.

        Returns:
            Nothing where the example is a hit that the library no longer holds.

        Raises:
            MediaError: a file or its bytes cannot be decoded.
            AudioValidationError: unusable samples or rate.
            InputError: no such example, an option is unusable, or the library knows no moment ``at``.
            ModelLoadError: the library has no model for that modality.
        """
        view = View(k, offset, parse(where), collapse, sort)
        return self._similar(lambda engine: dataclasses.replace(engine.example(example), at_s=at), view)

    def similar_to(
        self,
        hit: Hit | Example,
        k: int = 20,
        *,
        where: Where = (),
        offset: int = 0,
        collapse: bool = False,
        sort: Sort = "relevance",
    ) -> Results:
        """As ``similar``."""
        return self.similar(hit, k, where=where, offset=offset, collapse=collapse, sort=sort)

    def search_by_upload(
        self,
        data: bytes,
        name: str,
        k: int = 20,
        *,
        where: Where = (),
        offset: int = 0,
        collapse: bool = False,
        sort: Sort = "relevance",
    ) -> Results:
        """As ``similar``, for a file's bytes. ``name`` is for messages only; nothing is stored."""
        view = View(k, offset, parse(where), collapse, sort)
        return self._similar(lambda engine: engine.examples.upload(data, name), view)

    def search_by_image(
        self,
        image: Image.Image,
        k: int = 20,
        *,
        where: Where = (),
        offset: int = 0,
        collapse: bool = False,
        sort: Sort = "relevance",
    ) -> Results:
        """As ``similar``, for a picture in memory, of any mode and size; turned upright, over white."""
        view = View(k, offset, parse(where), collapse, sort)
        return self._similar(lambda engine: engine.examples.picture(image), view)

    def search_by_audio(
        self,
        samples: np.ndarray,
        rate: int,
        k: int = 20,
        *,
        where: Where = (),
        offset: int = 0,
        collapse: bool = False,
        sort: Sort = "relevance",
    ) -> Results:
        """As ``similar``, for a recording in memory: (n,) or (n, channels) floating-point samples, at ``rate`` Hz."""
        view = View(k, offset, parse(where), collapse, sort)
        return self._similar(lambda engine: engine.examples.samples(samples, rate), view)

    def example(self, data: bytes, name: str) -> Example:
        """Return a file's bytes as a part of questions, encoded once. Nothing is stored.

        Args:
            data: the file.
            name: for messages and weights.

        Raises:
            MediaError: the bytes cannot be decoded.
            ModelLoadError: the library has no model for that modality.
        """
        return self._engine.retry_on_model_change(
            lambda: self._engine.searcher.encode(self._engine.examples.upload(data, name))
        )

    def embed(self, item: ExampleLike) -> np.ndarray:
        """Return the vectors that the library stores, or would store, for an item: (n_segments, d) float32.

        They have length one. Compare them with others of the same modality, or with those of ``embed_text``.

        Args:
            item: as ``similar`` takes it.

        Raises:
            InputError, MediaError, ModelError, StorageError: as ``similar``.
        """
        _, engine = self._reading()
        return engine.retry_on_model_change(lambda: engine.searcher.embed(engine.example(item)))

    def embed_text(self, text: str, modality: Modality = "image") -> np.ndarray:
        """Return the vector that ``search`` asks with for media of a modality: (d,) float32 of length one.

        Raises:
            InputError: texts do not reach that modality with the library's models (``text_reaches_audio``).
            ModelError: a model is missing or cannot be loaded.
        """
        return self._engine.retry_on_model_change(lambda: self._engine.searcher.embed_text(text, modality))

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
        read_text: bool = False,
        transcribe: bool = False,
        speech_model: str = DEFAULT_SPEECH_MODEL,
        on_progress: OnProgress | None = None,
        engine: EngineName | ingest.RayOptions = "local",
    ) -> IngestReport:
        """Index everything below folders that is new or has changed, and forget what is gone from them.

        Args:
            folders: with ``~`` expanded; single files, too; prefixes of buckets, such as ``s3://bucket/photos``
                (``gs://``, ``az://``); and manifests, CSV or Parquet files with a column ``address``. What a manifest
                does not name stays.
            on_event: called with the progress, in the order of things, never at the same time from two threads.
            stop: once it is set, the run ends after storing what is encoded; the next run goes on from there.
            workers: how many files are decoded at a time, each in a process of its own; None is one a core.
            prune: False keeps files that are no longer on disk, True removes them. None removes them unless they are
                too many to be removed unasked: more than half of a root's files and at least 20, or more than 1,000.
                Then nothing of that root is removed, and ``held_back`` of the report has the number.
            retry: read files again that could not be read, though they have not changed.
            exact: decode pictures in full: slower, vectors barely differ.
            limits: ``arrowlens.media.Limits``, what a file may be at most, and how long decoding it may take.
            read_text: read what is written in pictures, once they are found by what they show; needs the extra ocr.
            transcribe: write down what is said in recordings, once they are found by their sound; needs the extra
                speech.
            speech_model: what transcribes: "base", "small", ... (``arrowlens.models.SPEECH_MODELS``), or a folder.
            on_progress: called with each step of downloading a speech model.
            engine: who decodes and encodes: "local", this machine; "ray", the nodes of a Ray cluster, or
                ``arrowlens.ingest.RayOptions``, which say how. What the library holds in the end is the same.

        Raises:
            InputError: an extra is not installed. DownloadError: the speech model cannot be had.
            FolderError: a folder is missing or unreadable. LibraryBusyError: another process is writing.
            StorageError: the disk or the database refused. ModelError: a model cannot be loaded.
            WorkerError: no process for decoding can be started, or the cluster cannot be used.
            InputError: no such engine.
        """
        readers = text_readers(read_text, transcribe, speech_model, on_progress)
        if engine not in ("local", "ray") and not isinstance(engine, ingest.RayOptions):
            raise InputError(f"engine is {engine!r}; use 'local', 'ray' or arrowlens.ingest.RayOptions(...)")
        cluster = None if engine == "local" else ingest.RayOptions() if engine == "ray" else engine
        options = ingest.IngestOptions(
            workers=workers, prune=prune, retry=retry, exact=exact, limits=limits or Limits(), readers=readers
        )
        paths = [_place(folder) for folder in folders]
        with self._writing(), _last_event_held_back(on_event) as (heard, calibrating):
            report = self._engine.retry_on_model_change(
                lambda: ingest.run(self._storage, self._engine.provider, paths, options, heard, stop, cluster)
            )
            started = time.perf_counter()
            if stop is None or not stop.is_set():  # also without new files: an earlier run may have been stopped here
                self._engine.prepare_bank(calibrating, stop)
        seconds = time.perf_counter() - started
        timings = {**report.timings, "calibrating": seconds}
        return dataclasses.replace(report, seconds=report.seconds + seconds, timings=timings)

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

        A recording is encoded again with the model that the library has if new libraries make its vectors in another
        way by now (``ModelRecord.recipe``), and only when the library changes to the very models that it has.

        Args:
            models: as for ``open``. Roles alone, as in ``audio=DIR``, change the models of these roles, and no other.
            on_event, stop, workers, limits: as for ``ingest``.
            on_progress: called with each step of downloads and conversions.

        Raises:
            ModelError: the models cannot be had.
            ModelMismatchError: they lack a modality that the library holds.
            FolderError: a folder of the library is missing.
            LibraryBusyError, StorageError: another process is writing; the disk or the database refused.
            WorkerError: as ``ingest``.
        """
        model_set = resolve(models, on_progress, others=remembered_models(self._storage.settings))
        provider = self._engine.provider_for(model_set)
        options = ingest.IngestOptions(workers=workers, limits=limits or Limits())
        records = model_records(model_set, provider)
        with self._writing(), _last_event_held_back(on_event) as (heard, calibrating):
            report = ingest.migrate(self._storage, provider, records, options, heard, stop)
            started = time.perf_counter()
            if report.switched:
                self._engine.replace(provider)
                self._engine.prepare_bank(calibrating, stop)
        return dataclasses.replace(report, seconds=report.seconds + time.perf_counter() - started)

    def plan(self, *folders: StrPath, prune: bool | None = None, retry: bool = False) -> IngestPlan:
        """What ``ingest`` would do with folders: counts of files, and the bytes to read. Changes nothing.

        Raises:
            FolderError: a folder is missing or unreadable. StorageError: the database refused.
        """
        return ingest.plan(self._storage, [_place(folder) for folder in folders], prune=prune, retry=retry)

    def status(self) -> LibraryStatus:
        """What the library holds and how it works; loads no model."""
        return LibraryStatus.of(self._storage)

    @property
    def runtime(self) -> Runtime:
        """The device and the number format that the models run in, and why. Imports torch; loads no model."""
        return self._engine.provider.runtime

    def calibrate(self, folder: StrPath, pairs: StrPath) -> Evaluation:
        """Measure how true relevance is of your own captioned files, and make it by them from now on.

        That holds for questions by text, and until the library changes its models.

        Args:
            folder: paths in ``pairs`` are relative to it.
            pairs: a CSV file with the columns ``path`` and ``caption``, UTF-8; at least 30 captions of as many files.

        Returns:
            What ``evaluation.evaluate`` gives, of the library's models and its relevance before.

        Raises:
            InputError: the CSV is missing, lacks a column, or has too few files that can be used; or the models do not
                tell right ones from wrong ones.
            ModelError: the models cannot be had. LibraryBusyError, StorageError: another process is writing.
        """
        from arrowlens.evaluation import calibrate  # deferred: most libraries are never calibrated

        return calibrate(self._storage, self._engine, folder, pairs)

    def skipped(self) -> list[SkippedFile]:
        """Files that could not be read, with reasons, by path."""
        return [SkippedFile.of(row) for row in self._storage.skipped().to_pylist()]

    def remove(self, paths: Sequence[StrPath]) -> int:
        """Forget files, and folders with everything below them; return the number of files. The files themselves stay.

        The next ingest of their folder finds them again.

        Raises:
            InputError: the library knows nothing at one of the paths; nothing is forgotten then.
            LibraryBusyError, StorageError: another process is writing; the database refused.
        """
        with self._writing():
            return self._storage.forget([_place(path) for path in as_tuple(paths, "paths")])

    def optimize(self) -> None:
        """Compact the library's files and drop what is no longer used; ingesting does this by itself when it pays.

        Recordings that an earlier version indexed are decoded once more, so that ``duplicates`` can compare them.

        Raises:
            LibraryBusyError, StorageError: another process is writing; the database refused.
        """
        complete_fingerprints(self._storage, self._decode)
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
        return list(Doctor(self._storage, self._engine.provider, self._decode).findings(n_vectors, n_files))

    @staticmethod
    def restore_settings(path: StrPath, storage_options: Mapping[str, str] | None = None) -> bool:
        """Put back a lost or damaged ``library.json`` from its copy; returns whether that was needed.

        Raises:
            LibraryNotFoundError: no library there. LibraryBusyError: another process is writing to it.
            StorageError: there is no copy, or the disk refused.
        """
        return restored(path, storage_options)

    def repair(self) -> None:
        """Restore damaged tables from copies, build indexes anew from rows and missing thumbnails from unchanged files.

        Raises:
            LibraryBusyError, StorageError: another process is writing; the database refused.
        """
        from arrowlens.doctor import Doctor  # deferred: searches need none

        Doctor(self._storage, self._engine.provider, self._decode).repair()

    # -- what people say of it ------------------------------------------------------------------------------------

    def favourites(self) -> list[Hit]:
        """The files that are favourites, by path, without scores; wherever their content lies now.

        ``search(where="favourite = yes")`` searches among them.

        Raises:
            StorageError: the database refused.
        """
        marked = sorted(self._storage.marks.current.favourites)
        rows = self._reading()[0].media_of(*marked).to_pylist()
        return sorted(self.hits([row["media_id"] for row in rows]), key=lambda hit: hit.path)

    @property
    def favourite_contents(self) -> frozenset[str]:
        """Content hashes of the favourites: whether a hit is one, by its ``content_hash``.

        Raises:
            StorageError: the marks cannot be read.
        """
        return self._storage.marks.current.favourites

    def set_favourites(self, files: Sequence[StrPath | Hit], favourite: bool = True) -> None:
        """Make files favourites, or take that back. Their content is remembered: a file may move, or have copies.

        Neither this nor the other marks wait for a run that goes on.

        Args:
            files: paths, or hits.
            favourite: False takes it back.

        Raises:
            InputError: the library holds no such file; a hit of what it holds no more can be taken back.
            StorageError: the disk refused.
        """
        contents = self._contents_of(as_tuple(files, "files"), may_be_gone=not favourite)
        self._storage.marks.set_favourites(contents, are=favourite)

    def saved_questions(self) -> dict[str, dict[str, Any]]:
        """The saved questions by name: keyword arguments of ``search``."""
        return {name: dict(question) for name, question in self._storage.marks.current.saved.items()}

    def save_question(self, name: str, question: Mapping[str, Any] | None) -> None:
        """Keep a question under a name, in place of an earlier one. It is asked once, so that it can be asked.

        Args:
            name: not empty.
            question: keyword arguments of ``search``, as JSON can hold them; None forgets the question of that name.

        Raises:
            InputError: it cannot be saved or asked, or no question has the name. StorageError: the disk refused.
            MediaError, ModelLoadError: as ``search`` raises them when the question is asked.
        """
        if question is not None:
            known = inspect.signature(self.search).parameters
            if unknown := sorted(question.keys() - known.keys()):
                raise InputError(f"a search has no argument {unknown[0]!r}; it has {', '.join(known)}")
            if isinstance(question.get("where"), str):
                question = {**question, "where": [question["where"]]}
            self.search(**question)
        self._storage.marks.save_question(name, question)

    def not_duplicates(self) -> list[tuple[str, str]]:
        """Pairs of content hashes that were said to be no duplicates of each other."""
        return sorted(self._storage.marks.current.distinct)

    def set_not_duplicates(self, one: StrPath | Hit | Member, other: StrPath | Hit | Member, are: bool = True) -> None:
        """Say that two files are no duplicates of each other, so that ``duplicates`` never pairs them.

        Args:
            one, other: paths, hits, or members of a group.
            are: False takes it back.

        Raises:
            InputError: they have the same bytes, or the library holds no such file. StorageError: the disk refused.
        """
        self._storage.marks.set_distinct(*self._contents_of((one, other), may_be_gone=not are), are=are)

    def _contents_of(self, files: Iterable[StrPath | Hit | Member], may_be_gone: bool) -> list[str]:
        """Return the content hash of each file.

        Raises:
            InputError: the library holds no such file or content.
        """
        held = [self.file(file) if isinstance(file, str | os.PathLike) else file for file in files]
        contents = [file.content_hash for file in held]
        stored = set(contents) if may_be_gone else None
        if stored is None:
            stored = set(self._reading()[0].media_of(*filter(None, contents))["content_hash"].to_pylist())
        for file in held:
            if file.content_hash is None or file.content_hash not in stored:
                raise InputError(
                    f"the library holds nothing of {file.path} as it was found; find it anew, or give its path"
                )
        return [content for content in contents if content is not None]

    # -- what is stored -------------------------------------------------------------------------------------------

    @property
    def revision(self) -> str:
        """Another text after every change of what the library holds, by whichever process; for caches.

        Raises:
            StorageError: the database refused.
        """
        return self._reading()[0].version

    def duplicates(self, *kinds: DuplicateKind) -> Duplicates:
        """Groups of files that are there twice, or nearly, as of the last ingest; nothing is deleted, no model loaded.

        Args:
            kinds: "identical", "copy", "near"; none for all. See ``arrowlens.search.DuplicateGroup``.

        Returns:
            A list of groups by kind, then by the bytes that could be saved, most first; it knows how many recordings
            could not be compared (``n_not_compared``), and the bytes that are there twice (``saving``).

        Raises:
            InputError: an unknown kind. StorageError: the database refused.
        """
        return find_duplicates(self._storage, kinds or KINDS)

    def folders(self) -> tuple[Path, ...]:
        """The folders that were ingested."""
        return tuple(as_path(root.path) for root in self._storage.settings.roots)

    def folder_status(self) -> list[FolderStatus]:
        """How many files the library knows of each ingested folder and of the topmost folders below it.

        Raises:
            StorageError: the database refused.
        """
        return list(FolderStatus.all_of(self._reading()[0]))

    def facets(self, where: Where = (), chosen: Mapping[str, Where] | None = None) -> Facets:
        """What files can be filtered by, with counts: modalities, formats, folders, sizes, lengths, the span of days.

        Args:
            where: conditions that the counted files satisfy.
            chosen: further ones by what they filter by: "modality", "format", "folder", "size", "duration", "taken",
                "camera", "artist", "album", "place", "source" or "language".
                Each of these is counted without its own conditions: its counts say what another choice would leave.

        Raises:
            InputError: a condition is unusable. StorageError: the database refused.
        """
        chosen = dict(chosen or {})
        if "kind" in chosen:
            warn_renamed("Library.facets(chosen={'kind': ...})", "'modality'")
            chosen["modality"] = chosen.pop("kind")
        if unknown := sorted(set(chosen) - set(FACETS)):
            raise InputError(f"{unknown[0]!r} is not a filter; use one of {', '.join(FACETS)}")
        conditions = {"": parse(where), **{by: parse(each) for by, each in chosen.items()}}
        storage, _ = self._reading()
        selected = {by: storage.select(to_store_filters(each)) for by, each in conditions.items() if each}
        return storage.facets(selected.pop("", None), selected)

    def newest(self, k: int = 20, modality: Modality | None = None, *, where: Where = (), offset: int = 0) -> Results:
        """The ``k`` files that were taken last, newest first; ``where`` and ``offset`` as for ``search``.

        Raises:
            InputError: ``k`` or a condition is unusable. StorageError: the database refused.
        """
        listed = listing.newest(self._reading()[0], View(k, offset, parse(where)), modality)
        return listed.with_thumbnails(self.thumbnails)

    def file(self, path: StrPath) -> Hit:
        """Return the file at a path, without scores; ``~`` is expanded.

        Raises:
            InputError: the library holds no such file.
            StorageError: the database refused.
        """
        storage, place = self._reading()[0], Path(absolute(path))
        row = storage.media_by_path(absolute(path))
        if row is None and not is_bucket(path):
            row = storage.media_by_path(place.parent.resolve() / place.name)
        held = self.hits([row["media_id"]]) if row is not None else []
        if not held:
            reason = f" ({row['reason']})" if row is not None and row["reason"] else ""
            raise InputError(f"the library holds no file at {absolute(path)}{reason}; `arrowlens ingest` its folder")
        return held[0]

    def texts(self, hit: Hit) -> list[MediaText]:
        """Return all texts of a file: its title, caption and description, what was heard and read, and its name.

        What was heard comes in its order, with ``start`` and ``end``.

        Raises:
            StorageError: the database refused.
        """
        written = [MediaText(source, text) for source in WRITTEN if (text := getattr(hit, source))]
        extracted = self._reading()[0].extracted_texts([hit.content_hash] if hit.content_hash is not None else [])
        return [*written, *extracted.get(hit.content_hash or "", []), MediaText("name", printable(hit.path.name))]

    def hits(self, media_ids: Sequence[str]) -> list[Hit]:
        """Files by id, in that order, without scores; what the library does not hold is left out."""
        return listing.hits(self._reading()[0], media_ids)

    def records(self, hits: Sequence[Hit]) -> dict[str, dict[str, Any]]:
        """Return all columns of ``store.MediaRecord`` of files, by ``media_id``, bytes as texts with surrogates.

        What the library no longer holds is left out.
        """
        rows = self._reading()[0].media([hit.media_id for hit in hits]).drop_columns(["absolute_path"]).to_pylist()
        return {
            row["media_id"]: {
                name: os.fsdecode(value) if isinstance(value, bytes) else value for name, value in row.items()
            }
            for row in rows
        }

    def paths(self, hit: Hit) -> list[Path]:
        """Where the content of a file lies, by path; the file itself included."""
        if hit.content_hash is None:
            return [hit.path]
        rows = self._reading()[0].media_of(hit.content_hash).to_pylist()
        return sorted(as_path(row["absolute_path"]) for row in rows)

    def find_by_hash(self, content_hash: str) -> list[Hit]:
        """The files that have a content, by path, without scores."""
        rows = self._reading()[0].media_of(content_hash).to_pylist()
        return sorted(self.hits([row["media_id"] for row in rows]), key=lambda hit: hit.path)

    version = renamed_property("version", "revision")
    places = renamed_method("places", "paths")
    holding = renamed_method("holding", "find_by_hash")

    def map(self, modality: Modality | None = None) -> EmbeddingMap:
        """Files as points in a plane, near what is like them; of more than 20,000 files, a sample.

        Args:
            modality: "image", "audio" or "video"; None for all, where ``has_one_space``.

        Raises:
            InputError: both are asked for, and have spaces of their own. StorageError: the database refused.
        """
        return draw_map(self._reading()[0], modality)

    def thumbnails(self, hits: Iterable[Hit | Member]) -> dict[str, bytes]:
        """JPEGs of at most 320 pixels by ``media_id``; hits without one (recordings) are left out."""
        hashes = {hit.media_id: hit.content_hash for hit in hits if hit.content_hash is not None}
        stored = self._storage.thumbnails(sorted(set(hashes.values())))
        return {media_id: stored[content] for media_id, content in hashes.items() if content in stored}

    def thumbnail(self, content_hash: str) -> bytes | None:
        """The JPEG of at most 320 pixels of a content; None for recordings, and for what the library does not hold.

        Of a film it shows the shot with the most contrast.

        Raises:
            StorageError: the database refused.
        """
        return self._storage.thumbnails([content_hash]).get(content_hash)

    def strip(self, content_hash: str) -> bytes | None:
        """A JPEG of a film's shots side by side, 90 pixels high: at most 12, evenly spaced; None for other contents.

        Raises:
            StorageError: the database refused.
        """
        return self.thumbnail(strip_key(content_hash))

    def poster(self, hit: Hit) -> bytes | None:
        """A JPEG of at most 320 pixels of what found a hit: of a film its best moment, read from its file.

        Of other hits it is the thumbnail, and so it is of a film without a moment, and of one whose file cannot be read
        now, is another one or is damaged at that moment. None for recordings.

        Raises:
            StorageError: the database refused.
        """
        if hit.modality == "video" and hit.start is not None and hit.end is not None:
            with suppress(MediaError):
                original = self._original(hit.media_id)
                if original.row["content_hash"] == hit.content_hash:  # else the place was ingested with another film
                    return original.moment(hit.start, hit.end, self._decode)
        return None if hit.content_hash is None else self.thumbnail(hit.content_hash)

    def original(self, media_id: str, max_bytes: int | None = None) -> bytes:
        """The bytes of a file that the library holds.

        Raises:
            FileChangedError: it is not the file that was indexed. MediaError: the library does not hold it as a picture
            or recording, it cannot be read, or it has more than ``max_bytes``.
        """
        return self._original(media_id).read(max_bytes)

    def open_original(self, media_id: str) -> AbstractContextManager[Original]:
        """A file that the library holds, open for as long as the context lasts.

        Raises:
            FileChangedError: it is not the file that was indexed. MediaError: the library does not hold it as a picture
            or recording, or it cannot be read.
        """
        return self._original(media_id).open()

    def waveform(self, media_id: str, n_columns: int = 600) -> np.ndarray:
        """The largest amplitude in each of ``n_columns`` equal parts of a recording, (n_columns,) float32, 1 at most.

        Raises:
            FileChangedError: it is not the file that was indexed.
            MediaError: the library holds no such recording, or it cannot be decoded.
        """
        from arrowlens.media import waveform  # deferred: decoders, which a search needs none of

        return self._original(media_id).draw(waveform.waveform, n_columns, self._decode)

    def spectrogram(self, media_id: str, n_columns: int = 600) -> np.ndarray:
        """The power of a recording in bands from 0 to 8 kHz, (bands, n_columns) float32 in dB, from -80 to 0.

        Raises:
            FileChangedError, MediaError: as ``waveform``.
        """
        from arrowlens.media import waveform

        return self._original(media_id).draw(waveform.spectrogram, n_columns, self._decode)

    def _original(self, media_id: str) -> OriginalFile:
        return OriginalFile.of(self._reading()[0], media_id)

    def _similar(self, read: Callable[[QueryEngine], Example], view: View) -> Results:
        _, engine = self._reading()
        results = engine.retry_on_model_change(lambda: engine.searcher.similar(read(engine), view))
        return results.with_thumbnails(self.thumbnails)


def text_readers(
    read_text: bool, transcribe: bool, model: str, on_progress: OnProgress | None = None
) -> tuple[TextReader, ...]:
    """Return what reads texts in a run, as ``Library.ingest`` takes it; errors likewise."""
    readers: list[TextReader] = []
    if read_text:
        from arrowlens.texts.ocr import OcrReader  # deferred: most runs read no texts

        readers.append(OcrReader())
    if transcribe:
        from arrowlens.texts.speech import SpeechReader  # deferred, as above

        installed_version("faster-whisper", "speech")  # before a model is downloaded
        readers.append(SpeechReader.of(speech_model(model, on_progress)))
    return tuple(readers)


def _place(place: StrPath) -> StrPath:
    """Return a folder with ``~`` expanded, and an address as it is."""
    return os.fsdecode(place) if scheme_of(place) is not None else local_path(place)


@contextmanager
def _last_event_held_back(
    on_event: Callable[[IngestEvent], None] | None,
) -> Iterator[tuple[Callable[[IngestEvent], None], Callable[[int, int], None]]]:
    """What a run and its calibration are heard by: the event "done" comes once both are over."""
    held: list[IngestEvent] = []

    def heard(event: IngestEvent) -> None:
        held[:] = [event]
        if on_event is not None and event.phase != "done":
            on_event(event)

    def calibrating(done: int, total: int) -> None:
        if on_event is not None and held:
            on_event(dataclasses.replace(held[0], phase="calibrate", done=done, total=total))

    yield heard, calibrating
    if on_event is not None and held and held[0].phase == "done":
        on_event(held[0])
