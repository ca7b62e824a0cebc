"""Conditions on ``media``. LanceDB compares what its expressions can say; the rest is compared in Arrow.

A condition is ``(column, op, value)``. ``name`` and ``folder`` are parts of ``path``. Operators are ``= != < <= > >= in
like``, and for times ``within`` and ``without``, whose value is a tuple of ranges (from, to) without their ends. Null
satisfies ``!=`` and ``without`` only. Values never become SQL.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from lancedb.expr import Expr

Condition = tuple[str, str, Any]

_PARTS = ("folder", "name")  # of path
_FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")  # of Unicode: macOS decomposes accents in names
_MOST_SPELLINGS = 64  # of a path whose parts are each in one of them
_SPLIT = r"(?s)^(?:(?P<folder>.*)/)?(?P<name>[^/]*)$"
_COMPARISONS = {"<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal"}
_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def equals(column: str, value: str) -> Expr:
    """Return the expression "``column`` is ``value``"."""
    from lancedb.expr import col, lit

    return col(column) == lit(value)


def is_among(column: str, values: Sequence[str]) -> Expr:
    """Return the expression "``column`` is one of ``values``"."""
    from lancedb.expr import col

    return col(column).isin(list(values))


def expression(conditions: Sequence[Condition]) -> Expr | None:
    """Return the conditions that LanceDB compares, those for which ``is_compared_later`` is false; None for none."""
    parts = [_expression(condition) for condition in conditions if not is_compared_later(condition)]
    return functools.reduce(operator.and_, parts) if parts else None


def is_compared_later(condition: Condition) -> bool:
    """Return whether ``holds`` must compare it: expressions have no patterns and nulls, and cannot split a path."""
    column, op, _ = condition
    return column in _PARTS or op in ("!=", "like", "without")


def columns_of(conditions: Sequence[Condition]) -> list[str]:
    """Return the columns of ``media`` that conditions compare."""
    return sorted({"path" if column in _PARTS else column for column, _, _ in conditions})


def holds(rows: pa.Table, condition: Condition) -> np.ndarray:
    """Return which of ``rows`` (with the columns of ``columns_of``) satisfy a condition, (n,) bool."""
    column, op, value = condition
    values = _values(rows, column)
    if op == "like":
        result = _like(values, value)
    elif op == "without":
        result = _is_outside(values, value)
    elif op in ("=", "!=", "in"):
        wanted = pa.array(_spellings(value if op == "in" else (value,)), values.type)
        result = pc.is_in(values, value_set=wanted)  # false where there is no value
        result = pc.invert(result) if op == "!=" else result
    else:
        result = pc.call_function(_COMPARISONS[op], [values, pa.scalar(value, values.type)])
    satisfied: np.ndarray = pc.fill_null(result, False).to_numpy(zero_copy_only=False)
    return satisfied


def _expression(condition: Condition) -> Expr:
    from lancedb.expr import col, lit

    column, op, value = condition
    if op in ("=", "in"):
        return col(column).isin(_spellings(value if op == "in" else (value,)))
    if op == "within":
        ranges = [(col(column) >= lit(start)) & (col(column) < lit(end)) for start, end in value]
        return functools.reduce(operator.or_, ranges)
    compared: Expr = _OPERATORS[op](col(column), lit(value))
    return compared


def _values(rows: pa.Table, column: str) -> pa.Array:
    if column in _PARTS:
        parts = pc.extract_regex(rows["path"], _SPLIT).combine_chunks()
        return pc.struct_field(parts, column)
    values = rows[column].combine_chunks()
    return values.cast(pa.int64()) if pa.types.is_integer(values.type) else values  # wide enough for any value


def _is_outside(values: pa.Array, ranges: Sequence[tuple[Any, Any]]) -> pa.Array:
    inside = [
        pc.and_(pc.greater_equal(values, pa.scalar(start, values.type)), pc.less(values, pa.scalar(end, values.type)))
        for start, end in ranges
    ]
    return pc.invert(pc.fill_null(functools.reduce(pc.or_, inside), False))


def _like(values: pa.Array, pattern: str) -> pa.Array:
    """Which values match a pattern as a whole, in any case; macOS decomposes accents in names."""
    pattern = unicodedata.normalize("NFC", pattern)
    if not pc.all(pc.string_is_ascii(values)).as_py():  # "_" matches a letter with its accent
        values = pc.utf8_normalize(values, "NFC")
    return pc.match_substring_regex(values, _regex(pattern), ignore_case=True)


def _regex(pattern: str) -> str:
    parts, literal = [], False
    for character in pattern:
        if literal:
            parts.append(_escaped(character) if character in "%_\\" else _escaped("\\") + _escaped(character))
            literal = False
        elif character == "\\":
            literal = True
        else:
            parts.append({"%": ".*", "_": "."}.get(character) or _escaped(character))
    return f"(?s)^{''.join(parts)}{_escaped(chr(92)) if literal else ''}$"


def _escaped(character: str) -> str:
    return f"\\x{{{ord(character):x}}}"


def _spellings(values: Sequence[Any]) -> list[Any]:
    """Values, and texts also in their other Unicode normal forms, each part of a path in its own."""
    spellings = dict.fromkeys(values)
    for value in values:
        if isinstance(value, str) and not value.isascii():
            parts = [{unicodedata.normalize(form, part) for form in _FORMS} for part in value.split("/")]
            if math.prod(map(len, parts)) > _MOST_SPELLINGS:
                parts = [{unicodedata.normalize(form, value) for form in _FORMS}]
            spellings.update(dict.fromkeys("/".join(each) for each in itertools.product(*parts)))
    return list(spellings)
