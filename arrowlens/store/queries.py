"""Questions to a library: nearest files, files by words, rows, thumbnails, counts."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.errors import InputError
from arrowlens.modalities import TextSource
from arrowlens.store.facets import FACET_COLUMNS, Facets, Statistics, facets_of, statistics_of
from arrowlens.store.filters import Condition
from arrowlens.store.fulltext import Matching, find, find_texts, joined_files, joined_texts
from arrowlens.store.id_ranges import ALL_IDS, IdRange
from arrowlens.store.identifiers import (
    FINGERPRINT_TABLE,
    INDEXED,
    MEDIA_TABLE,
    READING_TABLE,
    TEXT_TABLE,
    THUMBNAIL_TABLE,
    media_id_of,
    source_column,
    vector_table_name,
)
from arrowlens.store.index import candidates, nearest
from arrowlens.store.loops import look_deeper, read_unchanged
from arrowlens.store.marks import MarkStore
from arrowlens.store.model_tables import ModelTables
from arrowlens.store.ranking import (
    DISTANCE,
    GROWTH,
    RESULT_SCHEMA,
    at_most,
    best_files,
    first_limit,
    is_live,
    nearest_of_all,
)
from arrowlens.store.records import CAPTION_ROLE, WRITTEN, FileText, MediaText, media_schema, written_texts
from arrowlens.store.schema import (
    fingerprint_schema,
    reading_schema,
    stored_embedding_schema,
    text_schema,
    thumbnail_schema,
)
from arrowlens.store.selection import KEYS, FetchPlan, Selection, select
from arrowlens.store.settings import relative_path, relative_to
from arrowlens.store.snapshots import Latest, MediaRows, Snapshots, Vectors, held_vectors
from arrowlens.store.state import LibraryState
from arrowlens.store.tables import Shard, Tables
from arrowlens.store.vectors import checked_query

if TYPE_CHECKING:
    from lancedb.expr import Expr
    from lancedb.table import LanceTable

Fetch = Callable[[int], pa.Table]  # a limit -> the nearest rows, as ``best_files`` takes them
_MANY = 2_000  # files above which reading all ids is faster than asking for theirs


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """What a shard is asked for: vectors near to a query, and some columns of theirs, the media id first."""

    shard: Shard
    snapshots: Snapshots[Vectors]
    name: str
    columns: list[str]
    query: np.ndarray

    def by_index(self, limit: int, where: Expr | None) -> pa.Table | None:
        """The nearest rows of a large table that is held: the index names candidates, memory compares them.

        None for a table that is not held, or that changed meanwhile: row ids are those of one version.
        """
        held = self.snapshots.of(self.name)
        if held is None:
            return None
        n, none = limit * held.n_candidates, np.empty(0, np.uint64)
        row_ids = self.shard.read(self.name, lambda table: candidates(table, self.query, n, where), none)
        rows = held.nearest(self.query, limit, held.places_of(row_ids), self.columns)
        return rows if self.snapshots.of(self.name) is held else None


class Queries:
    """Reads a library, without a lock. Each answer is of the newest version, whoever wrote it.

    Each method raises StorageError when the database refuses.
    """

    def __init__(
        self, tables: Tables, state: LibraryState, vectors: ModelTables, index_from: int, marks: MarkStore
    ) -> None:
        self._tables, self._state, self._vectors, self._marks = tables, state, vectors, marks
        self._media = MediaRows(tables, index_from)
        self._held_vectors = held_vectors(tables, index_from)  # of each shard
        self._facets, self._statistics = Latest[Facets](), Latest[Statistics]()

    def close(self) -> None:
        """Let go of the tables that are held in memory."""
        self._media.clear()
        for of_shard in self._held_vectors:
            of_shard.clear()

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
            with_vectors: add the column ``embedding``, of the best window, as stored, and of texts ``embedding_id``.

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
        plan, columns = FetchPlan.at(source_column(role), k, among), _columns(role, with_vectors)
        alive = self._alive if among is None else among.holds
        empty = stored_embedding_schema(role, record.dimension).empty_table().select(columns)
        empty = empty.append_column(DISTANCE, pa.array([], pa.float32()))

        def search() -> pa.Table:
            name, fetches, limit = self._vectors.name(role, record), list[Fetch](), first_limit(k)
            for shard, snapshots in zip(self._tables.shards, self._held_vectors, strict=True):
                held = snapshots.of(name)
                if held is not None and held.is_small:
                    fetches.append(_fetch_from_memory(held, columns, query, modality, among))
                else:
                    asked = _Asked(shard, snapshots, name, columns, query)
                    fetches.append(self._fetch_from_disk(asked, empty, modality, plan, exact or plan.exact))
                    limit = plan.limit
            return best_files(
                lambda limit: nearest_of_all(self._tables.together(fetches, lambda fetch: fetch(limit)), limit),
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

    @staticmethod
    def _fetch_from_disk(
        asked: _Asked, empty: pa.Table, modality: str | None, plan: FetchPlan, past_index: bool
    ) -> Fetch:
        """What a shard gives; ``empty`` where it has no such table."""

        def nearest_rows(limit: int, where: Expr | None) -> pa.Table:
            rows = None if past_index else asked.by_index(limit, where)
            if rows is None:
                columns, query = asked.columns, asked.query
                rows = asked.shard.read(
                    asked.name, lambda table: nearest(table, query, limit, columns, where, past_index), empty
                )
            return rows.rename_columns({asked.columns[0]: "media_id"})

        def fetch(limit: int) -> pa.Table:
            rows = nearest_rows(limit, plan.where)
            # Most tables hold one modality only, and a condition that all rows satisfy costs a scan.
            if modality is None or not pc.any(pc.not_equal(rows["modality"], modality)).as_py():
                return rows
            return nearest_rows(limit, plan.kept_to(modality).where)

        return fetch

    def n_vectors(self, role: str, digest: str) -> int:
        """Return the number of vectors of a role's model."""
        return self._tables.n_rows(vector_table_name(role, digest))

    def select(self, conditions: Sequence[Condition]) -> Selection:
        """Return the searchable files that satisfy all conditions (``store.filters``), for ``search(among=...)``.

        The columns "source" and "language" stand for those of a file's texts, of which one must be the value;
        "favourite" says whether the file's content is one.
        """
        of_media = [each for each in conditions if each[0] not in ("source", "language", "favourite")]
        selection = Selection.of_all(self._tables.each(MEDIA_TABLE, lambda table: select(table, of_media)))
        for column, op, value in conditions:
            if column in ("source", "language"):
                values = value if op == "in" else (value,)
                if column == "source":
                    has_text = pc.is_in(selection.files["media_id"], value_set=self._ids_with_text(values))
                else:
                    has_text = pc.is_in(selection.files["content_hash"], value_set=self._contents_in(values))
                files = selection.files.filter(pc.invert(has_text) if op == "!=" else has_text)
                selection = Selection(files, selection.n_files)
            elif column == "favourite":
                favourites = pa.array(sorted(self._marks.current.favourites), pa.string())
                is_favourite = pc.is_in(selection.files["content_hash"], value_set=favourites)
                kept = is_favourite if value == (op == "=") else pc.invert(is_favourite)
                selection = Selection(selection.files.filter(kept), selection.n_files)
        return selection

    def _ids_with_text(self, sources: Sequence[TextSource]) -> pa.Array:
        """The ids of files that have a text of one of the sources."""
        rows = self._tables.rows(MEDIA_TABLE, ["media_id", "content_hash", *WRITTEN], media_schema())
        extracted = self._tables.rows(TEXT_TABLE, ["content_hash", "source"], text_schema())
        extracted = extracted.filter(pc.is_in(extracted["source"], value_set=pa.array(sources, pa.string())))
        has_text = pc.is_in(rows["content_hash"], value_set=extracted["content_hash"])
        for source in set(sources).intersection(WRITTEN):
            has_text = pc.or_(has_text, pc.greater(pc.fill_null(pc.utf8_length(rows[source]), 0), 0))
        if "name" in sources:
            has_text = pc.is_valid(rows["media_id"])
        return rows["media_id"].filter(has_text).combine_chunks()

    def _contents_in(self, languages: Sequence[str]) -> pa.ChunkedArray:
        """The hashes of contents in which a text of one of the languages was read or heard."""
        texts = self._tables.rows(TEXT_TABLE, ["content_hash", "language"], text_schema())
        return texts.filter(pc.is_in(texts["language"], value_set=pa.array(languages, pa.string())))["content_hash"]

    def find_words(
        self,
        text: str,
        n: int,
        modality: str | None = None,
        among: Selection | None = None,
        matching: Matching = "whole",
        sources: Collection[TextSource] | None = None,
    ) -> pa.Table:
        """Return files that have all words of a text in their names, folders, captions and tags: ``n`` or more, if any.

        Args:
            text: the words.
            n: number of files.
            modality: "image", "audio" or "video" returns only files of that modality.
            among: returns only these files; from ``select`` or ``selection``.
            matching: "whole", "part" or "typo" (``store.fulltext.find``).
            sources: where the words must stand, of ``modalities.SOURCES``; None for all of these together.

        Returns:
            ``media_id``, ``content_hash``, ``modality``, ``is_name`` (whether the text is the file's name or its path,
            absolute or below the root). Those come first, then by BM25 falling, equal ones by id; equal content once.
        """
        if os.sep in text:
            place = self.media_by_path(os.path.abspath(text.strip()))  # noqa: PTH100 - resolve() would follow links
            text = text if place is None else place["path"]

        def ask(table: LanceTable) -> pa.Table:
            return find(table, text, n, modality, among, matching, sources)

        return joined_files(self._tables.each(MEDIA_TABLE, ask))

    def find_texts(
        self,
        text: str,
        n: int,
        modality: str | None = None,
        among: Selection | None = None,
        matching: Matching = "whole",
        sources: Collection[TextSource] | None = None,
    ) -> pa.Table:
        """Return files with a text, read or heard, that has all words of a query: ``n`` or more, if so many have.

        Args:
            text, n, modality, among, matching: as for ``find_words``.
            sources: "speech", "ocr" or both; None for both.

        Returns:
            ``media_id``, and the columns ``content_hash, source, text, start, end`` of the file's best text; by BM25
            falling, each content once.
        """
        places: dict[str, str | None] = {}  # the file that stands for a content; None for one that is not searched

        def holds(rows: pa.Table) -> np.ndarray:
            contents = rows["content_hash"].to_pylist()
            places.update(self._places_of(sorted({*contents} - places.keys()), modality, among))
            return np.array([places[content] is not None for content in contents], bool)

        def ask(table: LanceTable) -> pa.Table:
            return find_texts(table, text, n, holds, matching, sources)

        rows = joined_texts(self._tables.each(TEXT_TABLE, ask))
        ids = [places[content] for content in rows["content_hash"].to_pylist()]
        return rows.append_column("media_id", pa.array(ids, pa.string()))

    def _places_of(
        self, contents: Sequence[str], modality: str | None, among: Selection | None
    ) -> dict[str, str | None]:
        columns, schema = ["media_id", "content_hash", "modality", "state"], media_schema()
        rows = self._tables.rows_with(MEDIA_TABLE, "content_hash", contents, columns, schema)
        rows = rows.filter(pc.equal(rows["state"], INDEXED))
        if modality is not None:
            rows = rows.filter(pc.equal(rows["modality"], modality))
        if among is not None:
            rows = rows.filter(pa.array(among.holds(rows)))
        pairs = sorted(zip(rows["media_id"].to_pylist(), rows["content_hash"].to_pylist(), strict=True), reverse=True)
        return dict.fromkeys(contents) | {content: media_id for media_id, content in pairs}

    def selection(self, media_id: Sequence[str], content_hash: Sequence[str]) -> Selection:
        """Return the files of these pairs, for ``search(among=...)``."""
        files = pa.table([pa.array(media_id, pa.string()), pa.array(content_hash, pa.string())], schema=KEYS)
        return Selection(files.sort_by("media_id"), self._tables.n_rows(MEDIA_TABLE))

    @property
    def version(self) -> str:
        """A text that differs after every change of the settings, of any table, or of the marks."""
        tables = (f"{name}={self._tables.state(name)}" for name in self._tables.names())
        return hashlib.sha256(
            repr((self._state.settings, self._marks.tag, *tables)).encode("utf-8", "surrogateescape")
        ).hexdigest()[:16]

    def media_version(self) -> Hashable:
        """Return what differs after every change of ``media``."""
        return self._tables.state(MEDIA_TABLE)

    def places(self, content_hashes: Sequence[str]) -> dict[str, int]:
        """Return the number of searchable places of contents, by content hash."""
        rows = self._media.having("content_hash", sorted(set(content_hashes)), ["content_hash", "state"])
        return Counter(rows.filter(pc.equal(rows["state"], INDEXED))["content_hash"].to_pylist())

    def media(self, media_ids: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """Return rows of ``media`` by id, ordered by id, with ``absolute_path`` (bytes for ``os.fsdecode``).

        Args:
            media_ids: of the rows.
            columns: some, with ``media_id``, ``root_id`` and ``path_bytes``; None for all.
        """
        return self._placed(self._media.having("media_id", media_ids, columns or media_schema().names))

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

    def all_media(self, columns: Sequence[str] | None = None, within: IdRange = ALL_IDS) -> pa.Table:
        """Return every row of ``media``, or those with ids in a range, ordered by id; some columns or all."""
        wanted = list(columns or media_schema().names)
        rows = self._media.all(list(dict.fromkeys(["media_id", *wanted])), within)
        return rows.sort_by("media_id").select(wanted)

    def skipped(self) -> pa.Table:
        """Return ``absolute_path, reason, media_id, state`` of every file that could not be read, ordered by path.

        A file in state "indexed" is one that is still found with its earlier content, or whose text could not be read.
        """
        rows = self._placed(self.all_media())
        bad = rows.filter(pc.is_valid(rows["reason"])).select(["absolute_path", "reason", "media_id", "state"])
        readings = self.readings().filter(pc.is_valid(pc.field("reason")))
        unread = dict(zip(readings["content_hash"].to_pylist(), readings["reason"].to_pylist(), strict=True))
        rows = rows.filter(pc.and_(pc.equal(rows["state"], INDEXED), pc.is_null(rows["reason"])))
        rows = rows.filter(pc.is_in(rows["content_hash"], value_set=pa.array(unread, pa.string())))
        reasons = pa.array([unread[content] for content in rows["content_hash"].to_pylist()], pa.string())
        rows = rows.set_column(rows.column_names.index("reason"), "reason", reasons)
        return pa.concat_tables([bad, rows.select(bad.column_names)]).sort_by("absolute_path")

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

    def file_texts(self) -> Iterator[FileText]:
        """Return the texts of all searchable files: what people wrote, what was read, what was heard."""
        columns = ["media_id", "content_hash", "modality", "state", *WRITTEN]
        rows = self._media.all(columns)
        extracted = self._texts(self._tables.rows(TEXT_TABLE, text_schema().names, text_schema()))
        for row in rows.filter(pc.equal(rows["state"], INDEXED)).to_pylist():
            for text in (*written_texts(row), *extracted.get(row["content_hash"], ())):
                yield FileText(row["media_id"], row["content_hash"], row["modality"], text)

    def extracted_texts(self, content_hashes: Sequence[str]) -> dict[str, list[MediaText]]:
        """Return what was read and heard in contents, by content hash, in the order of their sources and starts."""
        schema = text_schema()
        return self._texts(self._tables.rows_with(TEXT_TABLE, "content_hash", content_hashes, schema.names, schema))

    def readings(self) -> pa.Table:
        """Return ``content_hash, source, engine, n_texts, reason`` of every content that was read or heard."""
        schema = reading_schema()
        return self._tables.rows(READING_TABLE, schema.names, schema).drop_columns(["reading_id"])

    @staticmethod
    def _texts(rows: pa.Table) -> dict[str, list[MediaText]]:
        texts: dict[str, list[MediaText]] = {}
        fields = [field.name for field in dataclasses.fields(MediaText)]
        for row in rows.sort_by([("source", "ascending"), ("start", "ascending")]).to_pylist():
            texts.setdefault(row["content_hash"], []).append(MediaText(**{name: row[name] for name in fields}))
        return texts

    def facets(self, among: Selection | None = None, chosen: Mapping[str, Selection] | None = None) -> Facets:
        """Count searchable files, or some of them, by what they can be filtered by.

        Args:
            among: count these files only.
            chosen: the files that a filter keeps, by its name in ``FACETS``; that facet is counted without the filter.
        """
        selections = {**(chosen or {}), **({"": among} if among is not None else {})}

        def count(ids: Sequence[str], kept: Callable[[pa.Table], dict[str, pa.ChunkedArray]]) -> Facets:
            texts = self._tables.rows(TEXT_TABLE, ["content_hash", "source", "language"], text_schema())
            contents = ["content_hash"] if texts.num_rows else []  # much to read for what no file has
            rows = self._media.all([*ids, *FACET_COLUMNS, *contents])
            return facets_of(rows, kept(rows), texts)

        if not selections:
            version = (self.media_version(), self._tables.state(TEXT_TABLE))
            return self._facets.get(version, lambda: count([], lambda _: {}))
        ids = {by: selection.files["media_id"] for by, selection in selections.items()}
        return count(
            ["media_id"], lambda rows: {by: pc.is_in(rows["media_id"], value_set=each) for by, each in ids.items()}
        )

    def newest(self, n: int, modality: str | None = None, among: Selection | None = None) -> list[str]:
        """Return the ids of the ``n`` searchable files that were taken last, newest first; equal content once."""

        def fetch(limit: int) -> pa.Table:
            return self._media.newest(limit, modality)

        def read(rows: pa.Table, is_whole: bool) -> list[str] | None:
            if among is not None:
                rows = rows.filter(pc.is_in(rows["media_id"], value_set=among.files["media_id"]))
            first: dict[str, str] = {}
            for content, media_id in zip(rows["content_hash"].to_pylist(), rows["media_id"].to_pylist(), strict=True):
                first.setdefault(content, media_id)
            return list(first.values())[:n] if is_whole or len(first) >= n else None

        if among is not None and not among:
            return []
        n_for_one = 1 if among is None else among.n_files // len(among)  # files that hold one selected file
        n_rows = functools.partial(self._tables.n_rows, MEDIA_TABLE)
        return look_deeper(at_most(n_rows, fetch), read, first_limit(n) * max(1, n_for_one), GROWTH)

    def media_of(self, *content_hashes: str) -> pa.Table:
        """Return rows of the searchable places of contents, as ``media`` does."""
        rows = self._media.having("content_hash", content_hashes, media_schema().names)
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

        def count() -> Statistics:
            media = self._media.all(["modality", "state", "reason", "trivial", "content_hash"])
            return statistics_of(media, self.readings().filter(pc.is_null(pc.field("reason"))))

        counts = self._statistics.get((self.media_version(), self._tables.state(READING_TABLE)), count)
        n_bytes = sum(self._state.location.sizes().values())
        return dataclasses.replace(counts, n_bytes=n_bytes, indexes=self._vectors.index_states())

    def indexed(self, media_ids: Sequence[str] | None = None) -> pa.Table:
        """Return ``media_id, content_hash`` of searchable media, of all or of those with some ids."""
        columns = ["media_id", "content_hash", "state"]
        if media_ids is None or len(media_ids) > _MANY:
            rows = self._media.all(columns)
        else:
            rows = self._media.having("media_id", media_ids, columns)
        return rows.filter(pc.equal(rows["state"], INDEXED))

    def indexed_within(self, within: IdRange, by: str) -> pa.Table:
        """Return ``media_id, content_hash`` of the searchable media whose ``by``, one of both, is in a range."""
        rows = self._media.all(["media_id", "content_hash", "state"], within, by)
        return rows.filter(pc.equal(rows["state"], INDEXED))

    def id_ranges(self) -> list[IdRange]:
        """Divide all ids into ranges of which none holds many rows of ``media`` or many vectors."""
        return self._tables.id_ranges([MEDIA_TABLE, *self._state.settings.vector_tables])

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


def _columns(role: str, with_vectors: bool) -> list[str]:
    """Return the columns of a vector table that ``best_files`` reads, the media id first."""
    columns = [source_column(role), "content_hash", "modality", "start", "end", "embedding"]
    return [*columns, "embedding_id"] if with_vectors and role == CAPTION_ROLE else columns


def _fetch_from_memory(
    held: Vectors, columns: Sequence[str], query: np.ndarray, modality: str | None, among: Selection | None
) -> Fetch:
    source, kept = columns[0], np.ones(len(held.rows), dtype=bool)
    if modality is not None:
        kept &= pc.equal(held.rows["modality"], modality).to_numpy()
    if among is not None:
        kept &= among.holds(held.rows.rename_columns({source: "media_id"}))
    places = None if kept.all() else np.flatnonzero(kept)
    return lambda limit: held.nearest(query, limit, places, columns).rename_columns({source: "media_id"})


def evenly_spaced(n_there: int, n: int) -> list[int]:
    """Return at most ``n`` of ``n_there`` positions, evenly spaced."""
    return [int(position) for position in np.linspace(0, n_there - 1, min(n, n_there))] if n_there else []
