"""What a library holds, counted from the columns of ``media``: for its status, and for filters."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Mapping
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.deprecation import renamed_property
from arrowlens.store.identifiers import INDEXED
from arrowlens.store.index import IndexState

TAGS = ("camera", "artist", "album")
FACETS = (
    "modality",
    "format",
    "folder",
    "size",
    "duration",
    "taken",
    *TAGS,
    "place",
    "source",
    "language",
    "favourite",
)
FACET_COLUMNS = (
    *("root_id", "path", "modality", "format", "size", "duration", "taken", "state"),
    *(*TAGS, "latitude"),
)

_KIB, _MIB = 1024, 1024**2
SIZE_EDGES = (100 * _KIB, _MIB, 10 * _MIB, 100 * _MIB)  # bytes
DURATION_EDGES = (10, 60, 600, 3600)  # seconds


@dataclasses.dataclass(frozen=True, slots=True)
class Statistics:
    """Counts of files, and how they are stored.

    Attributes:
        images, audio, films: searchable files. skipped: files with a reason why they could not be read.
        trivial: searchable files of one colour or of silence.
        n_bytes: on disk, everything of the library.
        indexes: state of the vector table by role.
        read: searchable pictures whose text was looked for. heard: searchable recordings that were listened to.
    """

    images: int
    audio: int
    skipped: int
    trivial: int
    n_bytes: int
    indexes: Mapping[str, IndexState]
    films: int = 0
    read: int = 0
    heard: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Facets:
    """Counts of searchable files.

    Attributes:
        modalities: by modality, most files first.
        formats: by "jpeg", "wav", ..., most files first.
        folders: by path relative to the root, with everything below; without the root itself.
        roots: by id of the root.
        sizes: in the len(SIZE_EDGES) + 1 intervals between ``SIZE_EDGES`` (bytes).
        durations: of recordings and films, in the intervals between ``DURATION_EDGES`` (seconds).
        earliest, latest: day of ``taken``; None when no file has one.
        cameras, artists, albums: by name, most files first.
        n_placed: files that say where they were taken.
        sources: files with text that was read ("ocr") or heard ("speech") in them, most files first.
        languages: files by the language of such a text, as ISO 639-1 names it, most files first.
    """

    modalities: Mapping[str, int]
    formats: Mapping[str, int]
    folders: Mapping[str, int]
    roots: Mapping[str, int]
    sizes: tuple[int, ...]
    durations: tuple[int, ...]
    earliest: dt.date | None
    latest: dt.date | None
    cameras: Mapping[str, int] = dataclasses.field(default_factory=dict)
    artists: Mapping[str, int] = dataclasses.field(default_factory=dict)
    albums: Mapping[str, int] = dataclasses.field(default_factory=dict)
    n_placed: int = 0
    sources: Mapping[str, int] = dataclasses.field(default_factory=dict)
    languages: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def n_files(self) -> int:
        """Number of files."""
        return sum(self.modalities.values())

    kinds = renamed_property("kinds", "modalities")


def statistics_of(media: pa.Table, readings: pa.Table) -> Statistics:
    """Count rows of ``media`` (modality, state, reason, trivial, content_hash) and of ``readings``.

    How they are stored is not counted: ``n_bytes`` is 0, and there are no ``indexes``.
    """
    indexed = media.filter(pc.equal(media["state"], INDEXED))

    def n_read(source: str) -> int:
        contents = readings["content_hash"].filter(pc.equal(readings["source"], source))
        return int(pc.sum(pc.is_in(indexed["content_hash"], value_set=contents)).as_py() or 0)

    def count(flags: pa.ChunkedArray) -> int:
        return int(pc.sum(flags).as_py() or 0)

    return Statistics(
        images=count(pc.equal(indexed["modality"], "image")),
        audio=count(pc.equal(indexed["modality"], "audio")),
        skipped=count(pc.is_valid(media["reason"])),
        trivial=count(indexed["trivial"]),
        n_bytes=0,
        indexes={},
        films=count(pc.equal(indexed["modality"], "video")),
        read=n_read("ocr"),
        heard=n_read("speech"),
    )


def facets_of(media: pa.Table, kept: Mapping[str, pa.ChunkedArray], texts: pa.Table) -> Facets:
    """Count rows of ``media`` (``FACET_COLUMNS``) that are searchable.

    Args:
        media: n rows, with their ``content_hash`` where there are texts.
        texts: ``content_hash, source, language`` of what was read and heard.
        kept: the rows that each filter keeps, (n,) bool. A filter with the name of a facet is not applied to its facet,
            which so shows what else could be chosen.
    """

    def column(name: str, facet: str) -> pa.ChunkedArray:
        masks = [mask for by, mask in kept.items() if by != facet]
        return media[name].filter(reduce(pc.and_, masks, pc.equal(media["state"], INDEXED)))

    def by_text(name: str) -> dict[str, int]:
        if not texts.num_rows:
            return {}
        contents = pa.table({"content_hash": column("content_hash", name)})
        known = texts.select(["content_hash", name]).group_by(["content_hash", name]).aggregate([])
        return _counts(known.join(contents, "content_hash", join_type="inner")[name])

    span = pc.min_max(column("taken", "taken")).as_py()
    return Facets(
        modalities=_counts(column("modality", "modality")),
        formats=_counts(column("format", "format")),
        folders=_folders(column("path", "folder")),
        roots=_counts(column("root_id", "folder")),
        sizes=_histogram(column("size", "size"), SIZE_EDGES),
        durations=_histogram(column("duration", "duration"), DURATION_EDGES),
        earliest=span["min"].date() if span["min"] is not None else None,
        latest=span["max"].date() if span["max"] is not None else None,
        cameras=_counts(column("camera", "camera")),
        artists=_counts(column("artist", "artist")),
        albums=_counts(column("album", "album")),
        n_placed=(placed := column("latitude", "place")).length() - placed.null_count,
        sources=by_text("source"),
        languages=by_text("language"),
    )


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    pairs = [(each["values"], each["counts"]) for each in pc.value_counts(values).to_pylist()]
    return dict(sorted(((value, count) for value, count in pairs if value is not None), key=lambda p: (-p[1], p[0])))


def _folders(paths: pa.ChunkedArray) -> dict[str, int]:
    """Count a file for its own folder and for all folders above."""
    own = pc.replace_substring_regex(paths, r"(?s)/?[^/]*$", "")
    totals: Counter[str] = Counter()
    for folder, count in _counts(own).items():
        parts = folder.split("/") if folder else []
        for depth in range(len(parts)):
            totals["/".join(parts[: depth + 1])] += count
    return dict(sorted(totals.items()))


def _histogram(values: pa.ChunkedArray, edges: tuple[int, ...]) -> tuple[int, ...]:
    known = values.drop_null().to_numpy().astype(np.float64)
    bins = np.searchsorted(np.array(edges), known, side="right")
    return tuple(np.bincount(bins, minlength=len(edges) + 1).tolist())
