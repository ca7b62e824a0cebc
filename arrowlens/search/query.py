"""Questions: what is looked for, in which part of the library, and which part of the answer is wanted."""

from __future__ import annotations

import dataclasses
import operator
import os
from collections.abc import Iterable, Mapping
from typing import Literal, SupportsIndex, TypeVar, get_args

import numpy as np

from arrowlens.embedding import Example
from arrowlens.errors import InputError, TextValidationError
from arrowlens.modalities import Modality
from arrowlens.search.sanitize import as_stored
from arrowlens.search.where import Condition

Mode = Literal["auto", "vector", "keyword"]
Sort = Literal["relevance", "date"]
DATED = 1_000  # matches that are put in order of time
MAX_TEXT = 10_000  # characters of one text
MAX_PARTS = 100  # texts and examples of one question
_Item = TypeVar("_Item")
_MOST = 2**31  # results: more than any library holds


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """What is looked for: a text, and more or less of other things (``search.composition``).

    Attributes:
        text: in words; may be None where there is something else.
        plus: texts to look for as well. minus: texts to keep away from.
        like: pictures and recordings to come close to. unlike: such to keep away from.
        weights: of parts, by their text or their example's name; others weigh 1, ``minus`` and ``unlike`` 0.5.
        modality: keeps one kind.
        mode: "vector" compares meanings, "keyword" looks for the words of ``text`` in names, captions and tags,
            "auto" does both.
        encoded: vectors (d,) of its texts by the model's role and the text, where they are known already.

    Raises:
        InputError: nothing to look for, an unusable weight, a mode that does not go with the rest, or more than
            ``MAX_PARTS`` parts.
        TextValidationError: a text without words, or one of more than ``MAX_TEXT`` characters.
    """

    text: str | None = None
    plus: tuple[str, ...] = ()
    minus: tuple[str, ...] = ()
    like: tuple[Example, ...] = ()
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict, hash=False)
    modality: Modality | None = None
    mode: Mode = "auto"
    unlike: tuple[Example, ...] = ()
    encoded: Mapping[tuple[str, str], np.ndarray] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        plus, minus = as_tuple(self.plus, "plus"), as_tuple(self.minus, "minus")
        n_parts = (self.text is not None) + len(plus) + len(minus) + len(self.like) + len(self.unlike)
        if n_parts > MAX_PARTS:
            raise InputError(f"the question has {n_parts:,} parts; leave out some, {MAX_PARTS} are allowed")
        if self.text is not None or not self.is_composed:
            object.__setattr__(self, "text", _text(self.text))
        object.__setattr__(self, "plus", tuple(map(_text, plus)))
        object.__setattr__(self, "minus", tuple(map(_text, minus)))
        if self.modality not in (None, *get_args(Modality)):
            raise InputError(f"the kind is {self.modality!r}; it is 'image', 'audio' or None for both")
        if self.mode not in get_args(Mode):
            raise InputError(f"the mode is {self.mode!r}; it is one of {', '.join(get_args(Mode))}")
        if self.mode == "keyword" and self.is_composed:
            raise InputError("keywords come from one text; leave out plus, minus, like and unlike, or the mode")

    @property
    def texts(self) -> tuple[str, ...]:
        """All of them, wanted or not."""
        return (*([self.text] if self.text is not None else []), *self.plus, *self.minus)

    @property
    def only_example(self) -> Example | None:
        """The example to come close to, where nothing else is asked for but its own modality."""
        if self.text is not None or self.plus or self.minus or self.unlike or len(self.like) != 1:
            return None
        return self.like[0] if self.modality in (None, self.like[0].modality) else None

    @property
    def is_composed(self) -> bool:
        """Whether there is more than a text."""
        return bool(self.plus or self.minus or self.like or self.unlike)


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """Which part of the answer is wanted.

    Attributes:
        k: how many results, from 1 on. offset: how many to pass over. Pages are asked for with one ``k``.
        where: conditions that files must satisfy.
        collapse: show what looks or sounds the same once, as its best (``Hit.cluster_size``).
        sort: "relevance" best first; "date" the matches newest first, and then what does not match, best first. Of
            more than ``DATED`` matches, or ``k`` if that is more, these best are ordered, and nothing follows them.

    Raises:
        InputError: ``k`` or ``offset`` is no such number, ``sort`` no such word.
    """

    k: int = 20
    offset: int = 0
    where: tuple[Condition, ...] = ()
    collapse: bool = False
    sort: Sort = "relevance"

    def __post_init__(self) -> None:
        if self.sort not in get_args(Sort):
            raise InputError(f"the order is {self.sort!r}; it is one of {', '.join(get_args(Sort))}")
        object.__setattr__(self, "k", _whole(self.k, 1, "k", "it is the number of results"))
        object.__setattr__(self, "offset", _whole(self.offset, 0, "offset", "it is how many results to pass over"))


def as_tuple(values: Iterable[_Item], name: str) -> tuple[_Item, ...]:
    """Several things; one text is not as many as it has letters.

    Raises:
        InputError: a text, a path, or nothing that can be gone through.
    """
    if isinstance(values, str | bytes | os.PathLike) or not isinstance(values, Iterable):
        raise InputError(f"{name} is {values!r:.60}; it takes a list, so [{values!r:.60}] for one")
    return tuple(values)


def _text(text: object) -> str:
    """A text in which bytes of a name that are not UTF-8 stand as the library has them: ``\\xNN``."""
    if not isinstance(text, str) or not text.strip():
        raise TextValidationError(f"the text is {text!r:.60}; say in words what to look for")
    if len(text) > MAX_TEXT:
        raise TextValidationError(f"the text has {len(text):,} characters; shorten it, {MAX_TEXT:,} are allowed")
    try:
        return as_stored(text)
    except ValueError:
        raise TextValidationError(
            f"the text is {text!r:.60}, which contains unpaired surrogates; remove them"
        ) from None


def _whole(value: SupportsIndex, least: int, name: str, meaning: str) -> int:
    """``value`` as an int; numpy's whole numbers are as good as Python's, truth values are no numbers."""
    try:
        count = least - 1 if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        count = least - 1
    if count < least:
        raise InputError(f"{name} is {value!r}; {meaning}, a whole number from {least} on")
    return min(count, _MOST)
