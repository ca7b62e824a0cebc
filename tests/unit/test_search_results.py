"""Results are an immutable, exact record of what was found; names are safe to show."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import pickle
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowlens.search import Hit, Results, printable, result_schema
from arrowlens.search.listing import COPIED
from arrowlens.store import MediaRecord

RED = Hit(
    path=Path("/pictures/red.jpg"),
    media_id="a" * 32,
    modality="image",
    score=0.5,
    width=640,
    height=480,
    format="jpeg",
    size=1000,
    modified=dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
    captured_at=dt.datetime(2025, 1, 2, 3, 4, 5),  # cameras write no zone
    content_hash="c" * 32,
    metadata={"camera": "box"},
)
DOG = Hit(Path("/sounds/dog.wav"), "b" * 32, "audio", 0.25, start=5.0, end=15.0, duration=31.5, sample_rate=44100)


def test_results_are_an_immutable_sequence():
    results = Results([RED, DOG], took_ms=12.5)
    assert list(results) == [RED, DOG]
    assert (len(results), results[0], results[-1], results.took_ms) == (2, RED, DOG, 12.5)
    assert DOG in results
    assert results.index(DOG) == 1
    assert results[1:] == Results([DOG])
    assert results[:1].took_ms == 12.5
    with pytest.raises(TypeError):
        results[0] = DOG
    with pytest.raises(AttributeError):
        results.took_ms = 1.0
    with pytest.raises(AttributeError):
        results.more = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        RED.score = 1.0
    assert not Results()


def test_results_are_equal_by_their_hits_in_order():
    assert Results([RED, DOG], 1.0) == Results([RED, DOG], 2.0)
    assert hash(Results([RED, DOG], 1.0)) == hash(Results([RED, DOG], 2.0))
    assert Results([RED, DOG]) != Results([DOG, RED])
    assert Results([RED]) != [RED]


def test_arrow_has_a_row_per_hit_and_the_documented_columns():
    table = Results([RED, DOG]).to_arrow()
    assert table.schema == result_schema()
    assert table.column_names == [field.name for field in dataclasses.fields(Hit)]
    rows = table.to_pylist()
    maps = {name: dict(rows[0][name]) for name in ("metadata", "matched_words")}
    assert rows[0] | maps == dataclasses.asdict(RED) | {"path": "/pictures/red.jpg"}
    assert (rows[1]["start"], rows[1]["end"], rows[1]["width"]) == (5.0, 15.0, None)
    assert Results().to_arrow().schema == result_schema()


def test_matches_come_first_and_are_counted():
    yes, no, unknown = (dataclasses.replace(RED, matches=matches) for matches in (True, False, None))
    results = Results([yes, yes, no], has_match=True, n_matches=2)
    assert (len(results.matching), len(results.folded), results.n_matches, results.summary) == (2, 2, 2, "2 matches")
    assert (results[2:].n_matches, len(results[2:].matching)) == (2, 0)
    mixed = Results([yes, unknown, no], has_match=True)
    assert (len(mixed.matching), len(mixed.folded), mixed.n_matches, mixed.summary) == (1, 2, None, "3 results")
    counts = [Results(n_matches=n).summary for n in (0, 1, 1000, 1001)]
    assert counts == ["no matches", "1 match", "1,000 matches", "more than 1,000 matches"]
    assert results.to_arrow()["matches"].to_pylist() == [True, True, False]
    with pytest.warns(DeprecationWarning, match="has_match"):
        assert results.matches


def test_a_hit_says_which_words_found_it_and_where():
    found = {"name": "red", "caption": "bicycles wall"}
    hit = dataclasses.replace(RED, found_by="words", matched_words=found)
    assert hit.reason == "name: red; caption: bicycles wall"
    assert dataclasses.replace(hit, matched_words={}, source="name").reason == "its name"
    assert (RED.reason, dataclasses.replace(RED, found_by="text", source="caption").reason) == ("", "its caption")
    assert dict(Results([hit]).to_arrow()["matched_words"][0].as_py()) == found


def test_pandas_frame_is_the_arrow_table():
    frame = Results([RED, DOG]).to_pandas()
    assert list(frame.columns) == result_schema().names
    assert frame["score"].tolist() == [0.5, 0.25]
    assert frame["start"].tolist()[1] == 5.0


def test_a_name_that_is_not_utf8_survives_everywhere():
    hit = dataclasses.replace(RED, path=Path(os.fsdecode(b"/pictures/caf\xe9.jpg")))
    assert os.fsencode(hit.path) == b"/pictures/caf\xe9.jpg"
    table = Results([hit]).to_arrow()
    assert table["path"].to_pylist() == ["/pictures/caf\\xe9.jpg"]
    assert pa.types.is_string(table.schema.field("path").type)
    assert "caf\\\\xe9" in repr(Results([hit]))


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain näme 写真 🐶.jpg", "plain näme 写真 🐶.jpg"),
        ("👩‍🚀.jpg", "👩‍🚀.jpg"),
        ("two\nlines\r\t.jpg", "two\\nlines\\r\\t.jpg"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("line\u2028break", "line\\u2028break"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"),
    ],
)
def test_printable_escapes_only_what_could_disturb(raw, shown):
    assert printable(raw) == shown


@given(st.text())
def test_printable_is_one_line_of_utf8(text):
    shown = printable(text)
    shown.encode()
    assert len(shown.splitlines()) <= 1
    assert "\x1b" not in shown
    assert printable(shown) == shown


def test_the_columns_of_media_in_a_hit_have_the_names_and_types_that_they_have_in_the_library():
    """They are spelled out twice, so that a hit is a value of its own; here they are held together."""
    columns = {field.name: field.type for field in dataclasses.fields(MediaRecord)}
    copied = {field.name: field.type for field in dataclasses.fields(Hit) if field.name in COPIED}
    assert copied == {name: columns[name] for name in copied}
    assert len(copied) > 15


def test_results_draw_themselves_in_notebooks_and_load_nothing_from_elsewhere():
    hostile = dataclasses.replace(DOG, path=Path("/sounds/<script src=x>\x1b[2J.wav"), text="<img src=http://x>")
    hostile = dataclasses.replace(hostile, found_by="text", source="speech")
    asked = []

    def thumbnails(hits):
        asked.extend(hits)
        return {RED.media_id: b"jpeg"}

    results = Results([RED, hostile], 12.5, n_matches=2).with_thumbnails(thumbnails)
    html = results._repr_html_()
    assert 'src="data:image/jpeg;base64,anBlZw=="' in html
    assert asked == [RED, hostile]
    assert "2 matches, 12 ms" in html
    assert "&lt;script src=x&gt;" in html
    assert html.count("<img") == html.count('src="data:') == 1
    assert "\x1b" not in html
    assert results == Results([RED, hostile])
    assert "data:image" in results[:1]._repr_html_()
    kept = pickle.loads(pickle.dumps(results))
    assert (kept, kept.n_matches, "data:image" in kept._repr_html_()) == (results, 2, False)
    assert "red.jpg" in RED._repr_html_()
    assert "48 more" in Results([RED] * 98)._repr_html_()
