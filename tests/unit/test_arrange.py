"""Orders, groups and stacks of hits."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrowlens.errors import InputError
from arrowlens.search import Hit, Results
from arrowlens.search.grouping import Group, by_date, classes_by_vectors, grouped, stacked

DAY = dt.datetime(2024, 5, 1)


def hit(name, taken=None, modality="image"):
    return Hit(Path("/photos") / name, name, modality, 0.5, taken=taken)


def names(hits):
    return [each.media_id for each in hits]


dates = st.none() | st.sampled_from([DAY, DAY.replace(hour=5), DAY.replace(year=1999)])
some_hits = st.lists(dates, max_size=12).map(lambda taken: [hit(f"{n % 3}/{n}", each) for n, each in enumerate(taken)])


@settings(deadline=None)
@given(some_hits, st.booleans())
def test_dates_fall_or_rise_and_what_has_none_comes_last(hits, newest_first):
    ordered = by_date(Results(hits), newest_first)
    assert sorted(names(ordered)) == sorted(names(hits))
    taken = [each.taken for each in ordered if each.taken]
    assert taken == sorted(taken, reverse=newest_first)
    assert [each.taken for each in ordered[len(taken) :]] == [None] * (len(hits) - len(taken))
    for one in {each.taken for each in hits}:  # ties keep the order of relevance
        assert names(e for e in ordered if e.taken == one) == names(e for e in hits if e.taken == one)


@settings(deadline=None)
@given(some_hits, st.sampled_from(["folder", "day"]))
def test_groups_hold_every_hit_once_in_order(hits, by):
    groups = grouped(Results(hits), by)
    assert sorted(names(each for group in groups for each in group.hits)) == sorted(names(hits))
    position = {each.media_id: n for n, each in enumerate(hits)}
    firsts = [position[group.hits[0].media_id] for group in groups]
    assert firsts == sorted(firsts)
    for group in groups:
        assert names(group.hits) == sorted(names(group.hits), key=position.get)
    assert len({group.key for group in groups}) == len(groups)


def test_groups_are_folders_or_days():
    hits = [hit("b/1.jpg", DAY), hit("a/2.jpg", DAY.replace(hour=23)), hit("b/3.jpg")]
    assert grouped(hits, "folder") == [
        Group(Path("/photos/b"), (hits[0], hits[2])),
        Group(Path("/photos/a"), (hits[1],)),
    ]
    assert grouped(hits, "day") == [Group(dt.date(2024, 5, 1), (hits[0], hits[1])), Group(None, (hits[2],))]


def test_stacks_show_the_best_and_count_the_others():
    hits = [hit(name) for name in "abcd"]
    stacks = stacked(hits, {"a": 1, "c": 1, "b": 2})
    assert [(stack.best.media_id, names(stack.hits)) for stack in stacks] == [
        ("a", ["a", "c"]),
        ("b", ["b"]),
        ("d", ["d"]),
    ]


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30))
def test_every_member_of_a_class_is_like_its_best(seed, n):
    rng = np.random.default_rng(seed)
    hits = [hit(str(number), modality=("image", "audio")[rng.integers(2)]) for number in range(n)]
    centres = rng.standard_normal((4, 6))
    vectors = {each.media_id: 5 * centres[rng.integers(4)] + 0.5 * rng.standard_normal(6) for each in hits}
    unit = {name: vector / np.linalg.norm(vector) for name, vector in vectors.items()}
    kinds = {each.media_id: each.modality for each in hits}
    classes = classes_by_vectors(hits, vectors)
    leaders = []
    for each in hits:  # the first leader that is alike, one pair at a time
        name = each.media_id
        alike = [one for one in leaders if kinds[one] == kinds[name] and unit[one] @ unit[name] >= 0.98]
        if not alike:
            leaders.append(name)
        assert classes[name] == (alike or [name])[0]


def test_hits_without_a_vector_stand_alone():
    hits = [hit(name) for name in "abc"]
    classes = classes_by_vectors(hits, {"a": np.ones(3), "c": np.full(3, 2.0)})
    assert classes == {"a": "a", "c": "a"}
    assert [names(stack.hits) for stack in stacked(hits, classes)] == [["a", "c"], ["b"]]


def test_what_is_nearly_alike_is_told_from_what_is_not():
    near, far = np.array([1.0, 0.1]), np.array([1.0, 0.3])
    hits = [hit("a"), hit("b"), hit("c")]
    classes = classes_by_vectors(hits, {"a": np.array([1.0, 0.0]), "b": near, "c": far})
    assert classes == {"a": "a", "b": "a", "c": "c"}
    assert classes_by_vectors(hits, {"a": np.array([1.0, 0.0]), "b": near}, same=0.999) == {"a": "a", "b": "b"}


def test_other_groupings_are_refused():
    with pytest.raises(InputError, match="the grouping is 'month'; it is one of folder, day"):
        grouped([], "month")


@pytest.mark.parametrize("by", ["folder", "day"])
def test_nothing_makes_no_groups(by):
    assert grouped(Results(), by) == []
