"""A copy on this machine of what a library in a bucket is searched by: vectors, indexes, media and words.

Files of tables never change, so a copy is brought up to date by one listing and the files that are missing. What
results are shown with, thumbnails and fingerprints, stays in the bucket and is read when it is wanted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from arrowlens.errors import LibraryNotFoundError, StorageError
from arrowlens.store.identifiers import FINGERPRINT_TABLE, THUMBNAIL_TABLE
from arrowlens.store.location import SETTINGS_NAME
from arrowlens.store.object_location import ObjectLocation, StoredObject

_TAGS_NAME = "replica.json"  # ETags of what keeps its name when it changes, by name
_LOCK_NAME = "replica.lock"
_NOT_COPIED = {f"{THUMBNAIL_TABLE}.lance", f"{FINGERPRINT_TABLE}.lance"}
_PARTS = ("data", "_deletions", "_indices")  # of a table, without its versions; what readers need of them
_N_READS = 16  # at once
_ATTEMPTS = 3


class Replica:
    """The copy of one library; any number of processes may bring it up to date and read it.

    Args:
        location: the library.
        folder: holds copies of libraries, such as the user's cache folder.

    Attributes:
        path: the copy, which can be opened as a library in a folder, to be read only.
    """

    def __init__(self, location: ObjectLocation, folder: Path) -> None:
        identity = f"{location.uri} {location.endpoint}"
        self.path = folder / hashlib.sha256(identity.encode()).hexdigest()[:16]
        self._location = location

    def update(self) -> None:
        """Copy what is missing, and delete what the library no longer has.

        Raises:
            LibraryNotFoundError: there is no library any more.
            StorageError: the bucket cannot be read, or the disk refuses; what was copied stays.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            with FileLock(self.path / _LOCK_NAME):
                for attempt in range(_ATTEMPTS):
                    try:
                        return self._update()
                    except FileNotFoundError:  # a table was dropped since it was listed
                        if attempt + 1 == _ATTEMPTS:
                            raise
        except OSError as error:
            detail = error.strerror or error
            raise StorageError(
                f"{self.path} cannot be brought up to date ({detail}); free space, or use --no-replica"
            ) from error

    def _update(self) -> None:
        listed = self._location.objects()
        if SETTINGS_NAME not in listed:
            raise LibraryNotFoundError(f"no library at {self._location.uri}; `arrowlens ingest FOLDER` makes one")
        newest = _newest_versions(listed)
        tags, present = self._tags(), self._present()
        if any(_is_missing(name, each, present, tags) for name, each in _wanted(listed, newest).items()):
            # A commit may come in the middle of a listing: files that a listed version names are all in a later one.
            listed = {**self._location.objects(), **newest, SETTINGS_NAME: listed[SETTINGS_NAME]}
        wanted = _wanted(listed, newest)
        missing = [name for name, each in wanted.items() if _is_missing(name, each, present, tags)]
        with ThreadPoolExecutor(_N_READS) as pool:  # versions after the files that they name, the settings last
            for names in _in_order(missing):
                list(pool.map(self._copy, names))
        self._remember({name: each.tag for name, each in wanted.items() if _is_replaced(name)})
        for name in present.keys() - wanted.keys():
            with contextlib.suppress(FileNotFoundError):
                (self.path / name).unlink()

    def _copy(self, name: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        self._location.download(name, partial)
        partial.replace(path)

    def _present(self) -> dict[str, int]:
        """Sizes of the files of the copy, by name."""
        sizes = {}
        for parent, _, names in os.walk(self.path):
            for name in names:
                path = Path(parent, name)
                sizes[str(path.relative_to(self.path))] = path.stat().st_size
        return {name: size for name, size in sizes.items() if name not in (_TAGS_NAME, _LOCK_NAME)}

    def _tags(self) -> dict[str, str]:
        try:
            tags: dict[str, str] = json.loads((self.path / _TAGS_NAME).read_bytes())
        except (FileNotFoundError, ValueError):  # without them everything that may be replaced is copied again
            return {}
        return tags

    def _remember(self, tags: Mapping[str, str]) -> None:
        partial = self.path / f"{_TAGS_NAME}.partial"
        partial.write_text(json.dumps(tags))
        partial.replace(self.path / _TAGS_NAME)


class _Batches(NamedTuple):
    """Names of files in the order in which they are copied."""

    files: list[str]
    versions: list[str]
    settings: list[str]


def _in_order(names: list[str]) -> _Batches:
    versions = [name for name in names if _is_replaced(name) and name != SETTINGS_NAME]
    settings = [name for name in names if name == SETTINGS_NAME]
    return _Batches([name for name in names if not _is_replaced(name)], versions, settings)


def _newest_versions(listed: Mapping[str, StoredObject]) -> dict[str, StoredObject]:
    """The manifest of each table's newest version; lance counts their names down."""
    newest: dict[str, str] = {}
    for name in sorted(listed, reverse=True):
        table, rest = _of_table(name)
        if rest.startswith("_versions/") and name.endswith(".manifest"):
            newest[table] = name
    return {name: listed[name] for name in newest.values()}


def _wanted(listed: Mapping[str, StoredObject], newest: Mapping[str, StoredObject]) -> dict[str, StoredObject]:
    """What a copy holds: the settings, and of each table its newest version and the files of all versions."""
    tables = {table for table, _ in map(_of_table, newest) if table.rpartition("/")[2] not in _NOT_COPIED}
    wanted = {SETTINGS_NAME: listed[SETTINGS_NAME]}
    for name, each in listed.items():
        table, rest = _of_table(name)
        if table in tables and (name in newest or rest.partition("/")[0] in _PARTS):
            if ".." in name.split("/"):
                raise StorageError(f"the bucket has an object {name!r:.200}, which leads out of the library; delete it")
            wanted[name] = each
    return wanted


def _of_table(name: str) -> tuple[str, str]:
    """The name of the table's folder that an object lies in, in a shard or not, and the rest; empty where in none."""
    table, suffix, rest = name.partition(".lance/")
    return (table + suffix.rstrip("/"), rest) if suffix else ("", "")


def _is_replaced(name: str) -> bool:
    """Whether a name may come again with another content: of the settings, and of versions of a table made anew."""
    return name == SETTINGS_NAME or name.endswith(".manifest")


def _is_missing(name: str, wanted: StoredObject, present: Mapping[str, int], tags: Mapping[str, str]) -> bool:
    return present.get(name) != wanted.size or (_is_replaced(name) and tags.get(name) != wanted.tag)
