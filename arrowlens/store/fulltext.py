"""Files by their words: names, folders, captions and tags, in a full-text index on ``media.words``.

``imgRed_2024b.jpg`` has the words imgRed, img, Red, 2024b, 2024, b and jpg. A file is found when it has every word of
the query, in any form that English gives them ("cats" finds "cat"), whatever their case and accents. Rows that the
index does not cover yet are found as well.
"""

from __future__ import annotations

import functools
import operator
import re
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.store.filters import equals, is_among
from arrowlens.store.index import cap_limit
from arrowlens.store.schema import INDEXED
from arrowlens.store.selection import Selection

if TYPE_CHECKING:
    from lancedb.expr import Expr
    from lancedb.table import LanceTable

WORDS = "words"  # the column
_SOURCES = ("path", "title", "artist", "album", "description", "caption")  # columns of media that words come from
_MAX_LENGTH = 20_000  # characters of a row
_MAX_WORDS = 32  # of a query; longer ones are sentences, which no file's words hold
_MAX_WORD = 200  # characters; a name has at most 255 bytes
_MAX_UNINDEXED = 1_000  # rows, each of which is read with every query
_IDS_A_FILTER = 10_000
_COLUMNS = ["media_id", "content_hash", "modality", "path"]

_RUN = re.compile(r"[^\W_]+")  # letters and digits
_SEAM = re.compile(r"(?<=[a-zß-öø-ÿ])(?=[A-ZÀ-ÖØ-Þ])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
_SMALL_WORDS = "a an and are at by for from in is it my of on or our some that the this to with your"
_SMALL = frozenset(_SMALL_WORDS.split())

FOUND = pa.schema(
    [
        pa.field("media_id", pa.string()),
        pa.field("content_hash", pa.string()),
        pa.field("modality", pa.string()),
        pa.field("is_name", pa.bool_()),
    ]
)


def words_of(row: Mapping[str, Any]) -> str | None:
    """Return the words by which a row of ``media`` is found, None when it has none."""
    runs = [run for source in _SOURCES for run in _RUN.findall(_plain(row.get(source) or "")[:_MAX_LENGTH])]
    words = [word for run in runs for word in dict.fromkeys([run, *_SEAM.split(run)])]
    return " ".join(words)[:_MAX_LENGTH] or None


def query_words(text: str) -> str | None:
    """Return the words of a query without small ones, unless it has no others; None when it has none or too many."""
    runs = _RUN.findall(_plain(text))
    words = [run for run in runs if run.lower() not in _SMALL] or runs
    return " ".join(words) if 0 < len(words) <= _MAX_WORDS else None


def keep_words(table: LanceTable, *, rebuild: bool = False) -> None:
    """Make the index where there is none; extend it to new rows when they are many.

    Args:
        rebuild: build it again in any case: an extended index keeps the words of rows that were deleted.
    """
    name = _index_name(table)
    if name is None or rebuild:
        from lancedb.index import FTS

        config = FTS(base_tokenizer="icu/split", remove_stop_words=False, max_token_length=_MAX_WORD)
        table.create_index(WORDS, config=config, replace=True)
        return
    stats = table.index_stats(name)
    if stats is not None and stats.num_unindexed_rows > _MAX_UNINDEXED:
        table.optimize()


def find(table: LanceTable, text: str, n: int, modality: str | None = None, among: Selection | None = None) -> pa.Table:
    """Return at least ``n`` files that have all words of ``text``, or as many as there are.

    Returns:
        The columns of ``FOUND``: files whose name or path is ``text`` first, then by BM25 falling; equal ones by id;
        equal content once.
    """
    if WORDS not in table.schema.names or not _index_name(table):
        return FOUND.empty_table()
    where = equals("state", INDEXED)
    if modality is not None:
        where = where & equals("modality", modality)
    if among is not None and len(among) <= _IDS_A_FILTER:
        where = where & is_among("media_id", among.files["media_id"].to_pylist())
    words = query_words(text)
    if words is None:
        return _exact_names(table, text, where, among)
    limit = 4 * n + 32
    # Ends: the limit grows fourfold until it exceeds the number of matching rows.
    while True:
        rows = _matching(table, words, limit, where)
        best = _ranked(rows, text, among)
        is_all = rows.num_rows < limit
        if is_all or (best.num_rows > n and best["_score"][n - 1].as_py() > rows["_score"].to_numpy().min()):
            break
        limit *= 4
    if not is_all:  # a name whose words many files have may have been cut off
        names = _matching(table, words, limit, where & _is_in_path(text))
        best = _ranked(pa.concat_tables([rows, names]), text, among)
    return best.select(FOUND.names)


def _matching(table: LanceTable, words: str, limit: int, where: Expr) -> pa.Table:
    from lancedb.query import FullTextOperator, MatchQuery

    all_words: Any = MatchQuery(words, WORDS, operator=FullTextOperator.AND)  # type: ignore[call-arg]
    search = table.search(all_words, query_type="fts").where(where)
    columns = [*_COLUMNS, "_score"]
    return cap_limit(table, limit, lambda most: search.select(columns).limit(most).to_arrow()).select(columns)


def _exact_names(table: LanceTable, text: str, where: Expr, among: Selection | None) -> pa.Table:
    """Exact name matches, for queries longer than the word limit."""
    rows = table.search().where(where & _is_in_path(text)).select(_COLUMNS).limit(None).to_arrow()
    best = _ranked(rows.append_column("_score", pa.nulls(rows.num_rows, pa.float32())), text, among)
    return best.filter(best["is_name"]).select(FOUND.names)


def _is_in_path(text: str) -> Expr:
    """The text in any case, with accents composed or decomposed, as different systems write them."""
    from lancedb.expr import col, lit

    lower = text.strip().lower()
    spellings = dict.fromkeys(unicodedata.normalize(form, lower) for form in ("NFC", "NFD"))
    return functools.reduce(operator.or_, [col("path").lower().contains(lit(each)) for each in spellings])


def _ranked(rows: pa.Table, text: str, among: Selection | None) -> pa.Table:
    if among is not None:
        rows = rows.filter(pa.array(among.holds(rows)))
    wanted = _name(text)
    names = [wanted in (_name(path), _name(path.rpartition("/")[2])) for path in rows["path"].to_pylist()]
    rows = rows.append_column("is_name", pa.array(names, pa.bool_()))
    keys = [("is_name", "descending"), ("_score", "descending"), ("media_id", "ascending")]
    rows = rows.take(pc.sort_indices(rows, sort_keys=keys))
    first: dict[str, int] = {}
    for row, content in enumerate(rows["content_hash"].to_pylist()):
        first.setdefault(content, row)
    return rows.take(pa.array(first.values(), pa.int64()))


def _index_name(table: LanceTable) -> str | None:
    return next((index.name for index in table.list_indices() if WORDS in index.columns), None)


def _name(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip()).casefold()


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text)
