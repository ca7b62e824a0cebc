"""What a library holds and what it could not read, as users see it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.addresses import as_path
from arrowlens.modalities import MODALITIES, Modality

if TYPE_CHECKING:
    from arrowlens.store import IndexState, ModelRecord, MultimodalStorage


@dataclasses.dataclass(frozen=True, slots=True)
class LibraryStatus:
    """What a library holds and how it works.

    Attributes:
        path: the library's folder; None for a library in a bucket.
        uri: the library's address: the folder, or ``s3://bucket/prefix``.
        images: pictures that can be found.
        audio: recordings that can be found.
        films: films that can be found.
        skipped: files that could not be read.
        n_bytes: of everything in the library's folder or below its prefix.
        n_retained: of them, bytes of what was removed or replaced, which a bucket keeps for a day; 0 in a folder.
        retained_until: the first run, ``optimize`` or ``remove`` that ends later deletes them; None for none.
        models: by role; each with digest, dimension, source and space.
        text_reaches_audio: whether texts find recordings.
        indexes: by role; how the vectors are stored, and whether an index (``kind``) or an exact scan (None) answers.
        folders: the folders that were ingested.
        window_s: seconds of the windows in which recordings are compared.
        hop_s: seconds from the start of a window to the start of the next one.
        next_models: the models that the library is changing to, empty when it is not.
        read: pictures whose text was looked for (``ingest(read_text=True)``).
        heard: recordings that were listened to (``ingest(transcribe=True)``).
        n_shards: parts that the library is divided into.
        calibrations: routes such as "text to image" whose relevance the user's own pairs were measured for -> how many.
    """

    path: Path | None
    uri: str
    images: int
    audio: int
    skipped: int
    n_bytes: int
    n_retained: int
    retained_until: dt.datetime | None
    models: Mapping[str, ModelRecord]
    text_reaches_audio: bool
    indexes: Mapping[str, IndexState]
    folders: tuple[Path, ...]
    window_s: float
    hop_s: float
    next_models: Mapping[str, ModelRecord]
    calibrations: Mapping[str, int]
    films: int = 0
    read: int = 0
    heard: int = 0
    n_shards: int = 1

    @property
    def text_finds(self) -> str:
        """The kinds of files that texts find, in words."""
        sees, hears = "vision" in self.models, self.text_reaches_audio
        reached: dict[Modality, bool] = {"image": sees, "audio": hears, "video": (sees or hears) and self.films > 0}
        *others, last = [MODALITIES[kind].plural for kind, is_reached in reached.items() if is_reached] or ["nothing"]
        return f"{', '.join(others)} and {last}" if others else last

    @classmethod
    def of(cls, storage: MultimodalStorage) -> Self:
        """Return the status that the store gives."""
        settings, statistics = storage.settings, storage.statistics()
        n_retained, retained_until = storage.retained()
        return cls(
            path=storage.path,
            uri=storage.uri,
            images=statistics.images,
            audio=statistics.audio,
            skipped=statistics.skipped,
            n_bytes=statistics.n_bytes,
            n_retained=n_retained,
            retained_until=retained_until,
            models=settings.models,
            text_reaches_audio=settings.text_reaches_audio,
            indexes=statistics.indexes,
            folders=tuple(as_path(root.path) for root in settings.roots),
            window_s=settings.recipe.windows.length_s,
            hop_s=settings.recipe.windows.hop_s,
            next_models=settings.next_models,
            calibrations={route: each.n_pairs for route, each in settings.calibrations.items()},
            films=statistics.films,
            read=statistics.read,
            heard=statistics.heard,
            n_shards=settings.n_shards,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that could not be read.

    Attributes:
        path: absolute.
        reason: why, in a line.
        still_found: whether searches find it: by its earlier content, or by everything but its text.
    """

    path: Path
    reason: str
    still_found: bool = False

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Return the file of a row of ``MultimodalStorage.skipped``."""
        return cls(as_path(row["absolute_path"]), row["reason"], row["state"] == "indexed")


@dataclasses.dataclass(frozen=True, slots=True)
class FolderStatus:
    """What a library knows of a folder, with everything below it.

    Attributes:
        path: absolute.
        root: the ingested folder that it belongs to; equal to ``path`` for that one itself.
        n_files: files, those that cannot be read included.
        n_bytes: their sizes on disk together.
    """

    path: Path
    root: Path
    n_files: int
    n_bytes: int

    @classmethod
    def all_of(cls, storage: MultimodalStorage) -> Iterator[Self]:
        """Yield each ingested folder, followed by the topmost folders below it, by name."""
        media = storage.all_media(["root_id", "path_bytes", "size"])
        tops = pc.replace_substring_regex(media["path_bytes"], rb"(?s)^([^/]*/)?.*$", rb"\1")
        table = pa.table({"root_id": media["root_id"], "top": tops, "size": media["size"]})
        counted = table.group_by(["root_id", "top"]).aggregate([("size", "sum"), ([], "count_all")]).to_pylist()
        for settings in storage.settings.roots:
            root = as_path(settings.path)
            rows = sorted((row for row in counted if row["root_id"] == settings.root_id), key=lambda row: row["top"])
            yield cls(root, root, sum(row["count_all"] for row in rows), sum(row["size_sum"] or 0 for row in rows))
            for row in rows:
                if row["top"]:
                    path = root / os.fsdecode(row["top"])
                    yield cls(path, root, row["count_all"], row["size_sum"] or 0)
