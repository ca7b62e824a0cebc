"""A library seen from outside: what it holds, how it works, and what it could not read."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from arrowlens.encoders import Runtime
    from arrowlens.store import IndexState, ModelRecord, Settings, Statistics


@dataclasses.dataclass(frozen=True, slots=True)
class LibraryStatus:
    """What a library holds and how it works.

    Attributes:
        images, audio: files that can be found. skipped: files that could not be read.
        n_bytes: of everything in the library's folder.
        models: by role; each with digest, dimension, source and space.
        next_models: those that the library is changing to, empty when it is not.
        text_reaches_audio: whether ``search`` finds recordings.
        device, precision, precision_reason: where models run, in which numbers, and why in those.
        indexes: by role; how the vectors are stored, and whether an index (``kind``) or an exact scan (None) answers.
        folders: that were ingested.
        window_s, hop_s: recordings are compared in windows of so many seconds, one every so many.
    """

    path: Path
    images: int
    audio: int
    skipped: int
    n_bytes: int
    models: Mapping[str, ModelRecord]
    text_reaches_audio: bool
    device: str
    precision: str
    precision_reason: str
    indexes: Mapping[str, IndexState]
    folders: tuple[Path, ...]
    window_s: float
    hop_s: float
    next_models: Mapping[str, ModelRecord]

    @classmethod
    def of(cls, path: Path, settings: Settings, statistics: Statistics, runtime: Runtime) -> Self:
        """Put together from what the store and the encoders say."""
        return cls(
            path=path,
            images=statistics.images,
            audio=statistics.audio,
            skipped=statistics.skipped,
            n_bytes=statistics.n_bytes,
            models=settings.models,
            text_reaches_audio=settings.text_reaches_audio,
            device=str(runtime.device),
            precision=runtime.precision,
            precision_reason=runtime.reason,
            indexes=statistics.indexes,
            folders=tuple(Path(root.path) for root in settings.roots),
            window_s=settings.window_s,
            hop_s=settings.hop_s,
            next_models=settings.next_models,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that could not be read. ``still_found``: its earlier content is in the library."""

    path: Path
    reason: str
    still_found: bool = False

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """From a row of ``MultimodalStorage.skipped``."""
        return cls(Path(os.fsdecode(row["absolute_path"])), row["reason"], row["state"] == "indexed")
