"""What a walk saw against what the library holds: which files have to be read, and which are gone."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

from arrowlens.ingest.walk import Found, Walk
from arrowlens.store import INDEXED, SCHEMA_VERSION, MultimodalStorage

ROLE_OF = {"image": "clip", "audio": "audio"}
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
]
# Rows from this layout on lack nothing that only the file itself can tell.
_COMPLETE_SINCE = 2


@dataclass(frozen=True, slots=True)
class Known:
    """What the library holds of a place.

    Attributes:
        indexed: searchable, with vectors that are really there.
        layout: schema version that the row was written in; None before there was such a column.
        real_path, file_id: of the file that was read, as of ``Found``; None in rows of an earlier layout.
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

    def is_same_file(self, found: Found) -> bool:
        """Whether size and time say that the content is what it was."""
        return found.size is not None and (self.size, self.modified_ns) == found.stamp

    def is_current(self, found: Found) -> bool:
        """Whether there is nothing to read: searchable, with the file and its caption as they were.

        Device numbers change when a system starts anew, and some file systems number files afresh each time. A file
        that has another name, by a link of either kind, is read: whoever may write into a folder must not pass another
        file off as one that was read, by giving a file of their own its size and time first.
        """
        return (
            self.indexed
            and self.reason is None
            and (self.layout or 0) >= _COMPLETE_SINCE
            and self.caption_stamp == found.caption_stamp
            and self.is_same_file(found)
            and self.real_path == found.real_path
            and (self._has_same_inode(found) or not (found.is_linked or found.real_path))
        )

    def is_recorded(self, found: Found) -> bool:
        """Whether the row of a current file says all that the walk saw."""
        return self.layout == SCHEMA_VERSION and self.file_id == found.file_id

    def _has_same_inode(self, found: Found) -> bool:
        return self.file_id is not None and self.file_id.split(":")[1:] == (found.file_id or "").split(":")[1:]

    @property
    def ledger_entry(self) -> tuple[int | None, int | None, str | None, str | None]:
        """What is recorded of a file that could not be read."""
        return self.size, self.modified_ns, self.content_hash, self.reason


@dataclass(slots=True)
class Plan:
    """What to do.

    Attributes:
        to_read: files to open. refused: files with the reason why there is no point in opening them.
        unchanged, still_bad: files that are as the library has them, readable or not.
        moved_disk: unchanged ones too, but for the numbers that the system has for them, which are to be recorded.
        gone: ids of files that are no longer on disk, or are ignored.
        known: what the library holds, by id. contents: contents that have vectors, and of which kind.
    """

    to_read: list[Found] = field(default_factory=list)
    refused: list[tuple[Found, str]] = field(default_factory=list)
    unchanged: list[Found] = field(default_factory=list)
    moved_disk: list[Found] = field(default_factory=list)
    still_bad: list[tuple[Found, str]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    known: dict[str, Known] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)


def compare(storage: MultimodalStorage, walk: Walk, *, retry: bool) -> Plan:
    """Sort the files of a walk; ``retry`` has the unreadable ones opened again.

    Raises:
        StorageError: the database refused.
    """
    models = storage.settings.models
    known, contents = _read_known(storage)
    plan = Plan(known=known, contents=contents)
    seen = set()
    for found in walk.files:
        media_id = found.media_id
        seen.add(media_id)
        before = known.get(media_id)
        if before is not None and before.is_current(found):
            (plan.unchanged if before.is_recorded(found) else plan.moved_disk).append(found)
        elif ROLE_OF[found.modality] not in models:
            plan.refused.append((found, f"the library has no model for {found.modality} files"))
        elif not retry and before is not None and _is_still_bad(before, found):
            plan.still_bad.append((found, before.reason or ""))
        else:
            plan.to_read.append(found)
    plan.gone = _gone(storage, walk, {media_id: row for media_id, row in known.items() if media_id not in seen})
    return plan


def _read_known(storage: MultimodalStorage) -> tuple[dict[str, Known], dict[str, str]]:
    vectors = {role: storage.vector_keys(role) for role in storage.settings.models if role in ROLE_OF.values()}
    known, contents = {}, {}
    columns = storage.all_media(_COLUMNS)
    for values in zip(*(columns[name].to_pylist() for name in _COLUMNS), strict=True):
        row = dict(zip(_COLUMNS, values, strict=True))
        media_id, modality, state = (row.pop(name) for name in ("media_id", "modality", "state"))
        role, content_hash = ROLE_OF.get(modality, ""), row["content_hash"]
        indexed = state == INDEXED and (media_id, content_hash) in vectors.get(role, ())
        known[media_id] = Known(**row, indexed=indexed)
        if indexed:
            contents[content_hash] = modality
    return known, contents


def _is_still_bad(before: Known, found: Found) -> bool:
    """A file whose bytes were read and not understood will not be understood now; one that was not read may be."""
    return (
        not before.indexed
        and before.content_hash is not None
        and before.reason is not None
        and before.is_same_file(found)
    )


def _gone(storage: MultimodalStorage, walk: Walk, missing: Mapping[str, Known]) -> list[str]:
    """Of the known places that the walk did not meet: those it covers that are not there, and those it ignores."""
    roots = {root.root_id: root for root in storage.settings.roots}
    gone = []
    for media_id, known in missing.items():
        if known.root_id in roots:
            path = roots[known.root_id].absolute(known.path_bytes)
            if walk.ignores(path) or (walk.covers(path) and _is_absent(path)):
                gone.append(media_id)
    return sorted(gone)


def _is_absent(path: bytes) -> bool:
    """Whether there is no file any more; a folder of its name is none."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # not knowing is not gone
