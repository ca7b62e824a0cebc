"""The line that found a hit, as the gallery draws it: its words are marked, and the rest is as it stands."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from arrowlens.search import Hit
from arrowlens.ui.gallery import hit_json, text_parts

TALK = Hit(
    Path("/m/talk.mp3"),
    "0" * 32,
    "audio",
    0.1,
    start=3.5,
    end=7.0,
    duration=60.0,
    found_by="words",
    matched_words={"speech": "seven people"},
    text="We <b>hired</b> seven people,\nseventy in all.",
    source="speech",
)


def test_the_words_of_a_line_are_marked_and_the_rest_is_text():
    parts = [("We <b>hired</b> ", False), ("seven", True), (" ", False), ("people", True)]
    assert text_parts(TALK) == [*parts, (", … seventy in all.", False)]
    assert hit_json(TALK)["text"] == text_parts(TALK)


def test_of_a_long_line_the_part_with_the_words_is_shown():
    text = f"{'before ' * 100}seven people{' after' * 100}"
    parts = text_parts(dataclasses.replace(TALK, text=text, matched_words={"speech": "seven"}))
    assert parts[0][0].startswith("…")
    assert parts[0][0].endswith("before ")
    assert parts[1] == ("seven", True)
    assert sum(len(part) for part, _ in parts) < 220


def test_names_and_looks_show_no_line():
    named = Hit(Path("/m/a.jpg"), "1" * 32, "image", 0.1, found_by="words", source="name", text="a.jpg")
    assert text_parts(named) == text_parts(Hit(Path("/m/a.jpg"), "1" * 32, "image", 0.1)) == []


def test_a_path_that_is_not_utf8_is_told_apart_from_others():
    assert hit_json(dataclasses.replace(TALK, path=Path("/m/caf\udce9 \t?.mp3")))["path"] == "/m/caf\\xe9 \t?.mp3"


def test_a_moment_is_a_part_of_the_recording():
    assert (hit_json(TALK)["start"], hit_json(TALK)["end"]) == (3.5, 7.0)
    whole = Hit(TALK.path, TALK.media_id, "audio", 0.1, start=0.0, end=60.0, duration=60.0)
    assert hit_json(whole)["start"] is None
