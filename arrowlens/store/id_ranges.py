"""Ranges of ids, by which large tables are read in parts of bounded size.

Ids begin with hexadecimal digits of a hash, which spread evenly, so that ranges of equal width hold about as many rows
each. What belongs together has ids that begin alike: a file's row and its vectors, a content's thumbnail and strip.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from lancedb.expr import Expr

MAX_ROWS = 100_000  # of a table, in one range; each range scans the column of ids where that has no index
_N_DIGITS = 4


@dataclass(frozen=True, slots=True)
class IdRange:
    """The ids from ``start`` on that are below ``end``, compared as texts; None where there is no bound."""

    start: str | None = None
    end: str | None = None

    def expression(self, column: str) -> Expr | None:
        """Return the expression "``column`` is in the range"; None for all ids."""
        from lancedb.expr import col, lit

        above = None if self.start is None else col(column) >= lit(self.start)
        below = None if self.end is None else col(column) < lit(self.end)
        return below if above is None else above if below is None else above & below

    def rows(self, table: pa.Table, column: str) -> pa.Table:
        """Return the rows of a table whose ``column`` is in the range."""
        if self.start is not None:
            table = table.filter(pc.greater_equal(table[column], self.start))
        return table if self.end is None else table.filter(pc.less(table[column], self.end))


ALL_IDS = IdRange()


def id_ranges(n_rows: int) -> list[IdRange]:
    """Divide all ids into ranges, rising, so that one holds about ``MAX_ROWS`` of ``n_rows`` rows at most."""
    return equal_ranges(min(-(-n_rows // MAX_ROWS) or 1, 16**_N_DIGITS))


def equal_ranges(n: int) -> list[IdRange]:
    """Divide all ids into ``n`` ranges of equal width, rising."""
    n_widths: int = 16**_N_DIGITS
    bounds = [None, *(f"{number * n_widths // n:0{_N_DIGITS}x}" for number in range(1, n)), None]
    return [IdRange(start, end) for start, end in itertools.pairwise(bounds)]


def range_of(ranges: Sequence[IdRange], value: str) -> int:
    """Return the position of the range that holds an id."""
    return bisect_right(ranges, value, key=lambda each: each.start or "") - 1
