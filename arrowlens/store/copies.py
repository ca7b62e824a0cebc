"""Second copies of the two files without which a library cannot be read: its settings and its tables' manifests.

A copy is written after what it is a copy of has reached the disk, and replaced in one step. It lies in a folder of its
own, so that neither lance nor an earlier Arrowlens takes it for something else. A copy holds nothing that the file
itself does not hold: what was removed leaves both.
"""

from __future__ import annotations

import os
from pathlib import Path

from arrowlens.store.fsync import sync_folder

COPIES = "copies"
_PARTIAL = ".partial"


def keep_copy(file: Path, kept: Path) -> None:
    """Make ``kept`` the only file in its folder, with the content of ``file``; folders in it stay.

    Raises:
        OSError: the disk refused.
    """
    content = file.read_bytes()
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_durably(kept, content)
    for other in kept.parent.iterdir():
        if other != kept and other.is_file():
            other.unlink()


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file in one step, on the disk when this returns.

    Raises:
        OSError: the disk refused.
    """
    partial = path.with_name(path.name + _PARTIAL)
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)
