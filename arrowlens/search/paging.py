"""Pages of a ranking that knows only "the best n": no file comes twice, none is left out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

_GROWTH = 8
_Item = TypeVar("_Item")


def ranking(
    best: Callable[[int], Sequence[_Item]], key: Callable[[_Item], Hashable], first: int
) -> Iterator[list[_Item]]:
    """The whole ranking, block by block, each item once.

    An index that looks deeper may find what it missed before, so that the best 40 need not begin with the best 20.
    The ranking is therefore made of the best n, then of those of the best 8n that were not among them, and so on. It
    is the same for all who begin with the same n, as long as nobody writes. A block is in order; what was missed
    before comes first in the next one.

    Args:
        best: n -> the best n items, all there are when they are fewer; the same for the same n.
        key: names an item.
        first: how many items the first block has.
    """
    seen: set[Hashable] = set()
    depth = first
    while True:
        found = best(depth)
        block = [item for item in found if key(item) not in seen][: depth - len(seen)]
        seen.update(map(key, block))
        yield block
        if len(found) < depth:
            return
        depth *= _GROWTH


def page(blocks: Iterator[list[_Item]], k: int, offset: int = 0) -> list[_Item]:
    """Items ``offset`` to ``offset + k`` of a ranking; no more blocks are asked for than it takes."""
    items = (item for block in blocks for item in block)
    return list(islice(items, offset, offset + k))
