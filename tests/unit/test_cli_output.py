"""What commands print: aligned, one line a file whatever it is called, and JSON for programs."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from arrowlens.cli import main
from arrowlens.cli.output import amount, byte_size, clock, columns, hit_record, results_table, shown_path, write_json
from arrowlens.cli.signals import stop_on_interrupt
from arrowlens.search import Hit, Results


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00"), (5, "0:05"), (14.96, "0:15"), (61.25, "1:01.2"), (3723, "1:02:03"), (59.99, "1:00")],
)
def test_clock(seconds, shown):
    assert clock(seconds) == shown


def test_amounts_and_sizes():
    assert [amount(1, "file"), amount(2, "file"), amount(12000, "file")] == ["1 file", "2 files", "12,000 files"]
    assert [byte_size(n) for n in (0, 1023, 1536, 5 << 20, 3 << 40)] == [
        "0 B",
        "1023 B",
        "1.5 KB",
        "5.0 MB",
        "3072.0 GB",
    ]


def test_columns_align_and_do_not_trail():
    assert columns([["a", "bb", "c"], ["aaa", "b", "cc"]]) == "a    bb  c\naaa  b   cc"


def test_a_path_below_here_is_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "a" / "b.jpg") == "a/b.jpg"
    assert shown_path("/elsewhere/b.jpg") == "/elsewhere/b.jpg"
    assert shown_path(tmp_path / "two\nlines\x1b[2J.jpg") == "two\\nlines\\x1b[2J.jpg"


def test_the_table_has_a_line_a_hit_and_times_only_with_audio():
    picture = Hit(Path("/p/a\nb.jpg"), "1", "image", 0.51234)
    sound = Hit(Path("/s/dog.wav"), "2", "audio", -0.1, start=5.0, end=15.0)
    assert results_table(Results([picture])) == "score  kind   path\n0.512  image  /p/a\\nb.jpg"
    assert results_table(Results([picture, sound])).splitlines() == [
        "score   kind   time       path",
        "0.512   image             /p/a\\nb.jpg",
        "-0.100  audio  0:05-0:15  /s/dog.wav",
    ]


def test_json_is_one_ascii_line_that_gives_every_name_back(capsysbinary):
    hit = Hit(Path(os.fsdecode(b"/p/caf\xe9 \xf0\x9f\x90\xb6\n.jpg")), "1", "image", 0.5)
    write_json({"hits": [hit_record(hit)]})
    raw = capsysbinary.readouterr().out
    assert raw.isascii()
    assert raw.count(b"\n") == 1
    (record,) = json.loads(raw)["hits"]
    assert os.fsencode(record["path"]) == b"/p/caf\xe9 \xf0\x9f\x90\xb6\n.jpg"
    assert set(record) == {"path", "score", "relevance", "modality", "media_id", "start", "end"}


def test_a_failure_is_one_line_even_with_a_hostile_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["search", "x", "--library", "two\nlines\x1b[2J"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("arrowlens: no library at ")
    assert captured.err.count("\n") == 1
    assert "\x1b" not in captured.err
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_without_the_characters_still_gets_the_line(monkeypatch, tmp_path):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="ascii", errors="strict"))
    assert main(["status", "--library", str(tmp_path / "büro")]) == 1
    sys.stderr.flush()
    assert b"b\\xfcro" in raw.getvalue()


def test_the_first_interrupt_asks_and_the_second_insists(capsys):
    import signal

    before = signal.getsignal(signal.SIGINT)
    with stop_on_interrupt() as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert "stopping" in capsys.readouterr().err
