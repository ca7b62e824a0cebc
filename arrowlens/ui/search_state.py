"""The state of the search page: one value, which is also the query string, so that addresses can be shared."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar, get_args

from arrowlens.errors import InputError
from arrowlens.modalities import EXTRACTED, MODALITIES, Modality
from arrowlens.search import Condition
from arrowlens.search.query import MAX_PARTS, MAX_TEXT
from arrowlens.store import DURATION_EDGES, SIZE_EDGES

Role = Literal["more", "less", "like", "unlike"]
Order = Literal["relevance", "date"]
Grouping = Literal["none", "folder", "day"]

NAMED = ("camera", "artist", "album", "source", "language")
"""Filters whose value is a name, as the question, its address and ``Library.facets`` call them."""

DEFAULT_WEIGHTS: dict[Role, float] = {"more": 1.0, "less": 0.5, "like": 1.0, "unlike": 0.5}
MAX_WEIGHT = 3.0

_MODALITY_WORDS: dict[str, Modality] = {
    **{info.plural: name for name, info in MODALITIES.items()},  # as addresses are written
    **{name: name for name in MODALITIES},
    "sounds": "audio",  # in addresses of earlier versions
}
_WEIGHTED = re.compile(r"(?s)(.*)\^(\d{1,2}(?:\.\d{1,3})?)", re.ASCII)
_MEDIA_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_LANGUAGE = re.compile(r"[a-z]{2,3}", re.ASCII)
_NUMBER = re.compile(r"\d{1,6}", re.ASCII)
_Word = TypeVar("_Word", bound=str)


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A further text or an example in a question.

    Attributes:
        role: "more" or "less" of a text, "like" or "unlike" a file.
        value: the text, or the file's ``media_id``.
        weight: above 0, at most ``MAX_WEIGHT``.
    """

    role: Role
    value: str
    weight: float

    @classmethod
    def of(cls, role: Role, value: str) -> Part:
        """Return a part with the default weight of its role."""
        return cls(role, value, DEFAULT_WEIGHTS[role])

    @property
    def is_example(self) -> bool:
        """Whether the value is a file."""
        return self.role in ("like", "unlike")

    def written(self) -> str:
        """Return "people", or "people^0.8" where the weight is not the default, or the text ends like a weight."""
        if self.weight == DEFAULT_WEIGHTS[self.role] and not _WEIGHTED.fullmatch(self.value):
            return self.value
        return f"{self.value}^{self.weight:g}"

    @classmethod
    def read(cls, role: Role, text: str) -> Part | None:
        """Return the part that ``written`` wrote; None if it is not one."""
        match = _WEIGHTED.fullmatch(text)
        value, weight = (match[1], float(match[2])) if match else (text, DEFAULT_WEIGHTS[role])
        part = cls(role, value, weight)
        is_usable = _MEDIA_ID.fullmatch(value) if part.is_example else value.strip()
        return part if is_usable and 0 < weight <= MAX_WEIGHT else None


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """What is asked. The page shows nothing that does not follow from this and from the library.

    Attributes:
        text: what is searched for, in words.
        parts: further texts and examples, each once, in the order of ``Role``.
        modality: only files of this one; None for all.
        root: only files below this folder, which was ingested; "" for all.
        folder: only files below this folder, relative to the ingested one; "" for all.
        since: only files taken on this day or later.
        until: only files taken on this day or earlier.
        formats: only these; none for all.
        size: only files in this interval of ``SIZE_EDGES``, counted from 0.
        length: only recordings in this interval of ``DURATION_EDGES``, counted from 0.
        camera, artist, album: only files with this one; "" for all.
        source: only files with a text of this source, "ocr" or "speech"; "" for all.
        language: only files with a text in this language, as ISO 639 writes it; "" for all.
        placed: only files that say where they were taken.
        sort: the order of the results.
        group: how the results are divided.
        favourites: only files that are favourites.
        everything: whether files that do not match are shown too.
    """

    text: str = ""
    parts: tuple[Part, ...] = ()
    modality: Modality | None = None
    root: str = ""
    folder: str = ""
    since: dt.date | None = None
    until: dt.date | None = None
    formats: tuple[str, ...] = ()
    size: int | None = None
    length: int | None = None
    camera: str = ""
    artist: str = ""
    album: str = ""
    source: str = ""
    language: str = ""
    placed: bool = False
    sort: Order = "relevance"
    group: Grouping = "none"
    favourites: bool = False
    everything: bool = False

    @property
    def is_filtered(self) -> bool:
        """Whether there are filters other than the modality."""
        return bool(self.conditions())

    def with_part(self, part: Part) -> Question:
        """Return the question with one more part, which replaces one of equal value."""
        parts = sorted((*self._others(part), part), key=lambda each: get_args(Role).index(each.role))
        return dataclasses.replace(self, parts=tuple(parts), everything=False)

    def with_weight(self, part: Part, weight: float) -> Question:
        """Return the question with another weight of a part."""
        new = dataclasses.replace(part, weight=weight)
        return dataclasses.replace(self, parts=tuple(new if each == part else each for each in self.parts))

    def without_part(self, part: Part) -> Question:
        """Return the question without a part."""
        return dataclasses.replace(self, parts=self._others(part), everything=False)

    def conditions(self) -> list[Condition]:
        """Return the conditions that files must satisfy, without that of the modality."""
        return [condition for by, each in self.chosen().items() if by != "modality" for condition in each]

    def chosen(self) -> dict[str, list[Condition]]:
        """Return all conditions by facet, as ``Library.facets`` takes them."""
        folder = [Condition("root", "=", self.root)] if self.root else []
        if self.folder:  # everything that begins with "folder/", whatever its case: "0" comes after "/"
            folder += [Condition("path", ">=", f"{self.folder}/"), Condition("path", "<", f"{self.folder}0")]
        taken = [Condition("taken", ">=", self.since)] if self.since else []
        taken += [Condition("taken", "<=", self.until)] if self.until else []
        return {
            "modality": [Condition("modality", "=", self.modality)] if self.modality else [],
            "folder": folder,
            "taken": taken,
            "format": [Condition("format", "in", self.formats)] if self.formats else [],
            "size": _within("size", SIZE_EDGES, self.size),
            "duration": _within("duration", DURATION_EDGES, self.length),
            **{name: [Condition(name, "=", value)] if (value := getattr(self, name)) else [] for name in NAMED},
            "place": [Condition("latitude", ">=", -90.0)] if self.placed else [],
            "favourite": [Condition("favourite", "=", True)] if self.favourites else [],
        }

    def to_params(self) -> dict[str, list[str]]:
        """Return the query string of an address, without what has its default."""
        params: dict[str, list[str]] = {"q": [self.text] if self.text else []}
        for role in get_args(Role):
            params[role] = [part.written() for part in self.parts if part.role == role]
        params["kind"] = [MODALITIES[self.modality].plural] if self.modality else []
        for name in ("root", "folder", *NAMED, "sort", "group", "size", "length"):
            value = getattr(self, name)
            params[name] = [str(value)] if value != getattr(_DEFAULTS, name) else []
        params["placed"] = ["1"] if self.placed else []
        params["favourites"] = ["1"] if self.favourites else []
        params["all"] = ["1"] if self.everything else []
        params["from"] = [self.since.isoformat()] if self.since else []
        params["to"] = [self.until.isoformat()] if self.until else []
        params["format"] = list(self.formats)
        return {name: values for name, values in params.items() if values}

    @classmethod
    def from_params(cls, params: Mapping[str, Sequence[str]]) -> Question:
        """Return the question of an address; values that make no sense are ignored.

        Raises:
            InputError: a text has more than ``MAX_TEXT`` characters, or the question more than ``MAX_PARTS`` parts.
        """
        if sum(len(params.get(role, ())) for role in get_args(Role)) > MAX_PARTS:
            raise InputError(f"the question has more than {MAX_PARTS} parts; go back and leave out some")
        if any(len(text) > MAX_TEXT for name in ("q", *get_args(Role)) for text in params.get(name, ())):
            raise InputError(f"a text of the question has more than {MAX_TEXT:,} characters; go back and shorten it")

        def last(name: str) -> str:
            return params[name][-1] if params.get(name) else ""

        read = [Part.read(role, written) for role in get_args(Role) for written in params.get(role, ())]
        parts: dict[tuple[bool, str], Part] = {}
        for part in read:
            if part is not None:
                same = (part.is_example, part.value)
                parts.pop(same, None)  # the last one counts and keeps its place, so that parts stay in order of roles
                parts[same] = part
        return cls(
            text=last("q"),
            parts=tuple(parts.values()),
            modality=_MODALITY_WORDS.get(last("kind")),
            root=last("root"),
            folder=last("folder").strip("/"),
            since=_day(last("from")),
            until=_day(last("to")),
            formats=tuple(dict.fromkeys(word for word in params.get("format", ()) if word)),
            size=_number(last("size"), 0, len(SIZE_EDGES)),
            length=_number(last("length"), 0, len(DURATION_EDGES)),
            camera=last("camera"),
            artist=last("artist"),
            album=last("album"),
            source=last("source") if last("source") in EXTRACTED else "",
            language=last("language") if _LANGUAGE.fullmatch(last("language")) else "",
            placed=last("placed") == "1",
            sort=_word(last("sort"), get_args(Order)),
            group=_word(last("group"), get_args(Grouping)),
            favourites=last("favourites") == "1",
            everything=last("all") == "1",
        )

    def _others(self, part: Part) -> tuple[Part, ...]:
        same = (part.is_example, part.value)
        return tuple(each for each in self.parts if (each.is_example, each.value) != same)


_DEFAULTS = Question()


def _within(column: str, edges: Sequence[int], interval: int | None) -> list[Condition]:
    if interval is None:
        return []
    value = float if column == "duration" else int
    lower = [Condition(column, ">=", value(edges[interval - 1]))] if interval else []
    return lower + ([Condition(column, "<", value(edges[interval]))] if interval < len(edges) else [])


def _word(text: str, words: tuple[_Word, ...]) -> _Word:
    """Return the word that a text is, else the first one, which is the default."""
    return next((word for word in words if word == text), words[0])


def _number(text: str, low: int, high: int) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) and low <= int(text) <= high else None


def _day(text: str) -> dt.date | None:
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        return None
    return day if day.year <= 9998 else None  # the last year that conditions take
