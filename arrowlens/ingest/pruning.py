"""What leaves the library at the end of a run, and what is held back until somebody confirms it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from arrowlens.ingest.diff import Known, Plan
from arrowlens.ingest.walk import ScannedFile
from arrowlens.store import Root

# A run that would remove more of a root needs a word first: a share together with a number, or a number alone.
SHARE, N_OF_SHARE, N_AT_MOST = 0.5, 20, 1_000


@dataclass(slots=True)
class Pruning:
    """The fate of files that are not at their places any more.

    Attributes:
        removed: ids of files that are gone, or are ignored now. moved: of files whose content lies at another place.
        held_back: how many files would be removed, by the path of each root of which nothing is removed therefore.
    """

    removed: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    held_back: dict[str, int] = field(default_factory=dict)


def prune(
    plan: Plan, roots: Iterable[Root], consent: bool | None, moved: Collection[str], superseded: Collection[str]
) -> Pruning:
    """Decide what leaves the library.

    Ignored files do not count towards the limits: they are there, and somebody has named them.

    Args:
        consent: True removes whatever is gone, False nothing at all, None what is below the limits.
        moved: of ``plan.gone``, those whose content lies at another place.
        superseded: of ``plan.superseded``, those whose files are indexed by their real places.
    """
    if consent is False:
        return Pruning()
    moving, lost = {*moved, *superseded}, set(plan.gone) - set(moved)
    n_known, n_lost = _by_root(plan.known, plan.known), _by_root(plan.known, lost)
    held = {root for root, n in n_lost.items() if consent is None and _is_too_many(n, n_known[root])}
    free = {media_id for media_id in (*moving, *lost, *plan.ignored) if plan.known[media_id].root_id not in held}
    paths = {root.root_id: root.path for root in roots}
    return Pruning(
        removed=sorted(free - moving),
        moved=sorted(free & moving),
        held_back={paths[root]: n_lost[root] for root in sorted(held)},
    )


def pair(
    gone: Iterable[str], known: Mapping[str, Known], key: Callable[[Known], Hashable], new: Counter[Hashable]
) -> list[str]:
    """Of files that are gone, those with a partner of equal ``key`` among new ones, each of which counts once."""
    left, paired = Counter(new), []
    for media_id in gone:
        place = key(known[media_id])
        if left[place] > 0:
            left[place] -= 1
            paired.append(media_id)
    return paired


def content_of(known: Known) -> Hashable:
    """What makes two files the same."""
    return known.content_hash


def stamp_of(file: Known | ScannedFile) -> Hashable:
    """What is the same of a file that was only moved, as far as can be told without reading it."""
    return file.size, file.modified_ns


def _by_root(known: Mapping[str, Known], media_ids: Iterable[str]) -> Counter[str]:
    return Counter(known[media_id].root_id for media_id in media_ids)


def _is_too_many(n: int, n_known: int) -> bool:
    return n > N_AT_MOST or (n >= N_OF_SHARE and n > SHARE * n_known)
