"""A library as a map: every file a point, near what is like it, and in a group with it.

Principal components (Pearson, 1901; Hotelling, 1933) of the files' vectors give the places, spherical k-means (Dhillon
and Modha, 2001; seeded as k-means++ by Arthur and Vassilvitskii, 2007) the groups. The same library always gives the
same map.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arrowlens.errors import InputError
from arrowlens.modalities import ROLE_OF, Modality

if TYPE_CHECKING:
    from arrowlens.store import MultimodalStorage

MOST_POINTS = 20_000
MOST_GROUPS = 10

_COLUMNS = ("media_id", "root_id", "path_bytes", "content_hash", "modality", "state", "taken")
_ROUNDS = 30


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


def draw_map(storage: MultimodalStorage, modality: Modality | None = None, most: int = MOST_POINTS) -> EmbeddingMap:
    """The map of a library's pictures, of its recordings, or of both where their vectors share a space.

    Of more than ``most`` files those with the lowest ids are taken: ids are hashes, so that this is a fair sample, and
    the same one each time. A recording lies at the mean of its windows.

    Raises:
        InputError: both kinds are asked for and have spaces of their own. StorageError: the database refused.
    """
    if modality is None and not storage.settings.text_reaches_audio:
        raise InputError("pictures and recordings have spaces of their own in this library; ask for one of them")
    rows = [row for row in storage.all_media(list(_COLUMNS)).to_pylist() if row["state"] == "indexed"]
    rows = [row for row in rows if modality is None or row["modality"] == modality]
    placed: list[tuple[dict[str, Any], np.ndarray]] = []
    for kind, role in ROLE_OF.items():
        own = [row for row in rows[:most] if row["modality"] == kind]
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
        (n, 2) float32, and the share of the variance in them, 0 where there is none. Each axis points to where its
        largest weight is positive; without a second dimension the second column is 0.
    """
    centred = vectors - vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    variances, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))  # rising
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    places = np.zeros((len(vectors), 2), np.float32)
    places[:, : axes.shape[1]] = centred @ axes.astype(np.float32)
    total = float(variances.sum())
    return places, float(variances[-2:].sum()) / total if total > 1e-9 * len(vectors) else 0.0


def grouped_by_direction(vectors: np.ndarray, n_groups: int) -> np.ndarray:
    """The group of each of (n, d) vectors of length one, (n,) int64 from 0 on, the largest group first.

    Spherical k-means from seeds that a fixed generator draws; fewer groups where fewer directions differ.
    """
    centres = _seeds(vectors, n_groups)
    groups = np.full(len(vectors), -1)
    for _ in range(_ROUNDS):
        nearest = (vectors @ centres.T).argmax(axis=1)
        if np.array_equal(nearest, groups):
            break
        groups = nearest
        sums = np.zeros_like(centres)
        np.add.at(sums, groups, vectors)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0, sums / np.maximum(lengths, 1e-12), centres)
    _, groups, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return rank[groups]


def _seeds(vectors: np.ndarray, n_groups: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    chosen = [int(generator.integers(len(vectors)))]
    distances = np.maximum(1 - vectors @ vectors[chosen[0]], 0).astype(np.float64)
    while len(chosen) < n_groups and distances.sum() > 1e-6:
        chosen.append(int(generator.choice(len(vectors), p=distances / distances.sum())))
        distances = np.minimum(distances, np.maximum(1 - vectors @ vectors[chosen[-1]], 0))
    return vectors[chosen]


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
