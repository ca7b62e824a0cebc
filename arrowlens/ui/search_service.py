"""Answers a question of the search page by one call of ``Library``."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Collection, Mapping
from weakref import WeakValueDictionary

from arrowlens.library import Library
from arrowlens.search import Example, Hit, Results
from arrowlens.ui.search_state import Question

PAGE_SIZE = 48  # results that come at a time


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
    """Some of the results of a question.

    Attributes:
        results: at most ``PAGE_SIZE``.
        end: the place in the whole answer after the last of these, where others follow; else None.
        notices: what the user should know, a line each.
        is_folded: whether files that do not match were left out.
        is_later: whether the answer is another one than that of which results were shown before.
    """

    results: Results
    end: int | None
    notices: tuple[str, ...] = ()
    is_folded: bool = False
    is_later: bool = False

    @property
    def has_more(self) -> bool:
        """Whether others follow."""
        return self.end is not None


class SharedExample:
    """An uploaded example that requests for further results can name, for as long as its session keeps this.

    Attributes:
        example: what was uploaded.
        token: names it; nobody can guess it.
    """

    def __init__(self, example: Example) -> None:
        self.example, self.token = example, secrets.token_urlsafe(16)
        _SHARED[self.token] = self


_SHARED: WeakValueDictionary[str, SharedExample] = WeakValueDictionary()


def shared_example(token: str) -> Example | None:
    """Return the example that a token names; None once its session has ended or removed it."""
    shared = _SHARED.get(token)
    return None if shared is None else shared.example


def is_asked(question: Question, examples: Examples) -> bool:
    """Return whether anything is asked; else the newest files are listed."""
    return bool(question.text.strip() or question.parts or examples.upload)


def answer(
    library: Library,
    question: Question,
    examples: Examples,
    offset: int = 0,
    shown: Collection[str] = (),
) -> Answer:
    """Return some of the results of a question; the newest files where nothing is asked.

    Args:
        library: that is asked.
        question: what is asked.
        examples: that the question is compared with.
        offset: how many results to skip.
        shown: ids of results that are left out, in place of an ``offset``: those that an earlier state of the library
            gave. So nothing is missing or there twice for somebody who reads on while files come and go.

    Raises:
        ArrowlensError: as ``Library.search``.
    """
    kept = tuple(part for part in question.parts if not part.is_example or part.value in examples.held)
    lost = len(question.parts) - len(kept)
    notices = [f"{lost} of the examples in this address are no longer in the library"] if lost else []
    question = dataclasses.replace(question, parts=kept)
    k = len(shown) + PAGE_SIZE + 1  # one more than is given, to know whether others follow
    if not is_asked(question, examples):
        results = library.newest(k, question.modality, where=question.conditions(), offset=offset)
    else:
        results = _search(library, question, examples, k, offset)
    unfolded = results if question.everything else results.folded
    is_folded = len(unfolded) < len(results)
    places = [place for place, hit in enumerate(unfolded) if hit.media_id not in shown]
    given = places[:PAGE_SIZE]
    end = offset + given[-1] + 1 if len(places) > PAGE_SIZE else None
    is_later = given[:1] != [len(shown)] if given else len(unfolded) != len(shown)
    picked = Results(
        [unfolded[place] for place in given], results.took_ms, results.notices, results.has_match, results.n_matches
    )
    return Answer(picked, end, (*notices, *results.notices), is_folded, bool(shown) and is_later)


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
