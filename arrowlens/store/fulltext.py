"""Files by their words: full-text indexes on ``media.words`` (names, folders, captions, tags) and ``texts.words``.

``imgRed_2024b.jpg`` has the words imgRed, img, Red, 2024b, 2024, b and jpg. A file is found when it has every word of
the query, in any form that English gives them ("cats" finds "cat"), whatever their case and accents; or, asked so, when
its words begin with those of the query or contain them ("terr", "n0211"), or differ from them by a letter or two. Of
what was read or heard, one text must have every word. Words in quotes are found as they stand, one after the other.
Number words are the same as their numerals. Rows that the index does not cover yet are found as well.
"""

from __future__ import annotations

import functools
import operator
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from arrowlens.modalities import TextSource
from arrowlens.store.filters import equals, is_among
from arrowlens.store.identifiers import INDEXED
from arrowlens.store.loops import look_deeper
from arrowlens.store.numerals import numerals_in
from arrowlens.store.ranking import GROWTH, at_most, in_turns
from arrowlens.store.selection import Selection

if TYPE_CHECKING:
    import numpy as np
    from lancedb.expr import Expr
    from lancedb.table import LanceTable

WORDS = "words"  # the column
_COLUMNS_OF: Mapping[TextSource, tuple[str, ...]] = {  # of media, that words come from
    "name": ("path",),
    "title": ("title", "artist", "album"),
    "description": ("description",),
    "caption": ("caption",),
}
WORD_COLUMNS = tuple(column for columns in _COLUMNS_OF.values() for column in columns)
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
_COLUMNS = ["media_id", "content_hash", "modality", *WORD_COLUMNS]
_TEXT_COLUMNS = ["text_id", "content_hash", "source", "text", "start", "end"]

_RUN = re.compile(r"[^\W_]+")  # letters and digits
_SEAM = re.compile(r"(?<=[a-zß-öø-ÿ])(?=[A-ZÀ-ÖØ-Þ])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
_QUOTED = re.compile(r'"([^"]+)"|“([^“”]+)”|„([^„“”]+)[“”]|«([^«»]+)»')
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
FOUND_TEXTS = pa.schema(
    [
        pa.field("content_hash", pa.string()),
        pa.field("source", pa.string()),
        pa.field("text", pa.string()),
        pa.field("start", pa.float64()),
        pa.field("end", pa.float64()),
    ]
)


def words_of(row: Mapping[str, Any]) -> str | None:
    """Return the words by which a row of ``media`` is found, None when it has none."""
    return _indexed(row.get(column) or "" for column in WORD_COLUMNS)


def text_words(text: str) -> str | None:
    """Return the words by which a text is found that was read or heard, None when it has none."""
    return _indexed([text])


def query_words(text: str) -> str | None:
    """Return the words of a query without small ones, unless it has no others; None when it has none or too many."""
    runs = _RUN.findall(_plain(text))
    words = [run for run in runs if run.lower() not in _SMALL] or runs
    return " ".join(words) if 0 < len(words) <= _MAX_WORDS else None


def phrases_of(text: str) -> list[str]:
    """Return what stands in quotes in a query, in one case and without accents; what has no words is left out."""
    quoted = ["".join(parts) for parts in _QUOTED.findall(text)]
    return [phrase for phrase in map(_run_text, quoted) if phrase]


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
    sources: Collection[TextSource] | None = None,
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
        sources: where the words must stand: "name" (with folders), "caption", "description", "title" (with artist and
            album); None for all of these together.

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
    is_wanted = _media_check(text, sources)
    if matching != "whole":
        alike = _loosely(table, words, n, where, _COLUMNS, lambda rows: _n_contents(rows, among), matching, is_wanted)
        return _ranked(alike, text, among).select(FOUND.names)
    n_ranked = max(n, _MIN_RANKED)

    def read(rows: pa.Table, is_whole: bool) -> pa.Table | None:
        rows = rows.filter(is_wanted(rows))
        return rows if is_whole or _n_contents(rows, among) >= n_ranked else None

    def fetch(limit: int) -> pa.Table:
        return _matching(table, words, limit, where, _COLUMNS)

    first = n_ranked + n_ranked // 8  # some more, for copies
    rows: pa.Table = look_deeper(at_most(table.count_rows, fetch), read, first, GROWTH)
    # A name whose words many files have may have been cut off.
    if rows.num_rows >= first and _may_be_name(text) and (sources is None or "name" in sources):
        named = _matching(table, words, first, where & _is_in_path(text), _COLUMNS)
        rows = pa.concat_tables([rows, named.filter(is_wanted(named))])
    return _ranked(rows, text, among).select(FOUND.names)


def find_texts(
    table: LanceTable,
    text: str,
    n: int,
    holds: Callable[[pa.Table], np.ndarray],
    matching: Matching = "whole",
    sources: Collection[TextSource] | None = None,
) -> pa.Table:
    """Return the best text of at least ``n`` contents with one that has all words of ``text``, or of all there are.

    Args:
        table: ``texts``.
        text: the query.
        n: number of contents.
        holds: rows (content_hash) -> (n,) bool, whether a content is searched.
        matching: as for ``find``.
        sources: "speech", "ocr" or both; None for both.

    Returns:
        The columns of ``FOUND_TEXTS``, by BM25 falling, or by how close the words are; each content once.
    """
    words = query_words(text)
    if not _index_name(table) or words is None:
        return FOUND_TEXTS.empty_table()
    where = is_among("source", list(sources)) if sources is not None else None
    phrases, n_ranked = phrases_of(text), max(n, _MIN_RANKED)

    def is_wanted(rows: pa.Table) -> pa.Array:
        has_phrases = [_has_phrases(phrases, [text]) for text in rows["text"].to_pylist()]
        return pa.array(has_phrases, pa.bool_())

    def count(rows: pa.Table) -> int:
        return int(pc.count_distinct(rows["content_hash"].filter(pa.array(holds(rows)))).as_py())

    def read(rows: pa.Table, is_whole: bool) -> pa.Table | None:
        rows = rows.filter(is_wanted(rows))
        return rows if is_whole or count(rows) >= n_ranked else None

    def fetch(limit: int) -> pa.Table:
        return _matching(table, words, limit, where, _TEXT_COLUMNS)

    if matching != "whole":
        rows = _loosely(table, words, n, where, _TEXT_COLUMNS, count, matching, is_wanted)
    else:
        rows = look_deeper(at_most(table.count_rows, fetch), read, 2 * n_ranked, GROWTH)
    rows = rows.filter(pa.array(holds(rows)))
    rows = rows.take(pc.sort_indices(rows, sort_keys=[("_score", "descending"), ("text_id", "ascending")]))
    return _first_of_each_content(rows).select(FOUND_TEXTS.names)


def joined_files(shards: Sequence[pa.Table]) -> pa.Table:
    """Return what ``find`` gave for each shard in one ranking; BM25 counts the words of its own shard, so by rank."""
    if len(shards) < 2:
        return shards[0] if shards else FOUND.empty_table()
    return _first_of_each_content(in_turns(shards, "media_id", first="is_name"))


def joined_texts(shards: Sequence[pa.Table]) -> pa.Table:
    """Return what ``find_texts`` gave for each shard in one ranking, as ``joined_files``."""
    if len(shards) < 2:
        return shards[0] if shards else FOUND_TEXTS.empty_table()
    return in_turns(shards, "content_hash")


def _media_check(text: str, sources: Collection[TextSource] | None) -> Callable[[pa.Table], pa.Array]:
    """Return what tells which rows of ``media`` have a query's phrases, and its words in the wanted sources."""
    phrases, wanted = phrases_of(text), [_folded(word) for word in (query_words(text) or "").split()]
    columns = [column for source in sources or _COLUMNS_OF for column in _COLUMNS_OF.get(source, ())]

    def is_wanted(rows: pa.Table) -> pa.Array:
        if not phrases and sources is None:
            return pa.array([True] * len(rows), pa.bool_())
        texts = zip(*(rows[column].to_pylist() for column in columns), strict=True)
        return pa.array([_has_phrases(phrases, row) and _has_words(wanted, row) for row in texts], pa.bool_())

    return is_wanted


def _has_words(wanted: Sequence[str], texts: Iterable[str | None]) -> bool:
    words = _folded(_indexed(text or "" for text in texts) or "").split()
    return all(any(_likeness(each, word) > 0.0 for word in words) for each in wanted)


def _has_phrases(phrases: Sequence[str], texts: Iterable[str | None]) -> bool:
    runs = [f" {_run_text(text)} " for text in texts if text] if phrases else []
    return all(any((phrase if _is_wide(phrase) else f" {phrase} ") in run for run in runs) for phrase in phrases)


def _run_text(text: str) -> str:
    """A text's letters and digits in one case and without accents, with single blanks between."""
    return " ".join(_RUN.findall(_folded(_plain(text))))


def words_found(row: Mapping[str, Any], text: str) -> dict[str, str]:
    """Return which words of a row of ``media`` answer those of a query, by where they are.

    Args:
        row: with the columns that words come from; "speech" and "ocr" may hold what was heard and read.
        text: the query.

    Returns:
        The words as the file has them, joined by blanks, by "name", "folder", "caption", "text" (description, title,
        artist and album), "speech" and "ocr"; places without any are left out.
    """
    folder, _, name = (row.get("path") or "").rpartition("/")
    texts = " ".join(row.get(column) or "" for column in ("description", "title", "artist", "album"))
    places = {"name": name, "folder": folder, "caption": row.get("caption") or "", "text": texts}
    places |= {source: row[source] for source in ("speech", "ocr") if row.get(source)}
    tokens = [(place, word) for place, text in places.items() for word in _words(text)]
    answers: dict[str, dict[str, None]] = {place: {} for place in places}
    for wanted in (query_words(text) or "").split():
        likeness = [_likeness(_folded(wanted), _folded(word)) for _, word in tokens]
        if (best := max(likeness, default=0.0)) > 0.0:
            place, word = tokens[likeness.index(best)]
            answers[place][word] = None
    return {place: " ".join(words) for place, words in answers.items() if words}


def _loosely(
    table: LanceTable,
    words: str,
    n: int,
    where: Expr | None,
    columns: Sequence[str],
    count: Callable[[pa.Table], int],
    matching: Matching,
    is_wanted: Callable[[pa.Table], pa.Array],
) -> pa.Table:
    """Rows whose words contain those of a query, or nearly are those, with ``_score``; ``count`` counts contents."""
    wanted = [_folded(word) for word in words.split()]
    search, is_alike = (
        _parts_search(table, words.lower().split(), where)
        if matching == "part"
        else _typos_search(table, wanted, where)
    )
    if search is None:
        nothing = table.schema.empty_table().select(columns)
        return nothing.append_column("_score", pa.array([], pa.float32()))
    n_ranked = max(n, _MIN_RANKED)

    def read(rows: pa.Table, is_whole: bool) -> pa.Table | None:
        scores = []
        for text in rows[WORDS].to_pylist():
            scores.append(_summed_likeness(wanted, _folded(text or "").split(), is_alike))
        alike = rows.append_column("_score", pa.array(scores, pa.float32()))
        alike = alike.filter(pc.is_valid(alike["_score"]))
        alike = alike.filter(is_wanted(alike))
        return alike if is_whole or count(alike) >= n_ranked else None

    def fetch(limit: int) -> pa.Table:
        return search.select([*columns, WORDS]).limit(limit).to_arrow().select([*columns, WORDS])

    return look_deeper(at_most(table.count_rows, fetch), read, n_ranked + n_ranked // 8, GROWTH)


def _parts_search(table: LanceTable, words: Sequence[str], where: Expr | None) -> tuple[Any, Callable[[float], bool]]:
    """A scan that compares accents: an index of parts costs more than it saves (docs/performance.md)."""
    from lancedb.expr import col, lit

    if not any(len(word) >= _MIN_PREFIX or _is_wide(word) for word in words):
        return None, bool
    for word in words:
        has_word = col(WORDS).lower().contains(lit(word))
        where = has_word if where is None else where & has_word
    return _filtered(table.search(), where), lambda likeness: likeness >= _PART


def _typos_search(table: LanceTable, words: Sequence[str], where: Expr | None) -> tuple[Any, Callable[[float], bool]]:
    """A scan of few rows; of many the index, which looks for misspelt words in the rows that it covers only.

    It has stems and compares misspelt words as they are, so it is asked for those without their last letters as well.
    """
    from lancedb.query import BooleanQuery, MatchQuery, Occur

    if not any(map(_n_typos, words)) or len(words) > _MOST_MISSPELT:
        return None, bool
    if table.count_rows() <= _SCANNED:
        return _filtered(table.search(), where), bool
    alike: list[Any] = []
    for word in words:
        is_fuzzy = _n_typos(word) > 0
        spellings = " ".join(word[: len(word) - cut] for cut in range(3)) if is_fuzzy else word
        options: Any = {"fuzziness": 2, "prefix_length": 1, "max_expansions": _MAX_EXPANSIONS} if is_fuzzy else {}
        alike.append((Occur.MUST, MatchQuery(spellings, WORDS, **options)))
    return _filtered(table.search(BooleanQuery(alike), query_type="fts"), where), bool


def _filtered(search: Any, where: Expr | None) -> Any:  # noqa: ANN401 - a query of lancedb
    return search if where is None else search.where(where)


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
    if word == wanted or (_numeral(word) is not None and _numeral(word) == _numeral(wanted)):
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


def _numeral(word: str) -> str | None:
    """The numeral of a number word, or of a numeral itself."""
    return word if word.isdecimal() else next((numeral for _, _, numeral in numerals_in([word])), None)


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


def _matching(table: LanceTable, words: str, limit: int, where: Expr | None, columns: Sequence[str]) -> pa.Table:
    search = _filtered(table.search(_all_words(words), query_type="fts"), where)
    wanted = [*columns, "_score"]
    return search.select(wanted).limit(limit).to_arrow().select(wanted)


def _all_words(words: str) -> Any:  # noqa: ANN401 - a query of lancedb
    """A query for rows that have all words; a number word may stand there as its numeral, and the other way round."""
    from lancedb.query import BooleanQuery, FullTextOperator, MatchQuery, Occur

    each = words.split()
    numbers = list(numerals_in([_folded(word) for word in each]))
    query: Any = MatchQuery(words, WORDS, operator=FullTextOperator.AND)  # type: ignore[call-arg]
    if not numbers:
        return query
    for start, stop, numeral in reversed(numbers):
        each[start:stop] = [numeral]
    as_numerals: Any = MatchQuery(" ".join(each), WORDS, operator=FullTextOperator.AND)  # type: ignore[call-arg]
    # Rows that an earlier version wrote have number words without their numerals.
    return BooleanQuery([(Occur.SHOULD, query), (Occur.SHOULD, as_numerals)])


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
    return _first_of_each_content(rows)


def _first_of_each_content(rows: pa.Table) -> pa.Table:
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


def _indexed(texts: Iterable[str]) -> str | None:
    """What the index holds of texts: their words, and the numerals of number words; None for no words."""
    words: list[str] = []
    for text in texts:
        of_text = _words(text)
        numerals = {numeral for _, _, numeral in numerals_in([_folded(run) for run in _RUN.findall(_plain(text))])}
        words += [*of_text, *sorted(numerals.difference(of_text))]
    return " ".join(words)[:_MAX_LENGTH] or None


def _words(text: str) -> list[str]:
    runs = _RUN.findall(_plain(text)[:_MAX_LENGTH])
    return [word for run in runs for word in dict.fromkeys([run, *_SEAM.split(run)])]
