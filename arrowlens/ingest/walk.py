"""Folders -> the media files below them, by name and ``stat`` alone; no file is opened.

Names are bytes throughout, since they need not be text. Hidden files and folders and the caches of other programs are
left alone, and so is the library's own folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from arrowlens.errors import FolderError
from arrowlens.media import modality_of
from arrowlens.store import Root, Settings, media_id_of, relative_to

JUNK_FOLDERS = frozenset({b"@eaDir", b".thumbnails"})
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Found:
    """A media file on disk.

    Attributes:
        path: absolute. root, relative: the root it belongs to and its path below it.
        modality: what its name promises, "image" or "audio".
        size, modified_ns: of what it is or links to; None when the system would not say.
    """

    path: bytes
    root: Root
    relative: bytes
    modality: str
    size: int | None
    modified_ns: int | None

    @property
    def stamp(self) -> tuple[int | None, int | None]:
        """Size and time: equal ones mean equal content."""
        return self.size, self.modified_ns

    @property
    def media_id(self) -> str:
        """Names this place in the library."""
        return media_id_of(self.root.root_id, self.relative)


@dataclass(slots=True)
class Walk:
    """What a walk saw.

    Attributes:
        scopes: the folders walked, absolute.
        files: in the order of their paths.
        unread: folders that could not be read, with the reason: nothing is known of what lies below them.
        lost_links: links that lead nowhere; they may have led to folders, of which then nothing is known either.
        mounts: folders in which another disk is mounted.
    """

    scopes: tuple[str, ...]
    files: list[Found] = field(default_factory=list)
    unread: dict[bytes, str] = field(default_factory=dict)
    lost_links: set[bytes] = field(default_factory=set)
    mounts: set[str] = field(default_factory=set)

    def covers(self, path: bytes) -> bool:
        """Whether the walk would have seen a file, were it there."""
        if not any(path.startswith(_inside(os.fsencode(scope))) for scope in self.scopes):
            return False
        return not any(path.startswith(_inside(folder)) for folder in (*self.unread, *self.lost_links))


def resolve_folders(folders: Iterable[str | os.PathLike[str]], library: Path, mounts: Sequence[str]) -> tuple[str, ...]:
    """Absolute real paths of folders, sorted; one inside another is left to the outer one.

    Raises:
        FolderError: one is missing, no folder, not readable, inside the library, or on a disk that is not mounted.
    """
    paths = {_checked_folder(os.path.realpath(os.path.expanduser(folder)), library, mounts) for folder in folders}  # noqa: PTH111
    if not paths:
        raise FolderError("no folder given; name at least one that holds pictures or recordings")
    return tuple(sorted(path for path in paths if not any(relative_to(other, path) for other in paths)))


def walk(scopes: tuple[str, ...], settings: Settings, library: Path) -> Walk:
    """See what lies below ``scopes`` (of ``resolve_folders``), whose roots are registered in ``settings``."""
    seen = _Walker(scopes, settings, library).run()
    for mount in settings.mounts:
        inside = any(relative_to(scope, mount) for scope in scopes)
        if inside and mount not in seen.mounts and _is_away(mount):
            seen.unread[os.fsencode(mount)] = "the disk that was mounted there is not"
    seen.files.sort(key=lambda found: found.path)
    return seen


class _Walker:
    """One walk. Real folders are taken before links to folders: a file is met under its own name first."""

    def __init__(self, scopes: tuple[str, ...], settings: Settings, library: Path) -> None:
        self._walk = Walk(scopes)
        self._settings = settings
        self._roots = {os.fsencode(root.path): root for root in settings.roots}
        self._folders: list[tuple[bytes, Root, int | None]] = []  # path, root, device of the parent
        self._links: list[tuple[bytes, Root, int | None]] = []
        self._visited: set[tuple[int, int | bytes]] = set()
        self._visit(os.fsencode(library))
        for scope in scopes:  # a link to a folder around the walk is a loop
            for parent in Path(scope).parents:
                self._visit(os.fsencode(parent))

    def run(self) -> Walk:
        for scope in self._walk.scopes:
            root = self._settings.root_of(scope)
            assert root is not None, "roots are registered before the walk"
            mount = mount_of(scope)
            if mount != os.sep:
                self._walk.mounts.add(mount)
            self._folders.append((os.fsencode(scope), root, None))
        while self._folders or self._links:
            path, root, device = self._folders.pop() if self._folders else self._links.pop(0)
            try:
                self._folder(path, self._roots.get(path, root), device)
            except OSError as error:
                self._walk.unread[path] = error.strerror or str(error)
        return self._walk

    def _visit(self, path: bytes) -> os.stat_result | None:
        """The folder's ``stat``, None when the walk has been there."""
        status = os.stat(path)  # noqa: PTH116 - bytes
        key = (status.st_dev, status.st_ino or os.path.realpath(path))  # some network disks number nothing
        if key in self._visited:
            return None
        self._visited.add(key)
        return status

    def _folder(self, path: bytes, root: Root, parent_device: int | None) -> None:
        status = self._visit(path)
        if status is None:
            return
        if parent_device not in (None, status.st_dev):
            real = os.path.realpath(path)
            if os.path.ismount(real):
                self._walk.mounts.add(os.fsdecode(path))
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if not entry.name.startswith(b".") and entry.name not in JUNK_FOLDERS:
                    self._entry(entry, root, status.st_dev)

    def _entry(self, entry: os.DirEntry[bytes], root: Root, device: int) -> None:
        if entry.is_dir(follow_symlinks=False):
            self._folders.append((entry.path, root, device))
            return
        modality = modality_of(entry.path)
        if modality is None and not entry.is_symlink():
            return
        try:
            status = os.stat(entry.path)  # noqa: PTH116 - bytes
        except OSError:  # decoding finds the words for it
            if entry.is_symlink():
                self._walk.lost_links.add(entry.path)
            self._file(entry.path, root, modality, None)
            return
        if stat.S_ISDIR(status.st_mode):
            self._links.append((entry.path, root, device))
        else:
            self._file(entry.path, root, modality, status)

    def _file(self, path: bytes, root: Root, modality: str | None, status: os.stat_result | None) -> None:
        if modality is None:
            return
        relative = root.relative(os.fsdecode(path))
        assert relative is not None, "a file lies below its root"
        size = status.st_size if status is not None else None
        modified_ns = max(-_INT64_MAX, min(_INT64_MAX, status.st_mtime_ns)) if status is not None else None
        self._walk.files.append(Found(path, root, relative, modality, size, modified_ns))


def mount_of(path: str) -> str:
    """The mount point that an absolute real path lies on."""
    while not os.path.ismount(path):
        path = os.path.dirname(path)  # noqa: PTH120 - as above
    return path


def _checked_folder(path: str, library: Path, mounts: Sequence[str]) -> str:
    if relative_to(os.path.realpath(library), path) is not None:
        raise FolderError(f"{path} is the library itself; name a folder that holds pictures or recordings")
    try:
        with os.scandir(path) as entries:
            empty = next(entries, None) is None
    except OSError as error:
        cause = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise FolderError(f"the folder {path} {cause}; nothing was changed") from error
    if empty and any(_is_away(mount) for mount in mounts if relative_to(mount, path) is not None):
        raise FolderError(f"the folder {path} was on a disk that is not mounted now; nothing was changed")
    return path


def _inside(folder: bytes) -> bytes:
    """What the paths below a folder begin with."""
    separator = os.fsencode(os.sep)
    return folder if folder.endswith(separator) else folder + separator


def _is_away(mount: str) -> bool:
    """Whether a place where a disk was mounted is bare: missing, or an empty folder."""
    if os.path.ismount(os.path.realpath(mount)):
        return False
    try:
        with os.scandir(mount) as entries:
            return next(entries, None) is None
    except OSError:
        return True
