"""Values as people write them in a filter: numbers, sizes, lengths of time, dates, yes and no."""

from __future__ import annotations

import calendar
import dataclasses
import datetime as dt
import math
import re
from typing import Literal, get_args

Precision = Literal["year", "month", "day", "hour", "minute", "second", "microsecond"]

_LARGEST = 2**63 - 1  # of the database's whole numbers
_WHOLE = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_SIZE = re.compile(r"(\d+\.?\d*|\.\d+) ?(?:([kmgt])i?)?b?", re.ASCII | re.IGNORECASE)
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)", re.ASCII)
_SPAN = re.compile(
    r"(?=.)(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII | re.IGNORECASE
)
_MOMENT = re.compile(
    r"(\d{4})(?:-(\d{2})(?:-(\d{2})(?:[T ](\d{2})(?::(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?)?)?)?)?", re.ASCII
)
_PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_LENGTHS = (4, 7, 10, 13, 16, 19, 26)  # of an ISO text, by precision
_STEPS = {
    "day": dt.timedelta(days=1),
    "hour": dt.timedelta(hours=1),
    "minute": dt.timedelta(minutes=1),
    "second": dt.timedelta(seconds=1),
    "microsecond": dt.timedelta(microseconds=1),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """A date or a time as exactly as it was given: "2024-05" is the whole month.

    ``start`` has no time zone, and nothing below its precision. Years go from 1 to 9998, so that the end is one too.
    """

    start: dt.datetime
    precision: Precision = "microsecond"

    def __post_init__(self) -> None:
        if self.start.tzinfo is not None or self.start.year > 9998:
            raise ValueError(f"{self.start} has a time zone, or lies after the year 9998")
        if _cut(self.start, self.precision) != self.start:
            raise ValueError(f"{self.start} is more exact than a {self.precision}")

    @property
    def end(self) -> dt.datetime:
        """The first moment after it."""
        if self.precision == "year":
            return self.start.replace(year=self.start.year + 1)
        if self.precision == "month":
            return self.start + dt.timedelta(days=calendar.monthrange(self.start.year, self.start.month)[1])
        return self.start + _STEPS[self.precision]

    def __str__(self) -> str:
        text = self.start.isoformat(timespec="microseconds")
        return text[: _LENGTHS[_PRECISIONS.index(self.precision)]]


def whole_number(text: str) -> int:
    """``1000`` -> 1000. Raises ValueError for anything else, and beyond 64 bits."""
    if not _WHOLE.fullmatch(text) or abs(int(text)) > _LARGEST:
        raise ValueError(text)
    return int(text)


def number(text: str) -> float:
    """``-33.9`` -> -33.9. Raises ValueError for anything else, infinity included."""
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError(text)
    return float(text)


def n_bytes(text: str) -> int:
    """``2MB``, ``1.5 GiB``, ``300`` -> bytes; K, M, G and T are powers of 1024, as sizes are shown.

    Raises ValueError for anything else, and beyond 64 bits.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    if not match[2]:
        return whole_number(match[1])
    size: float = number(match[1]) * 1024 ** ("kmgt".index(match[2].lower()) + 1)
    if size > _LARGEST:
        raise ValueError(text)
    return round(size)


def seconds(text: str) -> float:
    """``90``, ``1m30s``, ``1:30``, ``2h`` -> seconds. Raises ValueError for anything else."""
    match = _CLOCK.fullmatch(text) or _SPAN.fullmatch(text)
    if match is None:
        return number(text)
    hours, minutes, rest = match.groups()
    return number(str(float(hours or 0) * 3600 + float(minutes or 0) * 60 + float(rest or 0)))


def moment(text: str) -> Moment:
    """``2024``, ``2024-05``, ``2024-05-01``, ``2024-05-01T12:30:05.25`` (or a blank for the T) -> Moment.

    Raises ValueError for anything else.
    """
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise ValueError(text)
    *parts, fraction = match.groups()
    given = [int(part) for part in parts if part is not None]
    precision = _PRECISIONS[len(given) - 1] if fraction is None else "microsecond"
    given += [1, 1][len(given) - 1 :]  # the first month, the first day
    if fraction is not None:
        given.append(int(fraction.ljust(6, "0")))
    return Moment(dt.datetime(*given), precision)  # type: ignore[arg-type]


def truth(text: str) -> bool:
    """``yes``, ``true``, ``no``, ``false`` -> bool. Raises ValueError for anything else."""
    words = {"yes": True, "true": True, "no": False, "false": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


def _cut(start: dt.datetime, precision: Precision) -> dt.datetime:
    if precision == "microsecond":
        return start
    parts = start.timetuple()[: _PRECISIONS.index(precision) + 1]
    return dt.datetime(*[*parts, *[1, 1][len(parts) - 1 :]])  # type: ignore[arg-type]
