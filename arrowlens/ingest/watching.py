"""Says when folders have to be ingested again: something in them has changed, or a while has passed."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from arrowlens.addresses import is_bucket, is_manifest
from arrowlens.errors import InputError
from arrowlens.ingest.ignore import IGNORE_NAME
from arrowlens.ingest.walk import mount_of
from arrowlens.modalities import modality_of
from arrowlens.store import relative_to

DEFAULT_EVERY_S = 600.0
_QUIET_MS, _LONGEST_MS = 1_000, 10_000  # changes are gathered until none comes for so long, or for so long at most
_LOOK_MS = 500  # how often what is mounted, and the clock, are looked at
_POLL_MS = 2_000  # of disks that tell of no changes made by other machines
_RETRY_S = 5.0
_NETWORK = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "gluster", "lustre", "fuse.", "davfs", "vboxsf")


class Watch:
    """Waits for changes of folders; of places elsewhere, until a while has passed.

    A folder that is missing, or whose disk is not mounted, is waited for.

    Args:
        places: folders and files, prefixes of buckets, and manifests.
        library: the library's own folder, whose changes do not count; None for one in a bucket.
        every_s: how often places that tell of no changes are due: buckets, manifests.

    Raises:
        InputError: the extra ``watch`` is not installed.
    """

    def __init__(
        self, places: Sequence[str | os.PathLike[str]], library: Path | None, every_s: float = DEFAULT_EVERY_S
    ) -> None:
        try:
            import watchfiles  # noqa: F401 - asked for here, so that a missing extra is said before the first run
        except ImportError as error:
            raise InputError("watching folders needs the extra watch: pip install 'arrowlens[watch]'") from error
        self._here = [
            os.path.realpath(os.path.expanduser(os.fsdecode(place)))  # noqa: PTH111
            for place in places
            if not (is_bucket(place) or is_manifest(place))
        ]
        self._has_others = len(self._here) < len(places)
        self._library = None if library is None else os.path.realpath(library)
        self._every_s = every_s
        self._due_at = 0.0  # of the monotonic clock; at once

    def retry(self) -> None:
        """Have ``changes`` yield again in a few seconds: the last run could not be made."""
        self._due_at = time.monotonic() + _RETRY_S

    @property
    def missing(self) -> list[str]:
        """The folders and files that are not there now."""
        return [place for place in self._here if not os.path.exists(place)]  # noqa: PTH110 - names may be no text

    def changes(self, stop: threading.Event) -> Iterator[None]:
        """Yield at once and whenever the places are due, until ``stop`` is set.

        Changes are watched for before the first turn of the caller, and during each.
        """
        from watchfiles import Change, watch

        ran_with: dict[str, tuple[int, int]] | None = None
        while not stop.is_set():
            seen, is_new = self._identities(), True
            there = [place for place in self._here if place in seen]
            if not there:
                stop.wait(_LOOK_MS / 1000)
            stream = watch(
                *there,
                watch_filter=lambda change, path: self._counts(path, is_gone=change == Change.deleted),
                debounce=_LONGEST_MS,
                step=_QUIET_MS,
                stop_event=stop,
                rust_timeout=_LOOK_MS,
                yield_on_timeout=True,
                raise_interrupt=False,
                force_polling=any(map(_is_on_network, there)),
                poll_delay_ms=_POLL_MS,
                ignore_permission_denied=True,
            )
            for changed in stream if there else [set()]:
                now, is_over = self._identities(), any(path in there for _, path in changed)
                # What happened before a new watch began is seen by a run after that.
                is_due = changed or (is_new and there) or now != ran_with or time.monotonic() >= self._due_at
                is_new = False
                if is_due and not stop.is_set():
                    self._due_at = time.monotonic() + self._every_s if self._has_others else math.inf
                    ran_with = now  # as of before the turn, in which a folder may come back
                    yield
                # A folder that went away is not watched any more, even if it has come back.
                if is_over or now != seen or self._identities() != seen:
                    break

    def _identities(self) -> dict[str, tuple[int, int]]:
        """Return device and inode of the places that are there."""
        identities = {}
        for place in self._here:
            try:
                status = os.stat(place)  # noqa: PTH116 - names may be no text
            except OSError:
                continue
            identities[place] = (status.st_dev, status.st_ino)
        return identities

    def _counts(self, path: str, *, is_gone: bool) -> bool:
        """Return whether a change may matter: of a medium, a text beside one, an ignore file or a folder.

        What is gone may have been a folder, whatever its name.
        """
        if self._library is not None and relative_to(self._library, path) is not None:
            return False
        name = os.path.basename(path)  # noqa: PTH119 - as above
        is_file_of_ours = (
            modality_of(name) is not None or name.lower().endswith(".txt") or name == os.fsdecode(IGNORE_NAME)
        )
        return is_gone or is_file_of_ours or not os.path.splitext(name)[1] or os.path.isdir(path)  # noqa: PTH122, PTH112


def _is_on_network(path: str) -> bool:
    """Return whether a path lies on a network disk, which tells of no changes made elsewhere, as far as Linux says."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text(errors="replace").splitlines()]
    except OSError:
        return False
    kinds = {fields[1]: fields[2] for fields in mounts}
    return kinds.get(mount_of(path), "").startswith(_NETWORK)
