"""What a walk leaves alone: hidden things, the caches and bins of other programs, and what ``.arrowlensignore`` names.

``.arrowlensignore`` has the syntax of gitignore and rules over its folder and everything below; the innermost file
that says anything of a name decides, and nothing can be taken back in below a folder that is ignored.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from arrowlens.errors import FolderError, MediaError
from arrowlens.ingest.gitignore import PatternError, Patterns
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
_MAX_BYTES = 100_000  # every name is compared with every line


@dataclass(frozen=True, slots=True)
class Rules:
    """The ignore files that hold for a folder.

    Attributes:
        levels: from the outermost to the innermost file, the length of its folder's path, and its patterns.
    """

    levels: tuple[tuple[int, Patterns], ...] = ()

    def below(self, folder: bytes) -> Rules:
        """Return the rules for what lies in a folder that has an ignore file of its own.

        Raises:
            FolderError: the file cannot be read or understood.
        """
        return self.with_text(folder, _read(folder))

    def with_text(self, folder: bytes, text: bytes) -> Rules:
        """Return the rules for what lies in a folder whose ignore file holds ``text``.

        Raises:
            FolderError: it cannot be understood.
        """
        length = len(os.fsdecode(os.path.join(folder, b"")))  # noqa: PTH118 - bytes
        return Rules((*self.levels, (length, _patterns(text))))

    def ignore(self, path: bytes, is_folder: bool) -> bool:
        """Return whether a file or a folder is ignored, given that no folder around it is."""
        if not self.levels:
            return False
        text = os.fsdecode(path)
        for length, patterns in reversed(self.levels):
            verdict = patterns.ignore(text[length:], is_folder=is_folder)
            if verdict is not None:
                return verdict
        return False


def is_junk(name: bytes) -> bool:
    """Return whether a file or a folder is hidden or another program's, by its name."""
    return name.startswith(b".") or name.lower() in JUNK


def has_rules(folder: bytes) -> bool:
    """Return whether there is an ignore file in a folder, readable or not."""
    try:
        os.lstat(_place(folder))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # reading it gives the reason
    return True


def _read(folder: bytes) -> bytes:
    name = IGNORE_NAME.decode()
    try:
        with open_regular(_place(folder)) as file:
            if os.fstat(file.fileno()).st_size > _MAX_BYTES:
                raise FolderError(f"{name} is larger than {_MAX_BYTES:,} bytes; nothing below its folder was touched")
            return file.read(_MAX_BYTES)
    except (OSError, MediaError) as error:
        raise FolderError(f"{name} cannot be read ({error}); nothing below its folder was touched") from error


def _patterns(data: bytes) -> Patterns:
    # Names are compared as Python decodes them: bytes that are not UTF-8 are surrogates on both sides.
    lines = os.fsdecode(data.removeprefix(b"\xef\xbb\xbf")).replace("\r\n", "\n").split("\n")
    try:
        return Patterns(lines)
    except PatternError as error:
        cure = "correct it; nothing below its folder was touched"
        raise FolderError(f"{IGNORE_NAME.decode()}, {error}; {cure}") from error


def _place(folder: bytes) -> bytes:
    return os.path.join(folder, IGNORE_NAME)  # noqa: PTH118 - bytes
