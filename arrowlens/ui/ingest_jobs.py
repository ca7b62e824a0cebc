"""What the page has a library do in the background: make one, run over folders, change models, watch folders.

There is one run at a time, in a thread of its own; every session sees it and can stop it.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from arrowlens.addresses import is_bucket
from arrowlens.errors import ArrowlensError, InputError, LibraryBusyError
from arrowlens.ingest.watching import Watch
from arrowlens.library import DEFAULT_SPEECH_MODEL, Library

if TYPE_CHECKING:
    from arrowlens.conversion import Progress
    from arrowlens.ingest import IngestEvent, IngestReport, MigrationReport

_CLOSE_LIMIT_S = 60.0  # to store what is encoded when the server ends


@dataclasses.dataclass(frozen=True, slots=True)
class IngestRun:
    """The state of a run.

    Attributes:
        folders: what it reads; none for a change of models.
        retry: whether files that could not be read are read again.
        started: seconds since 1970.
        prune: as for ``Library.ingest``.
        read_text: whether text in pictures is read.
        transcribe: whether speech is written down.
        speech_model: what with.
        models: what the library is changed to; None for an ingest.
        is_stopping: whether it was asked to stop.
        step: the newest step of downloading or converting a model, in words; "" before the first.
        event: the newest; None before the first.
        report: what it did, once it is over; None for a change of models.
        migration: what a change of models did, once it is over.
        error: why it failed, in one line.
    """

    folders: tuple[Path, ...]
    retry: bool
    started: float
    prune: bool | None = None
    read_text: bool = False
    transcribe: bool = False
    speech_model: str = DEFAULT_SPEECH_MODEL
    models: str | None = None
    is_stopping: bool = False
    step: str = ""
    event: IngestEvent | None = None
    report: IngestReport | None = None
    migration: MigrationReport | None = None
    error: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended: done, stopped or failed."""
        return self.report is not None or self.migration is not None or self.error is not None


class IngestRuns:
    """Starts, watches and stops the runs of one library. Thread-safe."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._run: IngestRun | None = None
        self._watch: FolderWatch | None = None

    @property
    def latest(self) -> IngestRun | None:
        """The current run, or the last one; None before the first."""
        return self._run

    @property
    def is_watching(self) -> bool:
        """Whether the library's folders are watched."""
        return self._watch is not None and self._watch.is_alive

    def start(
        self,
        folders: Sequence[Path],
        *,
        retry: bool = False,
        prune: bool | None = None,
        read_text: bool = False,
        transcribe: bool = False,
        speech_model: str = DEFAULT_SPEECH_MODEL,
    ) -> None:
        """Start a run over folders.

        Args:
            folders: of this machine's disk, or prefixes of buckets that the library has.
            retry: read files again that could not be read.
            prune: as for ``Library.ingest``.
            read_text: as for ``Library.ingest``.
            transcribe: as for ``Library.ingest``.
            speech_model: as for ``Library.ingest``.

        Raises:
            InputError: there is no folder, or one of them cannot be read.
            LibraryBusyError: a run is going on.
        """
        for folder in folders:
            check_folder(folder, self._library.path)
        if not folders:
            raise InputError("there is no folder to read; add one first")
        self._begin(IngestRun(tuple(folders), retry, time.time(), prune, read_text, transcribe, speech_model))

    def change_models(self, models: str) -> None:
        """Start to encode everything with other models, which then serve; searches go on meanwhile.

        Raises:
            LibraryBusyError: a run is going on.
        """
        self._begin(IngestRun((), False, time.time(), models=models))

    def stop(self) -> None:
        """Ask the run, if there is one, to stop once it has stored what is encoded."""
        with self._lock:
            self._stop.set()
            if self._run is not None and not self._run.is_over:
                self._run = dataclasses.replace(self._run, is_stopping=True)

    def wait(self) -> None:
        """Wait until the run, if there is one, has ended."""
        if self._thread is not None:
            self._thread.join()

    def watch(self) -> None:
        """Start a run whenever something changes in the library's folders, until ``stop_watching``.

        Raises:
            InputError: the extra ``watch`` is not installed.
        """
        with self._lock:
            if not self.is_watching:
                self._watch = FolderWatch(self._library, self)

    def stop_watching(self) -> None:
        """Watch no longer; a run that goes on comes to its end."""
        with self._lock:
            watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    def close(self) -> None:
        """Stop watching and the run, and wait until it has ended."""
        self.stop_watching()
        self.stop()
        if self._thread is not None:
            self._thread.join(_CLOSE_LIMIT_S)

    def _begin(self, run: IngestRun) -> None:
        with self._lock:
            if self._run is not None and not self._run.is_over:
                raise LibraryBusyError("a run is going on; wait for it or cancel it, then start the next one")
            self._stop = threading.Event()
            self._run = run
            self._thread = threading.Thread(target=self._work, args=(run, self._stop), name="ingest", daemon=True)
            self._thread.start()

    def _work(self, run: IngestRun, stop: threading.Event) -> None:
        try:
            if run.models is not None:
                migration = self._library.migrate(run.models, self._on_event, stop, on_progress=self._on_progress)
                self._change(migration=migration)
                return
            report = self._library.ingest(
                *run.folders,
                on_event=self._on_event,
                stop=stop,
                retry=run.retry,
                prune=run.prune,
                read_text=run.read_text,
                transcribe=run.transcribe,
                speech_model=run.speech_model,
                on_progress=self._on_progress,
            )
        except ArrowlensError as error:
            self._change(error=str(error))
        except Exception as error:  # of any kind: else the page would show a run that never ends
            self._change(error=f"unexpected {type(error).__name__}: {error}")
            raise
        else:
            self._change(report=report)
            watch = self._watch
            if watch is not None:
                watch.follow_folders()

    def _on_event(self, event: IngestEvent) -> None:
        self._change(event=event)

    def _on_progress(self, progress: Progress) -> None:
        self._change(step=_step_text(progress))

    def _change(self, **values: object) -> None:
        with self._lock:
            assert self._run is not None
            self._run = dataclasses.replace(self._run, **values)  # type: ignore[arg-type]


class FolderWatch:
    """Starts a run whenever something changes in the folders of a library, in a thread, until it is closed.

    A folder that is away is waited for, and nothing of it is removed.

    Args:
        library: whose folders.
        runs: starts the runs.

    Raises:
        InputError: the extra ``watch`` is not installed.
    """

    def __init__(self, library: Library, runs: IngestRuns) -> None:
        Watch((), library.path)  # raises where the extra is missing
        self._library, self._runs = library, runs
        self._is_closed = False
        self._folders: tuple[Path, ...] = ()
        self._stop = threading.Event()  # of the watch over these folders
        self._thread = threading.Thread(target=self._work, name="watch", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it watches."""
        return self._thread.is_alive()

    def follow_folders(self) -> None:
        """Watch the folders that the library has by now."""
        if self._library.folders() != self._folders:
            self._stop.set()

    def close(self) -> None:
        """Watch no longer."""
        self._is_closed = True
        self._stop.set()

    def _work(self) -> None:
        while not self._is_closed:
            self._stop = stop = threading.Event()
            self._folders = self._library.folders()
            if self._is_closed:  # closed before it could see the new event
                return
            watch = Watch(self._folders, self._library.path)
            for _ in watch.changes(stop):
                if not self._has_run(watch):
                    watch.retry()

    def _has_run(self, watch: Watch) -> bool:
        """Bring the folders that are there up to date; return whether that could be done."""
        missing = {*watch.missing}
        there = [each for each in self._folders if is_bucket(each) or os.path.realpath(each) not in missing]
        try:
            if there:
                self._runs.start(there)
        except (LibraryBusyError, InputError):  # another run goes on, or a folder went away just now
            return False
        self._runs.wait()
        run = self._runs.latest
        return run is None or run.error is None


class LibraryMaking:
    """Makes the library that the server was started for, in a thread, and starts its first run. Thread-safe.

    Attributes:
        step: the newest step of downloading or converting a model, in words; "" before the first.
        error: why it failed, in one line; None while it goes on and before it began.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.step = ""
        self.error: str | None = None

    @property
    def is_going(self) -> bool:
        """Whether it has begun and has not ended."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, make: Callable[[Callable[[Progress], None]], Library], folder: Path) -> None:
        """Start to make a library, and to read a folder into it.

        Args:
            make: makes and opens the library; called with what is told of steps.
            folder: of this machine's disk.

        Raises:
            InputError: the folder is missing or unreadable. LibraryBusyError: a library is being made.
        """
        check_folder(folder, None)
        with self._lock:
            if self.is_going:
                raise LibraryBusyError("the library is being made; wait for it")
            self.step, self.error = "", None
            self._thread = threading.Thread(target=self._work, args=(make, folder), name="make-library", daemon=True)
            self._thread.start()

    def _work(self, make: Callable[[Callable[[Progress], None]], Library], folder: Path) -> None:
        try:
            ingest_runs_of(make(self._on_progress)).start([folder])
        except ArrowlensError as error:
            self.error = str(error)
        except Exception as error:  # of any kind, as above
            self.error = f"unexpected {type(error).__name__}: {error}"
            raise

    def _on_progress(self, progress: Progress) -> None:
        self.step = _step_text(progress)


making = LibraryMaking()  # for every session

_all: dict[str, IngestRuns] = {}  # by the library's address
_making = threading.Lock()


def ingest_runs_of(library: Library) -> IngestRuns:
    """Return the runs of a library; the same object for every session."""
    with _making:
        return _all.setdefault(library.uri, IngestRuns(library))


def close_ingest_runs() -> None:
    """Stop all runs of this server, and wait until they have ended."""
    for runs in list(_all.values()):
        runs.close()


def folder_of(text: str) -> Path:
    """Return the path that was typed.

    Raises:
        InputError: it is empty or not absolute.
    """
    if not text.strip():
        raise InputError("type the path of a folder, such as /home/me/Pictures")
    try:
        path = Path(text.strip()).expanduser()
    except RuntimeError as error:  # ~nobody
        raise InputError(f"{text.strip()!r} names an unknown user; type the path in full") from error
    if not path.is_absolute():
        raise InputError(f"{text.strip()!r} is not an absolute path; start it with /, as in /home/me/Pictures")
    return path


def check_folder(folder: Path, library: Path | None) -> None:
    """Check that a folder can be read into a library; an address in a bucket is checked by the run.

    Raises:
        InputError: it is missing or unreadable, or lies in the library's own folder.
    """
    if is_bucket(folder):
        return
    try:
        is_folder = folder.is_dir()
    except (OSError, ValueError):  # a zero byte in the name
        is_folder = False
    if not is_folder:
        raise InputError(f"there is no folder {str(folder)!r} on this server's disk, or it cannot be read")
    if library is not None and folder.resolve().is_relative_to(library.resolve()):
        raise InputError(f"{str(folder)!r} is the library itself; add the folder with your files")


def _step_text(progress: Progress) -> str:
    """Return a step of a model with its share, as "download openai/clip-vit-base-patch16, 40%"."""
    share = f", {progress.done / progress.total:.0%}" if progress.total > 1 else ""
    return f"{progress.detail}{share}"
