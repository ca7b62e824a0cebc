"""What is written is made safe from a loss of power; lance itself leaves that to the system, which takes its time."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class Durable:
    """Knows which files of a library have reached the disk. They never change under the same name."""

    def __init__(self) -> None:
        self._safe: dict[Path, set[str]] = {}  # by folder of a table

    def sync(self, folder: Path) -> None:
        """Wait until everything below a table's folder is on the disk.

        Raises:
            OSError: the disk refused.
        """
        safe = self._safe.get(folder, set())
        present: set[str] = set()
        for parent, _, names in os.walk(folder):
            new = [path for name in names if (path := os.path.join(parent, name)) not in safe]  # noqa: PTH118 - many
            present.update(os.path.join(parent, name) for name in names)  # noqa: PTH118
            for path in new:
                sync_path(path)
            if new:
                sync_folder(parent)
        self._safe[folder] = present

    def forget(self, folder: Path) -> None:
        """A table was deleted: files of its names may come again."""
        self._safe.pop(folder, None)


def sync_path(path: str | Path) -> None:
    """Wait until a file or folder is on the disk; one that is gone need not be."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: str | Path) -> None:
    """The same for the names in a folder, where the file system can do that."""
    with contextlib.suppress(OSError):
        sync_path(path)
