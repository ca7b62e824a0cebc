"""What commands print: aligned, one line a file whatever it is called, and JSON for programs."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import json
import os
import re
import sys
from pathlib import Path

import pytest

from arrowlens.addresses import as_path
from arrowlens.cli import main
from arrowlens.cli.output import (
    amount,
    causes_text,
    clock,
    columns,
    file_text,
    hit_record,
    plan_text,
    report_text,
    results_table,
    shown_path,
    table,
    write_json,
)
from arrowlens.cli.signals import stop_on_interrupt
from arrowlens.ingest import IngestPlan, IngestReport
from arrowlens.search import Hit, Results, byte_size


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
        "5 MB",
        "3072 GB",
    ]


def test_columns_align_and_do_not_trail():
    assert columns([["a", "bb", "c"], ["aaa", "b", "cc"]]) == "a    bb  c\naaa  b   cc"


def test_tables_are_plain_in_a_pipe_and_fit_a_terminal_in_colour(monkeypatch):
    rows = [["score", "text", "path"], ["0.500", "[bold]a\u4e2d " + "very " * 20, "/folder/" + "long" * 20 + ".jpg"]]
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert table(rows) == columns(rows)
    sys.stdout.isatty = lambda: True
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = table(rows)
    assert "\x1b[" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert all(len(line) <= 60 for line in plain.splitlines())
    assert "[bold]a\u4e2d" in plain, "a name is no mark-up"
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in table(rows)


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
    likely, named = (
        dataclasses.replace(picture, relevance=0.974),
        dataclasses.replace(sound, found_by="words", source="name"),
    )
    assert results_table(Results([likely, named])).splitlines() == [
        "score   relevance  kind   time       words     path",
        "0.512   97%        image                       /p/a\\nb.jpg",
        "-0.100             audio  0:05-0:15  its name  /s/dog.wav",
    ]
    worded = dataclasses.replace(likely, found_by="words", matched_words={"name": "a\nb"})
    assert results_table(Results([worded])).splitlines()[1] == "0.512  image  name: a\\nb  /p/a\\nb.jpg"


def test_json_is_one_ascii_line_that_gives_every_name_back(capsysbinary):
    taken = dt.datetime(2024, 5, 1, 12, 30)
    hit = Hit(Path(os.fsdecode(b"/p/caf\xe9 \xf0\x9f\x90\xb6\n.jpg")), "1", "image", 0.5, taken=taken, width=40)
    write_json({"hits": [hit_record(hit)]})
    raw = capsysbinary.readouterr().out
    assert raw.isascii()
    assert raw.count(b"\n") == 1
    (record,) = json.loads(raw)["hits"]
    assert os.fsencode(record["path"]) == b"/p/caf\xe9 \xf0\x9f\x90\xb6\n.jpg"
    assert set(record) == {field.name for field in dataclasses.fields(Hit)}
    assert (record["taken"], record["width"], record["caption"]) == ("2024-05-01T12:30:00", 40, None)


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


def test_the_first_interrupt_asks_and_the_second_insists(capfd):
    import signal

    before = signal.getsignal(signal.SIGINT)
    with stop_on_interrupt() as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert "stopping" in capfd.readouterr().err


def test_reasons_are_counted_by_their_cause():
    reasons = {
        "truncated: the header promises 3 s, the file holds 2 s": 1,
        "truncated: 4 of 5 bytes are there": 2,
        "500 x 400 pixels is over the limit of 0.1 megapixels": 1,
        "50000 x 50000 pixels is over the limit of 0.1 megapixels": 1,
        "the decoder crashed (signal 11, SIGSEGV)": 1,
        "a \x1b[2J reason": 1,
    }
    assert causes_text(reasons).splitlines() == [
        "skipped:",
        "  3 x truncated",
        "  2 x N x N pixels is over the limit of N megapixels",
        "  1 x a \\x1b[NJ reason",
        "  1 x the decoder crashed",
    ]
    many = causes_text({chr(65 + number): 1 for number in range(12)})
    assert many.splitlines()[-1] == "  4 for other reasons"


def test_the_report_for_people():
    report = IngestReport(1200, 3, 2, 1, 61.25, copied=1, reasons={"gone": 2}, rate=19.6, peak_memory=3 << 29)
    report = dataclasses.replace(report, left_alone={"hidden": 3, "ignored": 2, "other": 1024})
    assert report_text(dataclasses.replace(report, bound="decoding")).splitlines() == [
        "1,200 indexed, 3 unchanged, 2 skipped, 1 removed in 61.2 s",
        "1 copy not encoded again, 19.6 files/s, bound by decoding, at most 1.5 GB of memory",
        "left alone: 1,024 of other kinds, 3 hidden or another program's, 2 named in .arrowlensignore",
        "skipped:",
        "  2 x gone",
        "`arrowlens skipped` names them; `arrowlens ingest --retry` tries again",
    ]
    assert report_text(IngestReport(unchanged=5, peak_memory=1 << 20, rate=9.0, bound="decoding")).splitlines() == [
        "0 indexed, 5 unchanged, 0 skipped, 0 removed in 0.0 s",
        "at most 1 MB of memory",
    ]


def test_the_plan_for_people():
    plan = IngestPlan(new=1, changed=2, unchanged=3000, unreadable=4, removed=5, n_bytes=3 << 20)
    assert plan_text(plan) == (
        "would read 1 new file and 2 changed (3 MB), leave 3,000 unchanged and 4 that cannot be read, remove 5"
    )
    with_junk = dataclasses.replace(plan, left_alone={"hidden": 1})
    assert plan_text(with_junk).splitlines()[1:] == ["left alone: 1 hidden or another program's"]


def test_matches_are_counted_and_the_rest_is_folded_unless_it_is_asked_for(tmp_path, monkeypatch, capsys):
    hits = [Hit(Path(f"/p/{n}.jpg"), f"{n}", "image", 0.5, 0.9 - n / 10, matches=n < 2) for n in range(4)]

    class Stub:
        def __init__(self, results):
            self.results = results

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def search(self, *arguments, **options):
            return self.results

        def records(self, hits):
            return {hit.media_id: {} for hit in hits}

    def said(results, *options):
        monkeypatch.setattr("arrowlens.Library.open", lambda *arguments, **options: Stub(results))
        assert main(["search", "x", *options]) == 0
        out, err = capsys.readouterr()
        return len(out.splitlines()), err

    some = Results(hits, 5.0, has_match=True, n_matches=2)
    assert said(some) == (3, "2 matches in 5 ms\nno more matches; --all shows the nearest anyway\n")
    assert said(some, "--all") == (5, "2 matches in 5 ms\n")
    first = Results(hits[:2], 5.0, has_match=True, n_matches=57)
    assert said(first) == (3, "57 matches, 2 of them here, in 5 ms\n")
    many = Results(hits[:2], 5.0, has_match=True, n_matches=1_001)
    assert said(many) == (3, "more than 1,000 matches, 2 of them here, in 5 ms\n")
    unknown = Results([dataclasses.replace(hit, matches=None) for hit in hits], 5.0)
    assert said(unknown) == (5, "4 results in 5 ms\n")
    none = Results(hits[2:], 5.0, has_match=False, n_matches=0)
    told = "no matches in 5 ms\nnothing here really matches; --all shows the nearest anyway\n"
    assert said(none) == (0, told)
    only_itself = Results(hits, 5.0, has_match=True, n_matches=0)  # of ``similar``, whose file does not count
    assert said(only_itself) == (3, "no matches in 5 ms\nno other file matches; --all shows the nearest anyway\n")
    assert said(some, "--json")[0] == 1


def test_addresses_of_buckets_keep_their_slashes():
    for path in ("s3://photos/2024/a.png", as_path(b"s3://photos/2024/a.png"), Path("s3://photos/2024/a.png")):
        assert shown_path(path) == "s3://photos/2024/a.png"


def test_what_was_read_heard_and_left_out_of_films():
    report = IngestReport(read=1, heard=2, without_sound={"3:00:00 is over the limit of 2:00:00": 2})
    lines = report_text(report).splitlines()
    assert "text read in 1 file, 2 files listened to" in lines
    assert (
        "2 films without sound (3:00:00 is over the limit of 2:00:00); "
        "`arrowlens ingest --retry` reads it, of a long film with a larger --max-hours"
    ) in lines
    film = Hit(Path("/f/a.mp4"), "id", "video", 1.0, format="mp4", metadata={"sound": "it is too long"})
    assert "sound   left out: it is too long" in file_text(film, []).splitlines()
    assert "left out" not in file_text(dataclasses.replace(film, modality="audio"), [])
