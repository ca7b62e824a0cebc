"""What is asked on the search page, as one value, and as the query of an address: shared, reloaded, gone back to."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar, get_args

from arrowlens.errors import InputError
from arrowlens.modalities import MODALITIES, Modality
from arrowlens.search import Condition
from arrowlens.search.query import MAX_PARTS, MAX_TEXT
from arrowlens.store import DURATION_EDGES, SIZE_EDGES

Role = Literal["more", "less", "like", "unlike"]
Order = Literal["relevance", "date"]
Grouping = Literal["none", "folder", "day"]

DEFAULT_WEIGHTS: dict[Role, float] = {"more": 1.0, "less": 0.5, "like": 1.0, "unlike": 0.5}
MAX_WEIGHT = 3.0

_MODALITY_WORDS: dict[str, Modality] = {
    **{info.plural: name for name, info in MODALITIES.items()},  # as addresses are written
    **{name: name for name in MODALITIES},
    "sounds": "audio",  # in addresses of earlier versions
}
_WEIGHTED = re.compile(r"(?s)(.*)\^(\d{1,2}(?:\.\d{1,3})?)", re.ASCII)
_MEDIA_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_NUMBER = re.compile(r"\d{1,6}", re.ASCII)
_Word = TypeVar("_Word", bound=str)


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """What a question has beside its text.

    Attributes:
        role: more or less of a text, like or unlike a file.
        value: the text, or the file's ``media_id``. weight: its share; above 0.
    """

    role: Role
    value: str
    weight: float

    @classmethod
    def of(cls, role: Role, value: str) -> Part:
        """With the weight that such parts usually have."""
        return cls(role, value, DEFAULT_WEIGHTS[role])

    @property
    def is_example(self) -> bool:
        """Whether it is a file."""
        return self.role in ("like", "unlike")

    def written(self) -> str:
        """``people``, or ``people^0.8`` where the weight is not the usual one, or the text would be read so."""
        if self.weight == DEFAULT_WEIGHTS[self.role] and not _WEIGHTED.fullmatch(self.value):
            return self.value
        return f"{self.value}^{self.weight:g}"

    @classmethod
    def read(cls, role: Role, written: str) -> Part | None:
        """What ``written`` gives back; None for what is no part."""
        match = _WEIGHTED.fullmatch(written)
        value, weight = (match[1], float(match[2])) if match else (written, DEFAULT_WEIGHTS[role])
        part = cls(role, value, weight)
        is_usable = _MEDIA_ID.fullmatch(value) if part.is_example else value.strip()
        return part if is_usable and 0 < weight <= MAX_WEIGHT else None


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """Everything that the search page shows follows from this and from the library.

    Attributes:
        text: in words. parts: more and less of other things, each once, by their roles. kind: of files.
        root, folder: only files below; ``folder`` is relative to the folder that was ingested. "" for all.
        since, until: only files taken on these days or between. formats: only these; none for all.
        size, length: only files in this part of ``SIZE_EDGES`` or ``DURATION_EDGES``, counted from 0.
        sort, group: how results are shown. everything: whether what does not match is shown too. page: from 1 on.
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
    sort: Order = "relevance"
    group: Grouping = "none"
    everything: bool = False
    page: int = 1

    @property
    def is_filtered(self) -> bool:
        """Whether some files are left out, other than by their kind."""
        return bool(self.conditions())

    def with_part(self, part: Part) -> Question:
        """The same with one part more, which takes the place of one of equal value; on the first page."""
        parts = sorted((*self._others(part), part), key=lambda each: get_args(Role).index(each.role))
        return dataclasses.replace(self, parts=tuple(parts), everything=False, page=1)

    def with_weight(self, part: Part, weight: float) -> Question:
        """The same with another weight of a part; on the first page."""
        new = dataclasses.replace(part, weight=weight)
        return dataclasses.replace(self, parts=tuple(new if each == part else each for each in self.parts), page=1)

    def without_part(self, part: Part) -> Question:
        """The same without a part; on the first page."""
        return dataclasses.replace(self, parts=self._others(part), everything=False, page=1)

    def conditions(self) -> list[Condition]:
        """What files must satisfy; the kind is not among it."""
        return [condition for by, each in self.chosen().items() if by != "modality" for condition in each]

    def chosen(self) -> dict[str, list[Condition]]:
        """All that files must satisfy, by what it filters by, as ``Library.facets`` takes it."""
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
        }

    def to_params(self) -> dict[str, list[str]]:
        """The query of an address; what is as usual is left out."""
        params: dict[str, list[str]] = {"q": [self.text] if self.text else []}
        for role in get_args(Role):
            params[role] = [part.written() for part in self.parts if part.role == role]
        params["kind"] = [MODALITIES[self.modality].plural] if self.modality else []
        for name in ("root", "folder", "sort", "group", "page", "size", "length"):
            value = getattr(self, name)
            params[name] = [str(value)] if value != getattr(_USUAL, name) else []
        params["all"] = ["1"] if self.everything else []
        params["from"] = [self.since.isoformat()] if self.since else []
        params["to"] = [self.until.isoformat()] if self.until else []
        params["format"] = list(self.formats)
        return {name: values for name, values in params.items() if values}

    @classmethod
    def from_params(cls, params: Mapping[str, Sequence[str]]) -> Question:
        """What ``to_params`` gives back; what of an address makes no sense is passed over.

        Raises:
            InputError: a text of more than ``MAX_TEXT`` characters, or more than ``MAX_PARTS`` parts.
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
            sort=_word(last("sort"), get_args(Order)),
            group=_word(last("group"), get_args(Grouping)),
            everything=last("all") == "1",
            page=_number(last("page"), 1, 10_000) or 1,
        )

    def _others(self, part: Part) -> tuple[Part, ...]:
        same = (part.is_example, part.value)
        return tuple(each for each in self.parts if (each.is_example, each.value) != same)


_USUAL = Question()


def _within(column: str, edges: Sequence[int], place: int | None) -> list[Condition]:
    if place is None:
        return []
    value = float if column == "duration" else int
    lower = [Condition(column, ">=", value(edges[place - 1]))] if place else []
    return lower + ([Condition(column, "<", value(edges[place]))] if place < len(edges) else [])


def _word(text: str, words: tuple[_Word, ...]) -> _Word:
    return next((word for word in words if word == text), words[0])


def _number(text: str, least: int, most: int) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) and least <= int(text) <= most else None


def _day(text: str) -> dt.date | None:
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        return None
    return day if day.year <= 9998 else None  # the last year that conditions take
