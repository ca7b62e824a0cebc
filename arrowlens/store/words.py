"""The words by which files are found, and their full-text index on ``media.words``.

``imgRed_2024b.jpg`` has the words imgRed, img, Red, 2024b, 2024, b and jpg.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lancedb.table import LanceTable

WORDS = "words"
_SOURCES = ("path", "title", "artist", "album", "description", "caption")  # of a row of media
_MAX_LENGTH = 20_000  # characters of a row
_MAX_WORDS = 32  # of a question; longer ones are sentences, which no file's words hold
_MAX_WORD = 200  # characters; a name has at most 255 bytes
_MAX_UNINDEXED = 1_000  # rows, each of which is read with every question

_RUN = re.compile(r"[^\W_]+")  # letters and digits
_SEAM = re.compile(r"(?<=[a-zß-öø-ÿ])(?=[A-ZÀ-ÖØ-Þ])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
_SMALL_WORDS = "a an and are at by for from in is it my of on or our some that the this to with your"
_SMALL = frozenset(_SMALL_WORDS.split())


def words_of(row: Mapping[str, Any]) -> str | None:
    """What a row of ``media`` is found by."""
    runs = [run for source in _SOURCES for run in _RUN.findall(_plain(row.get(source) or "")[:_MAX_LENGTH])]
    words = [word for run in runs for word in dict.fromkeys([run, *_SEAM.split(run)])]
    return " ".join(words)[:_MAX_LENGTH] or None


def asked_words(text: str) -> str | None:
    """The words of a question, small ones left out unless there are no others; None when it has none, or too many."""
    runs = _RUN.findall(_plain(text))
    words = [run for run in runs if run.lower() not in _SMALL] or runs
    return " ".join(words) if 0 < len(words) <= _MAX_WORDS else None


def keep_words(table: LanceTable, *, anew: bool = False) -> None:
    """Make the index where there is none, or ``anew``, without the words of rows that were deleted; extend it."""
    name = index_name(table)
    if name is None or anew:
        from lancedb.index import FTS

        config = FTS(base_tokenizer="icu/split", remove_stop_words=False, max_token_length=_MAX_WORD)
        table.create_index(WORDS, config=config, replace=True)
        return
    stats = table.index_stats(name)
    if stats is not None and stats.num_unindexed_rows > _MAX_UNINDEXED:
        table.optimize()


def index_name(table: LanceTable) -> str | None:
    """The full-text index of a table, None where there is none."""
    return next((index.name for index in table.list_indices() if WORDS in index.columns), None)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text)
