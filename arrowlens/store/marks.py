"""What people say of a library's files: favourites, saved questions, and pairs that are no duplicates.

Marks are kept by content hash, so that they survive renames, other places and other models. They lie in a small
document of their own, ``marks.json``, which any number of processes change without the writer lock, beside a run: each
change is applied to the newest document, and the result replaces it in one step. A table would not do: maintenance
deletes files of a table that no version names yet, and only the writer lock keeps others from writing such files.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from arrowlens.errors import InputError, StorageError
from arrowlens.store.location import MARKS_NAME, Location

_VERSION = 1
_CHECK_S = 5.0  # how long what was read from a bucket passes for the newest
_CONTENT = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Marks:
    """All marks of a library at one moment.

    Attributes:
        favourites: content hashes.
        saved: questions by name, in the order of the names; the keyword arguments of ``Library.search``.
        distinct: pairs of content hashes, the smaller one first, that are no duplicates of each other.
    """

    favourites: frozenset[str] = frozenset()
    saved: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    distinct: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def read(cls, content: bytes | None) -> Marks:
        """Return the marks of a document; none where there is no document.

        Raises:
            NewerMarksError: it is of a newer version. ValueError: it is damaged.
        """
        if content is None:
            return cls()
        try:
            document = json.loads(content)
            if document["version"] > _VERSION:
                raise NewerMarksError("a newer Arrowlens wrote it")
            pairs = frozenset((_checked(one), _checked(other)) for one, other in _listed(document["distinct"]))
            saved = {name: _question(question) for name, question in document["saved"].items()}
            return cls(frozenset(map(_checked, _listed(document["favourites"]))), saved, pairs)
        except (KeyError, TypeError, AttributeError, InputError) as error:
            raise ValueError(f"it is no document of marks: {error}") from error

    def written(self) -> bytes:
        """Return the document."""
        parts = {"favourites": sorted(self.favourites), "saved": dict(sorted(self.saved.items()))}
        return json.dumps({"version": _VERSION, **parts, "distinct": sorted(self.distinct)}, indent=1).encode()


class NewerMarksError(ValueError):
    """The marks are of a newer version."""


class MarkStore:
    """Reads and changes the marks of one library. Safe to share between threads.

    Each method raises StorageError when the disk or the bucket refuses, or the document is damaged.

    Args:
        location: where the library lies.
    """

    def __init__(self, location: Location) -> None:
        self._location = location
        self._held: tuple[float, str | None, Marks] | None = None  # when it was looked at, the tag, the marks

    @property
    def tag(self) -> str | None:
        """A text that differs after every change, of damaged marks, too; None while there are none."""
        held = self._held
        return held[1] if held is not None and self._is_fresh(held[0]) else self._location.tag(MARKS_NAME)

    @property
    def current(self) -> Marks:
        """The marks as they are now; of a library in a bucket, up to five seconds ago but for changes made here."""
        return self._newest()[2]

    def set_favourites(self, contents: Iterable[str], *, are: bool) -> None:
        """Make contents favourites, or take that back.

        Raises:
            InputError: one is no content hash.
        """
        given = frozenset(map(_checked, contents))

        def change(marks: Marks) -> Marks:
            return replace(marks, favourites=marks.favourites | given if are else marks.favourites - given)

        self._change(change)

    def save_question(self, name: str, question: Mapping[str, Any] | None) -> None:
        """Keep a question under a name, in place of one that has it; None forgets the one that has it.

        Raises:
            InputError: the name is empty, no question has it, or the question cannot be written as JSON.
        """
        if not name.strip():
            raise InputError("a saved question needs a name")
        if question is not None:
            try:
                json.dumps(dict(question))
            except (TypeError, ValueError) as error:
                raise InputError(f"the question cannot be saved ({error}); use texts, numbers and paths") from error

        def change(marks: Marks) -> Marks:
            if question is None and name not in marks.saved:
                known = ", ".join(sorted(marks.saved)) or "none is saved"
                raise InputError(f"no question is saved as {name!r}; there are: {known}")
            others = {each: saved for each, saved in marks.saved.items() if each != name}
            return replace(marks, saved=others if question is None else others | {name: dict(question)})

        self._change(change)

    def set_distinct(self, one: str, other: str, *, are: bool) -> None:
        """Say that two contents are no duplicates of each other, or take that back.

        Raises:
            InputError: they are the same content, or one is no content hash.
        """
        if _checked(one) == _checked(other):
            raise InputError("the two files have the same bytes; only different ones can be no duplicates")
        pair = {(min(one, other), max(one, other))}

        def change(marks: Marks) -> Marks:
            return replace(marks, distinct=marks.distinct | pair if are else marks.distinct - pair)

        self._change(change)

    def _change(self, change: Callable[[Marks], Marks]) -> None:
        self._location.update(MARKS_NAME, lambda content: change(self._read(content)).written())
        self._held = None

    def _newest(self) -> tuple[float, str | None, Marks]:
        held = self._held
        if held is not None and self._is_fresh(held[0]):
            return held
        tag, now = self._location.tag(MARKS_NAME), time.monotonic()
        if held is None or held[1] != tag:
            stored = self._location.read(MARKS_NAME) if tag is not None else None
            held = (now, None, Marks()) if stored is None else (now, stored[1], self._read(stored[0]))
        self._held = (now, *held[1:])
        return self._held

    def _is_fresh(self, looked_at: float) -> bool:
        return self._location.is_durable and time.monotonic() - looked_at < _CHECK_S

    def _read(self, content: bytes | None) -> Marks:
        try:
            return Marks.read(content)
        except NewerMarksError as error:
            raise StorageError(
                f"{self._location.uri}/{MARKS_NAME} cannot be read ({error}); update Arrowlens"
            ) from error
        except ValueError as error:
            cure = "restore it from a backup, or delete it, and favourites and saved questions with it"
            raise StorageError(f"{self._location.uri}/{MARKS_NAME} cannot be read ({error}); {cure}") from error


def _listed(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return value


def _question(value: object) -> dict[str, Any]:
    """Return a saved question; conditions of one text, as the first versions kept them, as a list."""
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is no question")
    return {**value, "where": [value["where"]]} if isinstance(value.get("where"), str) else value


def _checked(content: object) -> str:
    if not isinstance(content, str) or not _CONTENT.fullmatch(content):
        raise InputError(f"{content!r} is no content hash: 32 hex characters, as Hit.content_hash has them")
    return content
