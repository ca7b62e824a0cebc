"""What is asked on the search page, and the address that says it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arrowlens.search import Hit, Results
from arrowlens.store import DURATION_EDGES, SIZE_EDGES
from arrowlens.ui.search_service import Examples, answer
from arrowlens.ui.search_state import MAX_WEIGHT, Part, Question

TEXTS = st.text(min_size=1).filter(str.strip)
WEIGHTS = st.integers(1, round(MAX_WEIGHT * 1000)).map(lambda n: n / 1000)
IDS = st.text("0123456789abcdef", min_size=32, max_size=32)
PARTS = st.one_of(
    st.builds(Part, st.sampled_from(["more", "less"]), TEXTS, WEIGHTS),
    st.builds(Part, st.sampled_from(["like", "unlike"]), IDS, WEIGHTS),
)
DAYS = st.none() | st.dates(max_value=dt.date(9998, 12, 31))


@st.composite
def questions(draw):
    question = Question()
    for part in draw(st.lists(PARTS, max_size=5)):
        question = question.with_part(part)
    return dataclasses.replace(
        question,
        text=draw(st.text()),
        modality=draw(st.sampled_from([None, "image", "audio"])),
        root=draw(st.text()),
        folder=draw(st.text().map(lambda text: text.strip("/"))),
        since=draw(DAYS),
        until=draw(DAYS),
        formats=draw(st.lists(TEXTS, unique=True, max_size=3).map(tuple)),
        size=draw(st.none() | st.integers(0, len(SIZE_EDGES))),
        length=draw(st.none() | st.integers(0, len(DURATION_EDGES))),
        camera=draw(st.text()),
        artist=draw(st.text()),
        album=draw(st.text()),
        source=draw(st.sampled_from(["", "ocr", "speech"])),
        language=draw(st.sampled_from(["", "en", "yue"])),
        placed=draw(st.booleans()),
        sort=draw(st.sampled_from(["relevance", "date"])),
        everything=draw(st.booleans()),
        group=draw(st.sampled_from(["none", "folder", "day"])),
    )


@given(questions())
def test_an_address_gives_the_question_back(question):
    query = urlencode(question.to_params(), doseq=True)
    assert Question.from_params(parse_qs(query, keep_blank_values=True)) == question


@given(
    st.dictionaries(
        st.sampled_from(
            [
                *Question(text="x").to_params(),
                "size",
                "from",
                "to",
                "more",
                "less",
                "like",
                "unlike",
                "kind",
                "sort",
                "group",
                "format",
                "folder",
                "root",
                "length",
            ]
        ),
        st.lists(st.text(), max_size=3),
    )
)
@example({"more": ["0", "00"], "less": ["0"]})
def test_any_address_is_some_question(params):
    question = Question.from_params(params)
    assert Question.from_params(question.to_params()) == question
    assert isinstance(question.conditions(), list)


@pytest.mark.parametrize("word", ["recordings", "sounds", "audio"])
def test_an_address_names_recordings_by_any_word_that_it_ever_had(word):
    question = Question.from_params({"kind": [word]})
    assert question.modality == "audio"
    assert question.to_params() == {"kind": ["recordings"]}


@pytest.mark.parametrize("word", ["films", "video"])
def test_addresses_of_films(word):
    question = Question.from_params({"kind": [word]})
    assert question.modality == "video"
    assert question.to_params() == {"kind": ["films"]}


def test_the_usual_is_left_out_of_the_address():
    assert Question().to_params() == {}
    assert Question(text="a cat").with_part(Part.of("less", "a sofa")).to_params() == {
        "q": ["a cat"],
        "less": ["a sofa"],
    }


@pytest.mark.parametrize(
    ("part", "written"),
    [
        (Part("more", "a dog", 1.0), "a dog"),
        (Part("more", "a dog", 2.0), "a dog^2"),
        (Part("less", "a dog", 0.5), "a dog"),
        (Part("less", "2^3", 0.5), "2^3^0.5"),
        (Part("like", "0" * 32, 1.5), "0" * 32 + "^1.5"),
    ],
)
def test_a_part_carries_its_weight_where_that_is_unusual(part, written):
    assert part.written() == written
    assert Part.read(part.role, written) == part


@pytest.mark.parametrize("written", ["../../etc/passwd", "0" * 31, "A" * 32, "0" * 32 + "^0", "0" * 32 + "^99"])
def test_an_example_is_named_by_an_id_and_nothing_else(written):
    assert Part.read("like", written) is None


def test_a_part_stands_once_and_the_last_word_counts():
    question = Question(everything=True).with_part(Part.of("more", "snow")).with_part(Part.of("less", "snow"))
    assert question.parts == (Part("less", "snow", 0.5),)
    assert not question.everything
    assert question.without_part(Part.of("less", "snow")) == Question()


def test_filters_are_conditions_with_their_values_apart():
    question = Question(folder="2024/it's", since=dt.date(2024, 5, 1), formats=("png",), size=1, length=0)
    assert [str(condition) for condition in question.conditions()] == [
        "path >= '2024/it''s/'",
        "path < '2024/it''s0'",
        "taken >= 2024-05-01",
        "format in ('png')",
        f"size >= {SIZE_EDGES[0]}",
        f"size < {SIZE_EDGES[1]}",
        f"duration < {float(DURATION_EDGES[0])}",
    ]


@pytest.mark.parametrize(
    ("n_matches", "n_others", "shown", "has_more", "is_folded"),
    [(3, 46, 3, False, True), (48, 1, 48, False, True), (49, 0, 48, True, False), (0, 49, 0, False, True)],
)
def test_what_does_not_match_is_folded_and_pages_go_on_only_with_matches(
    n_matches, n_others, shown, has_more, is_folded
):
    hits = [Hit(Path(f"/{n}"), f"{n:032x}", "image", 0.5, matches=n < n_matches) for n in range(n_matches + n_others)]

    class Library:
        def search(self, text, k, modality, **options):
            return Results(hits[:k])

    folded = answer(Library(), Question("x"), Examples({}))
    assert (len(folded.results), folded.has_more, folded.is_folded) == (shown, has_more, is_folded)
    everything = answer(Library(), Question("x", everything=True), Examples({}))
    assert (len(everything.results), everything.has_more, everything.is_folded) == (48, True, False)
