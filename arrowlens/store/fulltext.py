"""Files by their words: names, folders, captions and tags.

A file is found when every word of a question is among its own, in whatever form English gives them ("cats" finds
"cat"), accents and case apart. Rows that the index does not cover yet are found as well.
"""

from __future__ import annotations

import functools
import operator
import unicodedata
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.store.index import cap_limit
from arrowlens.store.schema import INDEXED
from arrowlens.store.selection import Selection
from arrowlens.store.tables import equals, is_among
from arrowlens.store.words import WORDS, asked_words, index_name

if TYPE_CHECKING:
    from lancedb.expr import Expr
    from lancedb.table import LanceTable

_IDS_A_FILTER = 10_000
_COLUMNS = ["media_id", "content_hash", "modality", "path"]

FOUND = pa.schema(
    [
        pa.field("media_id", pa.string()),
        pa.field("content_hash", pa.string()),
        pa.field("modality", pa.string()),
        pa.field("is_name", pa.bool_()),
    ]
)


def find(table: LanceTable, text: str, n: int, modality: str | None = None, among: Selection | None = None) -> pa.Table:
    """At least ``n`` files that have all words of ``text``, or as many as there are.

    Returns:
        The columns of ``FOUND``: files of which ``text`` is the name or the path first, then by BM25 falling; equal
        ones by id; equal content once.
    """
    if WORDS not in table.schema.names or not index_name(table):
        return FOUND.empty_table()
    where = equals("state", INDEXED)
    if modality is not None:
        where = where & equals("modality", modality)
    if among is not None and len(among) <= _IDS_A_FILTER:
        where = where & is_among("media_id", among.files["media_id"].to_pylist())
    asked = asked_words(text)
    if asked is None:
        return _named(table, text, where, among)
    limit = 4 * n + 32
    while True:
        rows = _matching(table, asked, limit, where)
        best = _ranked(rows, text, among)
        is_all = rows.num_rows < limit
        if is_all or (best.num_rows > n and best["_score"][n - 1].as_py() > rows["_score"].to_numpy().min()):
            break
        limit *= 4
    if not is_all:  # a name that many files' words hold may have been cut off
        named = _matching(table, asked, limit, where & _has_in_path(text))
        best = _ranked(pa.concat_tables([rows, named]), text, among)
    return best.select(FOUND.names)


def _matching(table: LanceTable, asked: str, limit: int, where: Expr) -> pa.Table:
    from lancedb.query import FullTextOperator, MatchQuery

    all_words: Any = MatchQuery(asked, WORDS, operator=FullTextOperator.AND)  # type: ignore[call-arg]
    search = table.search(all_words, query_type="fts").where(where)
    columns = [*_COLUMNS, "_score"]
    return cap_limit(table, limit, lambda most: search.select(columns).limit(most).to_arrow()).select(columns)


def _named(table: LanceTable, text: str, where: Expr, among: Selection | None) -> pa.Table:
    """Files of which a text of more words than are looked for is the name."""
    rows = table.search().where(where & _has_in_path(text)).select(_COLUMNS).limit(None).to_arrow()
    best = _ranked(rows.append_column("_score", pa.nulls(rows.num_rows, pa.float32())), text, among)
    return best.filter(best["is_name"]).select(FOUND.names)


def _has_in_path(text: str) -> Expr:
    """In any case, and with accents as this or another system writes them."""
    from lancedb.expr import col, lit

    lower = text.strip().lower()
    spellings = dict.fromkeys(unicodedata.normalize(form, lower) for form in ("NFC", "NFD"))
    return functools.reduce(operator.or_, [col("path").lower().contains(lit(each)) for each in spellings])


def _ranked(rows: pa.Table, text: str, among: Selection | None) -> pa.Table:
    if among is not None:
        rows = rows.filter(pa.array(among.holds(rows)))
    asked = _name(text)
    names = [asked in (_name(path), _name(path.rpartition("/")[2])) for path in rows["path"].to_pylist()]
    rows = rows.append_column("is_name", pa.array(names, pa.bool_()))
    keys = [("is_name", "descending"), ("_score", "descending"), ("media_id", "ascending")]
    rows = rows.take(pc.sort_indices(rows, sort_keys=keys))
    first: dict[str, int] = {}
    for row, content in enumerate(rows["content_hash"].to_pylist()):
        first.setdefault(content, row)
    return rows.take(pa.array(first.values(), pa.int64()))


def _name(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip()).casefold()
