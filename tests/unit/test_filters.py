"""Filters as people write them: what they mean, what is refused and how, and that printing and parsing agree."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from arrowlens.errors import InputError
from arrowlens.modalities import SOURCES
from arrowlens.search.values import Moment, moment
from arrowlens.search.where import FILTER_COLUMNS, MAX_CONDITIONS, Condition, parse, to_store_filters

DAY = dt.datetime(2024, 5, 1)


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        ("width >= 1000", [("width", ">=", 1000)]),
        ("width>=1000", [("width", ">=", 1000)]),
        ("  WIDTH\t>=\n1000  ", [("width", ">=", 1000)]),
        ("width >= 1000 and height < 500", [("width", ">=", 1000), ("height", "<", 500)]),
        ("kind = image AND trivial = no", [("modality", "=", "image"), ("trivial", "=", False)]),
        ("modality == Audio", [("modality", "=", "audio")]),
        ("format <> jpg", [("format", "!=", "jpeg")]),
        ("format in (JPG, 'png', tif)", [("format", "in", ("jpeg", "png", "tiff"))]),
        ("folder like '2024/%'", [("folder", "like", "2024/%")]),
        ("folder = ''", [("folder", "=", "")]),
        ("artist = 'it''s \"me\"'", [("artist", "=", 'it\'s "me"')]),
        ('artist = "it\'s ""me"""', [("artist", "=", 'it\'s "me"')]),
        ("title = 'a and b' and album = and", [("title", "=", "a and b"), ("album", "=", "and")]),
        ("path = été/IMG_1.jpg", [("path", "=", "été/IMG_1.jpg")]),
        ("size >= 2MB", [("size", ">=", 2 * 1024**2)]),
        ("size < 1.5kib", [("size", "<", 1536)]),
        ("size = 300", [("size", "=", 300)]),
        ("duration > 1m30s", [("duration", ">", 90.0)]),
        ("duration > 1:30", [("duration", ">", 90.0)]),
        ("duration in (2h, 0.5s, 7)", [("duration", "in", (7200.0, 0.5, 7.0))]),
        ("latitude > -33.9", [("latitude", ">", -33.9)]),
        ("trivial != TRUE", [("trivial", "!=", True)]),
        ("taken >= 2024", [("taken", ">=", Moment(dt.datetime(2024, 1, 1), "year"))]),
        ("taken = 2024-05", [("taken", "=", Moment(DAY, "month"))]),
        ("taken = 2024-05-01", [("taken", "=", Moment(DAY, "day"))]),
        ("taken = 2024-05-01T12:30", [("taken", "=", Moment(DAY.replace(hour=12, minute=30), "minute"))]),
        ("taken = '2024-05-01 12:30:05'", [("taken", "=", Moment(dt.datetime(2024, 5, 1, 12, 30, 5), "second"))]),
        ("modified < 2024-05-01T12:30:05.25", [("modified", "<", Moment(dt.datetime(2024, 5, 1, 12, 30, 5, 250_000)))]),
    ],
)
def test_what_is_written_is_what_is_meant(text, conditions):
    assert [(found.column, found.op, found.value) for found in parse(text)] == conditions
    assert parse(" and ".join(map(str, parse(text)))) == parse(text)


def test_several_filters_must_all_hold():
    width, image = Condition("width", ">=", 1000), Condition("kind", "=", "image")
    assert parse(["width >= 1000", "kind = image"]) == parse("width >= 1000 and kind = image") == (width, image)
    assert parse([width, "kind = image"]) == parse((width, image)) == (width, image)
    assert parse(width) == (width,)
    assert parse([]) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = red", "'colour' is no column to filter by; there are path, name, folder, modality"),
        ("media_id = x", "'media_id' is no column"),
        ("", "ends where a column should be; there are path"),
        (" and width > 1", "'and' is no column"),
        ("'width' > 1", "where a column should be"),
        ("width", "after width comes one of = != < <= > >= in like, as in width >= 1000; not the end"),
        ("width between 1 and 2", "after width comes one of .* not 'between'"),
        ("width >=", "a value is missing after width; it takes a whole number, as in width >= 1000"),
        ("width >= big", "width takes a whole number, as in width >= 1000; not 'big'"),
        ("width >= 99.5", "width takes a whole number"),
        ("width >= 1e3", "width takes a whole number"),
        ("width >= 99999999999999999999", "width takes a whole number"),
        ("width >= ٣", "width takes a whole number"),
        ("width like 10%", "width does not take 'like', only = != < <= > >= in; as in width >= 1000"),
        ("trivial < yes", "trivial does not take '<', only = !=; as in trivial = no"),
        ("trivial = maybe", "trivial takes yes or no"),
        ("kind = film", "modality takes image, audio or video, as in modality = image; not 'film'"),
        ("latitude > inf", "latitude takes a number of degrees"),
        ("latitude > 1e999", "latitude takes a number of degrees"),
        ("size > 2PB", "size takes a size, as in size >= 2MB; not '2PB'"),
        ("size > 9999999TB", "size takes a size"),
        (f"size > {'9' * 400}KB", "size takes a size"),
        ("duration > long", "duration takes a length of time, as in duration >= 1m30s"),
        ("taken > yesterday", "taken takes a date or a time, as in taken >= 2024-05-01; not 'yesterday'"),
        ("taken = 2024-13", "taken takes a date"),
        ("taken = 2023-02-29", "taken takes a date"),
        ("taken = 9999", "taken takes a date"),
        ("taken = 2024-05-01 12:30", "'12:30' after 'taken = 2024-05-01' is not understood; .* quotes"),
        (
            "artist = Daft Punk",
            "'Punk' after .* is not understood; join conditions with 'and', and put values with bla",
        ),
        ("artist = 'Daft Punk", "a quote is not closed"),
        ("format in jpeg", "a list stands in brackets after format in"),
        ("format in ()", "a value is missing after format"),
        ("format in (jpeg", "no closing bracket"),
        ("format in (jpeg png)", "no closing bracket, or a blank in a value"),
        ("width = !", "'!' is not understood"),
        ("width >= 1000 or 1 = 1", "'or' after 'width >= 1000' is not understood"),
        ("width >= 1000; drop table media", "width takes a whole number, as in width >= 1000; not '1000;'"),
        ("1=1 --", "'1' is no column"),
        ("name = 'x' or 'a' = 'a'", "'or' after"),
        ("width >= 1000)", r"'\)' after"),
        ("name like '" + "%" * 1001 + "'", "a pattern for name has 1,001 characters"),
        ("width = 1" + " and width = 1" * MAX_CONDITIONS, "more than 100 conditions"),
        ("x" * 200_000, "a filter of 200,000 characters; 100,000 are allowed"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text, message):
    with pytest.raises(InputError, match=message) as error:
        parse(text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("column", "op", "value"),
    [
        ("width", ">=", True),
        ("width", ">=", "1000"),
        ("width", ">=", 1.5),
        ("width", ">=", 2**63),
        ("width", ">=", None),
        ("width", "in", 5),
        ("width", "in", ()),
        ("width", "~", 5),
        ("colour", "=", "red"),
        (None, "=", 5),
        ("latitude", "=", float("nan")),
        ("duration", ">", 10**400),
        ("name", "=", "half a character: \ud800"),
        ("trivial", "=", 1),
        ("name", "=", b"x"),
        ("name", "like", ("a", "b")),
        ("kind", "=", "film"),
        ("taken", "=", "2024"),
        ("taken", "=", dt.datetime(2024, 5, 1, tzinfo=dt.UTC)),
        ("taken", "=", dt.date(9999, 1, 1)),
    ],
)
def test_a_condition_is_checked_however_it_is_made(column, op, value):
    with pytest.raises(InputError):
        Condition(column, op, value)


@pytest.mark.parametrize("where", [5, None, [5], ["width > 1", None], {"width": 5}, b"width > 1"])
def test_other_things_are_no_filters(where):
    with pytest.raises(InputError, match="a filter is a text"):
        parse(where)


def test_values_are_brought_into_the_type_of_the_column():
    assert Condition("latitude", "=", 5).value == 5.0
    assert Condition("taken", "=", dt.date(2024, 5, 1)) == parse("taken = 2024-05-01")[0]
    assert Condition("taken", "=", dt.datetime(2024, 5, 1)) != parse("taken = 2024-05-01")[0]
    assert Condition("Modality", "IN", ["IMAGE"]) == Condition("kind", "in", ("image",))
    assert (
        Condition("path", "=", "a\udce9.jpg").value == r"a\xe9.jpg"
    )  # bytes that are not UTF-8, as the store has them


def test_moments_stand_for_all_of_their_length():
    june = dt.datetime(2024, 6, 1)
    meanings = {
        "=": [("taken", "within", ((DAY, june),))],
        "!=": [("taken", "without", ((DAY, june),))],
        "<": [("taken", "<", DAY)],
        "<=": [("taken", "<", june)],
        ">": [("taken", ">=", june)],
        ">=": [("taken", ">=", DAY)],
    }
    for op, meaning in meanings.items():
        assert to_store_filters(parse(f"taken {op} 2024-05")) == meaning
    both = ((DAY, june), (dt.datetime(2023, 12, 31), dt.datetime(2024, 1, 1)))
    assert to_store_filters(parse("captured_at in (2024-05, 2023-12-31)")) == [("captured_at", "within", both)]


def test_file_times_are_by_the_clock_of_the_machine():
    (_, _, start), (_, _, end) = to_store_filters(parse("modified >= 2024-05-01 and modified < 0001"))
    assert start == DAY.astimezone()
    assert start.tzinfo is dt.UTC
    assert end == dt.datetime(1, 1, 1, tzinfo=dt.UTC)


def test_the_store_knows_kinds_as_modality():
    assert to_store_filters(parse("kind = image")) == [("modality", "=", "image")]


def test_the_table_of_examples_is_right():
    for column, kind in FILTER_COLUMNS.items():
        (condition,) = parse(f"{column} {kind.example}")
        assert condition.op in kind.ops


# -- properties -----------------------------------------------------------------------------------------------------

precisions = st.sampled_from(["year", "month", "day", "hour", "minute", "second", "microsecond"])
lengths = {"year": 4, "month": 7, "day": 10, "hour": 13, "minute": 16, "second": 19, "microsecond": 26}
moments = st.builds(
    lambda time, precision: moment(time.isoformat(timespec="microseconds")[: lengths[precision]]),
    st.datetimes(max_value=dt.datetime(9998, 12, 31)),
    precisions,
)
values_of = {
    "a text": st.text(),
    "a format": st.text(),
    "image, audio or video": st.sampled_from(["image", "audio", "video"]),
    "a whole number": st.integers(-(2**63) + 1, 2**63 - 1),
    "a size": st.integers(0, 2**63 - 1),
    "a number of degrees": st.floats(allow_nan=False, allow_infinity=False),
    "a length of time": st.floats(allow_nan=False, allow_infinity=False),
    "a date or a time": moments,
    "yes or no": st.booleans(),
    "a source of texts": st.sampled_from(SOURCES),
    "a language as ISO 639 writes it": st.sampled_from(["en", "de", "yue"]),
}


@st.composite
def any_condition(draw):
    column = draw(st.sampled_from(sorted(FILTER_COLUMNS)))
    kind = FILTER_COLUMNS[column]
    op, value = draw(st.sampled_from(kind.ops)), values_of[kind.named]
    return Condition(column, op, draw(st.lists(value, min_size=1, max_size=5) if op == "in" else value))


@settings(max_examples=500, deadline=None)
@given(st.lists(any_condition(), min_size=1, max_size=4))
def test_what_is_printed_is_parsed_back(conditions):
    event(f"op: {conditions[0].op}")
    assert parse(" and ".join(map(str, conditions))) == tuple(conditions)
    assert parse([str(condition) for condition in conditions]) == tuple(conditions)


WORDS = """
    width name taken kind modality in like and or
    = >= ! ( ) , ' " '' ; -- /* 1 2024-05 yes 2MB % \\ \0 é media_id 1=1 NULL image
"""
words = st.sampled_from([*WORDS.split(), "\n", "\udc80"])


@settings(max_examples=1000, deadline=None)
@given(st.one_of(st.text(), st.lists(words, max_size=12).map(" ".join), st.lists(words, max_size=12).map("".join)))
@example("name = '\\'")
@example("name like '\n'")
def test_any_text_is_refused_in_one_line_or_understood(text):
    error, conditions = None, ()
    try:
        conditions = parse(text)
    except InputError as refusal:
        error = str(refusal)
    event("refused" if error else "understood")
    assert error is None or len(error.splitlines()) == 1
    assert error or parse(" and ".join(map(str, conditions))) == conditions
