"""What a walk leaves alone: hidden things, the caches and bins of other programs, and what ``.arrowlensignore`` names.

``.arrowlensignore`` has the syntax of gitignore and rules over its folder and everything below; the innermost file
that says anything of a name decides, and nothing can be taken back in below a folder that is ignored.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arrowlens.errors import FolderError, MediaError
from arrowlens.media.files import open_regular

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

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
_MAX_BYTES = 1024**2


@dataclass(frozen=True, slots=True)
class Rules:
    """The ignore files that rule over a folder: from the outermost to its own, each with the length of its path."""

    levels: tuple[tuple[int, GitIgnoreSpec], ...] = ()

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
        text = os.fsdecode(path).replace("\n", "\0") + ("/" if is_folder else "")  # no pattern holds a line break
        for length, spec in reversed(self.levels):
            verdict = spec.check_file(text[length:]).include
            if verdict is not None:
                return verdict
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


def _read(folder: bytes) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec  # deferred: few folders have rules

    name = IGNORE_NAME.decode()
    try:
        with open_regular(_place(folder)) as file:
            if os.fstat(file.fileno()).st_size > _MAX_BYTES:
                raise FolderError(f"{name} is larger than 1 MB; nothing below its folder was touched")
            data = file.read(_MAX_BYTES)
    except (OSError, MediaError) as error:
        raise FolderError(f"{name} cannot be read ({error}); nothing below its folder was touched") from error
    # Names are compared as Python decodes them: bytes that are not UTF-8 are surrogates on both sides.
    lines = os.fsdecode(data.removeprefix(b"\xef\xbb\xbf")).replace("\r\n", "\n").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            GitIgnoreSpec.from_lines([line])
        except ValueError as error:
            cure = "correct it; nothing below its folder was touched"
            raise FolderError(f"{name}, line {number}: {line!r} is no pattern of gitignore; {cure}") from error
    return GitIgnoreSpec.from_lines(re.sub(r"\*{3,}", "*", line) for line in lines)  # equal, and quick to match


def _place(folder: bytes) -> bytes:
    return os.path.join(folder, IGNORE_NAME)  # noqa: PTH118 - bytes
