"""Pages of a ranking that finds more the deeper it looks: every item once, none twice."""

from __future__ import annotations

import itertools

from hypothesis import event, given, settings
from hypothesis import strategies as st

from arrowlens.search.hybrid import page, read_ranking
from arrowlens.store.loops import OutdatedError, read_unchanged


def searching(n_items, missed):
    """A ranking of 0, 1, 2, ... that misses ``missed[item]`` unless it looks at least so deep."""

    def best(n):
        found = [item for item in range(n_items) if missed.get(item, 0) <= n]
        late = [item for item in range(n_items) if missed.get(item, 0) > n]
        return sorted((found + late)[:n])  # an index fills the limit, if need be with worse ones

    return best


def page_of(best, k, offset=0):
    return read_ranking(best, lambda item: item, lambda items, is_whole: page(items, is_whole, k, offset), k)


def pages(best, k, n):
    return [page_of(best, k, number * k) for number in range(n)]


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(1, 40), st.dictionaries(st.integers(0, 299), st.integers(0, 2000)))
def test_pages_hold_every_item_once(n_items, k, missed):
    event("missed" if any(depth > k for depth in missed.values()) else "found")
    found = pages(searching(n_items, missed), k, n_items // k + 2)
    flat = [item for part in found for item in part]
    assert sorted(flat) == list(range(n_items))
    assert all(len(part) == k for part in found[: n_items // k])
    assert found[-1] == []


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(1, 40), st.integers(0, 320))
def test_an_exact_ranking_is_cut_into_pages(n_items, k, offset):
    best = searching(n_items, {})
    assert page_of(best, k, offset) == list(range(n_items))[offset : offset + k]


def test_the_first_page_costs_one_search_of_its_own_size():
    asked = []

    def best(n):
        asked.append(n)
        return list(range(n))

    assert page_of(best, 20) == list(range(20))
    assert asked == [20]
    assert page_of(best, 20, 20) == list(range(20, 40))
    assert asked == [20, 20, 160]


def test_what_was_missed_comes_first_on_the_next_page():
    assert pages(searching(6, {1: 4}), 3, 2) == [[0, 2, 3], [1, 4, 5]]


def test_a_round_that_was_overtaken_by_a_write_starts_anew():
    states = [list("abc"), list("bcde"), list("cdef")]

    def answer():
        state = states.pop(0)

        def read(items, is_whole):
            if states:
                raise OutdatedError
            return page(items, is_whole, 3)

        return read_ranking(lambda n: state[:n], lambda item: item, read, 2)

    assert read_unchanged(answer) == list("cde")
    assert states == []


def test_an_answer_that_writes_overtake_again_and_again_stands_after_some_repetitions():
    versions, answers = itertools.count(), itertools.count()
    assert read_unchanged(lambda: next(answers), lambda: next(versions)) == 20


def test_an_answer_that_no_write_overtakes_is_not_repeated():
    answers = itertools.count()
    assert read_unchanged(lambda: next(answers), lambda: 7) == 0
