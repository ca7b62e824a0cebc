"""Texts that files carry about themselves, made safe to store and to show."""

from __future__ import annotations

from contextlib import suppress

MAX_TEXT_CHARS = 1000


def clean_text(value: object) -> str:
    """A tag's value as one printable text of at most 1,000 characters; "" for anything that is not a text."""
    if isinstance(value, str):
        # Pillow reads EXIF texts as Latin-1, as the standard's ASCII allows; cameras and editors write UTF-8.
        with suppress(UnicodeError):
            value = value.encode("latin-1").decode("utf-8")
    elif isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    else:
        return ""
    return printable(value.partition("\0")[0][: 4 * MAX_TEXT_CHARS])[:MAX_TEXT_CHARS].rstrip()


def printable(text: str) -> str:
    """A text of printable characters only, on one line; unpaired surrogates become question marks."""
    text = text.encode("utf-8", errors="replace").decode("utf-8")
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
