"""What is searched for (``Query``), and which part of the answer is wanted (``View``)."""

from __future__ import annotations

import dataclasses
import operator
import os
from collections.abc import Iterable, Mapping
from typing import Literal, SupportsIndex, TypeVar, get_args

import numpy as np

from arrowlens.embedding import Example
from arrowlens.errors import InputError, TextValidationError
from arrowlens.modalities import SOURCES, Modality, TextSource
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
    """What is searched for: a text, and more or less of other things (``search.composition``).

    Attributes:
        text: in words; may be None where there is another part.
        plus: further texts to search for.
        minus: texts to keep away from.
        like: pictures, recordings and films to come close to.
        weights: of parts, by their text or their example's name; others weigh 1, ``minus`` and ``unlike`` 0.5.
        modality: searches files of this one only.
        mode: "vector" compares meanings, "keyword" looks for the words of ``text`` in names, captions and tags,
            "auto" does both, but for a text with words in quotes, which files must have as they stand.
        unlike: pictures, recordings and films to keep away from.
        encoded: vectors (d,) of texts that were encoded before, by the model's role and the text.
        sources: looks for ``text`` in texts of these sources only, of ``SOURCES``, and not in what files show or sound
            like; empty for no such limit.

    Raises:
        InputError: nothing to search for, an unusable weight, a mode or sources that do not go with the rest, an
            unknown source, or more than ``MAX_PARTS`` parts.
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
    sources: tuple[TextSource, ...] = ()

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
            raise InputError(
                f"the modality is {self.modality!r}; it is one of {', '.join(get_args(Modality))}, or None for all"
            )
        if self.mode not in get_args(Mode):
            raise InputError(f"the mode is {self.mode!r}; it is one of {', '.join(get_args(Mode))}")
        if self.mode == "keyword" and self.is_composed:
            raise InputError("keywords come from one text; leave out plus, minus, like and unlike, or the mode")
        if unknown := [source for source in as_tuple(self.sources, "sources") if source not in SOURCES]:
            raise InputError(f"there are no texts of the source {unknown[0]!r}; use one of {', '.join(SOURCES)}")
        if self.sources and (self.is_composed or self.mode == "vector"):
            raise InputError("sources go with a text alone; leave out plus, minus, like, unlike and the mode vector")

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of all parts, those to keep away from included."""
        return (*([self.text] if self.text is not None else []), *self.plus, *self.minus)

    @property
    def phrases(self) -> tuple[str, ...]:
        """What stands in quotes in the text: files must have it word for word."""
        from arrowlens.store import phrases_of  # deferred: pyarrow, which a question needs none of

        return tuple(phrases_of(self.text)) if self.text is not None else ()

    @property
    def asks_texts_only(self) -> bool:
        """Whether only the texts of files are searched, not what they show or sound like."""
        return self.mode == "keyword" or (not self.is_composed and bool(self.sources or self.phrases))

    @property
    def only_example(self) -> Example | None:
        """The example, where it is the only part and its own modality is searched; else None."""
        if self.text is not None or self.plus or self.minus or self.unlike or len(self.like) != 1:
            return None
        return self.like[0] if self.modality in (None, self.like[0].modality) else None

    @property
    def is_composed(self) -> bool:
        """Whether there are parts beside the text."""
        return bool(self.plus or self.minus or self.like or self.unlike)


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """Which part of the answer is wanted, and how it is ordered.

    Attributes:
        k: number of results, from 1 on; the same for all pages of an answer.
        offset: number of results to skip.
        where: conditions that files must satisfy.
        collapse: show files that look or sound the same once, as the best of them (``Hit.cluster_size``).
        sort: "relevance" gives the best first; "date" the newest matches first, and after them what does not match,
            best first. Of more than ``DATED`` matches, or ``k`` if that is more, only the best so many are given.

    Raises:
        InputError: ``k``, ``offset`` or ``sort`` is unusable.
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
        object.__setattr__(self, "offset", _whole(self.offset, 0, "offset", "it is the number of results to skip"))


def as_tuple(values: Iterable[_Item], name: str) -> tuple[_Item, ...]:
    """Return several values as a tuple; a text is refused, of which each letter would be a value.

    Raises:
        InputError: it is a text, bytes or a path, or not iterable.
    """
    if isinstance(values, str | bytes | os.PathLike) or not isinstance(values, Iterable):
        raise InputError(f"{name} is {values!r:.60}; it takes a list, so [{values!r:.60}] for one")
    return tuple(values)


def _text(text: object) -> str:
    """Return a text with bytes of a name that are not UTF-8 as ``\\xNN``, as the library has them."""
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
    """Return ``value`` as an int. numpy's integers are accepted, booleans are not."""
    try:
        count = least - 1 if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        count = least - 1
    if count < least:
        raise InputError(f"{name} is {value!r}; {meaning}, a whole number from {least} on")
    return min(count, _MOST)
