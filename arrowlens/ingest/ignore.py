"""What a walk leaves alone: hidden things, the caches and bins of other programs, and what ``.arrowlensignore`` names.

``.arrowlensignore`` has the syntax of gitignore and rules over its folder and everything below; the innermost file
that says anything of a name decides, and nothing can be taken back in below a folder that is ignored.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from arrowlens.errors import FolderError, MediaError
from arrowlens.ingest.gitignore import Pattern, verdict
from arrowlens.media.files import open_regular

IGNORE_NAME = b".arrowlensignore"

# In lower case; hidden names (.thumbnails, .Trash-1000, ._x.jpg) need no entry.
JUNK = frozenset(
    {
        b"@eadir",  # Synology: thumbnails
        b"#recycle",
        b"#snapshot",
        b"@recycle",  # QNAP
        b"@recently-snapshot",
        b"$recycle.bin",  # Windows
        b"system volume information",
        b"__macosx",  # macOS: resource forks in archives, bins of shares
        b"network trash folder",
        b"lost+found",  # Linux: fragments of files
    }
)
# All lines are held against each name: at these bounds the worst takes a tenth of a second a name.
MAX_BYTES = 128 * 1024
MAX_LINES = 2_000


@dataclass(frozen=True, slots=True)
class Rules:
    """The ignore files that rule over a folder: from the outermost to its own, each with the length of its path."""

    levels: tuple[tuple[int, tuple[Pattern, ...]], ...] = ()

    def below(self, folder: bytes) -> Rules:
        """The rules over what lies in a folder that has an ignore file of its own.

        Raises:
            FolderError: the file cannot be read or understood.
        """
        length = len(os.fsdecode(os.path.join(folder, b"")))  # noqa: PTH118 - bytes
        return Rules((*self.levels, (length, _read(folder))))

    def ignore(self, path: bytes, is_folder: bool) -> bool:
        """Whether a file or a folder is ignored; the folders that it lies in are not."""
        if not self.levels:
            return False
        text = os.fsdecode(path)
        for length, patterns in reversed(self.levels):
            if (ignored := verdict(patterns, text[length:], is_folder)) is not None:
                return ignored
        return False


def is_junk(name: bytes) -> bool:
    """Whether a file or a folder is hidden or another program's, by its name."""
    return name.startswith(b".") or name.lower() in JUNK


def has_rules(folder: bytes) -> bool:
    """Whether there is an ignore file in a folder, be it readable or not."""
    try:
        os.lstat(_place(folder))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # reading it finds the words
    return True


def _read(folder: bytes) -> tuple[Pattern, ...]:
    name = IGNORE_NAME.decode()
    try:
        with open_regular(_place(folder)) as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, MediaError) as error:
        raise FolderError(f"{name} cannot be read ({error}); nothing below its folder was touched") from error
    # Names are compared as Python decodes them: bytes that are not UTF-8 are surrogates on both sides.
    lines = os.fsdecode(data.removeprefix(b"\xef\xbb\xbf")).replace("\r\n", "\n").split("\n")
    if len(data) > MAX_BYTES or len(lines) > MAX_LINES:
        limit = f"{MAX_BYTES // 1024} KB or {MAX_LINES:,} lines"
        raise FolderError(f"{name} has more than {limit}; shorten it; nothing below its folder was touched")
    return tuple(_patterns(lines))


def _patterns(lines: list[str]) -> Iterator[Pattern]:
    for number, line in enumerate(lines, 1):
        try:
            pattern = Pattern.of(line)
        except ValueError as error:
            cure = "correct it; nothing below its folder was touched"
            raise FolderError(
                f"{IGNORE_NAME.decode()}, line {number}: {line!r} is no pattern of gitignore; {cure}"
            ) from error
        if pattern is not None:
            yield pattern


def _place(folder: bytes) -> bytes:
    return os.path.join(folder, IGNORE_NAME)  # noqa: PTH118 - bytes
