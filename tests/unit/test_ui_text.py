"""The line that found a hit, on the page: its words are marked, and nothing in it is HTML."""

from __future__ import annotations

from pathlib import Path

from arrowlens.search import Hit
from arrowlens.ui.html import hit_caption, player, text_line

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
    line = "We &lt;b&gt;hired&lt;/b&gt; <mark>seven</mark> <mark>people</mark>, … seventy in all."
    assert text_line(TALK) == f'<div class="al-text">{line}</div>'
    assert line in hit_caption(TALK)


def test_names_and_looks_show_no_line():
    named = Hit(Path("/m/a.jpg"), "1" * 32, "image", 0.1, found_by="words", source="name", text="a.jpg")
    assert text_line(named) == text_line(Hit(Path("/m/a.jpg"), "1" * 32, "image", 0.1)) == ""


def test_the_player_starts_at_the_moment_of_the_text():
    assert 'src="/original#t=3.5"' in player(TALK, "/original", "/wave", "/spectrum")
