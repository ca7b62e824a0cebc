"""Answers a question of the search page by one call of ``Library``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from arrowlens.library import Library
from arrowlens.search import Example, Hit, Results
from arrowlens.ui.search_state import Question

PAGE_SIZE = 48  # fills rows of 2, 3, 4, 6 and 8


@dataclasses.dataclass(frozen=True, slots=True)
class Examples:
    """Files that a question is compared with.

    Attributes:
        held: files of the library that the question names, by ``media_id``, without those that are gone.
        upload: a file that the library does not hold.
    """

    held: Mapping[str, Hit]
    upload: Example | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """One page of results.

    Attributes:
        results: at most ``PAGE_SIZE``.
        has_more: whether there is a next page.
        notices: what the user should know, a line each.
        is_folded: whether files that do not match were left out.
    """

    results: Results
    has_more: bool
    notices: tuple[str, ...] = ()
    is_folded: bool = False


def is_asked(question: Question, examples: Examples) -> bool:
    """Return whether anything is asked; else the page lists the newest files."""
    return bool(question.text.strip() or question.parts or examples.upload)


def answer(library: Library, question: Question, examples: Examples) -> Answer:
    """Return the results of a question; the newest files where nothing is asked.

    Raises:
        ArrowlensError: as ``Library.search``.
    """
    kept = tuple(part for part in question.parts if not part.is_example or part.value in examples.held)
    lost = len(question.parts) - len(kept)
    notices = [f"{lost} of the examples in this address are no longer in the library"] if lost else []
    question = dataclasses.replace(question, parts=kept)
    offset, k = (
        (question.page - 1) * PAGE_SIZE,
        PAGE_SIZE + 1,
    )  # one more than a page, to know whether there is a next one
    if not is_asked(question, examples):
        results = library.newest(k, question.modality, where=question.conditions(), offset=offset)
    else:
        results = _search(library, question, examples, k, offset)
    shown = results if question.everything else results.folded
    is_folded = len(shown) < len(results)
    return Answer(shown[:PAGE_SIZE], len(shown) > PAGE_SIZE, (*notices, *results.notices), is_folded)


def _search(library: Library, question: Question, examples: Examples, k: int, offset: int) -> Results:
    text, parts, held = question.text.strip() or None, question.parts, examples.held
    where, sort = question.conditions(), question.sort
    near: list[Hit | Example] = [held[part.value] for part in parts if part.role == "like"]
    near += [examples.upload] if examples.upload is not None else []
    return library.search(
        text,
        k,
        question.modality,
        plus=[part.value for part in parts if part.role == "more"],
        minus=[part.value for part in parts if part.role == "less"],
        like=near,
        unlike=[held[part.value] for part in parts if part.role == "unlike"],
        weights={str(held[part.value].path) if part.is_example else part.value: part.weight for part in parts},
        where=where,
        offset=offset,
        sort=sort,
    )
