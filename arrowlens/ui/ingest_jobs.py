"""The ingest run of this server: one at a time, in a thread of its own, seen and stopped by every session."""

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

_END_LIMIT_S = 60.0  # to store what is encoded when the server ends


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """A run as it stands.

    Attributes:
        folders: that it walks. retry: whether it reads files again that could not be read.
        prune: as for ``Library.ingest``.
        started: seconds since 1970. is_stopping: somebody asked for its end.
        event: the newest; None before the first.
        report: what it did, once it is over. error: why it failed; one line.
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
        """Whether it is done, stopped or failed."""
        return self.report is not None or self.error is not None


class Runs:
    """Starts, watches and stops runs of one library; safe between threads."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._run: Run | None = None

    @property
    def latest(self) -> Run | None:
        """The run that goes on, or else the last one; None before the first."""
        return self._run

    def start(self, folders: Sequence[Path], *, retry: bool = False, prune: bool | None = None) -> None:
        """Begin a run over folders.

        Raises:
            InputError: no folder, or one that is none. LibraryBusyError: a run is going on.
        """
        for folder in folders:
            _check_folder(folder, self._library.path)
        if not folders:
            raise InputError("there is no folder to read; add one first")
        with self._lock:
            if self._run is not None and not self._run.is_over:
                raise LibraryBusyError("a run is going on; wait for it or cancel it, then start the next one")
            self._stop = threading.Event()
            self._run = Run(tuple(folders), retry, time.time(), prune)
            self._thread = threading.Thread(target=self._work, name="ingest", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ask the run to end after storing what is encoded; nothing where there is none."""
        with self._lock:
            self._stop.set()
            if self._run is not None and not self._run.is_over:
                self._run = dataclasses.replace(self._run, is_stopping=True)

    def close(self) -> None:
        """Stop the run, and wait for its end."""
        self.stop()
        if self._thread is not None:
            self._thread.join(_END_LIMIT_S)

    def _work(self) -> None:
        run = self._run
        assert run is not None
        try:
            report = self._library.ingest(
                *run.folders, on_event=self._heard, stop=self._stop, retry=run.retry, prune=run.prune
            )
        except ArrowlensError as error:
            self._change(error=str(error))
        except Exception as error:  # the last resort: or the page would show a run that never ends
            self._change(error=f"unexpected {type(error).__name__}: {error}")
            raise
        else:
            self._change(report=report)

    def _heard(self, event: IngestEvent) -> None:
        self._change(event=event)

    def _change(self, **values: object) -> None:
        with self._lock:
            assert self._run is not None
            self._run = dataclasses.replace(self._run, **values)  # type: ignore[arg-type]


_all: dict[Path, Runs] = {}
_making = threading.Lock()


def runs_of(library: Library) -> Runs:
    """The runs of a library of this server."""
    with _making:
        return _all.setdefault(library.path, Runs(library))


def close_runs() -> None:
    """Stop what goes on in this server, and wait for its end."""
    for runs in list(_all.values()):
        runs.close()


def folder_of(text: str) -> Path:
    """The folder that somebody typed, on this server's disk.

    Raises:
        InputError: nothing is typed, or the path is not absolute.
    """
    if not text.strip():
        raise InputError("type the path of a folder, such as /home/me/Pictures")
    try:
        path = Path(text.strip()).expanduser()
    except RuntimeError as error:  # ~nobody
        raise InputError(f"{text.strip()!r} names a user that there is not") from error
    if not path.is_absolute():
        raise InputError(f"{text.strip()!r} is not an absolute path; start it with /, as in /home/me/Pictures")
    return path


def _check_folder(folder: Path, library: Path) -> None:
    try:
        is_folder = folder.is_dir()
    except (OSError, ValueError):  # a zero byte in the name
        is_folder = False
    if not is_folder:
        raise InputError(f"there is no folder {str(folder)!r} on this server's disk, or it cannot be read")
    if folder.resolve().is_relative_to(library.resolve()):
        raise InputError(f"{str(folder)!r} is the library itself; add the folder with your files")
