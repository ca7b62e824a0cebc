"""The text that somebody wrote beside a picture or a recording: ``gull.txt`` beside ``gull.jpg``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, BinaryIO

from arrowlens.errors import MediaError
from arrowlens.media.decoded import AnyPath
from arrowlens.media.files import explain_os_error, open_regular
from arrowlens.media.metadata import one_line

MAX_CAPTION_CHARS = 10_000
_MAX_BYTES = 4 * MAX_CAPTION_CHARS + 3  # UTF-8 takes up to 4 a character, behind a mark of 3


def read_caption(
    path: AnyPath, open_file: Callable[[Any], AbstractContextManager[BinaryIO]] = open_regular
) -> str | None:
    """Read the text of a sidecar file: UTF-8, with or without a mark, else Windows' Western code page.

    Args:
        path: the file.
        open_file: opens it; another than the default where files do not lie on this machine.

    Returns:
        At most 10,000 characters, printable, with runs of blanks and line ends as one blank; None for a file that is
        empty or no text.

    Raises:
        MediaError: it is gone, forbidden, not a regular file, or reading failed: nothing is known of its text.
    """
    with open_file(path) as file:
        try:
            data = file.read(_MAX_BYTES)
        except OSError as error:
            raise MediaError(explain_os_error(error)) from error
    if b"\0" in data:
        return None
    return one_line(_decoded(data))[:MAX_CAPTION_CHARS].rstrip() or None


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(data) == _MAX_BYTES and error.start > len(data) - 4:
            return data[: error.start].decode("utf-8-sig")  # the last character was cut in two
        return data.decode("cp1252", errors="replace")
