"""Files that a library holds twice: the same bytes, copies in other files, and what is nearly the same.

Three layers, each over what the one before it leaves: "identical" groups equal bytes; "copy" compares one file of each
content; "near" compares the best file of each group of copies. So no file is to be saved twice, and whoever keeps the
best file of every group loses no picture and no recording. Nothing is ever deleted here. Pictures are compared by a
perceptual hash and their vectors, recordings by their acoustic fingerprints alone, so that no model decides, and films
by the vectors of their shots and their thumbnails.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from arrowlens.addresses import as_path
from arrowlens.errors import InputError, MediaError
from arrowlens.media.files import ExactFile
from arrowlens.modalities import ROLE_OF, Modality
from arrowlens.search.clustering import Close, Pairs, stars
from arrowlens.search.perceptual_hash import Fingerprints
from arrowlens.search.similarity import Films, Pictures, timeline

if TYPE_CHECKING:
    from arrowlens.media.acoustic_fingerprint import AcousticFingerprint, Waveform
    from arrowlens.search.waveform_matching import Recordings
    from arrowlens.store import MultimodalStorage
    from arrowlens.workers.isolated import Call

DuplicateKind = Literal["identical", "copy", "near"]
KINDS: tuple[DuplicateKind, ...] = get_args(DuplicateKind)
COMPARED = ("format", "width", "height", "duration", "sample_rate", "channels", "size")

_THUMBNAILS_AT_ONCE = 4_096  # 40 MB
_FINGERPRINTS_AT_ONCE = 256  # 10 MB
_FILMS_AT_ONCE = 256  # 100 MB where they have many shots


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """One file of a group.

    Attributes:
        path: absolute; a name that is not UTF-8 carries its bytes as surrogates (``os.fsencode`` gives them back).
        media_id, modality, content_hash: as of a ``Hit``.
        similarity: to the best file of the group, at most 1: of pictures the cosine of their vectors, of films that in
            the mean over moments, of recordings the correlation of their waveforms. 1 for the best file itself and for
            equal bytes.
        size: bytes. format: "jpeg", "wav", ...
        width, height: pixels. duration: seconds. sample_rate: Hz.
        modified: UTC. taken: by the clock of the camera or the machine, as of a ``Hit``.
    """

    path: Path
    media_id: str
    modality: Modality
    content_hash: str
    similarity: float
    size: int
    format: str | None = None
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    sample_rate: int | None = None
    channels: int | None = None
    modified: dt.datetime | None = None
    taken: dt.datetime | None = None


_COPIED = [field.name for field in dataclasses.fields(Member) if field.name not in ("path", "similarity")]


@dataclasses.dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Two files or more that are the same, or nearly.

    Attributes:
        kind: "identical": the same bytes. "copy": the same picture, recording or film in another format, size or
            quality, or a little edited. "near": nearly the same, as two shots of one moment, or a recording and a part
            of it.
        files: the best one first: the most pixels (samples and channels a second), then the most bytes, then the
            earliest change, then the path. The others resemble it, not merely one another; they come in the same order.
    """

    kind: DuplicateKind
    files: tuple[Member, ...]

    @property
    def best(self) -> Member:
        """The first: a hint which to keep, not a judgement; of two of one size the one with more bytes comes first."""
        return self.files[0]

    @property
    def saving(self) -> int:
        """Bytes of all the others."""
        return sum(member.size for member in self.files[1:])

    @property
    def differences(self) -> tuple[str, ...]:
        """The attributes of ``COMPARED`` in which the files are not all equal; none where the bytes are the same."""
        if self.kind == "identical":
            return ()
        return tuple(name for name in COMPARED if len({getattr(member, name) for member in self.files}) > 1)


class Duplicates(list[DuplicateGroup]):
    """Groups by kind, then by what could be saved, most first, then by the path of the best file.

    Attributes:
        n_not_compared: recordings that an earlier version indexed without an acoustic fingerprint, so that only equal
            bytes were looked for; ``Library.optimize`` makes their fingerprints.
    """

    def __init__(self, groups: Iterable[DuplicateGroup] = (), n_not_compared: int = 0) -> None:
        super().__init__(groups)
        self.n_not_compared = n_not_compared

    @property
    def saving(self) -> int:
        """Bytes that are there twice: of all but the best file of each group of identical files or copies."""
        return sum(group.saving for group in self if group.kind != "near")


@dataclasses.dataclass(frozen=True, slots=True)
class _File:
    """A row of ``media``."""

    row: dict[str, Any]
    path: bytes

    @property
    def media_id(self) -> str:
        """Names the place."""
        media_id: str = self.row["media_id"]
        return media_id

    @property
    def worth(self) -> tuple[Any, ...]:
        """Sorts the best first."""
        row = self.row
        if row["modality"] != "audio":
            finest = (row["width"] or 0) * (row["height"] or 0), 0
        else:
            finest = row["sample_rate"] or 0, row["channels"] or 0
        return (-finest[0], -finest[1], -row["size"], row["modified_ns"] or 0, self.path)


def find_duplicates(storage: MultimodalStorage, kinds: Collection[str] = KINDS) -> Duplicates:
    """Groups of files that are the same or nearly, as of the last ingest.

    Files that could not be read since they were indexed are left out, and so are pairs that were said to be none.
    Pictures of one colour or of a few pixels, and silence, are only ever identical. Names of one file (links) count as
    one.

    Args:
        kinds: which ones to give, of ``KINDS``.

    Returns:
        The same library always gives the same groups in the same order.

    Raises:
        InputError: a kind that there is none of. StorageError: the database refused.
    """
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise InputError(f"no kind of duplicates is called {unknown[0]!r}; there are {', '.join(KINDS)}")
    contents, distinct = _contents(storage), storage.marks.current.distinct
    groups, n_not_compared = [], 0
    if "identical" in kinds:
        groups += [_group("identical", files, [1.0] * len(files)) for files in contents if len(files) > 1]
    if "copy" in kinds or "near" in kinds:
        single = sorted((files[0] for files in contents if not files[0].row["trivial"]), key=lambda file: file.worth)
        groups += _resembling(*_pictures(storage, single), kinds, distinct)
        groups += _resembling(*_films(storage, single), kinds, distinct)
        recordings, compared = _recordings(storage, single)
        groups += _resembling(recordings, compared, kinds, distinct)
        n_not_compared = sum(file.row["modality"] == "audio" for file in single) - len(recordings)
    order = sorted(groups, key=lambda group: (KINDS.index(group.kind), -group.saving, os.fsencode(group.best.path)))
    return Duplicates(order, n_not_compared)


def complete_fingerprints(storage: MultimodalStorage, call: Call) -> int:
    """Make the acoustic fingerprints that recordings of an earlier version lack; return their number.

    A recording that is gone, has changed or cannot be decoded keeps having none.

    Args:
        storage: of the library.
        call: calls the function that decodes a file.

    Raises:
        LibraryBusyError, StorageError: another process is writing; the database refused.
    """
    files = [files[0] for files in _contents(storage) if _is_compared_by_sound(files[0])]
    n_made = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # without the writer lock, but for what is written
        held = _fingerprints(storage, files, "spectrum")
        missing = [file.row["content_hash"] for file in files if file.row["content_hash"] not in held]
        for start in range(0, len(missing), _FINGERPRINTS_AT_ONCE):
            part = missing[start : start + _FINGERPRINTS_AT_ONCE]
            places = [storage.media_of(content).to_pylist() for content in part]
            made = dict(zip(part, pool.map(lambda rows: _decoded_fingerprint(rows, call), places), strict=True))
            stored = {content: parts for content, parts in made.items() if parts is not None}
            storage.upsert_fingerprints(stored)
            n_made += len(stored)
    return n_made


def _resembling(
    files: list[_File],
    compared: Pictures | Recordings | Films,
    kinds: Collection[str],
    distinct: Collection[tuple[str, str]],
) -> Iterator[DuplicateGroup]:
    """Copies, and what is nearly the same among the best ones of them; pairs that are ``distinct`` never resemble."""
    contents = [file.row["content_hash"] for file in files]
    copies = stars(np.arange(len(files)), _without(compared.copies, contents, distinct))
    if "copy" in kinds:
        for group in copies:
            yield _group("copy", [files[at] for at in group], compared.similarities(group))
    if "near" in kinds:
        worse = [group[1:] for group in copies]
        best = np.setdiff1d(np.arange(len(files)), np.concatenate([np.empty(0, np.int64), *worse]))
        for group in stars(best, _without(compared.near, contents, distinct)):
            yield _group("near", [files[at] for at in group], compared.similarities(group))


def _without(close: Close, contents: Sequence[str], distinct: Collection[tuple[str, str]]) -> Close:
    """Return ``close`` without pairs of contents that are no duplicates of each other."""
    if not distinct:
        return close
    involved = np.isin(contents, list({content for pair in distinct for content in pair}))

    def kept(rows: np.ndarray, columns: np.ndarray) -> Pairs:
        left, right = close(rows, columns)
        keep = np.ones(len(left), bool)
        for at in np.flatnonzero(involved[left] & involved[right]).tolist():
            one, other = contents[left[at]], contents[right[at]]
            keep[at] = (min(one, other), max(one, other)) not in distinct
        return left[keep], right[keep]

    return kept


def _group(kind: DuplicateKind, files: Sequence[_File], similarities: Iterable[float]) -> DuplicateGroup:
    members = [
        Member(path=as_path(file.path), similarity=similarity, **{name: file.row[name] for name in _COPIED})
        for file, similarity in zip(files, similarities, strict=True)
    ]
    return DuplicateGroup(kind, tuple(members))


def _contents(storage: MultimodalStorage) -> list[list[_File]]:
    """What can be found, by content: the files that hold it, the best first; files of one inode count once."""
    columns = [
        *("media_id", "root_id", "path_bytes", "content_hash", "size", "modified_ns", "modified", "modality", "format"),
        *("width", "height", "duration", "sample_rate", "channels", "taken", "trivial", "state", "reason"),
    ]
    roots = {root.root_id: root for root in storage.settings.roots}
    by_content: dict[str, list[_File]] = {}
    for row in storage.all_media(columns).to_pylist():
        if row["state"] == "indexed" and row["reason"] is None and row["root_id"] in roots:
            file = _File(row, roots[row["root_id"]].absolute(row["path_bytes"]))
            by_content.setdefault(row["content_hash"], []).append(file)
    return [_distinct(sorted(files, key=lambda file: file.worth)) for files in by_content.values()]


def _distinct(files: list[_File]) -> list[_File]:
    """Without further names of the same file on the disk; of those, what is no symbolic link stays."""
    if len(files) < 2:
        return files
    kept: dict[Any, _File] = {}
    for file in sorted(files, key=lambda file: os.path.islink(file.path)):  # noqa: PTH114 - bytes
        try:
            status = os.stat(file.path)  # noqa: PTH116 - bytes
        except OSError:
            kept[file.media_id] = file  # gone, or on a disk that is not there now: what is known of it holds
        else:
            kept.setdefault((status.st_dev, status.st_ino), file)
    return sorted(kept.values(), key=lambda file: file.worth)


def _pictures(storage: MultimodalStorage, files: Iterable[_File]) -> tuple[list[_File], Pictures]:
    """Those that have a thumbnail; without a vector a picture is compared by its hash alone."""
    seen, fingerprints = _with_thumbnails(storage, [file for file in files if file.row["modality"] == "image"])
    scanned = storage.scan_vectors(ROLE_OF["image"], {file.media_id: file.row["content_hash"] for file in seen})
    vectors = np.zeros((len(seen), scanned.vectors.shape[1]), np.float16)
    vectors[scanned.owners] = scanned.vectors
    return seen, Pictures(fingerprints, vectors)


def _films(storage: MultimodalStorage, files: Iterable[_File]) -> tuple[list[_File], Films]:
    """Those that have a thumbnail and vectors of shots."""
    files = [file for file in files if file.row["modality"] == "video"]
    role, timelines = ROLE_OF["image"], dict[str, np.ndarray]()
    for start in range(0, len(files) if storage.has_vectors(role) else 0, _FILMS_AT_ONCE):
        part = {file.row["content_hash"]: file.row["duration"] or 0.0 for file in files[start : start + _FILMS_AT_ONCE]}
        for content, rows in storage.vector_rows(role, part).items():
            starts = np.array([row.start or 0.0 for row in rows])
            timelines[content] = timeline(starts, np.stack([row.embedding for row in rows]), part[content])
    seen, fingerprints = _with_thumbnails(storage, [file for file in files if file.row["content_hash"] in timelines])
    vectors = np.stack([timelines[file.row["content_hash"]] for file in seen]) if seen else np.zeros((0, 1), np.float16)
    durations = np.array([file.row["duration"] or 0.0 for file in seen])
    return seen, Films(Pictures(fingerprints, vectors), durations)


def _with_thumbnails(storage: MultimodalStorage, files: Sequence[_File]) -> tuple[list[_File], Fingerprints]:
    """The files that have a thumbnail, and the fingerprints of these."""
    seen: list[_File] = []
    parts = [Fingerprints.of([])]
    for start in range(0, len(files), _THUMBNAILS_AT_ONCE):
        part = files[start : start + _THUMBNAILS_AT_ONCE]
        thumbnails = storage.thumbnails([file.row["content_hash"] for file in part])
        part = [file for file in part if file.row["content_hash"] in thumbnails]
        parts.append(Fingerprints.of([thumbnails[file.row["content_hash"]] for file in part]))
        seen += part
    return seen, Fingerprints.joined(parts)


def _recordings(storage: MultimodalStorage, files: Iterable[_File]) -> tuple[list[_File], Recordings]:
    """Those that have an acoustic fingerprint. Waveforms are read for the pairs that need them: up to 41 kB each."""
    from arrowlens.media.acoustic_fingerprint import Waveform  # deferred: a search needs none of it
    from arrowlens.search.waveform_matching import Recordings, spectra_of

    files = [file for file in files if file.row["modality"] == "audio"]
    spectra = _fingerprints(storage, files, "spectrum")
    seen = [file for file in files if file.row["content_hash"] in spectra]

    def waveforms(positions: Sequence[int]) -> list[Waveform | None]:
        part = [seen[position] for position in positions]
        stored = _fingerprints(storage, part, "waveform")
        return [Waveform.unpack(stored.get(file.row["content_hash"], b"")) for file in part]

    return seen, Recordings(spectra_of([spectra[file.row["content_hash"]] for file in seen]), waveforms)


def _fingerprints(storage: MultimodalStorage, files: Iterable[_File], part: str) -> dict[str, bytes]:
    return storage.fingerprints([file.row["content_hash"] for file in files], part)


def _is_compared_by_sound(file: _File) -> bool:
    return file.row["modality"] == "audio" and not file.row["trivial"]


def _decoded_fingerprint(rows: Iterable[dict[str, Any]], call: Call) -> tuple[bytes, bytes] | None:
    """Of the first place of a content at which it can be decoded; None where there is no such place."""
    from arrowlens.media import decode_fingerprint  # deferred: decoders, which a search needs none of

    for row in rows:
        with suppress(MediaError):  # another place of the same content may do
            fingerprint: AcousticFingerprint | None = call(
                decode_fingerprint, ExactFile.of_row(row), row["content_hash"]
            )
            if fingerprint is not None:
                return fingerprint.parts
    return None
