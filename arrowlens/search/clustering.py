"""All pairs of many items by blocked products, and groups of them that cannot drift.

Items are numbered by falling worth. A group is a star: its first item, the leader, and items that are close to the
leader itself, not merely to one another, so that a chain of small steps never joins what differs. Every item joins the
first leader that it is close to; what is close to no better item leads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

Pairs = tuple[np.ndarray, np.ndarray]
"""Two (m,) int64 arrays: the first and the second item of each pair."""
Close = Callable[[np.ndarray, np.ndarray], Pairs]
"""Items a (n,) and items b (m,) -> those pairs of an a and a b that are close."""

_ROWS, _COLUMNS = 2_048, 4_096  # of a product: 32 MB of float32
_PAIRS_AT_ONCE = 16_384


def stars(items: np.ndarray, close: Close) -> list[np.ndarray]:
    """Groups of two items and more, the leader first, the others in the order of ``items``; groups by their leaders.

    Compares every item with every one before it that leads a group or stands alone; the memory it takes does not grow
    with the number of close pairs.

    Args:
        items: (n,) rising numbers, by falling worth.
        close: must not depend on how the items are divided among calls.
    """
    leader = np.full(int(items[-1]) + 1 if len(items) else 0, -1)  # of each item that has joined one
    for start in range(0, len(items), _ROWS):
        leading = _lead(_free(items[start : start + _ROWS], leader), leader, close)
        for first in range(start + _ROWS, len(items), _COLUMNS):
            _join(*close(leading, _free(items[first : first + _COLUMNS], leader)), leader)
    members = np.flatnonzero(leader >= 0)
    order = members[np.argsort(leader[members], kind="stable")]
    return [np.append(lead, joined) for lead, joined in _runs(leader[order], order)]


def products_above(left: np.ndarray, right: np.ndarray, least: float) -> Pairs:
    """Positions of rows of (n, d) and (m, d), float32, whose product is at least ``least``."""
    if len(left) == 0 or len(right) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    products = left @ right.T  # (n, m)
    rows, columns = np.divmod(np.flatnonzero(products >= least), len(right))
    return rows, columns


def by_parts(
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray], left: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """``measure`` of pairs, (m,), asked for some thousands at a time: what it unpacks stays small."""
    starts = range(0, max(len(left), 1), _PAIRS_AT_ONCE)
    parts = [measure(left[at : at + _PAIRS_AT_ONCE], right[at : at + _PAIRS_AT_ONCE]) for at in starts]
    pairs: np.ndarray = np.concatenate(parts)
    return pairs


def _free(items: np.ndarray, leader: np.ndarray) -> np.ndarray:
    free: np.ndarray = items[leader[items] < 0]
    return free


def _lead(items: np.ndarray, leader: np.ndarray, close: Close) -> np.ndarray:
    """Group rising items among themselves; returns those that lead or stand alone."""
    left, right = close(items, items)
    later = left < right
    left, right = left[later], right[later]
    order = np.argsort(left, kind="stable")
    for item, close_ones in _runs(left[order], right[order]):
        if leader[item] < 0:
            leader[close_ones[leader[close_ones] < 0]] = item
    return _free(items, leader)


def _runs(keys: np.ndarray, values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each of rising keys with its values."""
    unique, starts = np.unique(keys, return_index=True)
    for key, start, stop in zip(unique.tolist(), starts, [*starts[1:], len(keys)], strict=False):
        yield key, values[start:stop]


def _join(leaders: np.ndarray, items: np.ndarray, leader: np.ndarray) -> None:
    """Let items join the first of the leaders that they are close to."""
    order = np.lexsort((leaders, items))
    joining, firsts = np.unique(items[order], return_index=True)
    leader[joining] = leaders[order][firsts]
