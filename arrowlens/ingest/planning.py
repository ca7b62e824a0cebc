"""What a run would do, found out without doing it."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arrowlens.errors import LibraryNotFoundError
from arrowlens.ingest.diff import compare, former_mounts
from arrowlens.ingest.pruning import pair, stamp_of
from arrowlens.ingest.pruning import prune as decide
from arrowlens.ingest.walk import LeftAlone, Walk, resolve_folders, walk
from arrowlens.store import MultimodalStorage, Settings


@dataclasses.dataclass(frozen=True, slots=True)
class IngestPlan:
    """What a run would do, in counts of files; reading decides which of those to be read are unreadable or copies.

    Attributes:
        new: would be read, and are not known yet. changed: would be read again.
        unchanged: are as the library has them.
        unreadable: could not be read earlier and have not changed since, or there is no model for their kind.
        removed: are gone from disk or ignored now, and would leave the library.
        moved: would leave it too, and lie at another place, as far as size and time tell.
        held_back: how many files are gone and would not be removed, by the root that they belong to; as of
            ``IngestReport``.
        n_bytes: of the files that would be read.
        unread_folders: folders that could not be read, with the reason.
        left_alone: how many files and folders would be passed over, and why, as of ``IngestReport``.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    unreadable: int = 0
    removed: int = 0
    n_bytes: int = 0
    unread_folders: dict[str, str] = dataclasses.field(default_factory=dict)
    left_alone: dict[LeftAlone, int] = dataclasses.field(default_factory=dict)
    moved: int = 0
    held_back: dict[str, int] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return dataclasses.asdict(self)


def plan(
    library: MultimodalStorage | Path,
    folders: Sequence[str | os.PathLike[str]],
    *,
    prune: bool | None = None,
    retry: bool = False,
) -> IngestPlan:
    """See what ``run`` would do. Opens no file, writes nothing, and takes no lock.

    Args:
        library: or where it is, or would be.
        folders, prune, retry: as for a run.

    Raises:
        FolderError: a folder is missing or unreadable. StorageError: the database refused.
        LibraryNotFoundError: there is something else where the library would be.
        LibraryVersionError: a newer Arrowlens wrote the library.
    """
    storage = library if isinstance(library, MultimodalStorage) else _opened(library)
    path = library.path if isinstance(library, MultimodalStorage) else library.expanduser().absolute()
    settings = storage.settings if storage is not None else Settings()
    if storage is not None and prune:
        former = former_mounts(storage, settings)
        settings = dataclasses.replace(settings, mounts=tuple(sorted({*settings.mounts} - {*former})))
    scopes = resolve_folders(folders, path, settings.mounts)
    for scope in scopes:
        settings = settings.with_root(scope)
    seen = walk(scopes, settings, path)
    if storage is None or not settings.models:
        return _of_nothing_known(seen)
    found = compare(storage, seen, retry=retry)
    new = Counter(stamp_of(file) for file in found.to_read if file.media_id not in found.known)
    moved = pair(found.gone, found.known, stamp_of, new)
    pruning = decide(found, settings.roots, prune, moved, found.superseded)
    return IngestPlan(
        new=sum(file.media_id not in found.known for file in found.to_read),
        changed=sum(file.media_id in found.known for file in found.to_read),
        unchanged=len(found.unchanged) + len(found.moved_disk),
        unreadable=len(found.still_bad) + len(found.refused),
        removed=len(pruning.removed),
        moved=len(pruning.moved),
        held_back=pruning.held_back,
        n_bytes=sum(file.size or 0 for file in found.to_read),
        unread_folders=seen.unread_folders(),
        left_alone=seen.passed_over(),
    )


def _opened(path: Path) -> MultimodalStorage | None:
    """The library at ``path``, None where one would be made."""
    path = path.expanduser()
    try:
        return MultimodalStorage(path, create=False)
    except LibraryNotFoundError:
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return None
        raise


def _of_nothing_known(seen: Walk) -> IngestPlan:
    n_bytes = sum(file.size or 0 for file in seen.files)
    return IngestPlan(
        new=len(seen.files), n_bytes=n_bytes, unread_folders=seen.unread_folders(), left_alone=seen.passed_over()
    )
