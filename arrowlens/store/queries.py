"""Questions to a library: nearest files, files by words, rows, thumbnails, counts."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.errors import InputError
from arrowlens.store.facets import FACET_COLUMNS, Facets, Statistics, facets_of, statistics_of
from arrowlens.store.filters import Condition
from arrowlens.store.fulltext import FOUND, Matching, find
from arrowlens.store.index import nearest
from arrowlens.store.loops import read_unchanged
from arrowlens.store.model_tables import ModelTables
from arrowlens.store.ranking import DISTANCE, RESULT_SCHEMA, best_files, first_limit, is_live
from arrowlens.store.records import CAPTION_COLUMNS, Caption, media_schema
from arrowlens.store.schema import (
    FINGERPRINT_TABLE,
    INDEXED,
    MEDIA_TABLE,
    THUMBNAIL_TABLE,
    fingerprint_schema,
    media_id_of,
    source_column,
    stored_embedding_schema,
    thumbnail_schema,
    vector_table_name,
)
from arrowlens.store.selection import KEYS, NOTHING, FetchPlan, Selection, select
from arrowlens.store.settings import ModelRecord, relative_path, relative_to
from arrowlens.store.snapshots import MediaRows, Snapshots, Vectors
from arrowlens.store.state import LibraryState
from arrowlens.store.tables import Tables
from arrowlens.store.vectors import checked_query

if TYPE_CHECKING:
    from lancedb.expr import Expr
    from lancedb.table import LanceTable

Fetch = Callable[[int], pa.Table]  # a limit -> the nearest rows, as ``best_files`` takes them
_MANY = 2_000  # files above which reading all ids is faster than asking for theirs


class Queries:
    """Reads a library, without a lock. Each answer is of the newest version, whoever wrote it.

    Each method raises StorageError when the database refuses.
    """

    def __init__(self, tables: Tables, state: LibraryState, vectors: ModelTables, index_from: int) -> None:
        self._tables, self._state, self._vectors = tables, state, vectors
        self._media = MediaRows(tables, index_from)
        self._small = Snapshots(tables, index_from, Vectors.read)

    def close(self) -> None:
        """Let go of the tables that are held in memory."""
        self._media.clear()
        self._small.clear()

    def search(
        self,
        role: str,
        digest: str,
        query: np.ndarray,
        k: int,
        modality: str | None = None,
        among: Selection | None = None,
        *,
        exact: bool = False,
        with_vectors: bool = False,
    ) -> pa.Table:
        """Return the ``k`` files nearest to a vector of a role's model.

        Args:
            role: "vision", "audio", ...
            digest: ``recipe_digest`` of the query.
            query: (d,) of any float type.
            k: number of files, from 1 on.
            modality: "image", "audio" or "video" returns only files of that modality.
            among: returns only these files; from ``select`` or ``selection``.
            exact: compare all vectors, without an index.
            with_vectors: add the column ``embedding``, of the best window, as stored.

        Returns:
            ``media_id``, ``score`` (exact cosine, float32), ``start``, ``end`` (seconds of the best window, null for
            pictures), ``content_hash``; best first, equal scores by id. One row for each file, and one file for equal
            content; ``k`` rows whenever so many files match.

        Raises:
            InputError: the query is unusable or ``k`` is below 1.
            ModelMismatchError: the vectors of the role have another one.
        """
        if k < 1:
            raise InputError(f"k is {k}; it is the number of results, from 1 on")
        record = self._vectors.model_with(role, digest)
        if record is None or (among is not None and not among):
            return RESULT_SCHEMA.empty_table()  # of no row, so that nobody reads its vectors
        query = checked_query(query, record.dimension)
        plan = FetchPlan.at(source_column(role), k, among)
        alive = self._alive if among is None else among.holds

        def search() -> pa.Table:
            held = self._small.of(self._vectors.name(role, record))
            if held is not None:
                fetch, limit = self._fetch_from_memory(held, role, query, modality, among), first_limit(k)
            else:
                fetch, limit = (
                    self._fetch_from_disk(record, role, query, modality, plan, exact or plan.exact),
                    plan.limit,
                )
            return best_files(
                fetch,
                lambda: self.n_vectors(role, digest),
                alive,
                query,
                k,
                limit,
                few_alive=among is not None,
                with_vectors=with_vectors,
            )

        # Vectors are read first, media second: a commit in between could hide a file. Then both are read again.
        best = read_unchanged(search, self.media_version) if among is None else search()
        self._vectors.model_with(role, digest)  # another model may be in use by now, and these vectors deleted
        return best

    def _fetch_from_memory(
        self, held: Vectors, role: str, query: np.ndarray, modality: str | None, among: Selection | None
    ) -> Fetch:
        source, columns = source_column(role), _columns(role)
        kept = np.ones(len(held.rows), dtype=bool)
        if modality is not None:
            kept &= pc.equal(held.rows["modality"], modality).to_numpy()
        if among is not None:
            kept &= among.holds(held.rows.rename_columns({source: "media_id"}))
        return lambda limit: held.nearest(query, limit, kept, columns).rename_columns({source: "media_id"})

    def _fetch_from_disk(
        self, record: ModelRecord, role: str, query: np.ndarray, modality: str | None, plan: FetchPlan, past_index: bool
    ) -> Fetch:
        name, source, columns = self._vectors.name(role, record), source_column(role), _columns(role)
        empty = stored_embedding_schema(role, record.dimension).empty_table().select(columns)
        empty = empty.append_column(DISTANCE, pa.array([], pa.float32()))

        def nearest_rows(limit: int, where: Expr | None) -> pa.Table:
            rows = self._tables.read(
                name, lambda table: nearest(table, query, limit, columns, where, past_index), empty
            )
            return rows.rename_columns({source: "media_id"})

        def fetch(limit: int) -> pa.Table:
            rows = nearest_rows(limit, plan.where)
            # Most tables hold one modality only, and a condition that all rows satisfy costs a scan.
            if modality is None or not pc.any(pc.not_equal(rows["modality"], modality)).as_py():
                return rows
            return nearest_rows(limit, plan.kept_to(modality).where)

        return fetch

    def n_vectors(self, role: str, digest: str) -> int:
        """Return the number of vectors of a role's model."""
        return self._tables.read(vector_table_name(role, digest), lambda table: int(table.count_rows()), 0)

    def select(self, conditions: Sequence[Condition]) -> Selection:
        """Return the searchable files that satisfy all conditions (``store.filters``), for ``search(among=...)``."""
        return self._tables.read(MEDIA_TABLE, lambda table: select(table, conditions), NOTHING)

    def find_words(
        self,
        text: str,
        n: int,
        modality: str | None = None,
        among: Selection | None = None,
        matching: Matching = "whole",
    ) -> pa.Table:
        """Return files that have all words of a text in their names, folders, captions and tags: ``n`` or more, if any.

        Args:
            text: the words.
            n: number of files.
            modality: "image", "audio" or "video" returns only files of that modality.
            among: returns only these files; from ``select`` or ``selection``.
            matching: "whole", "part" or "typo" (``store.fulltext.find``).

        Returns:
            ``media_id``, ``content_hash``, ``modality``, ``is_name`` (whether the text is the file's name or its path,
            absolute or below the root). Those come first, then by BM25 falling, equal ones by id; equal content once.
        """
        if os.sep in text:
            place = self.media_by_path(os.path.abspath(text.strip()))  # noqa: PTH100 - resolve() would follow links
            text = text if place is None else place["path"]

        def ask(table: LanceTable) -> pa.Table:
            return find(table, text, n, modality, among, matching)

        return self._tables.read(MEDIA_TABLE, ask, FOUND.empty_table())

    def selection(self, media_id: Sequence[str], content_hash: Sequence[str]) -> Selection:
        """Return the files of these pairs, for ``search(among=...)``."""
        files = pa.table([pa.array(media_id, pa.string()), pa.array(content_hash, pa.string())], schema=KEYS)
        return Selection(files.sort_by("media_id"), self._tables.read(MEDIA_TABLE, lambda table: table.count_rows(), 0))

    @property
    def version(self) -> str:
        """A text that differs after every change of the settings or of any table."""
        tables = (f"{name}={self._tables.state(name)}" for name in self._tables.names())
        return hashlib.sha256(repr((self._state.settings, *tables)).encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def media_version(self) -> Hashable:
        """Return what differs after every change of ``media``."""
        return self._tables.state(MEDIA_TABLE)

    def places(self, content_hashes: Sequence[str]) -> dict[str, int]:
        """Return the number of searchable places of contents, by content hash."""
        rows = self._media.having("content_hash", sorted(set(content_hashes)), ["content_hash", "state"])
        return Counter(rows.filter(pc.equal(rows["state"], INDEXED))["content_hash"].to_pylist())

    def media(self, media_ids: Sequence[str]) -> pa.Table:
        """Return rows of ``media`` by id, ordered by id, with ``absolute_path`` (bytes for ``os.fsdecode``)."""
        return self._placed(self._media.having("media_id", media_ids, media_schema().names))

    def media_by_path(self, path: str | os.PathLike[str]) -> dict[str, Any] | None:
        """Return the row of one file by its absolute path, as ``media`` does; None for an unknown file."""
        text = os.fsdecode(path)
        root = self._state.settings.root_of(text)
        relative = root.relative(text) if root is not None else None
        if root is None or relative is None:
            return None
        rows: list[dict[str, Any]] = self.media([media_id_of(root.root_id, relative)]).to_pylist()
        return rows[0] if rows else None

    def media_under(self, path: str | os.PathLike[str]) -> pa.Table:
        """Return rows of a file, or of everything below a folder, by absolute path; as ``media`` does."""
        text = os.fsdecode(path)
        rows = self._placed(self._media.all(media_schema().names))
        inside = [relative_to(text, os.fsdecode(place)) is not None for place in rows["absolute_path"].to_pylist()]
        return rows.filter(pa.array(inside, pa.bool_()))

    def all_media(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return every row of ``media``, ordered by id; some columns or all."""
        wanted = list(columns or media_schema().names)
        rows = self._media.all(list(dict.fromkeys(["media_id", *wanted])))
        return rows.sort_by("media_id").select(wanted)

    def skipped(self) -> pa.Table:
        """Return ``absolute_path, reason, media_id, state`` of every file that could not be read, ordered by path.

        A file in state "indexed" is one that is still found with its earlier content.
        """
        rows = self._placed(self.all_media())
        rows = rows.filter(pc.is_valid(rows["reason"]))
        return rows.select(["absolute_path", "reason", "media_id", "state"]).sort_by("absolute_path")

    def thumbnails(self, content_hashes: Sequence[str]) -> dict[str, bytes]:
        """Return JPEGs by content hash; contents without one are omitted."""
        schema = thumbnail_schema()
        rows = self._tables.rows_with(THUMBNAIL_TABLE, "content_hash", content_hashes, schema.names, schema)
        return dict(zip(rows["content_hash"].to_pylist(), rows["thumbnail"].to_pylist(), strict=True))

    def fingerprints(self, content_hashes: Sequence[str], part: str) -> dict[str, bytes]:
        """Return "spectrum" or "waveform" by content hash; contents without a fingerprint are omitted."""
        columns = ["content_hash", part]
        rows = self._tables.rows_with(FINGERPRINT_TABLE, "content_hash", content_hashes, columns, fingerprint_schema())
        return dict(zip(rows["content_hash"].to_pylist(), rows[part].to_pylist(), strict=True))

    def captions(self) -> Iterator[Caption]:
        """Return the captions of searchable files that have one."""
        columns = ["media_id", "content_hash", "modality", "state", *CAPTION_COLUMNS]
        rows = self._media.all(columns)
        for row in rows.filter(pc.equal(rows["state"], INDEXED)).to_pylist():
            if (caption := Caption.of(row)) is not None:
                yield caption

    def facets(self, among: Selection | None = None, chosen: Mapping[str, Selection] | None = None) -> Facets:
        """Count searchable files, or some of them, by what they can be filtered by.

        Args:
            among: count these files only.
            chosen: the files that a filter keeps, by its name in ``FACETS``; that facet is counted without the filter.
        """
        rows = self.all_media(FACET_COLUMNS)
        selections = {**(chosen or {}), **({"": among} if among is not None else {})}
        kept = {by: pc.is_in(rows["media_id"], value_set=each.files["media_id"]) for by, each in selections.items()}
        return facets_of(rows, kept)

    def newest(self, n: int, modality: str | None = None, among: Selection | None = None) -> list[str]:
        """Return the ids of the ``n`` searchable files that were taken last, newest first; equal content once."""
        rows = self.all_media(["media_id", "content_hash", "modality", "taken", "state"])
        rows = rows.filter(pc.equal(rows["state"], INDEXED))
        if modality is not None:
            rows = rows.filter(pc.equal(rows["modality"], modality))
        if among is not None:
            rows = rows.filter(pc.is_in(rows["media_id"], value_set=among.files["media_id"]))
        ordered = rows.sort_by([("taken", "descending"), ("media_id", "ascending")])
        first = ordered.append_column("place", pa.array(range(len(ordered)), pa.int64()))
        places = first.group_by("content_hash").aggregate([("place", "min")])["place_min"].sort().slice(0, n)
        ids: list[str] = ordered["media_id"].take(places).to_pylist()
        return ids

    def media_of(self, content_hash: str) -> pa.Table:
        """Return rows of the searchable places of a content, as ``media`` does."""
        rows = self._media.having("content_hash", [content_hash], media_schema().names)
        return self._placed(rows.filter(pc.equal(rows["state"], INDEXED)))

    def sample_media(self, n: int) -> list[dict[str, Any]]:
        """Return rows of ``n`` searchable files, evenly spaced over the ids, as ``media`` does."""
        media = self.all_media(["media_id", "state"])
        ids = media.filter(pc.equal(media["state"], INDEXED))["media_id"]
        chosen = ids.take(pa.array(evenly_spaced(len(ids), n), pa.int64())).to_pylist()
        rows: list[dict[str, Any]] = self.media(chosen).to_pylist()
        return rows

    def statistics(self) -> Statistics:
        """Count files, bytes on disk and the state of the vector tables."""
        media = self.all_media(["modality", "state", "reason", "trivial"])
        return statistics_of(media, sum(self._state.location.sizes().values()), self._vectors.index_states())

    def indexed(self, media_ids: Sequence[str] | None = None) -> pa.Table:
        """Return ``media_id, content_hash`` of searchable media, of all or of those with some ids."""
        columns = ["media_id", "content_hash", "state"]
        if media_ids is None or len(media_ids) > _MANY:
            rows = self._media.all(columns)
        else:
            rows = self._media.having("media_id", media_ids, columns)
        return rows.filter(pc.equal(rows["state"], INDEXED))

    def _alive(self, rows: pa.Table) -> np.ndarray:
        """Which vector rows (media_id, content_hash) have a ``media`` row, (n,) bool."""
        media = self.indexed(rows["media_id"].unique().to_pylist())
        return is_live(rows["media_id"], rows["content_hash"], media)

    def _placed(self, media: pa.Table) -> pa.Table:
        """``media`` rows ordered by id, with their absolute paths."""
        media = media.sort_by("media_id")
        roots = {root.root_id: root for root in self._state.settings.roots}
        places = [
            roots[root_id].absolute(path) if root_id in roots else relative_path(path)
            for root_id, path in zip(media["root_id"].to_pylist(), media["path_bytes"].to_pylist(), strict=True)
        ]
        return media.append_column("absolute_path", pa.array(places, pa.binary()))


def _columns(role: str) -> list[str]:
    """Return the columns of a vector table that ``best_files`` reads."""
    return [source_column(role), "content_hash", "modality", "start", "end", "embedding"]


def evenly_spaced(n_there: int, n: int) -> list[int]:
    """Return at most ``n`` of ``n_there`` positions, evenly spaced."""
    return [int(position) for position in np.linspace(0, n_there - 1, min(n, n_there))] if n_there else []
