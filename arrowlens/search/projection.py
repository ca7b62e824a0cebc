"""A library as a map: every file a point, near what is like it, and in a group with it.

Principal components (Pearson, 1901; Hotelling, 1933) of the files' vectors give the places, k-means (seeded as
k-means++ by Arthur and Vassilvitskii, 2007) the groups. The same library always gives the same map.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arrowlens.errors import InputError
from arrowlens.modalities import MODALITIES, ROLE_OF, Modality

if TYPE_CHECKING:
    from arrowlens.store import MultimodalStorage

MOST_POINTS = 20_000
MOST_GROUPS = 10

_COLUMNS = ("media_id", "root_id", "path_bytes", "content_hash", "modality", "state", "taken")
_EQUAL = 1e-6  # vectors that differ by less in every dimension are one point


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """A file on the map.

    Attributes:
        media_id, modality, taken: as of a ``Hit``.
        folder: the topmost folder below the one that was ingested; "" for files that lie in that one itself.
        name: of the file; bytes that are not UTF-8 are surrogates.
        x, y: its first and second principal component.
        group: from 0 on, the largest first.
    """

    media_id: str
    modality: Modality
    name: str
    folder: str
    taken: dt.datetime | None
    x: float
    y: float
    group: int


@dataclasses.dataclass(frozen=True, slots=True)
class EmbeddingMap:
    """A map of a library.

    Attributes:
        points: ordered by ``media_id``. n_files: how many files there are, of which these may be a sample.
        explained: the share of all variance that the two components show, from 0 to 1.
    """

    points: tuple[Point, ...]
    n_files: int
    explained: float

    @property
    def group_folders(self) -> tuple[str, ...]:
        """The folder of most files of each group, "" for the ingested one itself; of two, the first by name."""
        counts: list[Counter[str]] = [
            Counter() for _ in range(1 + max((point.group for point in self.points), default=-1))
        ]
        for point in self.points:
            counts[point.group][point.folder] += 1
        return tuple(min(each, key=lambda folder: (-each[folder], folder)) for each in counts)


def draw_map(storage: MultimodalStorage, modality: Modality | None = None, most: int = MOST_POINTS) -> EmbeddingMap:
    """The map of a library's pictures, of its recordings, or of both where their vectors share a space.

    Of more than ``most`` files those with the lowest ids are taken: ids are hashes, so that this is a fair sample, and
    the same one each time. A recording lies at the mean of its windows, a film at that of
    its shots.

    Raises:
        InputError: both kinds are asked for and have spaces of their own. StorageError: the database refused.
    """
    if modality is None and not storage.settings.has_one_space:
        raise InputError("pictures and recordings have spaces of their own in this library; ask for one of them")
    rows = [row for row in storage.all_media(list(_COLUMNS)).to_pylist() if row["state"] == "indexed"]
    rows = [row for row in rows if modality is None or row["modality"] == modality]
    placed: list[tuple[dict[str, Any], np.ndarray]] = []
    for kind, role in ROLE_OF.items():
        own = [row for row in rows[:most] if MODALITIES[row["modality"]].inputs[0] == kind]
        placed += zip(*_vectors(storage, role, own), strict=True)
    placed.sort(key=lambda pair: pair[0]["media_id"])
    if not placed:
        return EmbeddingMap((), len(rows), 0.0)
    vectors = np.stack([vector for _, vector in placed])
    places, explained = principal_components(vectors)
    groups = grouped_by_direction(vectors, min(MOST_GROUPS, int(np.ceil(np.sqrt(len(vectors) / 2)))))
    points = [_point(row, place, int(group)) for (row, _), place, group in zip(placed, places, groups, strict=True)]
    return EmbeddingMap(tuple(points), len(rows), explained)


def principal_components(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """Rows in the plane of greatest variance.

    Args:
        vectors: (n, d) float32, n and d from 1 on.

    Returns:
        (n, 2) float32, and the share of the variance in them. Where all rows are equal, zeros and 0; without a second
        dimension the second column is 0.
    """
    from sklearn.decomposition import PCA  # deferred: a second, for the map alone

    places = np.zeros((len(vectors), 2), np.float32)
    if np.ptp(vectors, axis=0).max() < _EQUAL:
        return places, 0.0
    analysis = PCA(min(2, *vectors.shape), svd_solver="covariance_eigh")
    own = analysis.fit_transform(vectors)
    places[:, : own.shape[1]] = own
    return places, float(analysis.explained_variance_ratio_.sum())


def grouped_by_direction(vectors: np.ndarray, n_groups: int) -> np.ndarray:
    """The group of each of (n, d) vectors of length one, (n,) int64 from 0 on, the largest group first.

    K-means from seeds that a fixed generator draws; fewer groups where fewer directions differ.
    """
    from sklearn.cluster import KMeans  # deferred, as above

    n_different = len(np.unique(vectors, axis=0))
    groups = KMeans(min(n_groups, n_different), n_init=1, random_state=0).fit_predict(vectors)
    _, groups, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return rank[groups]


def _vectors(
    storage: MultimodalStorage, role: str, rows: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Those of the rows that have vectors, and one vector of length one for each, (n, d) float32."""
    scanned = storage.scan_vectors(role, {row["media_id"]: row["content_hash"] for row in rows})
    if not len(scanned.owners):
        return [], np.empty((0, 0), np.float32)
    owners, first = np.unique(scanned.owners, return_index=True)
    means = np.add.reduceat(scanned.vectors.astype(np.float32), first, axis=0)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return [rows[owner] for owner in owners], means


def _point(row: dict[str, Any], place: np.ndarray, group: int) -> Point:
    path = Path(os.fsdecode(row["path_bytes"]))
    return Point(
        media_id=row["media_id"],
        modality=row["modality"],
        name=path.name,
        folder=path.parts[0] if len(path.parts) > 1 else "",
        taken=row["taken"],
        x=float(place[0]),
        y=float(place[1]),
        group=group,
    )
