"""What a library holds, counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.store.index import IndexState
from arrowlens.store.schema import INDEXED


@dataclasses.dataclass(frozen=True, slots=True)
class Statistics:
    """Counts of files, and how they are stored.

    Attributes:
        images, audio: searchable files. skipped: files with a reason why they could not be read.
        trivial: searchable files of one colour or of silence.
        n_bytes: on disk, everything in the library's folder.
        indexes: state of the vector table by role.
    """

    images: int
    audio: int
    skipped: int
    trivial: int
    n_bytes: int
    indexes: Mapping[str, IndexState]


def collect(media: pa.Table, n_bytes: int, indexes: Mapping[str, IndexState]) -> Statistics:
    """Count rows of ``media`` (modality, state, reason, trivial)."""
    indexed = media.filter(pc.equal(media["state"], INDEXED))
    return Statistics(
        images=_count(pc.equal(indexed["modality"], "image")),
        audio=_count(pc.equal(indexed["modality"], "audio")),
        skipped=_count(pc.is_valid(media["reason"])),
        trivial=_count(indexed["trivial"]),
        n_bytes=n_bytes,
        indexes=indexes,
    )


def _count(flags: pa.ChunkedArray) -> int:
    return int(pc.sum(flags).as_py() or 0)
