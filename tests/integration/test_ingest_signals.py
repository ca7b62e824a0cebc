"""Two runs at once, Ctrl-C, SIGTERM, and workers that are stopped or crash: the installed command and real signals."""

from __future__ import annotations

import json
import os
import signal
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.soak.commands import command, counts, one_line, start, wait_until
from tests.soak.processes import Run
from tests.soak.whole import assert_unique, assert_whole, read
from tests.support.folders import write_folder, write_picture

pytestmark = pytest.mark.timeout(900)  # a dozen processes each, on a machine that may be busy


_SEARCH = """
import json, sys, time
import numpy as np
from arrowlens.store import MultimodalStorage

storage, counts = MultimodalStorage(sys.argv[1], create=False), []
record = storage.settings.models["vision"]
query = np.ones(record.dimension)
print("searching", flush=True)
while not counts or counts[-1] < int(sys.argv[2]):
    hits = storage.search("vision", record.recipe_digest, query, 10_000)
    rows = storage.media(hits["media_id"].to_pylist())
    assert rows.num_rows == hits.num_rows == len(set(hits["media_id"].to_pylist()))
    assert len(storage.thumbnails(rows["content_hash"].to_pylist())) == rows.num_rows
    counts.append(rows.num_rows)
    time.sleep(0.01)
print(json.dumps(counts))
"""


def test_a_second_run_is_refused_and_searches_see_whole_batches(tmp_path, capsys):
    folder, library, n_pictures = tmp_path / "in", tmp_path / "a.lens", 700
    folder.mkdir()
    command(capsys, "ingest", folder, "--library", library, "--models", "demo")
    for number in range(n_pictures):
        write_picture(folder / f"{number}.jpg", number, (400, 300))
    script = textwrap.dedent(_SEARCH)
    with Run("-c", script, str(library), str(n_pictures), program="-B") as searching:
        wait_until(lambda: "searching" in searching.stdout, searching)
        with start(folder, library) as first:
            wait_until(lambda: (library / "media.lance").exists(), first)
            os.kill(first.process.pid, signal.SIGSTOP)  # or it might be done before the second has begun
            with start(folder, library) as second:
                assert "is being written to by another run" in one_line(second)
            os.kill(first.process.pid, signal.SIGCONT)
            report = first.report()
        assert searching.wait() == 0, searching.stderr
    assert counts(report) == (n_pictures, 0, 0, 0)
    seen = json.loads(searching.stdout.splitlines()[-1])
    assert seen == sorted(seen)
    assert 2 <= len(set(seen)) <= n_pictures // 16 < len(seen), "batches, not files"


def test_an_interrupt_from_a_terminal_ends_the_run_in_order(tmp_path, capsys):
    """Ctrl-C goes to the whole group, workers included: what is encoded is stored, 130, and the next run goes on."""
    folder, library, n_pictures = tmp_path / "in", tmp_path / "a.lens", 1200
    folder.mkdir()
    for number in range(n_pictures):
        write_picture(folder / f"{number}.jpg", number, (400, 300))
    with start(folder, library) as running:
        wait_until(lambda: (library / "media.lance").exists(), running)
        os.killpg(running.process.pid, signal.SIGINT)
        status = running.wait(60)
        running.assert_nothing_left()
    assert status == 130, running.stderr
    report = json.loads(running.stdout)
    assert report["interrupted"] is True
    assert 0 < report["indexed"] < n_pictures
    said = [line for line in running.stderr.splitlines() if line]
    assert len(said) == 2, "what is being done, and how to go on"
    assert said[1].startswith("arrowlens: interrupted")
    assert_whole(read(library), settled=True)
    with start(folder, library) as running:
        wait_until(running.workers, running)
        running.process.terminate()
        status = running.wait(60)
        running.assert_nothing_left()
    assert status in (-signal.SIGTERM, 128 + signal.SIGTERM), running.stderr
    assert "Traceback" not in running.stderr
    again = command(capsys, "ingest", folder, "--library", library)
    assert again["indexed"] + again["unchanged"] == n_pictures
    assert again["unchanged"] >= report["indexed"]
    state = read(library)
    assert_whole(state, settled=True)
    assert_unique([row["content_hash"] for row in state.media])


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGSEGV])
def test_a_worker_that_hangs_or_crashes_costs_the_file_it_was_at(tmp_path, capsys, number):
    """The one worker is hit once it has read a large picture; what crashes is tried once more, and hit again."""
    folder, library = write_folder(tmp_path / "in", 6, 1), tmp_path / "a.lens"
    large = folder / "a large one.png"
    noise = np.random.default_rng(0).integers(0, 256, (4000, 5000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(large, compress_level=0)
    hit: set[int] = set()
    n_hits = 2 if number == signal.SIGSEGV else 1

    def is_at_it(pid: int) -> bool:
        return pid not in hit and bytes_read(pid) >= large.stat().st_size

    options = ("--time-limit", "4") if number == signal.SIGSTOP else ()
    with start(folder, library, "--workers", "1", *options) as running:
        while running.process.poll() is None:
            for pid in filter(is_at_it, running.workers() if len(hit) < n_hits else ()):
                hit.add(pid)
                os.kill(pid, number)
        report = running.report()
        running.assert_nothing_left()
    assert len(hit) == n_hits
    assert counts(report) == (7, 0, 1, 0)
    reason = "decoding took longer than 4 s" if number == signal.SIGSTOP else "the decoder crashed (signal 11, SIGSEGV)"
    (file,) = command(capsys, "skipped", "--library", library)["files"]
    assert file["path"] == str(large)
    assert reason in file["reason"]
    again = ("ingest", folder, "--library", library)
    assert counts(command(capsys, *again)) == (0, 7, 1, 0), "it has not changed"
    assert counts(command(capsys, *again, "--retry")) == (1, 7, 0, 0)
    assert_whole(read(library), settled=True)


def bytes_read(pid: int) -> int:
    """What a process has read from files and pipes; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/io").read_text().split()[1])
    except OSError:
        return 0
