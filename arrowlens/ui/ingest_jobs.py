"""Ingest runs that the page starts: one at a time, in a thread; every session sees and can stop it."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from arrowlens.errors import ArrowlensError, InputError, LibraryBusyError
from arrowlens.library import Library

if TYPE_CHECKING:
    from arrowlens.ingest import IngestEvent, IngestReport

_CLOSE_LIMIT_S = 60.0  # to store what is encoded when the server ends


@dataclasses.dataclass(frozen=True, slots=True)
class IngestRun:
    """The state of a run.

    Attributes:
        folders: what it reads.
        retry: whether files that could not be read are read again.
        started: seconds since 1970.
        prune: as for ``Library.ingest``.
        is_stopping: whether it was asked to stop.
        event: the newest; None before the first.
        report: what it did, once it is over.
        error: why it failed, in one line.
    """

    folders: tuple[Path, ...]
    retry: bool
    started: float
    prune: bool | None = None
    is_stopping: bool = False
    event: IngestEvent | None = None
    report: IngestReport | None = None
    error: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended: done, stopped or failed."""
        return self.report is not None or self.error is not None


class IngestRuns:
    """Starts, watches and stops the runs of one library. Thread-safe."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._run: IngestRun | None = None

    @property
    def latest(self) -> IngestRun | None:
        """The current run, or the last one; None before the first."""
        return self._run

    def start(self, folders: Sequence[Path], *, retry: bool = False, prune: bool | None = None) -> None:
        """Start a run over folders.

        Raises:
            InputError: there is no folder, or one of them cannot be read.
            LibraryBusyError: a run is going on.
        """
        for folder in folders:
            _check_folder(folder, self._library.path)
        if not folders:
            raise InputError("there is no folder to read; add one first")
        with self._lock:
            if self._run is not None and not self._run.is_over:
                raise LibraryBusyError("a run is going on; wait for it or cancel it, then start the next one")
            self._stop = threading.Event()
            self._run = IngestRun(tuple(folders), retry, time.time(), prune)
            self._thread = threading.Thread(target=self._work, name="ingest", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ask the run, if there is one, to stop once it has stored what is encoded."""
        with self._lock:
            self._stop.set()
            if self._run is not None and not self._run.is_over:
                self._run = dataclasses.replace(self._run, is_stopping=True)

    def close(self) -> None:
        """Stop the run, and wait until it has ended."""
        self.stop()
        if self._thread is not None:
            self._thread.join(_CLOSE_LIMIT_S)

    def _work(self) -> None:
        run = self._run
        assert run is not None
        try:
            report = self._library.ingest(
                *run.folders, on_event=self._on_event, stop=self._stop, retry=run.retry, prune=run.prune
            )
        except ArrowlensError as error:
            self._change(error=str(error))
        except Exception as error:  # of any kind: else the page would show a run that never ends
            self._change(error=f"unexpected {type(error).__name__}: {error}")
            raise
        else:
            self._change(report=report)

    def _on_event(self, event: IngestEvent) -> None:
        self._change(event=event)

    def _change(self, **values: object) -> None:
        with self._lock:
            assert self._run is not None
            self._run = dataclasses.replace(self._run, **values)  # type: ignore[arg-type]


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


def _check_folder(folder: Path, library: Path | None) -> None:
    try:
        is_folder = folder.is_dir()
    except (OSError, ValueError):  # a zero byte in the name
        is_folder = False
    if not is_folder:
        raise InputError(f"there is no folder {str(folder)!r} on this server's disk, or it cannot be read")
    if library is not None and folder.resolve().is_relative_to(library.resolve()):
        raise InputError(f"{str(folder)!r} is the library itself; add the folder with your files")
