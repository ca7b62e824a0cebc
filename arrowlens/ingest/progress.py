"""The options of a run, the events that it sends while it works, and its report."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any, Literal

from arrowlens.errors import InputError
from arrowlens.ingest.walk import LeftAlone, Walk
from arrowlens.media import Limits
from arrowlens.modalities import TextSource
from arrowlens.texts import TextReader
from arrowlens.workers.resources import Spent, n_cores

Phase = Literal["walk", "index", "prune", "optimize", "read", "listen", "calibrate", "done"]
Bound = Literal["reading", "decoding", "encoding", "writing"]


@dataclasses.dataclass(frozen=True, slots=True)
class IngestOptions:
    """How a run works. None of it changes what is stored, but for ``exact``, ``limits`` and the last bits of vectors.

    Attributes:
        workers: processes that decode, from 1 on; None takes one a core.
        prune: whether files that are gone from disk are removed from the library. None removes them, but nothing of a
            root of which more than half and at least 20, or more than 1,000, would go; True removes them all, and takes
            a place where a disk was mounted as it is, if files of the library lie there; False removes nothing.
        batch_size: items that the model encodes at once, from 1 on; vectors depend on it by less than rounding to
            float16 does. None takes 8 for each core of a CPU, which is also fastest there, and 32 on other devices.
        commit_every: files between two commits at most, from 1 on; a killed run loses these. None takes 4,096 where the
            library lies on a disk, where something is written every few seconds, too, and 32,000 in a bucket, where
            a commit takes seconds.
        exact: decode pictures in full instead of at twice the size that the model takes: slower, vectors barely differ.
        retry: read files again that could not be decoded, and films whose sound was left out, though they have not
            changed.
        limits: what a file may be at most.
        readers: read texts in the files, once their vectors are written.
    """

    workers: int | None = None
    prune: bool | None = None
    batch_size: int | None = None
    commit_every: int | None = None
    exact: bool = False
    retry: bool = False
    limits: Limits = dataclasses.field(default_factory=Limits)
    readers: tuple[TextReader, ...] = ()

    def __post_init__(self) -> None:
        for name in ("workers", "batch_size", "commit_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; it must be at least 1")

    @property
    def n_workers(self) -> int:
        """The number of processes that decode."""
        return n_cores() if self.workers is None else self.workers


@dataclasses.dataclass(frozen=True, slots=True)
class IngestEvent:
    """How far a run has come.

    Attributes:
        phase: "walk", "index", "prune", "optimize", "read" (text in pictures), "listen" (to what is said), "calibrate"
            (the models learn what counts as a match, once for a model), and in the end "done".
        done: files dealt with; while reading and listening, the files of that phase; while calibrating, bundled files
            and texts.
        total: files to deal with; 0 while walking. The same while reading, listening and calibrating.
        indexed: files written with new vectors so far.
        unchanged: files that are as the library has them, so far.
        skipped: files that could not be read, so far.
        removed: files that left the library so far.
        rate: files read per second since reading began, 0 before.
        seconds_left: at that rate; None when unknown.
        path: the file just dealt with, absolute; odd bytes of its name are surrogates.
        reason: why that file was skipped.
        bound: what the run waits for most: the disk (reading), decoding, the model (encoding) or the library (writing);
            None before there is anything to tell by.
        nodes: machines of a cluster at work; 0 without one.
    """

    phase: Phase
    done: int = 0
    total: int = 0
    indexed: int = 0
    unchanged: int = 0
    skipped: int = 0
    removed: int = 0
    rate: float = 0.0
    seconds_left: float | None = None
    path: str | None = None
    reason: str | None = None
    bound: Bound | None = None
    nodes: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class IngestReport:
    """What a run did, in counts of files: each one found is indexed, unchanged or skipped.

    Attributes:
        indexed: written with new vectors.
        unchanged: as the library had them.
        skipped: could not be read, now or in an earlier run since which they have not changed.
        removed: gone from disk or ignored now, and so gone from the library.
        moved: left their place too, but their content was found at a new one, or they are reached by another name.
        held_back: how many files are gone from disk and were not removed, by the root that they belong to: more than
            ``prune=None`` removes, so that nothing of that root was.
        seconds: from start to end.
        stopped: whether the run was asked to stop; what it had not reached is left for the next one.
        captions: texts encoded, new and changed ones: captions, descriptions, titles, and what was read and heard; none
            without a text model.
        read: pictures and films whose text was looked for. heard: recordings and films that were listened to.
        unread_texts: how many files could not be read so for which reason, the most frequent first.
        without_sound: how many of the films that were read lack their sound for which reason, the most frequent first:
            it is too long, or cannot be decoded. They are found by what they show.
        copied: of ``indexed``, how many took the vectors of equal content and were not encoded.
        reasons: how many files were skipped for which reason, the most frequent first.
        unread_folders: folders that could not be read, with the reason; what was indexed below them is kept.
        left_alone: how many files and folders were passed over, by "hidden", "ignored", "raw" and "other", as of
            ``Walk``.
        timings: seconds spent walking, waiting for decoded files, writing and calibrating; of all processes and threads
            together, reading (waiting for the disk), decoding and encoding.
        rate: files read per second, from the first to the last.
        peak_memory: bytes that this process and its workers held at most at one moment, what they share counted once
            (proportional set sizes); looked at each 50 ms while files are read, and once in the end.
        bound: what the run waited for most, as of ``IngestEvent``.
    """

    indexed: int = 0
    unchanged: int = 0
    skipped: int = 0
    removed: int = 0
    seconds: float = 0.0
    stopped: bool = False
    captions: int = 0
    copied: int = 0
    reasons: dict[str, int] = dataclasses.field(default_factory=dict)
    unread_folders: dict[str, str] = dataclasses.field(default_factory=dict)
    left_alone: dict[LeftAlone, int] = dataclasses.field(default_factory=dict)
    timings: dict[str, float] = dataclasses.field(default_factory=dict)
    rate: float = 0.0
    peak_memory: int = 0
    bound: Bound | None = None
    moved: int = 0
    held_back: dict[str, int] = dataclasses.field(default_factory=dict)
    read: int = 0
    heard: int = 0
    unread_texts: dict[str, int] = dataclasses.field(default_factory=dict)
    without_sound: dict[str, int] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain values for JSON."""
        return dataclasses.asdict(self)


class _TextProgress:
    """How many files were read, and how long the others will take: by their seconds where they have any."""

    def __init__(self, phase: Phase, total: int, seconds: float) -> None:
        self.phase, self.total, self._seconds = phase, total, seconds
        self.done, self._seconds_done, self._started = 0, 0.0, time.perf_counter()

    def add(self, seconds: float) -> None:
        """Count one more file."""
        self.done += 1
        self._seconds_done += seconds

    @property
    def seconds_left(self) -> float | None:
        """None before the first file."""
        share = self._seconds_done / self._seconds if self._seconds else self.done / max(1, self.total)
        spent = time.perf_counter() - self._started
        return spent / share - spent if share else None


class Progress:
    """Counts files and seconds as a run goes, and sends events to ``on_event``."""

    def __init__(self, on_event: Callable[[IngestEvent], None] | None) -> None:
        self._on_event = on_event
        self._started = time.perf_counter()
        self._reading_since: float | None = None
        self._already_done = 0
        self.total = 0
        self.counts = {"indexed": 0, "unchanged": 0, "skipped": 0, "removed": 0, "moved": 0, "copied": 0, "captions": 0}
        self.texts_read: dict[TextSource, int] = {"ocr": 0, "speech": 0}
        self.reasons: dict[str, int] = {}
        self.unread_texts: dict[str, int] = {}
        self.without_sound: dict[str, int] = {}
        self._texts = _TextProgress("read", 0, 0.0)
        self.held_back: dict[str, int] = {}
        self.timings = {"walking": 0.0, "waiting": 0.0, "writing": 0.0}
        self.decoding, self.encoding = Spent(), Spent()
        self.n_decoding = self.n_encoding = 1  # of them at a time, on cores of their own
        self.n_nodes = 0  # of a cluster
        self.peak_memory = 0
        self._rate_in_the_end = 0.0

    @property
    def n_done(self) -> int:
        """Files dealt with."""
        return self.counts["indexed"] + self.counts["unchanged"] + self.counts["skipped"]

    def start_reading(self) -> None:
        """Begin to measure the rate."""
        self._reading_since, self._already_done = time.perf_counter(), self.n_done

    def stop_reading(self) -> None:
        """Keep the rate as it is now."""
        self._rate_in_the_end, self._reading_since = self._rate(), None

    def count(self, kind: str, path: bytes | None = None, reason: str | None = None) -> None:
        """Count one more file in one of the counts; send an event if its path is given."""
        self.counts[kind] += 1
        if reason is not None:
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if path is not None:
            self.emit("index", path, reason)

    def count_missing_sound(self, reason: str | None) -> None:
        """Count a film whose sound was left out for a reason; None for any other file."""
        if reason is not None:
            self.without_sound[reason] = self.without_sound.get(reason, 0) + 1

    def emit(self, phase: Phase, path: bytes | None = None, reason: str | None = None) -> None:
        """Send an event."""
        if self._on_event is None:
            return
        rate = self._rate()
        left = (self.total - self.n_done) / rate if rate else None
        counts = {kind: n for kind, n in self.counts.items() if kind not in ("copied", "captions", "moved")}
        place = os.fsdecode(path) if path is not None else None
        told = {"rate": rate, "seconds_left": left, "path": place, "reason": reason, "bound": self.bound}
        event = IngestEvent(phase, self.n_done, self.total, **counts, **told, nodes=self.n_nodes)  # type: ignore[arg-type]
        self._on_event(event)

    def start_texts(self, source: TextSource, n_files: int, seconds: float) -> None:
        """Begin to read texts of a source: how many files, and how long they last together."""
        self._texts = _TextProgress("listen" if source == "speech" else "read", n_files, seconds)
        if n_files:
            self._emit_texts(None, None)

    def count_text(self, path: bytes, seconds: float, reason: str | None) -> None:
        """Count one more file whose text was read, or why it was not; send an event."""
        self._texts.add(seconds)
        if reason is not None:
            self.unread_texts[reason] = self.unread_texts.get(reason, 0) + 1
        self._emit_texts(path, reason)

    def _emit_texts(self, path: bytes | None, reason: str | None) -> None:
        if self._on_event is not None:
            texts, place = self._texts, os.fsdecode(path) if path is not None else None
            left = texts.seconds_left
            self._on_event(
                IngestEvent(texts.phase, texts.done, texts.total, seconds_left=left, path=place, reason=reason)
            )

    @property
    def bound(self) -> Bound | None:
        """The stage that limits the run: the one that would take longest alone."""
        decoding, encoding = self.decoding, self.encoding
        seconds: dict[Bound, float] = {
            "reading": decoding.idle / self.n_decoding,
            "decoding": (decoding.busy - decoding.idle) / self.n_decoding,
            "encoding": encoding.busy / self.n_encoding,
            "writing": self.timings["writing"],
        }
        most = max(seconds, key=lambda stage: seconds[stage])
        return most if seconds[most] > 0 else None

    def report(self, stopped: bool, seen: Walk) -> IngestReport:
        """Build the final report."""
        return IngestReport(
            **self.counts,
            seconds=time.perf_counter() - self._started,
            held_back=self.held_back,
            stopped=stopped,
            reasons=dict(sorted(self.reasons.items(), key=lambda item: (-item[1], item[0]))),
            unread_folders=seen.unread_folders(),
            left_alone=seen.passed_over(),
            timings={
                **self.timings,
                "reading": self.decoding.idle,
                "decoding": self.decoding.busy - self.decoding.idle,
                "encoding": self.encoding.busy,
            },
            rate=self._rate_in_the_end,
            peak_memory=self.peak_memory,
            bound=self.bound,
            read=self.texts_read["ocr"],
            heard=self.texts_read["speech"],
            unread_texts=dict(sorted(self.unread_texts.items(), key=lambda item: (-item[1], item[0]))),
            without_sound=dict(sorted(self.without_sound.items(), key=lambda item: (-item[1], item[0]))),
        )

    def _rate(self) -> float:
        if self._reading_since is None:
            return 0.0
        return (self.n_done - self._already_done) / max(1e-6, time.perf_counter() - self._reading_since)
