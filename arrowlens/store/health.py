"""Whether a library's indexes find what its rows hold, and whether its tables agree. Changes nothing."""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.modalities import MODALITIES, roles_of
from arrowlens.store.fulltext import query_words
from arrowlens.store.identifiers import INDEXED, STRIP, THUMBNAIL_TABLE, source_column, vector_table_name
from arrowlens.store.index import index_state, is_index_used
from arrowlens.store.model_tables import ModelTables
from arrowlens.store.queries import Queries, evenly_spaced
from arrowlens.store.ranking import is_live
from arrowlens.store.schema import stored_embedding_schema, thumbnail_schema
from arrowlens.store.tables import Tables, joined, repeated
from arrowlens.store.vectors import embedding_matrix

if TYPE_CHECKING:
    from lancedb.table import LanceTable

K = 10
_MANY_FILES = 1_000  # with the same word: not all are asked for
_EQUAL = 1e-6  # scores this close are equal: either file is a correct answer


@dataclasses.dataclass(frozen=True, slots=True)
class SearchCheck:
    """Searches for stored vectors of a role, compared with exact scans.

    Attributes:
        n_sampled: vectors that were searched for.
        n_unusable: of them, vectors that are not finite or not of length one.
        recall: share of the ten nearest other files that was found, in [0, 1]; 1 for an exact scan.
        ms, exact_ms: median milliseconds of a search.
        index_used: whether the database's query plan uses an index.
        index_expected: whether there is one.
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
    """Number of files without vectors, which no search finds, and of vectors without a file, which are useless."""

    n_without_vectors: int
    n_without_file: int


@dataclasses.dataclass(frozen=True, slots=True)
class ThumbnailCheck:
    """Content hashes of pictures and films without a whole JPEG as thumbnail, and the number of unused thumbnails."""

    missing: list[str]
    n_unused: int


class Health:
    """Measurements for ``arrowlens doctor``.

    Each method raises StorageError when the database refuses, as it does when an index is damaged.
    """

    def __init__(self, tables: Tables, queries: Queries, vectors: ModelTables) -> None:
        self._tables, self._queries, self._vectors = tables, queries, vectors

    def check_search(self, role: str, n: int) -> SearchCheck | None:
        """Search for ``n`` stored vectors, evenly spaced over the table; return None when there are none."""
        record = self._vectors.model(role)
        name = vector_table_name(role, record.recipe_digest)
        sample = self._sample(name, role, record.dimension, n)
        usable = [row for row, vector in enumerate(embedding_matrix(sample["embedding"])) if _is_unit(vector)]
        if not len(sample):
            return None
        times: dict[bool, list[float]] = {False: [], True: []}
        recalls = []
        hashes, vectors = sample["content_hash"].to_pylist(), embedding_matrix(sample["embedding"])
        for row in usable:
            answers = {}
            for exact in (False, True):
                started = time.perf_counter()
                answers[exact] = self._queries.search(role, record.recipe_digest, vectors[row], K + 1, exact=exact)
                times[exact].append(1e3 * (time.perf_counter() - started))
            recalls.append(_recall(answers[False], answers[True], hashes[row]))
        states = self._tables.each(name, lambda table: (index_state(table).kind, is_index_used(table, vectors[0])))
        used = [is_used for kind, is_used in states if kind is not None]  # of the shards that have one
        return SearchCheck(
            n_sampled=len(sample),
            n_unusable=len(sample) - len(usable),
            recall=float(np.mean(recalls)) if recalls else 1.0,
            ms=statistics.median(times[False]) if usable else 0.0,
            exact_ms=statistics.median(times[True]) if usable else 0.0,
            index_used=bool(used) and all(used),
            index_expected=bool(used),
        )

    def check_agreement(self, role: str) -> Agreement:
        """Count files that a role's model encodes and that have no vectors, and vectors without a file."""
        record, source = self._vectors.model(role), source_column(role)
        schema = stored_embedding_schema(role, record.dimension)
        rows = self._tables.rows(vector_table_name(role, record.recipe_digest), [source, "content_hash"], schema)
        rows = rows.rename_columns(["media_id", "content_hash"])
        media = self._queries.all_media(["media_id", "content_hash", "modality", "sample_rate", "state"])
        kinds = zip(media["modality"].to_pylist(), pc.is_valid(media["sample_rate"]).to_pylist(), strict=True)
        encoded = pa.array([role in roles_of(modality, has_sound=sound) for modality, sound in kinds], pa.bool_())
        media = media.filter(pc.and_(pc.equal(media["state"], INDEXED), encoded))
        held = is_live(rows["media_id"], rows["content_hash"], media)
        without = ~is_live(media["media_id"], media["content_hash"], rows)
        return Agreement(int(without.sum()), int((~held).sum()))

    def check_words(self, n: int) -> tuple[int, int]:
        """Look up ``n`` files by a word of theirs in the word index; return (n_sampled, n_found)."""
        n_asked = n_found = 0
        for row in self._queries.sample_media(n):
            words = query_words(row["words"].split(" ", 1)[0]) if row["words"] else None
            if words is None:
                continue
            n_asked += 1
            files = self._queries.find_words(words, _MANY_FILES)
            n_found += row["content_hash"] in files["content_hash"].to_pylist() or len(files) >= _MANY_FILES
        return n_asked, n_found

    def check_lookup(self, n: int) -> tuple[int, int]:
        """Look up ``n`` ids from a scan in the index of ids; return (n_sampled, n_found)."""
        ids = self._queries.all_media(["media_id"])["media_id"]
        chosen = ids.take(pa.array(evenly_spaced(len(ids), n), pa.int64())).to_pylist()
        return len(chosen), len(self._queries.media(chosen))

    def n_repeated(self, name: str) -> int:
        """Count ids that several rows of a table have: two writers at once would leave them."""

        def ask(table: LanceTable) -> int:
            key = table.schema.names[0]
            return len(repeated(table.search().select([key]).limit(None).to_arrow()[key]))

        return sum(self._tables.each(name, ask))

    def check_thumbnails(self) -> ThumbnailCheck:
        """Compare thumbnails with searchable pictures and films."""
        media = self._queries.all_media(["content_hash", "modality", "state"])
        indexed = media.filter(pc.equal(media["state"], INDEXED))
        is_shown = pc.is_in(
            indexed["modality"], pa.array([one for one, info in MODALITIES.items() if "image" in info.inputs])
        )
        pictures = indexed.filter(is_shown)["content_hash"].to_pylist()
        rows = self._tables.rows(THUMBNAIL_TABLE, ["content_hash", "thumbnail"], thumbnail_schema())
        held = dict(zip(rows["content_hash"].to_pylist(), rows["thumbnail"].to_pylist(), strict=True))
        missing = [content for content in dict.fromkeys(pictures) if not _is_jpeg(held.get(content))]
        contents = {key.removesuffix(STRIP) for key in held}
        return ThumbnailCheck(missing, len(contents - set(indexed["content_hash"].to_pylist())))

    def _sample(self, name: str, role: str, dimension: int, n: int) -> pa.Table:
        columns = [source_column(role), "content_hash", "embedding"]

        n_of_shard = self._tables.of_shard(n)

        def ask(table: LanceTable) -> pa.Table:
            offsets = evenly_spaced(table.count_rows(), n_of_shard)
            return table.take_offsets(offsets).select(columns).to_arrow().select(columns)

        return joined(self._tables.each(name, ask), columns, stored_embedding_schema(role, dimension))


def _is_jpeg(data: bytes | None) -> bool:
    """Whether it begins and ends like one, which truncated and zeroed files do not."""
    return data is not None and data.startswith(b"\xff\xd8\xff") and data.endswith(b"\xff\xd9")


def _is_unit(vector: np.ndarray) -> bool:
    return bool(np.isfinite(vector).all() and abs(float(np.linalg.norm(vector)) - 1) < 0.01)


def _recall(approximate: pa.Table, exact: pa.Table, own: str) -> float:
    """Share of the best ``K`` other contents that was found; any content that scores as the last of them counts."""
    right = [score for score, content in _others(exact, own)][:K]
    if not right:
        return 1.0
    good = sum(score >= right[-1] - _EQUAL for score, _ in _others(approximate, own)[:K])
    return min(1.0, good / len(right))


def _others(hits: pa.Table, own: str) -> list[tuple[float, str]]:
    pairs = zip(hits["score"].to_pylist(), hits["content_hash"].to_pylist(), strict=True)
    return [(score, content) for score, content in pairs if content != own]
