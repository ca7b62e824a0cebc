"""Lists the media files below folders, by name and ``stat`` alone; no file is opened.

Names are bytes throughout, since they need not be text. What ``ingest.ignore`` says is left alone, and so is the
library's own folder. A text file beside a media file, ``name.jpg.txt`` or else ``name.txt``, is its caption.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from arrowlens.errors import FolderError
from arrowlens.ingest.ignore import IGNORE_NAME, Rules, has_rules, is_junk
from arrowlens.media.files import bounded_ns, file_id_of
from arrowlens.modalities import Modality, is_raw, is_source_code, modality_of, reads_raw
from arrowlens.store import Root, Settings, media_id_of, relative_to

LeftAlone = Literal["hidden", "ignored", "other", "raw"]
Stamp = tuple[int | None, int | str | None]
"""Size and nanoseconds since 1970; of an object in a bucket its ETag, since two writes in a second have equal times."""
ETAG = "etag:"

_TEXT_SUFFIX = b".txt"
_NOT_MOUNTED = "the disk that was mounted there is not mounted now"


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """A media file on disk.

    Attributes:
        path: absolute.
        root: the root it belongs to.
        relative: its path below the root.
        modality: what its name promises.
        size: bytes of the file, or of the one that it links to; None when the system would not say.
        modified_ns: nanoseconds since 1970, of the same.
        sidecar: absolute real path of the text file beside it that holds its caption; None without one.
        caption_stamp: "size:modified_ns" of the sidecar; equal ones mean an equal caption.
        real_path: where the file lies, free of links; None where that is ``path``.
        file_id: its device and inode; of an object in a bucket "etag:" and its ETag; None when nothing is known.
        is_linked: it may have further names (hard links).
        is_caption_unknown: whether there is a caption could not be found out; what the library holds of it is to stay.
        content: the bytes of this version, where they were read ahead; not sent on with outcomes.
    """

    path: bytes
    root: Root
    relative: bytes
    modality: Modality
    size: int | None
    modified_ns: int | None
    sidecar: bytes | None = None
    caption_stamp: str | None = None
    real_path: bytes | None = None
    file_id: str | None = None
    is_linked: bool = False
    is_caption_unknown: bool = False
    content: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def etag(self) -> str | None:
        """The ETag of an object in a bucket; None for a file on disk."""
        return etag_of(self.file_id)

    @property
    def stamp(self) -> Stamp:
        """Its version: size and time, or size and ETag of an object. Equal ones mean equal content."""
        return self.size, self.etag or self.modified_ns

    @property
    def media_id(self) -> str:
        """The id that its place has in the library."""
        return media_id_of(self.root.root_id, self.relative)


@dataclass(slots=True)
class Walk:
    """The result of a walk.

    Attributes:
        scopes: the folders walked and the files looked at, absolute.
        files: in the order of their paths.
        ignored: files and folders that ``.arrowlensignore`` takes out.
        unread: folders that could not be read, with the reason: nothing is known of what lies below them.
        lost_links: links that lead nowhere; they may have led to folders, of which then nothing is known either.
        mounts: folders in which another disk is mounted.
        other_names: links to folders whose files are indexed by their real place, which is the value.
        left_alone: how many files and folders (one each, whatever lies below) were passed over: "hidden" ones and those
            of other programs, those that are "ignored" by ``.arrowlensignore``, "raw" photographs where the extra that
            reads them is not installed, and "other" files, of kinds that are not read and no captions.
        reads_raw: whether raw photographs are listed.
        raw_files: those that were not listed for that reason; what the library holds of them stays.
    """

    scopes: tuple[str, ...]
    files: list[ScannedFile] = field(default_factory=list)
    ignored: set[bytes] = field(default_factory=set)
    unread: dict[bytes, str] = field(default_factory=dict)
    lost_links: set[bytes] = field(default_factory=set)
    mounts: set[str] = field(default_factory=set)
    other_names: dict[bytes, bytes] = field(default_factory=dict)
    left_alone: Counter[LeftAlone] = field(default_factory=Counter)
    reads_raw: bool = field(default_factory=reads_raw)
    raw_files: set[bytes] = field(default_factory=set)

    def leaves_raw(self, path: bytes) -> bool:
        """Return whether a file, by its absolute path, is a raw photograph that is left alone, and note it."""
        if self.reads_raw or not is_raw(path):
            return False
        self.left_alone["raw"] += 1
        self.raw_files.add(path)
        return True

    def passed_over(self) -> dict[LeftAlone, int]:
        """Return ``left_alone`` without zeros."""
        return {why: count for why, count in self.left_alone.items() if count}

    def unread_folders(self) -> dict[str, str]:
        """Return ``unread`` by names; bytes that are no text are surrogates in them."""
        return {os.fsdecode(path): reason for path, reason in sorted(self.unread.items())}

    def covers(self, path: bytes) -> bool:
        """Return whether the walk would have listed a file, were it there."""
        if path in self.raw_files:
            return False  # it is there
        if not any(path.startswith(_inside(os.fsencode(scope))) for scope in self.scopes):
            return False
        return not any(path.startswith(_inside(folder)) for folder in (*self.unread, *self.lost_links))

    def real_place(self, path: bytes) -> bytes | None:
        """Return the real path of a file below one of ``other_names``; None for any other file."""
        for link, real in self.other_names.items():
            if path.startswith(_inside(link)):
                return real + path[len(link) :]
        return None

    def ignores(self, path: bytes) -> bool:
        """Return whether an ignore file had the walk pass over a file, or a folder around it."""
        if not self.ignored:
            return False
        while path not in self.ignored:
            parent = os.path.dirname(path)  # noqa: PTH120 - bytes
            if parent == path:
                return False
            path = parent
        return True


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder to walk.

    Attributes:
        path: absolute.
        real: its path free of links.
        root: the root it belongs to.
        device: that of the folder around it; None for a scope.
        rules: the ignore files that hold for it.
        texts: the text files in it, by their names with the suffix in lower case.
        only: the names of the files to list; None for all, and for folders.
    """

    path: bytes
    real: bytes
    root: Root
    device: int | None
    rules: Rules
    texts: Mapping[bytes, os.DirEntry[bytes]] = field(default_factory=dict)
    only: frozenset[bytes] | None = None

    @property
    def is_linked(self) -> bool:
        return self.path != self.real


def resolve_folders(
    folders: Iterable[str | os.PathLike[str]],
    library: Path | None,
    mounts: Sequence[str],
    roots: Iterable[str] = (),
) -> tuple[str, ...]:
    """Return the absolute real paths of folders and media files, sorted, without those that lie inside another one.

    Args:
        folders: with ``~`` expanded.
        library: the library's own folder; None for one in a bucket.
        mounts: where disks were mounted.
        roots: the folders of the library, for the message about a missing one.

    Raises:
        FolderError: one is missing, not readable, inside the library, or on a disk that is not mounted; or it is a file
            that is no picture, recording or film by its name.
    """
    known = tuple(roots)
    paths = {
        _checked_folder(os.path.realpath(os.path.expanduser(folder)), library, mounts, known)  # noqa: PTH111
        for folder in folders
    }
    if not paths:
        raise FolderError("no folder given; name at least one that holds pictures or recordings")
    return tuple(sorted(path for path in paths if not any(relative_to(other, path) for other in paths)))


def walk(scopes: tuple[str, ...], settings: Settings, library: Path | None) -> Walk:
    """List the media files below folders, and single ones.

    Args:
        scopes: the folders and files, of ``resolve_folders``.
        settings: those of the library, with the roots that the folders belong to.
        library: the library's own folder, which is passed over; None for one in a bucket.
    """
    seen = _Walker(scopes, settings, library).run()
    seen.files.sort(key=lambda file: file.path)
    return seen


class _Walker:
    """One walk. Real folders are taken before links to folders: a file is met under its own name first."""

    def __init__(self, scopes: tuple[str, ...], settings: Settings, library: Path | None) -> None:
        self._walk = Walk(scopes)
        self._settings = settings
        self._roots = {os.fsencode(root.path): root for root in settings.roots}
        self._folders: list[_Place] = []
        self._links: list[_Place] = []
        self._visited: set[tuple[int, int | bytes]] = set()
        self._library = None if library is None else os.fsencode(os.path.realpath(library))
        for mount in settings.mounts:
            if any(relative_to(scope, mount) for scope in scopes) and _is_away(mount):
                self._walk.unread[os.fsencode(mount)] = _NOT_MOUNTED
        if library is not None and library.exists():  # a dry run may come before it
            self._visit(os.fsencode(library))
        for scope in scopes:  # a link to a folder around the walk is a loop
            for parent in Path(folder_of(scope)).parents:
                self._visit(os.fsencode(parent))

    def run(self) -> Walk:
        files: dict[str, set[str]] = {}  # that are scopes themselves, by their folders
        for scope in self._walk.scopes:
            files.setdefault(folder := folder_of(scope), set()).update({scope} - {folder})
        for folder, only in files.items():
            root = self._settings.root_of(folder)
            assert root is not None, "roots are registered before the walk"
            mount = mount_of(folder)
            if mount != os.sep:
                self._walk.mounts.add(mount)
            names = frozenset(os.path.basename(os.fsencode(file)) for file in only)  # noqa: PTH119 - bytes
            self._begin(os.fsencode(folder), root, names or None)
        while self._folders or self._links:
            place = self._folders.pop() if self._folders else self._links.pop(0)
            try:
                self._folder(replace(place, root=self._roots.get(place.path, place.root)))
            except OSError as error:
                self._walk.unread[place.path] = error.strerror or str(error)
            except FolderError as error:
                self._walk.unread[place.path] = str(error)
        return self._walk

    def _begin(self, scope: bytes, root: Root, only: frozenset[bytes] | None) -> None:
        """Queue a scope, unless the ignore files between its outermost root and itself take it out."""
        rules = Rules()
        for folder in self._folders_to(scope):
            if rules.ignore(folder, is_folder=True):
                self._ignore(scope)
                return
            try:
                if folder != scope and has_rules(folder):
                    rules = rules.below(folder)
            except FolderError as error:
                self._walk.unread[scope] = f"{os.fsdecode(folder)}: {error}"
                return
        self._folders.append(_Place(scope, scope, root, None, rules, only=only))

    def _folders_to(self, scope: bytes) -> list[bytes]:
        """Return the folders from the outermost root around a scope down to the scope itself."""
        tops = [os.fsencode(root.path) for root in self._settings.roots]
        top = min((top for top in tops if scope == top or scope.startswith(_inside(top))), key=len)
        folders = [scope]
        while folders[-1] != top:
            folders.append(os.path.dirname(folders[-1]))  # noqa: PTH120 - bytes
        return folders[::-1]

    def _visit(self, path: bytes) -> os.stat_result | None:
        """Return the folder's ``stat``; None if the walk has visited it."""
        status = os.stat(path)  # noqa: PTH116 - bytes
        key = (status.st_dev, status.st_ino or os.path.realpath(path))  # some network disks number nothing
        if key in self._visited:
            return None
        self._visited.add(key)
        return status

    def _folder(self, place: _Place) -> None:
        if place.path in self._walk.unread:  # a disk that is not mounted; other files there are not the library's
            return
        if place.is_linked and self._is_reached_by_name(place.real):
            self._walk.other_names[place.path] = place.real
            return
        # Other files of a folder with a file that was named may be met on another way.
        status = self._visit(place.path) if place.only is None else os.stat(place.path)  # noqa: PTH116 - bytes
        if status is None:
            return
        if place.device not in (None, status.st_dev) and os.path.ismount(os.path.realpath(place.path)):
            self._walk.mounts.add(os.fsdecode(place.path))
        with os.scandir(place.path) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        names = [entry.name for entry in entries]
        rules = place.rules.below(place.path) if IGNORE_NAME in names else place.rules
        texts = {_lowered(entry.name): entry for entry in entries if entry.name[-4:].lower() == _TEXT_SUFFIX}
        here = replace(place, device=status.st_dev, rules=rules, texts=texts)
        n_before = len(self._walk.files)
        for entry in entries:
            if place.only is not None and entry.name not in place.only:
                continue
            if is_junk(entry.name):
                self._walk.left_alone["hidden"] += entry.name != IGNORE_NAME
            else:
                self._entry(entry, here)
        if place.only is None:
            n_captions = len({file.sidecar for file in self._walk.files[n_before:] if file.sidecar})
            self._walk.left_alone["other"] -= n_captions

    def _entry(self, entry: os.DirEntry[bytes], here: _Place) -> None:
        if entry.is_dir(follow_symlinks=False):
            self._queue(self._folders, entry.path, here)
            return
        modality = modality_of(entry.path)
        if modality is None and not entry.is_symlink():
            self._walk.left_alone["other"] += 1
            return
        try:
            status = os.stat(entry.path)  # noqa: PTH116 - bytes
        except OSError:  # decoding gives the reason
            if entry.is_symlink():
                self._walk.lost_links.add(entry.path)
            self._file(entry, here, modality, None)
            return
        if stat.S_ISDIR(status.st_mode):
            self._queue(self._links, entry.path, here)
        else:
            self._file(entry, here, modality, status)

    def _ignore(self, path: bytes) -> None:
        self._walk.ignored.add(path)
        self._walk.left_alone["ignored"] += 1

    def _queue(self, queue: list[_Place], path: bytes, here: _Place) -> None:
        if here.rules.ignore(path, is_folder=True):
            self._ignore(path)
        else:
            is_link = queue is self._links
            real = os.path.realpath(path) if is_link else _joined(here.real, os.path.basename(path))  # noqa: PTH119
            queue.append(_Place(path, real, here.root, here.device, here.rules))

    def _file(
        self, entry: os.DirEntry[bytes], here: _Place, modality: Modality | None, status: os.stat_result | None
    ) -> None:
        if modality is None or (status is not None and is_source_code(entry.path, status.st_size)):
            self._walk.left_alone["other"] += 1
            return
        if here.rules.ignore(entry.path, is_folder=False):
            self._ignore(entry.path)
            return
        if self._walk.leaves_raw(entry.path):
            return
        relative = here.root.relative(os.fsdecode(entry.path))
        assert relative is not None, "a file lies below its root"
        size = status.st_size if status is not None else None
        modified_ns = bounded_ns(status.st_mtime_ns) if status is not None else None
        real = _real_path(entry, here)
        sidecar, caption_stamp = self._sidecar(entry.name, here)
        self._walk.files.append(
            ScannedFile(
                entry.path,
                here.root,
                relative,
                modality,
                size,
                modified_ns,
                sidecar,
                caption_stamp,
                real_path=None if real == entry.path else real,
                file_id=file_id_of(status) if status is not None else None,
                is_linked=status is not None and status.st_nlink > 1,
            )
        )

    def _sidecar(self, name: bytes, here: _Place) -> tuple[bytes | None, str | None]:
        """Return path and stamp of the caption file of a media file; without a stamp, the system keeps it back.

        A file that does not really lie below a root is none: whoever may put a link there must not have it read.
        """
        for wanted in (name + _TEXT_SUFFIX, os.path.splitext(name)[0] + _TEXT_SUFFIX) if here.texts else ():  # noqa: PTH122
            entry = here.texts.get(wanted)
            if entry is None or here.rules.ignore(entry.path, is_folder=False):
                continue
            path = _real_path(entry, here)
            if not self._is_in_root(path):
                continue
            try:
                status = os.stat(path)  # noqa: PTH116 - bytes
            except OSError:
                return entry.path, None
            if stat.S_ISREG(status.st_mode):
                return path, f"{status.st_size}:{status.st_mtime_ns}"
        return None, None

    def _is_in_root(self, real: bytes) -> bool:
        path = os.fsdecode(real)
        return any(root.relative(path) is not None for root in self._settings.roots)

    def _is_reached_by_name(self, real: bytes) -> bool:
        """Return whether a folder is walked by its real path, or is the library's own."""
        if self._library is not None and (real == self._library or real.startswith(_inside(self._library))):
            return True
        if not self._is_in_root(real):
            return False
        rules = Rules()
        for folder in self._folders_to(real):
            is_hidden = folder not in self._roots and is_junk(os.path.basename(folder))  # noqa: PTH119 - bytes
            if is_hidden or rules.ignore(folder, is_folder=True):
                return False
            try:
                if folder != real and has_rules(folder):
                    rules = rules.below(folder)
            except FolderError:
                return True  # its own walk says what is wrong there
        return True


def _real_path(entry: os.DirEntry[bytes], here: _Place) -> bytes:
    return os.path.realpath(entry.path) if entry.is_symlink() else _joined(here.real, entry.name)


def _joined(folder: bytes, name: bytes) -> bytes:
    return os.path.join(folder, name)  # noqa: PTH118 - bytes


def _lowered(text_name: bytes) -> bytes:
    return text_name[:-4] + _TEXT_SUFFIX


def etag_of(file_id: str | None) -> str | None:
    """Return the ETag that the ``file_id`` of an object carries; None for a file on disk."""
    return file_id.removeprefix(ETAG) if file_id is not None and file_id.startswith(ETAG) else None


def mount_of(path: str) -> str:
    """Return the mount point that an absolute real path lies on."""
    while not os.path.ismount(path):
        path = os.path.dirname(path)  # noqa: PTH120 - as above
    return path


def folder_of(scope: str) -> str:
    """Return the folder of a scope: the scope itself, or that of a file."""
    return scope if os.path.isdir(scope) else os.path.dirname(scope)  # noqa: PTH112, PTH120 - names may be no text


def _checked_folder(path: str, library: Path | None, mounts: Sequence[str], roots: Sequence[str]) -> str:
    if library is not None and relative_to(os.path.realpath(library), path) is not None:
        raise FolderError(f"{path} is the library itself; name a folder that holds pictures or recordings")
    if os.path.isfile(path):  # noqa: PTH113 - as above
        if modality_of(path) is None:
            raise FolderError(
                f"{path} is no folder, and by its name no picture, recording or film; nothing was changed"
            )
        return path
    try:
        with os.scandir(path) as entries:
            next(entries, None)
    except FileNotFoundError as error:
        cure = ""
        # Below a folder that is there, a name is more likely to be mistyped.
        is_away = any(relative_to(root, path) is not None and not os.path.lexists(root) for root in roots)
        if is_away or any(relative_to(path, root) is not None for root in roots):
            cure = (
                " and nothing removed, though the library knows it. Mount its disk, or ingest the folder where it is "
                f"now; `arrowlens remove {path}` forgets it"
            )
        raise FolderError(f"the folder {path} is missing; nothing was changed{cure}") from error
    except OSError as error:
        raise FolderError(f"the folder {path} cannot be read ({error.strerror}); nothing was changed") from error
    if any(_is_away(mount) for mount in mounts if relative_to(mount, path) is not None):
        raise FolderError(
            f"the folder {path} was on a disk that is not mounted now; nothing was changed. Mount it; or, if its files "
            f"lie there without it, use `arrowlens ingest --prune`; or forget them with `arrowlens remove {path}`"
        )
    return path


def _inside(folder: bytes) -> bytes:
    """Return what the paths below a folder begin with."""
    separator = os.fsencode(os.sep)
    return folder if folder.endswith(separator) else folder + separator


def unmounted(mounts: Iterable[str]) -> list[str]:
    """Return those of former mount points where no disk is mounted now."""
    return [mount for mount in mounts if _is_away(mount)]


def _is_away(mount: str) -> bool:
    return not os.path.ismount(os.path.realpath(mount))
