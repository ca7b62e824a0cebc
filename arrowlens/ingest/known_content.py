"""Recognises files whose content the library holds at another place, so that they are not decoded again."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from arrowlens.embedding import EmbeddingPlan, Inputs
from arrowlens.ingest.diff import Known, decide
from arrowlens.ingest.prepare import Preparer
from arrowlens.ingest.step import Outcome, StepSpec
from arrowlens.ingest.walk import ScannedFile, etag_of
from arrowlens.media import Decoded
from arrowlens.modalities import MODALITIES, ROLE_OF, roles_of
from arrowlens.store import MEDIA_LAYOUT, MultimodalStorage

_AT_ONCE = 256  # files
_MOST_EXCHANGED = 1_000  # files, whose vectors are in memory together
_THREADS = 4  # that wait for the disk
# Columns of ``media`` that depend on the content alone, under the same names in ``Decoded``.
_OF_CONTENT = (
    "modality",
    "content_hash",
    "size",
    "format",
    "width",
    "height",
    "duration",
    "sample_rate",
    "channels",
    "captured_at",
    "camera",
    "latitude",
    "longitude",
    "title",
    "artist",
    "album",
    "description",
    "trivial",
)


def known_outcomes(
    storage: MultimodalStorage,
    spec: StepSpec,
    files: Sequence[ScannedFile],
    known: Mapping[str, Known],
    stop: threading.Event,
) -> Iterator[list[Outcome]]:
    """Yield the outcomes of files whose content the library holds: they take its row and its vectors.

    Only files of the size of a known one are read, objects in a bucket only if the ETag is the same as well. Loads no
    model. The outcomes of a list are executed before anything is committed: files that exchanged their contents take
    them from each other's places, which the commit replaces. Where too many did, the others are left to be read.

    Args:
        storage: the library.
        spec: what outcomes depend on.
        files: that have to be read.
        known: what the library holds, by media id.
        stop: once it is set, no more files are read.

    Raises:
        StorageError: the database refused.
    """
    complete = {media_id: each for media_id, each in known.items() if _is_complete(each)}
    replaced = {file.media_id for file in files}
    held = {each.content_hash: media_id for media_id, each in complete.items() if media_id in replaced}
    held |= {each.content_hash: media_id for media_id, each in complete.items() if media_id not in replaced}
    versions = {_version(known[media_id]) for media_id in held.values()}
    candidates = [file for file in files if _version(file) in versions]
    preparer = Preparer(spec.source, EmbeddingPlan(None), spec.limits)
    exchanged: list[_Copy] = []

    def outcomes(copies: Sequence[_Copy]) -> list[Outcome]:
        table = storage.media(sorted({copy.source for copy in copies}))
        rows = {row["media_id"]: row for row in table.to_pylist()}
        return [
            _outcome(preparer, spec, copy.file, rows[copy.source], known.get(copy.file.media_id))
            for copy in copies
            if copy.source in rows and rows[copy.source]["content_hash"] == copy.content
        ]

    with ThreadPoolExecutor(_THREADS, "hash") as threads:
        for start in range(0, len(candidates), _AT_ONCE):
            if stop.is_set():
                return
            part = candidates[start : start + _AT_ONCE]
            pairs = zip(part, threads.map(preparer.content, part), strict=True)
            copies = [_Copy(file, content, held[content]) for file, content in pairs if content in held]
            exchanged += [copy for copy in copies if copy.source in replaced]
            if staying := [copy for copy in copies if copy.source not in replaced]:
                yield outcomes(staying)
    if exchanged:
        yield outcomes(exchanged[:_MOST_EXCHANGED])


class _Copy(NamedTuple):
    """A file, its content, and the media id of a row of that content."""

    file: ScannedFile
    content: str | None
    source: str


def _version(file: Known | ScannedFile) -> tuple[int | None, str | None]:
    return file.size, etag_of(file.file_id)


def _is_complete(known: Known) -> bool:
    """Return whether the row says all that decoding the content again would say."""
    is_whole = known.indexed and not known.missing and known.reason is None
    return is_whole and known.layout == MEDIA_LAYOUT and not known.lacks_sound


def _outcome(
    preparer: Preparer, spec: StepSpec, file: ScannedFile, row: Mapping[str, Any], before: Known | None
) -> Outcome:
    decoded = Decoded(reason=None, metadata=dict(row["metadata"] or ()), **{name: row[name] for name in _OF_CONTENT})
    encoded = roles_of(decoded.modality, has_sound=decoded.sample_rate is not None)
    assert decoded.modality is not None
    inputs = [Inputs(one) for one in MODALITIES[decoded.modality].inputs if ROLE_OF[one] in encoded]
    prepared = preparer.with_caption(file, decoded, tuple(inputs))
    action = decide(before, prepared, spec.roles)
    is_copy = action.writes == "vectors"
    return Outcome(prepared, action, {role: None for role in prepared.roles if role in spec.roles} if is_copy else {})
