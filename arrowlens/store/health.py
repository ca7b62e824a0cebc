"""How well a library's index finds what an exact scan finds, and how its tables lie on disk. Changes nothing."""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.modalities import ROLE_OF
from arrowlens.store.index import is_index_used
from arrowlens.store.maintenance import TableStats
from arrowlens.store.queries import LibraryReader
from arrowlens.store.ranking import is_live
from arrowlens.store.schema import (
    INDEXED,
    THUMBNAIL_TABLE,
    source_column,
    stored_embedding_schema,
    thumbnail_schema,
    vector_table_name,
)
from arrowlens.store.vectors import embedding_matrix
from arrowlens.store.words import asked_words

if TYPE_CHECKING:
    from lancedb.table import LanceTable

K = 10
_FEW_WORDS = 1  # by which a file is looked for
_MANY_FILES = 1_000  # with the same word: not all are asked for
_EQUAL = 1e-6  # scores this close are equal: either file is a right answer


@dataclasses.dataclass(frozen=True, slots=True)
class SearchCheck:
    """A role's searches for stored vectors, as they are answered and by an exact scan.

    Attributes:
        n_sampled: vectors that were searched for. n_unusable: those that are not finite or not of length one.
        recall: share of the ten nearest other files that was found, in [0, 1]; 1 for an exact scan.
        ms, exact_ms: median of a search.
        index_used: what the database's plan says. index_expected: there is an index.
    """

    n_sampled: int
    n_unusable: int
    recall: float
    ms: float
    exact_ms: float
    index_used: bool
    index_expected: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Agreement:
    """Whether files and vectors belong together: files without vectors are not found, vectors without a file no use."""

    n_without_vectors: int
    n_without_file: int


@dataclasses.dataclass(frozen=True, slots=True)
class ThumbnailCheck:
    """Content hashes: ``missing`` of pictures without a thumbnail or with one that is no JPEG; ``unused`` ones."""

    missing: list[str]
    n_unused: int


class LibraryExaminer(LibraryReader):
    """Measurements for ``arrowlens doctor``."""

    def check_search(self, role: str, n: int) -> SearchCheck | None:
        """Search for ``n`` stored vectors, spread evenly over the table; None where there is none.

        Raises:
            StorageError: the database refused.
        """
        record = self._model(role)
        name = vector_table_name(role, record.digest)
        sample = self._sample(name, role, record.dimension, n)
        usable = [row for row, vector in enumerate(embedding_matrix(sample["embedding"])) if _is_unit(vector)]
        if not len(sample):
            return None
        times: dict[bool, list[float]] = {False: [], True: []}
        recalls = []
        hashes, vectors = sample["content_hash"].to_pylist(), embedding_matrix(sample["embedding"])
        for row in usable:
            found = {}
            for exact in (False, True):
                started = time.perf_counter()
                found[exact] = self.search(role, record.digest, vectors[row], K + 1, exact=exact)
                times[exact].append(1e3 * (time.perf_counter() - started))
            recalls.append(_recall(found[False], found[True], hashes[row]))
        used = self._tables.read(name, lambda table: is_index_used(table, vectors[0]), False)
        return SearchCheck(
            n_sampled=len(sample),
            n_unusable=len(sample) - len(usable),
            recall=float(np.mean(recalls)) if recalls else 1.0,
            ms=statistics.median(times[False]) if usable else 0.0,
            exact_ms=statistics.median(times[True]) if usable else 0.0,
            index_used=used,
            index_expected=self.index_states()[role].kind is not None,
        )

    def shapes(self) -> dict[str, TableStats]:
        """How each table lies on disk, by its name.

        Raises:
            StorageError: the database refused.
        """
        found: dict[str, TableStats] = {}
        for name in self._tables.names():
            shape = self._tables.shape(name)
            if shape is not None:
                found[name] = shape
        return found

    def check_agreement(self, role: str) -> Agreement:
        """Count files of the role's kind without vectors, and vectors without a file.

        Raises:
            StorageError: the database refused.
        """
        record, source = self._model(role), source_column(role)
        schema = stored_embedding_schema(role, record.dimension)
        rows = self._tables.rows(vector_table_name(role, record.digest), [source, "content_hash"], schema)
        rows = rows.rename_columns(["media_id", "content_hash"])
        media = self.all_media(["media_id", "content_hash", "modality", "state"])
        encoded = pc.is_in(media["modality"], pa.array([name for name, its in ROLE_OF.items() if its == role]))
        media = media.filter(pc.and_(pc.equal(media["state"], INDEXED), encoded))
        held = is_live(rows["media_id"], rows["content_hash"], media)
        without = ~is_live(media["media_id"], media["content_hash"], rows)
        return Agreement(int(without.sum()), int((~held).sum()))

    def check_words(self, n: int) -> tuple[int, int]:
        """How many of ``n`` sampled files, whose words the table holds, the word index finds: (sampled, found).

        Raises:
            StorageError: the database refused, as it does when the index is damaged.
        """
        n_asked = n_found = 0
        for row in self.sample_media(n):
            words = asked_words(row["words"].split(" ", _FEW_WORDS)[0]) if row["words"] else None
            if words is None:
                continue
            n_asked += 1
            found = self.find_words(words, _MANY_FILES)
            n_found += row["content_hash"] in found["content_hash"].to_pylist() or len(found) >= _MANY_FILES
        return n_asked, n_found

    def check_lookup(self, n: int) -> tuple[int, int]:
        """How many of ``n`` ids, which a scan gives, are found by the index of ids: (sampled, found).

        Raises:
            StorageError: the database refused, as it does when the index is damaged.
        """
        ids = self.all_media(["media_id"])["media_id"]
        chosen = ids.take(pa.array(_spread(len(ids), n), pa.int64())).to_pylist()
        return len(chosen), len(self.media(chosen))

    def check_thumbnails(self) -> ThumbnailCheck:
        """Compare thumbnails with the pictures that are searchable.

        Raises:
            StorageError: the database refused.
        """
        media = self.all_media(["content_hash", "modality", "state"])
        indexed = media.filter(pc.equal(media["state"], INDEXED))
        pictures = indexed.filter(pc.equal(indexed["modality"], "image"))["content_hash"].to_pylist()
        rows = self._tables.rows(THUMBNAIL_TABLE, ["content_hash", "thumbnail"], thumbnail_schema())
        held = dict(zip(rows["content_hash"].to_pylist(), rows["thumbnail"].to_pylist(), strict=True))
        missing = [content for content in dict.fromkeys(pictures) if not _is_jpeg(held.get(content))]
        return ThumbnailCheck(missing, len(held.keys() - set(indexed["content_hash"].to_pylist())))

    def sample_media(self, n: int) -> list[dict[str, Any]]:
        """Rows of ``n`` searchable files as ``media`` gives them, spread evenly over the ids.

        Raises:
            StorageError: the database refused.
        """
        media = self.all_media(["media_id", "state"])
        ids = media.filter(pc.equal(media["state"], INDEXED))["media_id"]
        chosen = ids.take(pa.array(_spread(len(ids), n), pa.int64())).to_pylist()
        rows: list[dict[str, Any]] = self.media(chosen).to_pylist()
        return rows

    def _sample(self, name: str, role: str, dimension: int, n: int) -> pa.Table:
        columns = [source_column(role), "content_hash", "embedding"]

        def ask(table: LanceTable) -> pa.Table:
            offsets = _spread(table.count_rows(), n)
            return table.take_offsets(offsets).select(columns).to_arrow().select(columns)

        return self._tables.read(name, ask, stored_embedding_schema(role, dimension).empty_table().select(columns))


def _spread(n_there: int, n: int) -> list[int]:
    """At most ``n`` of ``n_there`` positions, evenly."""
    return [int(position) for position in np.linspace(0, n_there - 1, min(n, n_there))] if n_there else []


def _is_jpeg(data: bytes | None) -> bool:
    """Whether it begins and ends as one: what is cut off or overwritten with zeros does not."""
    return data is not None and data.startswith(b"\xff\xd8\xff") and data.endswith(b"\xff\xd9")


def _is_unit(vector: np.ndarray) -> bool:
    return bool(np.isfinite(vector).all() and abs(float(np.linalg.norm(vector)) - 1) < 0.01)


def _recall(found: pa.Table, exact: pa.Table, own: str) -> float:
    """Share of the best ``K`` other contents that was found; one that scores as the last of them is as good."""
    right = [score for score, content in _others(exact, own)][:K]
    if not right:
        return 1.0
    good = sum(score >= right[-1] - _EQUAL for score, _ in _others(found, own)[:K])
    return min(1.0, good / len(right))


def _others(hits: pa.Table, own: str) -> list[tuple[float, str]]:
    pairs = zip(hits["score"].to_pylist(), hits["content_hash"].to_pylist(), strict=True)
    return [(score, content) for score, content in pairs if content != own]
