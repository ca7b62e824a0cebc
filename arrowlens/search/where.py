"""Conditions on files: ``width >= 1000 and folder like '2024/%'`` -> typed, checked, never a piece of SQL."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

from arrowlens.errors import InputError
from arrowlens.modalities import MODALITIES, SOURCES
from arrowlens.search import values
from arrowlens.search.sanitize import as_stored
from arrowlens.search.values import Moment

Op = Literal["=", "!=", "<", "<=", ">", ">=", "in", "like"]

MAX_LENGTH = 100_000  # characters of one filter
MAX_CONDITIONS = 100
MAX_VALUES = 10_000  # in one list
MAX_PATTERN = 1_000  # characters

_ORDER: tuple[Op, ...] = ("=", "!=", "<", "<=", ">", ">=", "in")
_FORMATS = {"jpg": "jpeg", "tif": "tiff", "jp2": "jpeg2000", "heif": "heic"}  # as people write them


@dataclasses.dataclass(frozen=True, slots=True)
class ColumnType:
    """What values a column takes, how they are written, and by which operators they are compared.

    ``named`` is for messages, ``example`` a right condition without the column.
    """

    named: str
    ops: tuple[Op, ...]
    read: Callable[[str], Any]
    python: type[Any]
    example: str


_TEXT = ColumnType("a text", (*_ORDER, "like"), str, str, "like '%holiday%'")
_WHOLE = ColumnType("a whole number", _ORDER, values.whole_number, int, ">= 1000")
_BYTES = ColumnType("a size", _ORDER, values.n_bytes, int, ">= 2MB")
_DEGREES = ColumnType("a number of degrees", _ORDER, values.number, float, ">= 48.5")
_SECONDS = ColumnType("a length of time", _ORDER, values.seconds, float, ">= 1m30s")
_MOMENT = ColumnType("a date or a time", _ORDER, values.moment, Moment, ">= 2024-05-01")
_TRUTH = ColumnType("yes or no", ("=", "!="), values.truth, bool, "= no")


def _format(text: str) -> str:
    return _FORMATS.get(text.lower(), text.lower())


def _modality(text: str) -> str:
    if text.lower() not in MODALITIES:
        raise ValueError(text)
    return text.lower()


def _source(text: str) -> str:
    if text.lower() not in SOURCES:
        raise ValueError(text)
    return text.lower()


def _language(text: str) -> str:
    if not re.fullmatch(r"[a-z]{2,3}", text.lower(), re.ASCII):
        raise ValueError(text)
    return text.lower()


FILTER_COLUMNS: dict[str, ColumnType] = {
    "path": _TEXT,
    "name": _TEXT,
    "folder": _TEXT,
    "modality": ColumnType("image, audio or video", ("=", "!=", "in"), _modality, str, "= image"),
    "format": ColumnType("a format", ("=", "!=", "in", "like"), _format, str, "in (jpeg, png)"),
    "size": _BYTES,
    "width": _WHOLE,
    "height": _WHOLE,
    "duration": _SECONDS,
    "sample_rate": ColumnType("a whole number", _ORDER, values.whole_number, int, "= 44100"),
    "channels": ColumnType("a whole number", _ORDER, values.whole_number, int, "= 2"),
    "taken": _MOMENT,
    "captured_at": _MOMENT,
    "modified": _MOMENT,
    "camera": _TEXT,
    "latitude": _DEGREES,
    "longitude": _DEGREES,
    "title": _TEXT,
    "artist": _TEXT,
    "album": _TEXT,
    "description": _TEXT,
    "caption": _TEXT,
    "trivial": _TRUTH,
    "source": ColumnType("a source of texts", ("=", "!=", "in"), _source, str, "= speech"),
    "language": ColumnType("a language as ISO 639 writes it", ("=", "!=", "in"), _language, str, "= en"),
    "favourite": _TRUTH,
    "root": ColumnType("a text", ("=", "!=", "in"), str, str, "= /home/me/Pictures"),
}
"""What files can be filtered by. ``root`` is the absolute path of the folder that was ingested, ``path`` is relative to
it, ``folder`` the path without the name; ``kind`` is another word for ``modality``; ``source`` is that of
one of the file's texts, ``language`` that of a text which was read or heard in it, ``favourite`` whether it was marked
as one."""

_ALIASES = {"kind": "modality"}
_OPS: dict[str, Op] = {op: op for op in get_args(Op)} | {"==": "=", "<>": "!="}


@dataclasses.dataclass(frozen=True, slots=True)
class Condition:
    """``column op value``; ``str(condition)`` is what ``parse`` reads.

    A file without a value in the column satisfies ``!=`` only, which is the exact opposite of ``=``. A moment stands
    for all of its length: ``taken = 2024-05`` is the whole month, ``taken <= 2024-05`` includes it, ``> 2024-05``
    begins after it. ``like`` ignores case; ``%`` stands for any characters, ``_`` for one, a backslash before one of
    these for the character itself. ``=`` on texts does not ignore case.

    Attributes:
        column: of ``FILTER_COLUMNS``.
        op: one of ``= != < <= > >= in like``.
        value: str, int, float, bool or ``Moment``, as the column takes it; for ``in`` a tuple of such.

    Raises:
        InputError: an unknown column, an operator or a value that the column does not take.
    """

    column: str
    op: Op
    value: Any

    def __post_init__(self) -> None:
        column = _column(self.column)
        object.__setattr__(self, "column", column)
        object.__setattr__(self, "op", _op(column, str(self.op).lower()))
        if self.op == "in":
            given = self.value if isinstance(self.value, list | tuple | set | frozenset) else ()
            if not 1 <= len(given) <= MAX_VALUES:
                raise InputError(f"{column} in takes a list of 1 to {MAX_VALUES:,} values, got {_short(self.value)}")
            object.__setattr__(self, "value", tuple(_checked(column, value) for value in given))
        else:
            object.__setattr__(self, "value", _checked(column, self.value))
        if self.op == "like" and len(self.value) > MAX_PATTERN:
            raise InputError(f"a pattern for {column} has {len(self.value):,} characters; {MAX_PATTERN:,} are allowed")

    def __str__(self) -> str:
        if self.op == "in":
            return f"{self.column} in ({', '.join(map(_written, self.value))})"
        return f"{self.column} {self.op} {_written(self.value)}"


Where = str | Condition | Sequence[str | Condition]


def to_store_filters(conditions: Sequence[Condition]) -> list[tuple[str, str, Any]]:
    """What the store takes: its columns, and moments as ranges ("within" some, "without" all of them).

    Times are by the clock of this machine where the column is in UTC.
    """
    return [part for condition in conditions for part in _lowered(condition)]


def _lowered(condition: Condition) -> list[tuple[str, str, Any]]:
    column, op, value = condition.column, condition.op, condition.value
    if column == "root":
        from arrowlens.store import root_id_of  # deferred: pyarrow, which reading a condition needs none of

        return [("root_id", op, tuple(map(root_id_of, value)) if op == "in" else root_id_of(value))]
    if FILTER_COLUMNS[condition.column].python is not Moment:
        return [(column, op, value)]
    moments = value if op == "in" else (value,)
    ranges = tuple((_on_clock(column, each.start), _on_clock(column, each.end)) for each in moments)
    if op in ("=", "in", "!="):
        return [(column, "without" if op == "!=" else "within", ranges)]
    (start, end), strict = ranges[0], {">": ">=", "<=": "<"}  # after all of it; before its end
    return [(column, strict.get(op, op), end if op in strict else start)]


def _on_clock(column: str, moment: dt.datetime) -> dt.datetime:
    if column != "modified":
        return moment
    try:
        return moment.astimezone(dt.UTC)
    except (OverflowError, ValueError):  # in the first and the last year there are
        return moment.replace(tzinfo=dt.UTC)


def parse(where: Where) -> tuple[Condition, ...]:
    """Conditions that must all hold, from a text, a condition, or several of these.

    A text is ``column op value``, or several such joined by ``and``. Values with blanks, commas or brackets stand in
    quotes, single or double; a quote within is written twice. Columns, operators and ``and`` ignore case.

    Raises:
        InputError: with the columns there are, or with what the column takes and an example.
    """
    if isinstance(where, str | Condition):
        where = [where]
    if not isinstance(where, Sequence):
        raise InputError(f"a filter is a text such as 'width >= 1000', or a list of such, not {_short(where)}")
    conditions: list[Condition] = []
    for part in where:
        if not isinstance(part, str | Condition):
            raise InputError(f"a filter is a text such as 'width >= 1000', not {_short(part)}")
        conditions += _Reader(part).conditions() if isinstance(part, str) else [part]
        if len(conditions) > MAX_CONDITIONS:
            raise InputError(f"more than {MAX_CONDITIONS} conditions; use 'in' for one of several values")
    return tuple(conditions)


_TOKEN = re.compile(
    r"""\s*(?:
        (?P<quoted>'(?:[^']|'')*' | "(?:[^"]|"")*")
      | (?P<op><=|>=|!=|<>|==|=|<|>)
      | (?P<mark>[(),])
      | (?P<word>[^\s'"(),<>=!]+)
    )""",
    re.VERBOSE,
)


@dataclasses.dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str

    def is_word(self, *words: str) -> bool:
        return self.kind == "word" and self.text.lower() in words

    @property
    def value(self) -> str:
        """Without its quotes."""
        return self.text[1:-1].replace(self.text[0] * 2, self.text[0]) if self.kind == "quoted" else self.text


_END = _Token("end", "")


def _found(token: _Token) -> str:
    return "the end" if token is _END else _short(token.text)


class _Reader:
    """Reads one text from left to right."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise InputError(f"a filter of {len(text):,} characters; {MAX_LENGTH:,} are allowed")
        self._text = text
        self._tokens = list(_tokens(text))
        self._at = 0

    def conditions(self) -> list[Condition]:
        conditions = [self._condition()]
        while self._next is not _END:
            if not self._next.is_word("and"):
                raise InputError(
                    f"{_short(self._next.text)} after {_short(str(conditions[-1]))} is not understood; join conditions "
                    "with 'and', and put values with blanks in quotes"
                )
            self._take()
            conditions.append(self._condition())
        return conditions

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else _END

    def _take(self) -> _Token:
        token = self._next
        self._at += 1
        return token

    def _condition(self) -> Condition:
        token = self._take()
        if token.kind != "word":
            was = "ends" if token is _END else f"has {_short(token.text)}"
            raise InputError(f"the filter {_short(self._text)} {was} where a column should be; {_columns()}")
        column = _column(token.text)
        example = f"as in {column} {FILTER_COLUMNS[column].example}"
        token = self._take()
        if token.kind != "op" and not token.is_word("in", "like"):
            raise InputError(f"after {column} comes one of {' '.join(get_args(Op))}, {example}; not {_found(token)}")
        op = _op(column, token.text.lower())
        if op != "in":
            return Condition(column, op, self._value(column))
        opening = self._take()
        if opening.text != "(" or opening.kind != "mark":
            raise InputError(f"a list stands in brackets after {column} in, separated by commas: (one, 'and another')")
        as_tuple = [self._value(column)]
        while (token := self._take()) == _Token("mark", ","):
            as_tuple.append(self._value(column))
        if token != _Token("mark", ")"):
            raise InputError(f"the list after {column} in has no closing bracket, or a blank in a value without quotes")
        return Condition(column, op, tuple(as_tuple))

    def _value(self, column: str) -> Any:  # noqa: ANN401 - of the column's type
        kind, token = FILTER_COLUMNS[column], self._take()
        if token.kind not in ("word", "quoted"):
            raise InputError(f"a value is missing after {column}; it takes {kind.named}, as in {column} {kind.example}")
        try:
            return kind.read(token.value)
        except ValueError:
            raise _wrong_value(column, token.value) from None


def _tokens(text: str) -> Iterator[_Token]:
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at, end)
        if match is None:
            rest = text[at:end].lstrip()
            cause = "a quote is not closed" if rest[0] in "'\"" else f"{rest[0]!r} is not understood"
            raise InputError(f"{cause} in the filter, at {_short(rest)}; quotes within quotes are written twice")
        assert match.lastgroup is not None
        yield _Token(match.lastgroup, match[match.lastgroup])
        at = match.end()


def _column(name: str) -> str:
    lower = name.lower() if isinstance(name, str) else ""
    column = _ALIASES.get(lower, lower)
    if column not in FILTER_COLUMNS:
        raise InputError(f"{_short(name)} is no column to filter by; {_columns()}")
    return column


def _columns() -> str:
    return f"there are {', '.join(FILTER_COLUMNS)}"


def _op(column: str, op: str) -> Op:
    kind = FILTER_COLUMNS[column]
    if _OPS.get(op) not in kind.ops:
        raise InputError(
            f"{column} does not take {_short(op)}, only {' '.join(kind.ops)}; as in {column} {kind.example}"
        )
    return _OPS[op]


def _checked(column: str, value: Any) -> Any:  # noqa: ANN401 - any value is checked
    """The value in the column's Python type."""
    python = FILTER_COLUMNS[column].python
    if python is float and isinstance(value, int) and not isinstance(value, bool):
        value = _as_float(value)
    if python is Moment and isinstance(value, dt.date):
        value = _as_moment(value)
    wrong = not isinstance(value, python) or (isinstance(value, bool) and python is not bool)
    if wrong or (python is float and not math.isfinite(value)) or (python is int and abs(value) >= 2**63):
        raise _wrong_value(column, value)
    if python is str:
        try:
            return FILTER_COLUMNS[column].read(as_stored(value))
        except ValueError:
            raise _wrong_value(column, value) from None
    return value


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _as_moment(value: dt.date) -> Moment | dt.date:
    try:
        if isinstance(value, dt.datetime):
            return Moment(value)
        return Moment(dt.datetime(value.year, value.month, value.day), "day")
    except ValueError:
        return value


def _wrong_value(column: str, value: object) -> InputError:
    kind = FILTER_COLUMNS[column]
    return InputError(f"{column} takes {kind.named}, as in {column} {kind.example}; not {_short(value)}")


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value) if isinstance(value, float) else str(value)


def _short(value: object) -> str:
    """On one line, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
