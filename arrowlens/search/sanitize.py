"""What is safe to print or to show of file names, which are other people's text; and sizes for people."""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"  # hold emoji families and several scripts together, and move nothing else on a line
_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # controls, bidirectional marks, surrogates, line separators


def printable(text: str) -> str:
    """``text`` on one line, with everything that could move the cursor or reorder the line as a backslash escape.

    Bytes of a name that are not UTF-8 (surrogates, as ``os.fsdecode`` makes them) become ``\\xNN``. The result can be
    encoded in UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def as_stored(text: str) -> str:
    """``text`` with bytes of a name that are not UTF-8 as ``\\xNN``, as the library has them; all else stays.

    Raises:
        UnicodeEncodeError: it contains unpaired surrogates that stand for no bytes.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def byte_size(n_bytes: float) -> str:
    """``512 B``, ``1.5 KB``, ``3 GB`` (powers of 1024)."""
    for unit in ("B", "KB", "MB", "GB"):
        if n_bytes < 1024 or unit == "GB":
            break
        n_bytes /= 1024
    return f"{n_bytes:.{0 if unit == 'B' else 1}f}".removesuffix(".0") + f" {unit}"


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character in _JOINERS or unicodedata.category(character) not in _UNSAFE:
        return character
    return character.encode("unicode_escape").decode("ascii")
