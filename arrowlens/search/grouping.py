"""Results in order of time, in groups, or with files that look or sound the same shown once."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from arrowlens.errors import InputError
from arrowlens.search.results import Hit

Grouping = Literal["folder", "day"]

SAME = 0.98  # cosine from which two pictures, or two moments of recordings, pass for one


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Hits that belong together, best first.

    Attributes:
        key: a folder, or a day; None for files whose day is not known.
        hits: at least one.
    """

    key: Path | dt.date | None
    hits: tuple[Hit, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Stack:
    """Hits that look or sound the same, best first; at least one."""

    hits: tuple[Hit, ...]

    @property
    def best(self) -> Hit:
        """The one that is shown."""
        return self.hits[0]


def by_date(hits: Sequence[Hit], newest_first: bool = True) -> list[Hit]:
    """Return hits in order of ``taken``; equal ones keep their order, those without a date come last."""
    dated = [hit for hit in hits if hit.taken is not None]
    dated.sort(key=lambda hit: hit.taken or dt.datetime.min, reverse=newest_first)  # stable in both directions
    return dated + [hit for hit in hits if hit.taken is None]


def grouped(hits: Sequence[Hit], by: Grouping) -> list[Group]:
    """Return hits by folder, or by the day on which they were taken; the group of the best hit comes first.

    Raises:
        InputError: ``by`` is neither.
    """
    if by not in get_args(Grouping):
        raise InputError(f"the grouping is {by!r}; it is one of {', '.join(get_args(Grouping))}")
    groups: dict[Path | dt.date | None, list[Hit]] = {}
    for hit in hits:
        key = hit.path.parent if by == "folder" else hit.taken.date() if hit.taken is not None else None
        groups.setdefault(key, []).append(hit)
    return [Group(key, tuple(members)) for key, members in groups.items()]


def stacked(hits: Sequence[Hit], classes: Mapping[str, object]) -> list[Stack]:
    """Each class of hits once, as its best; ``classes`` is by ``media_id``, a hit without one stands alone."""
    stacks: dict[object, list[Hit]] = {}
    for hit in hits:
        stacks.setdefault(classes.get(hit.media_id, hit.media_id), []).append(hit)
    return [Stack(tuple(members)) for members in stacks.values()]


def classes_by_vectors(hits: Sequence[Hit], vectors: Mapping[str, np.ndarray], same: float = SAME) -> dict[str, str]:
    """A class for each hit by ``media_id``: that of the best hit before it that looks or sounds the same, else its own.

    Every member of a class is compared with the class's best, so that no chain of small steps joins what differs.

    Args:
        hits: best first.
        vectors: of the hits by ``media_id``, (d,) each; of the window that matched for recordings. Hits without one
            stand alone, and so do trivial ones that the caller leaves out.
        same: cosine from which two are the same.
    """
    classes: dict[str, str] = {}
    leaders: dict[object, tuple[list[str], list[np.ndarray]]] = {}
    for hit in hits:
        if hit.media_id not in vectors:
            continue
        vector = vectors[hit.media_id].astype(np.float64)
        unit = vector / np.linalg.norm(vector)
        ids, units = leaders.setdefault((hit.modality, hit.found_in), ([], []))
        cosines = np.array([leader @ unit for leader in units])
        if len(ids) and cosines.max() >= same:
            classes[hit.media_id] = ids[int(np.argmax(cosines >= same))]
        else:
            classes[hit.media_id] = hit.media_id
            ids.append(hit.media_id)
            units.append(unit)
    return classes
