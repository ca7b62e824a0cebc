"""Compares a walk with the library: what has to be read, what becomes of a file, and what leaves."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.addresses import is_bucket, is_manifest, local_path
from arrowlens.errors import FolderError, LibraryNotFoundError, MediaError
from arrowlens.ingest.bucket import Sources
from arrowlens.ingest.prepare import Prepared
from arrowlens.ingest.source import Source
from arrowlens.ingest.walk import LeftAlone, ScannedFile, Stamp, Walk, etag_of, resolve_folders, unmounted
from arrowlens.media.files import bounded_ns
from arrowlens.modalities import (
    FORMAT_MODALITY,
    MEDIA_ROLES,
    MODALITIES,
    ROLE_OF,
    ROLES_OF,
    SOUND_MISSING,
    Input,
    TextSource,
    roles_of,
)
from arrowlens.store import (
    INDEXED,
    MEDIA_LAYOUT,
    IdRange,
    MultimodalStorage,
    Root,
    Settings,
    media_id_of,
    range_of,
    relative_to,
)
from arrowlens.store.location import location_at

_COLUMNS = [
    "media_id",
    "root_id",
    "path_bytes",
    "size",
    "modified_ns",
    "content_hash",
    "modality",
    "state",
    "reason",
    "caption_stamp",
    "layout",
    "real_path",
    "file_id",
    "format",
    "sample_rate",
    "metadata",
]
# Rows from this layout on lack nothing that only the file itself can tell.
_COMPLETE_SINCE = 2
_FILMS_SINCE = 4  # layout; before, films were recordings, or skipped for want of sound
_CAPTION_UNKNOWN = "its caption could not be looked for; the next run reads the file"
# A run that would remove more of a root asks first: a share together with a number, or a number alone.
SHARE, N_OF_SHARE, N_AT_MOST = 0.5, 20, 1_000


@dataclass(frozen=True, slots=True)
class Known:
    """What the library holds of a file: columns of its row in ``media``.

    Attributes:
        indexed: searchable, with vectors that are really there.
        roles: of its vectors. missing: those that it lacks, of the models that the library has.
        was_recording: a film may be meant: it is of a container that earlier versions read for its sound alone.
        layout: schema version that the row was written in; None before there was such a column.
        lacks_sound: it is a film whose sound was left out, since it was too long or could not be decoded.
        real_path: of the file that was read, as of ``ScannedFile``; None in rows of an earlier layout.
        file_id: likewise.
        is_read_anew: this run reads the file, so that its vectors may be replaced before a copy could take them.
    """

    root_id: str
    path_bytes: bytes
    size: int | None
    modified_ns: int | None
    content_hash: str | None
    reason: str | None
    indexed: bool
    caption_stamp: str | None = None
    layout: int | None = None
    real_path: bytes | None = None
    file_id: str | None = None
    modality: str | None = None
    roles: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()
    was_recording: bool = False
    lacks_sound: bool = False
    is_read_anew: bool = False

    def is_same_file(self, file: ScannedFile) -> bool:
        """Return whether size and time, or the ETag, say that the content is what it was."""
        return file.size is not None and self.stamp == file.stamp

    def is_current(self, file: ScannedFile) -> bool:
        """Return whether there is nothing to read: it is searchable, and the file and its caption are as they were.

        Device numbers change when a system starts anew, and some file systems number files afresh each time. A file
        that has another name, by a link of either kind, is read: whoever may write into a folder must not pass another
        file off as one that was read, by giving a file of their own its size and time first.
        """
        return (
            self.indexed
            and not self.missing
            and not self.was_recording
            and self.reason is None
            and (self.layout or 0) >= _COMPLETE_SINCE
            and self.caption_stamp == file.caption_stamp
            and self.is_same_file(file)
            and self.real_path == file.real_path
            and (self._has_same_inode(file) or not (file.is_linked or file.real_path))
        )

    def is_recorded(self, file: ScannedFile) -> bool:
        """Return whether the row of a current file says all that the walk saw."""
        return self.layout == MEDIA_LAYOUT and self.file_id == file.file_id

    def _has_same_inode(self, file: ScannedFile) -> bool:
        return self.file_id is not None and self.file_id.split(":")[1:] == (file.file_id or "").split(":")[1:]

    @property
    def stamp(self) -> Stamp:
        """The version that was read, as of ``ScannedFile``."""
        return self.size, etag_of(self.file_id) or self.modified_ns

    @property
    def ledger_entry(self) -> tuple[Hashable, ...]:
        """Return the columns that say why a file could not be read."""
        return *self.stamp, self.content_hash, self.reason


@dataclass(frozen=True, slots=True)
class Action:
    """What happens to a file that was opened, or refused without that.

    Attributes:
        writes: "vectors" writes those of its content and its row of ``media``; "row" the row alone; "stamp" size, time
            and place in the row that is there; "reason" the reason in the row that is there, which stays searchable.
        counts_as: how the report counts it.
        reason: why it is skipped; None for other files.
    """

    writes: Literal["nothing", "vectors", "row", "stamp", "reason"]
    counts_as: Literal["indexed", "unchanged", "skipped"]
    reason: str | None = None


def decide(known: Known | None, prepared: Prepared, models: Container[str]) -> Action:
    """Decide a file's fate. Pure: the writer does what this says.

    What cannot be read now never deletes what was indexed of a file, unless the content is known to be another one.

    Args:
        known: what the library holds of its place; None for nothing.
        prepared: what opening it gave.
        models: roles that the library has models for.
    """
    content = None if prepared.unread else prepared.decoded.content_hash
    is_indexed = known is not None and known.indexed
    has_vectors = known is not None and known.indexed and known.content_hash == content
    wanted = {role for role in prepared.roles if role in models}
    reason = prepared.decoded.reason
    if reason is None and not wanted:
        reason = _no_model(prepared.decoded.modality)
    elif reason is None and not (has_vectors and known is not None and wanted <= known.roles):
        return Action("vectors", "indexed")
    elif reason is None and not prepared.caption_unread:
        return Action("row", "unchanged")
    elif reason is None:
        reason = "the text file with its caption cannot be read; check its permissions, or where it links to"
        return _noted(known, reason)
    is_unseen = content is None and known is not None and known.size == prepared.file.size  # too large to be looked at
    if is_indexed and (prepared.unread or is_unseen):
        return _noted(known, reason)
    if has_vectors:
        return Action("stamp", "unchanged")  # the very content that was read before: its vectors are as good as ever
    is_recorded = known is not None and not is_indexed and known.ledger_entry == (*prepared.file.stamp, content, reason)
    return Action("nothing" if is_recorded else "row", "skipped", reason)


def _no_model(modality: str | None) -> str:
    return f"the library has no model for {modality} files"


def _noted(known: Known | None, reason: str) -> Action:
    """Return the action by which what was indexed stays, and the next run tries again."""
    is_recorded = known is not None and known.reason == reason
    return Action("nothing" if is_recorded else "reason", "skipped", reason)


@dataclass(slots=True)
class Plan:
    """What a run has to do.

    Attributes:
        to_read: files to open.
        refused: files that are not opened, since the library has no model for them.
        unchanged: files that are as the library has them.
        moved_disk: unchanged files whose device or inode is another one, which is to be recorded.
        still_bad: unreadable files that are as the library has them, with the reason.
        gone: ids of files that are no longer on disk.
        ignored: ids of files that an ignore file names.
        superseded: ids of files below a link to a folder whose files are indexed by their real place; the value is the
            id there.
        known: what the library holds, by id, of files to be read, refused, gone or ignored, of the superseded ones and
            their real places, and of files of the sizes of those to be read, which may be copies of them.
        n_known: how many files the library has, by the id of their root.
    """

    to_read: list[ScannedFile] = field(default_factory=list)
    refused: list[ScannedFile] = field(default_factory=list)
    unchanged: list[ScannedFile] = field(default_factory=list)
    moved_disk: list[ScannedFile] = field(default_factory=list)
    still_bad: list[tuple[ScannedFile, str]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    superseded: dict[str, str] = field(default_factory=dict)
    known: dict[str, Known] = field(default_factory=dict)
    n_known: Counter[str] = field(default_factory=Counter)


def compare(storage: MultimodalStorage, walk: Walk, *, retry: bool) -> Plan:
    """Compare the files of a walk with the library, one range of ids after another.

    No more of the library is in memory than one range, and what is kept of it as ``Plan.known``.

    Args:
        storage: the library.
        walk: the files.
        retry: open files again that could not be read and have not changed, and films whose sound was left out.

    Raises:
        StorageError: the database refused.
    """
    comparison, ranges = _Comparison(storage.settings, walk, retry), storage.id_ranges()
    of_range: list[list[ScannedFile]] = [[] for _ in ranges]
    for file in walk.files:
        of_range[range_of(ranges, file.media_id)].append(file)
    for ids, files in zip(ranges, of_range, strict=True):
        comparison.add(files, _read_known(storage, ids))
        files.clear()
    plan, moved = comparison.plan, comparison.find_moved()
    sizes = {file.size for file in plan.to_read}
    for ids in ranges if sizes or moved else ():
        plan.known |= _read_known(storage, ids, sizes, moved)
    comparison.finish()
    return plan


class _Comparison:
    """Compares a walk with the library, of which it is given one range of ids after another.

    Attributes:
        plan: what a run has to do.
    """

    def __init__(self, settings: Settings, walk: Walk, retry: bool) -> None:
        self.plan = Plan()
        self._settings, self._walk, self._retry = settings, walk, retry
        self._roots = {root.root_id: root for root in settings.roots}
        self._renamed = _renamed_roots(settings, walk)
        self._moved: dict[str, bytes] = {}  # files that were not listed, by id: the path where they may be listed
        self._behind_links: set[str] = set()  # of them: it is enough that the library knows the other path
        self._unlisted: dict[str, str] = {}  # of these, by id: the id of the other path

    def add(self, files: Iterable[ScannedFile], known: dict[str, Known]) -> None:
        """Compare the files of a range of ids with what the library holds of that range."""
        self.plan.n_known.update(row.root_id for row in known.values())
        seen = set()
        for file in files:
            media_id = file.media_id
            seen.add(media_id)
            self._add_file(media_id, file, known.get(media_id))
        for media_id in known.keys() - seen:
            if known[media_id].root_id in self._roots:
                self._add_missing(media_id, known[media_id])

    def find_moved(self) -> set[str]:
        """Look up files that were not listed at their other places; return the ids of these, to be added to ``plan``.

        What the library knows of them is added before ``finish``.
        """
        wanted = {*self._moved.values()}
        listed = {file.path: file.media_id for file in self._walk.files if file.path in wanted} if wanted else {}
        for media_id, path in self._moved.items():
            if path in listed:
                self.plan.superseded[media_id] = listed[path]
            elif media_id in self._behind_links and (there := _id_at(self._settings, path)):
                self._unlisted[media_id] = there
        return {*self.plan.superseded.values(), *self._unlisted.values()}

    def finish(self) -> None:
        """Decide what becomes of files whose other place was not listed, and put everything in order."""
        plan = self.plan
        for media_id in self._moved.keys() - plan.superseded.keys():
            there = self._unlisted.get(media_id)
            if there in plan.known:
                plan.superseded[media_id] = there
            else:
                self._add_gone(media_id)
        plan.superseded = dict(sorted(plan.superseded.items()))
        for media_ids in (plan.gone, plan.ignored):
            media_ids.sort()
        for files in (plan.to_read, plan.refused, plan.unchanged, plan.moved_disk):
            files.sort(key=lambda file: file.path)
        plan.still_bad.sort(key=lambda pair: pair[0].path)

    def _add_file(self, media_id: str, file: ScannedFile, before: Known | None) -> None:
        plan, models = self.plan, self._settings.models
        keeps_caption = file.is_caption_unknown and before is not None and before.caption_stamp is not None
        if keeps_caption and before is not None:
            file = dataclasses.replace(file, caption_stamp=before.caption_stamp)
        if before is not None and before.is_current(file) and not (self._retry and before.lacks_sound):
            (plan.unchanged if before.is_recorded(file) else plan.moved_disk).append(file)
        elif not any(role in models for role in ROLES_OF[file.modality]):
            self._note(plan.refused, media_id, file, before)
        elif not self._retry and before is not None and _is_still_bad(before, file):
            plan.still_bad.append((file, before.reason or ""))
        elif keeps_caption:  # reading the file would forget it
            plan.still_bad.append((file, _CAPTION_UNKNOWN))
        else:
            self._note(plan.to_read, media_id, file, before)

    def _note(self, files: list[ScannedFile], media_id: str, file: ScannedFile, before: Known | None) -> None:
        files.append(file)
        if before is not None:
            self.plan.known[media_id] = before

    def _add_missing(self, media_id: str, known: Known) -> None:
        """Sort a file that the walk did not list: ignored, to be looked for at another place, or gone."""
        path = self._path(known)
        self.plan.known[media_id] = known
        place = self._walk.real_place(path)
        if place is not None:
            self._behind_links.add(media_id)
        elif known.root_id in self._renamed:
            place = self._renamed[known.root_id].absolute(known.path_bytes)
        elif known.real_path is not None and self._walk.covers(known.real_path):
            place = known.real_path if not os.path.islink(path) else None  # noqa: PTH114 - bytes
        if self._walk.ignores(path):
            self.plan.ignored.append(media_id)
        elif place is not None:
            self._moved[media_id] = place
        else:
            self._add_gone(media_id)

    def _add_gone(self, media_id: str) -> None:
        path = self._path(self.plan.known[media_id])
        if self._walk.covers(path) and _is_absent(path):
            self.plan.gone.append(media_id)
        else:
            del self.plan.known[media_id]

    def _path(self, known: Known) -> bytes:
        return self._roots[known.root_id].absolute(known.path_bytes)


def former_mounts(storage: MultimodalStorage, settings: Settings) -> tuple[str, ...]:
    """Return the mount points without a disk where a file of the library lies as it was recorded.

    Their files were put back without the disk, by a copy or in another container. A folder that merely holds something
    does not say so.
    """
    away = unmounted(settings.mounts)
    if not away:
        return ()
    columns = storage.all_media(["root_id", "path_bytes", "size", "modified_ns"]).to_pylist()
    roots = {root.root_id: root for root in settings.roots}
    rows = [(roots[row["root_id"]].absolute(row["path_bytes"]), row) for row in columns if row["root_id"] in roots]
    return tuple(
        mount
        for mount in away
        if any(relative_to(mount, os.fsdecode(path)) is not None and _is_there(path, row) for path, row in rows)
    )


def _is_there(path: bytes, row: Mapping[str, Any]) -> bool:
    try:
        status = os.stat(path)  # noqa: PTH116 - bytes
    except OSError:
        return False
    return (status.st_size, bounded_ns(status.st_mtime_ns)) == (row["size"], row["modified_ns"])


def _read_known(
    storage: MultimodalStorage, ids: IdRange, sizes: set[int | None] | None = None, also: Collection[str] = ()
) -> dict[str, Known]:
    """Return what the library holds of the files in a range of ids.

    Args:
        storage: the library.
        ids: the range.
        sizes: of all files in the range, those of these sizes; None for all.
        also: ids of other files in it.
    """
    models, known = storage.settings.models, dict[str, Known]()
    rows = storage.all_media(_COLUMNS, ids)
    if sizes is not None:
        has_size = pc.is_in(rows["size"], value_set=pa.array(sizes, pa.int64()))
        rows = rows.filter(pc.or_(has_size, pc.is_in(rows["media_id"], value_set=pa.array(also, pa.string()))))
    if len(rows) == 0:
        return known
    vectors = {role: storage.vector_keys(role, ids) for role in MEDIA_ROLES if role in models}
    columns = {name: rows[name].to_pylist() for name in _COLUMNS}
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(_COLUMNS, values, strict=True))
        media_id, state = row.pop("media_id"), row.pop("state")
        file_format, rate, metadata = row.pop("format"), row.pop("sample_rate"), dict(row.pop("metadata") or ())
        lacks_sound = row["modality"] == "video" and SOUND_MISSING in metadata and ROLE_OF["audio"] in models
        wanted = roles_of(row["modality"], has_sound=rate is not None)
        place = media_id, row["content_hash"]
        roles = frozenset(role for role, keys in vectors.items() if place in keys)
        known[media_id] = Known(
            **row,
            indexed=state == INDEXED and not roles.isdisjoint(wanted),
            roles=roles,
            missing=frozenset(wanted) & vectors.keys() - roles,
            was_recording=FORMAT_MODALITY.get(file_format) == "video" and (row["layout"] or 0) < _FILMS_SINCE,
            lacks_sound=lacks_sound,
        )
    return known


def _is_still_bad(before: Known, file: ScannedFile) -> bool:
    """Return whether a file was read and not understood, and has not changed; an unread one may be readable now."""
    return (
        not before.indexed
        and before.content_hash is not None
        and before.reason is not None
        and not before.was_recording
        and not (before.missing and before.reason == _no_model(before.modality))
        and before.is_same_file(file)
    )


def _id_at(settings: Settings, path: bytes) -> str:
    """Return the id of a file by its absolute path; "" for one below no root."""
    text = os.fsdecode(path)
    root = settings.root_of(text)
    relative = root.relative(text) if root is not None else None
    return media_id_of(root.root_id, relative) if root is not None and relative is not None else ""


def _renamed_roots(settings: Settings, walk: Walk) -> dict[str, Root]:
    """Return the roots whose path has become a link into the folders walked, by id, with the root at the real path.

    One on a disk of its own is left out: asking for it could wait for a disk that does not answer.
    """
    renamed = {}
    for root in settings.roots:
        is_away = any(relative_to(mount, root.path) is not None for mount in settings.mounts)
        if not (is_away or is_bucket(root.path)):
            real = os.path.realpath(root.path)
            if real != root.path and any(relative_to(scope, real) is not None for scope in walk.scopes):
                renamed[root.root_id] = Root.at(real)
    return renamed


def _is_absent(path: bytes) -> bool:
    """Return whether a file is gone that a walk did not list; a folder of its name does not count."""
    if is_bucket(os.fsdecode(path)):
        return True  # a listing is consistent
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # unknown, which is not gone


@dataclass(slots=True)
class Pruning:
    """What happens to files that are not at their places any more.

    Attributes:
        removed: ids of files that are gone, or are ignored now.
        moved: ids of files whose content lies at another place.
        held_back: how many files would be removed, by the path of each root where they are too many, so that none is.
    """

    removed: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    held_back: dict[str, int] = field(default_factory=dict)


def decide_pruning(
    plan: Plan, roots: Iterable[Root], consent: bool | None, moved: Collection[str], superseded: Collection[str]
) -> Pruning:
    """Decide what leaves the library.

    Ignored files do not count towards the limits: they are there, and somebody has named them.

    Args:
        plan: the files that are gone, and all that are known.
        roots: those of the library.
        consent: True removes whatever is gone, False nothing at all, None what is below the limits.
        moved: of ``plan.gone``, those whose content lies at another place.
        superseded: of ``plan.superseded``, those whose files are indexed by their real places.
    """
    if consent is False:
        return Pruning()
    moving, lost = {*moved, *superseded}, set(plan.gone) - set(moved)
    n_lost = _by_root(plan.known, lost)
    held = {root for root, n in n_lost.items() if consent is None and _is_too_many(n, plan.n_known[root])}
    free = {media_id for media_id in (*moving, *lost, *plan.ignored) if plan.known[media_id].root_id not in held}
    paths = {root.root_id: root.path for root in roots}
    return Pruning(
        removed=sorted(free - moving),
        moved=sorted(free & moving),
        held_back={paths[root]: n_lost[root] for root in sorted(held)},
    )


def pair(
    gone: Iterable[str], known: Mapping[str, Known], key: Callable[[Known], Hashable], new: Counter[Hashable]
) -> list[str]:
    """Return the files that are gone and have an equal ``key`` among new ones, each of which is matched once.

    Args:
        gone: ids of files.
        known: the same and others.
        key: gives what makes two files the same.
        new: how many new files there are of each key.
    """
    left, paired = Counter(new), []
    for media_id in gone:
        place = key(known[media_id])
        if left[place] > 0:
            left[place] -= 1
            paired.append(media_id)
    return paired


def content_of(known: Known) -> Hashable:
    """Return what makes two files the same."""
    return known.content_hash


def stamp_of(file: Known | ScannedFile) -> Hashable:
    """Return what stays the same of a file that was only moved, as far as can be told without reading it."""
    return file.size, file.modified_ns


def _by_root(known: Mapping[str, Known], media_ids: Iterable[str]) -> Counter[str]:
    return Counter(known[media_id].root_id for media_id in media_ids)


def _is_too_many(n: int, n_known: int) -> bool:
    return n > N_AT_MOST or (n >= N_OF_SHARE and n > SHARE * n_known)


@dataclass(frozen=True, slots=True)
class IngestPlan:
    """What a run would do, in counts of files; reading decides which of those to be read are unreadable or copies.

    Attributes:
        new: would be read, and are not known yet.
        changed: would be read again.
        unchanged: are as the library has them.
        unreadable: could not be read earlier and have not changed since, or there is no model for their modality.
        removed: are gone from disk or ignored now, and would leave the library.
        moved: would leave it too, and lie at another place, as far as size and time tell.
        held_back: how many files are gone and would not be removed, by the root that they belong to; as of
            ``IngestReport``.
        n_bytes: of the files that would be read.
        unread_folders: folders that could not be read, with the reason.
        left_alone: how many files and folders would be passed over, and why, as of ``IngestReport``.
        to_read: pictures and films whose text would be looked for. to_hear: recordings and films to listen to.
        hours_to_hear: how long these last, as far as the library or their own headers say.
        by_modality: how many files would be read, by the modality that their names promise.
        models: digests of the library's models by role; empty for a library that is still to be made.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    unreadable: int = 0
    removed: int = 0
    n_bytes: int = 0
    unread_folders: dict[str, str] = field(default_factory=dict)
    left_alone: dict[LeftAlone, int] = field(default_factory=dict)
    moved: int = 0
    held_back: dict[str, int] = field(default_factory=dict)
    to_read: int = 0
    to_hear: int = 0
    hours_to_hear: float = 0.0
    by_modality: dict[str, int] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain values for JSON."""
        return dataclasses.asdict(self)


def plan(
    library: MultimodalStorage | str | os.PathLike[str],
    folders: Sequence[str | os.PathLike[str]],
    *,
    prune: bool | None = None,
    retry: bool = False,
    sources: Collection[TextSource] = (),
    storage_options: Mapping[str, str] | None = None,
) -> IngestPlan:
    """Return what ``run`` would do. Writes nothing, takes no lock, and opens files for the lengths of recordings only.

    Args:
        library: an open library, or the folder or address where it is or would be.
        folders: as for a run.
        prune: as of ``IngestOptions``.
        retry: as of ``IngestOptions``.
        sources: the texts that would be read: "ocr", "speech", both or none.
        storage_options: as of ``MultimodalStorage``.

    Raises:
        FolderError: a folder is missing or unreadable. StorageError: the database refused.
        LibraryNotFoundError: there is something else where the library would be.
        LibraryVersionError: a newer Arrowlens wrote the library.
    """
    storage = library if isinstance(library, MultimodalStorage) else _opened(library, storage_options)
    path = library.path if isinstance(library, MultimodalStorage) else location_at(library, storage_options).path
    settings = storage.settings if storage is not None else Settings()
    if storage is not None and prune:
        former = former_mounts(storage, settings)
        settings = dataclasses.replace(settings, mounts=tuple(sorted({*settings.mounts} - {*former})))
    source = Sources.of(folders, path, settings.mounts, [root.path for root in settings.roots])
    for root in source.roots:
        settings = settings.with_root(root)
    seen = source.walk(settings)
    if storage is None or not settings.models:
        return dataclasses.replace(_of_nothing_known(seen), **_texts_to_read(storage, source, seen.files, sources))
    todo = compare(storage, seen, retry=retry)
    new = Counter(stamp_of(file) for file in todo.to_read if file.media_id not in todo.known)
    moved = pair(todo.gone, todo.known, stamp_of, new)
    pruning = decide_pruning(todo, settings.roots, prune, moved, todo.superseded)
    return IngestPlan(
        new=sum(file.media_id not in todo.known for file in todo.to_read),
        changed=sum(file.media_id in todo.known for file in todo.to_read),
        unchanged=len(todo.unchanged) + len(todo.moved_disk),
        unreadable=len(todo.still_bad) + len(todo.refused),
        removed=len(pruning.removed),
        moved=len(pruning.moved),
        held_back=pruning.held_back,
        n_bytes=sum(file.size or 0 for file in todo.to_read),
        unread_folders=seen.unread_folders(),
        left_alone=seen.passed_over(),
        **_texts_to_read(storage, source, [*todo.to_read, *todo.unchanged, *todo.moved_disk], sources),
        by_modality=dict(Counter(file.modality for file in todo.to_read)),
        models={role: record.digest for role, record in settings.models.items()},
    )


def require_folders(
    library: str | os.PathLike[str],
    folders: Iterable[str | os.PathLike[str]],
    storage_options: Mapping[str, str] | None = None,
) -> None:
    """Check that the folders and files of a run are there, before a library is made for them.

    Args:
        library: the folder or address where it is or would be. folders: as for ``run``; those here are looked at.
        storage_options: as of ``MultimodalStorage``.

    Raises:
        FolderError: one is missing or unreadable. Others as ``plan``.
    """
    storage = _opened(library, storage_options)
    roots = [root.path for root in storage.settings.roots] if storage is not None else []
    folders = list(folders)
    local = [folder for folder in folders if not (is_bucket(folder) or is_manifest(folder))]
    for manifest in (local_path(folder) for folder in folders if is_manifest(folder)):
        if not manifest.is_file():
            raise FolderError(f"the list of addresses {manifest} is missing")
    if local:
        resolve_folders(local, location_at(library, storage_options).path, (), roots)


def _texts_to_read(
    storage: MultimodalStorage | None, source: Source, files: Sequence[ScannedFile], sources: Collection[TextSource]
) -> dict[str, Any]:
    """Return the fields of a plan about texts; files that are new or have changed count, too."""
    if not sources:
        return {"to_read": 0, "to_hear": 0, "hours_to_hear": 0.0}
    columns = ["media_id", "content_hash", "duration", "modality", "sample_rate", "metadata", "size", "modified_ns"]
    rows = storage.all_media(columns).to_pylist() if storage is not None else []
    readings = storage.readings().to_pylist() if storage is not None else []
    held = {row["media_id"]: row for row in rows}
    silent = {
        (row["media_id"], row["size"], row["modified_ns"])
        for row in rows
        if row["modality"] == "video"
        and row["sample_rate"] is None
        and SOUND_MISSING not in dict(row["metadata"] or ())
    }

    def unread(wanted: TextSource, one: Input) -> list[ScannedFile]:
        modalities = {name for name, info in MODALITIES.items() if one in info.inputs}
        done = {each["content_hash"] for each in readings if each["source"] == wanted}
        of_modality = [file for file in files if file.modality in modalities and wanted in sources]
        return [file for file in of_modality if held.get(file.media_id, {}).get("content_hash") not in done]

    to_hear = [file for file in unread("speech", "audio") if (file.media_id, file.size, file.modified_ns) not in silent]
    lengths = [held.get(file.media_id, {}).get("duration") or _length(source, file) for file in to_hear]
    n_read = len(unread("ocr", "image"))
    return {"to_read": n_read, "to_hear": len(to_hear), "hours_to_hear": round(sum(lengths) / 3600, 3)}


def _length(source: Source, file: ScannedFile) -> float:
    """Return the seconds that the header of a recording or film states; 0 where it cannot be read."""
    from arrowlens.media.recordings import stated_seconds  # deferred: decoders

    try:
        with source.open(file.real_path or file.path) as opened:
            return stated_seconds(opened) or 0.0
    except MediaError:
        return 0.0


def _opened(address: str | os.PathLike[str], storage_options: Mapping[str, str] | None) -> MultimodalStorage | None:
    """Return the library at an address; None where one would be made."""
    try:
        return MultimodalStorage(address, create=False, storage_options=storage_options)
    except LibraryNotFoundError:
        location_at(address, storage_options).require_usable()
        return None


def _of_nothing_known(seen: Walk) -> IngestPlan:
    n_bytes = sum(file.size or 0 for file in seen.files)
    return IngestPlan(
        new=len(seen.files),
        n_bytes=n_bytes,
        unread_folders=seen.unread_folders(),
        left_alone=seen.passed_over(),
        by_modality=dict(Counter(file.modality for file in seen.files)),
    )
