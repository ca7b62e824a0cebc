"""The two loops of a search, each with the reason why it ends: reading again after a write, and looking deeper."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

_MAX_OVERTAKEN = 20  # reads that are repeated since something was written meanwhile; a second one is rare

_Rows = TypeVar("_Rows")
_T = TypeVar("_T")


class OutdatedError(Exception):
    """A file was removed after it was found and before it was read: read again."""


def read_unchanged(read: Callable[[], _T], version: Callable[[], Hashable] = lambda: None) -> _T:
    """Return what ``read`` gives while nobody writes: the one loop that repeats a search.

    It ends. A removed file leaves a place empty, so that ``read`` raises OutdatedError; the next read does not find
    that file, so it is raised at most once for each file that is removed meanwhile. Any other write leaves an answer
    that is only a little old, so after ``_MAX_OVERTAKEN`` repetitions the answer stands.

    Args:
        read: reads anew each time; it may raise OutdatedError.
        version: of what is read, which differs after each write. Without it, only OutdatedError repeats the read.
    """
    n_overtaken = 0
    while True:
        before = version()
        try:
            answer = read()
        except OutdatedError:
            continue
        if n_overtaken == _MAX_OVERTAKEN or version() == before:
            return answer
        n_overtaken += 1


def look_deeper(
    fetch: Callable[[int], tuple[_Rows, bool]], read: Callable[[_Rows, bool], _T | None], limit: int, growth: int
) -> _T:
    """Return what is read from enough of the best rows: the one loop by which a search looks deeper.

    It ends, because a limit that is not enough grows until it exceeds the number of rows there are; of all rows,
    ``read`` always gives an answer.

    Args:
        fetch: a limit -> the best rows, and whether there are no others.
        read: these two -> the answer, or None when it takes more rows.
        limit: of the first fetch.
        growth: factor of each next limit, above 1.
    """
    while True:
        rows, is_whole = fetch(limit)
        answer = read(rows, is_whole)
        if answer is not None:
            return answer
        assert not is_whole
        limit *= growth
