"""Files by their words: names, folders, captions and tags, in a full-text index on ``media.words``.

``imgRed_2024b.jpg`` has the words imgRed, img, Red, 2024b, 2024, b and jpg. A file is found when it has every word of
the query, in any form that English gives them ("cats" finds "cat"), whatever their case and accents; or, asked so, when
its words begin with those of the query or contain them ("terr", "n0211"), or differ from them by a letter or two. Rows
that the index does not cover yet are found as well.
"""

from __future__ import annotations

import functools
import operator
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.store.filters import equals, is_among
from arrowlens.store.loops import look_deeper
from arrowlens.store.ranking import GROWTH, at_most
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
_MIN_RANKED = 1_001  # files: so far a place does not depend on how many are asked for, though many score the same
_MIN_PREFIX, _MIN_PART = 3, 5  # letters of a beginning of a word, and of a part of one; fewer are in too many words
_ONE_TYPO, _TWO_TYPOS = 4, 8  # letters of words that may differ by one, and by two
_SCANNED = 20_000  # rows of which each is compared with misspelt words
_MOST_MISSPELT = 3  # words of a query that may be misspelt: who writes a sentence asks for its meaning
_MAX_EXPANSIONS = 500  # words of the index that a misspelt one is compared with
_COLUMNS = ["media_id", "content_hash", "modality", "path"]

_RUN = re.compile(r"[^\W_]+")  # letters and digits
_SEAM = re.compile(r"(?<=[a-zß-öø-ÿ])(?=[A-ZÀ-ÖØ-Þ])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
_SMALL_WORDS = "a an and are at by for from in is it my of on or our some that the this to with your"
_SMALL = frozenset(_SMALL_WORDS.split())

Matching = Literal["whole", "part", "typo"]

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
    words = [word for source in _SOURCES for word in _words(row.get(source) or "")]
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


def find(
    table: LanceTable,
    text: str,
    n: int,
    modality: str | None = None,
    among: Selection | None = None,
    matching: Matching = "whole",
) -> pa.Table:
    """Return at least ``n`` files that have all words of ``text``, or as many as there are.

    Args:
        table: ``media``.
        text: the query.
        n: number of files.
        modality: "image", "audio" or "video" returns only files of that modality.
        among: returns only these files.
        matching: "whole" compares whole words; "part" takes words that begin with those of the query, from 3 letters
            on, or contain them, from 5 on (from 1 in scripts without blanks); "typo" those that differ by one letter
            or two neighbours exchanged, from 4 letters on, or by two such, from 8 on.

    Returns:
        The columns of ``FOUND``: files whose name or path is ``text`` first, then by BM25 falling, or by how close the
        words are; equal ones by id; equal content once.
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
        return _exact_names(table, text, where, among) if matching == "whole" else FOUND.empty_table()
    if matching != "whole":
        return _loosely(table, words, n, where, among, matching)
    n_ranked = max(n, _MIN_RANKED)

    def read(rows: pa.Table, is_whole: bool) -> pa.Table | None:
        return rows if is_whole or _n_contents(rows, among) >= n_ranked else None

    def fetch(limit: int) -> pa.Table:
        return _matching(table, words, limit, where)

    first = n_ranked + n_ranked // 8  # some more, for copies
    rows: pa.Table = look_deeper(at_most(table.count_rows, fetch), read, first, GROWTH)
    # A name whose words many files have may have been cut off.
    if rows.num_rows >= first and _may_be_name(text):
        rows = pa.concat_tables([rows, _matching(table, words, first, where & _is_in_path(text))])
    return _ranked(rows, text, among).select(FOUND.names)


def words_found(row: Mapping[str, Any], text: str) -> dict[str, str]:
    """Return which words of a row of ``media`` answer those of a query, by where they are.

    Args:
        row: with the columns that words come from.
        text: the query.

    Returns:
        The words as the file has them, joined by blanks, by "name", "folder", "caption" and "text" (description, title,
        artist and album); places without any are left out.
    """
    folder, _, name = (row.get("path") or "").rpartition("/")
    texts = " ".join(row.get(column) or "" for column in ("description", "title", "artist", "album"))
    places = {"name": name, "folder": folder, "caption": row.get("caption") or "", "text": texts}
    tokens = [(place, word) for place, text in places.items() for word in _words(text)]
    answers: dict[str, dict[str, None]] = {place: {} for place in places}
    for wanted in (query_words(text) or "").split():
        likeness = [_likeness(_folded(wanted), _folded(word)) for _, word in tokens]
        if (best := max(likeness, default=0.0)) > 0.0:
            place, word = tokens[likeness.index(best)]
            answers[place][word] = None
    return {place: " ".join(words) for place, words in answers.items() if words}


def _loosely(
    table: LanceTable, words: str, n: int, where: Expr, among: Selection | None, matching: Matching
) -> pa.Table:
    """Files whose words contain those of a query, or nearly are those."""
    wanted = [_folded(word) for word in words.split()]
    search, is_alike = (
        _parts_search(table, words.lower().split(), where)
        if matching == "part"
        else _typos_search(table, wanted, where)
    )
    if search is None:
        return FOUND.empty_table()
    n_ranked = max(n, _MIN_RANKED)

    def read(rows: pa.Table, is_whole: bool) -> pa.Table | None:
        scores = []
        for text in rows[WORDS].to_pylist():
            scores.append(_summed_likeness(wanted, _folded(text).split(), is_alike))
        alike = rows.append_column("_score", pa.array(scores, pa.float32()))
        alike = alike.filter(pc.is_valid(alike["_score"]))
        return alike if is_whole or _n_contents(alike, among) >= n_ranked else None

    def fetch(limit: int) -> pa.Table:
        return search.select([*_COLUMNS, WORDS]).limit(limit).to_arrow().select([*_COLUMNS, WORDS])

    rows: pa.Table = look_deeper(at_most(table.count_rows, fetch), read, n_ranked + n_ranked // 8, GROWTH)
    return _ranked(rows, " ".join(wanted), among).select(FOUND.names)


def _parts_search(table: LanceTable, words: Sequence[str], where: Expr) -> tuple[Any, Callable[[float], bool]]:
    """A scan that compares accents: an index of parts costs more than it saves (docs/performance.md)."""
    from lancedb.expr import col, lit

    if not any(len(word) >= _MIN_PREFIX or _is_wide(word) for word in words):
        return None, bool
    for word in words:
        where = where & col(WORDS).lower().contains(lit(word))
    return table.search().where(where), lambda likeness: likeness >= _PART


def _typos_search(table: LanceTable, words: Sequence[str], where: Expr) -> tuple[Any, Callable[[float], bool]]:
    """A scan of few rows; of many the index, which looks for misspelt words in the rows that it covers only.

    It has stems and compares misspelt words as they are, so it is asked for those without their last letters as well.
    """
    from lancedb.query import BooleanQuery, MatchQuery, Occur

    if not any(map(_n_typos, words)) or len(words) > _MOST_MISSPELT:
        return None, bool
    if table.count_rows() <= _SCANNED:
        return table.search().where(where), bool
    alike: list[Any] = []
    for word in words:
        is_fuzzy = _n_typos(word) > 0
        spellings = " ".join(word[: len(word) - cut] for cut in range(3)) if is_fuzzy else word
        options: Any = {"fuzziness": 2, "prefix_length": 1, "max_expansions": _MAX_EXPANSIONS} if is_fuzzy else {}
        alike.append((Occur.MUST, MatchQuery(spellings, WORDS, **options)))
    return table.search(BooleanQuery(alike), query_type="fts").where(where), bool


def _summed_likeness(wanted: Sequence[str], tokens: Sequence[str], is_alike: Callable[[float], bool]) -> float | None:
    """Of each wanted word to the token nearest to it; None as soon as a word is not there."""
    total = 0.0
    for word in wanted:
        likeness = max((_likeness(word, token) for token in tokens), default=0.0)
        if not is_alike(likeness):
            return None
        total += likeness
    return total


_EQUAL, _FORM, _PREFIX, _PART, _TYPO = 5.0, 4.0, 3.0, 2.0, 1.0


@functools.lru_cache(maxsize=65_536)  # the words of a library are few
def _likeness(wanted: str, word: str) -> float:
    """How close a word is to a wanted one, both folded: 5 the same, 4 another form, 3 begins with it, 2 has it, then
    1 for one typo and 0.5 for two; 0 for another word."""
    if word == wanted:
        return _EQUAL
    if _is_form(wanted, word):
        return _FORM
    if wanted in word:
        if word.startswith(wanted) and (len(wanted) >= _MIN_PREFIX or _is_wide(wanted)):
            return _PREFIX
        if len(wanted) >= _MIN_PART or _is_wide(wanted):
            return _PART
    allowed = _n_typos(wanted)
    n_typos = _distance(wanted, word) if allowed and abs(len(wanted) - len(word)) <= allowed else allowed + 1
    return _TYPO / n_typos if n_typos <= allowed else 0.0


def _is_form(wanted: str, word: str) -> bool:
    """Whether two English words may be forms of one: their beginnings are the same, their ends short."""
    n_same = next(
        (n for n, (a, b) in enumerate(zip(wanted, word, strict=False)) if a != b), min(len(wanted), len(word))
    )
    ends = wanted[n_same:], word[n_same:]
    return n_same >= _MIN_PREFIX and all(end in _ENDINGS for end in ends)


_ENDINGS = frozenset(["", "s", "es", "e", "ed", "d", "ing", "y", "ies", "ied", "er", "ers", "r", "rs"])


def _distance(one: str, other: str) -> int:
    """The letters to insert, delete, replace or exchange with their neighbour that turn one word into the other."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for row, a in enumerate(one, start=1):
        current = [row]
        for column, b in enumerate(other, start=1):
            cost = min(last[column] + 1, current[column - 1] + 1, last[column - 1] + (a != b))
            if row > 1 and column > 1 and a == other[column - 2] and one[row - 2] == b:
                cost = min(cost, before[column - 2] + 1)
            current.append(cost)
        before, last = last, current
    return last[-1]


def _n_typos(word: str) -> int:
    """How many may be in a word; none in a number, whose neighbours are others."""
    return (len(word) >= _ONE_TYPO) + (len(word) >= _TWO_TYPOS) if word.isalpha() and not _is_wide(word) else 0


def _is_wide(word: str) -> bool:
    """Whether a word is of a script that has no blanks between words: each letter says something."""
    return any(unicodedata.east_asian_width(letter) == "W" for letter in word)


def _n_contents(rows: pa.Table, among: Selection | None) -> int:
    if among is not None:
        rows = rows.filter(pa.array(among.holds(rows)))
    return int(pc.count_distinct(rows["content_hash"]).as_py())


def _matching(table: LanceTable, words: str, limit: int, where: Expr) -> pa.Table:
    from lancedb.query import FullTextOperator, MatchQuery

    all_words: Any = MatchQuery(words, WORDS, operator=FullTextOperator.AND)  # type: ignore[call-arg]
    search = table.search(all_words, query_type="fts").where(where)
    columns = [*_COLUMNS, "_score"]
    return search.select(columns).limit(limit).to_arrow().select(columns)


def _exact_names(table: LanceTable, text: str, where: Expr, among: Selection | None) -> pa.Table:
    """Exact name matches, for queries longer than the word limit."""
    rows = table.search().where(where & _is_in_path(text)).select(_COLUMNS).limit(None).to_arrow()
    best = _ranked(rows.append_column("_score", pa.nulls(rows.num_rows, pa.float32())), text, among)
    return best.filter(best["is_name"]).select(FOUND.names)


def _may_be_name(text: str) -> bool:
    """Whether a text may be a file's name, by which all paths are then compared: it has a suffix or a folder."""
    return "." in text or "/" in text


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


def _folded(text: str) -> str:
    """In one case and without accents."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFC", "".join(each for each in decomposed if not unicodedata.combining(each)))


def _words(text: str) -> list[str]:
    runs = _RUN.findall(_plain(text)[:_MAX_LENGTH])
    return [word for run in runs for word in dict.fromkeys([run, *_SEAM.split(run)])]
