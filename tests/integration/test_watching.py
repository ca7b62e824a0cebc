"""``arrowlens ingest --watch`` over real files: what changes is ingested, and what is away is waited for."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading

import pytest

from arrowlens import Library
from arrowlens.cli import main
from arrowlens.ingest.watching import Watch
from tests.support.folders import write_folder, write_picture


@pytest.mark.timeout(300)
def test_changes_are_ingested_and_a_folder_that_is_away_loses_nothing(tmp_path):
    folder, library = write_folder(tmp_path / "in", 3, 0), tmp_path / "in" / "a.lens"  # its own changes do not count
    command = [sys.executable, "-m", "arrowlens", "ingest", str(folder), "--library", str(library)]
    running = subprocess.Popen(
        [*command, "--models", "demo", "--watch"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines: queue.Queue[str] = queue.Queue()
    reader = threading.Thread(target=lambda: [lines.put(line) for line in running.stdout])
    reader.start()
    try:
        assert "3 indexed, 0 unchanged, 0 skipped, 0 removed" in lines.get(timeout=120)
        write_picture(folder / "below" / "new.png", 50)
        assert "1 indexed, 3 unchanged, 0 skipped, 0 removed" in lines.get(timeout=60)
        folder.rename(tmp_path / "away")
        assert "nothing of it is removed, and it is waited for" in lines.get(timeout=60)
        (tmp_path / "away").rename(folder)
        assert "0 indexed, 4 unchanged, 0 skipped, 0 removed" in lines.get(timeout=60)
        (folder / "below" / "new.png").unlink()
        assert "0 indexed, 3 unchanged, 0 skipped, 1 removed" in lines.get(timeout=60)
        (folder / "below").rename(folder / "2024.05.01")  # as a file's name would be
        assert "1 moved" in lines.get(timeout=60)
        (folder / "2024.05.01").rename(tmp_path / "gone")
        assert "0 indexed, 2 unchanged, 0 skipped, 1 removed" in lines.get(timeout=60)
        with pytest.raises(queue.Empty):
            lines.get(timeout=3)
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=60) == 130
    finally:
        running.kill()
        running.wait()
        reader.join()
        running.stdout.close()
    with Library.open(library) as opened:
        assert opened.status().images == 2


def test_places_that_tell_of_no_changes_are_due_every_so_often(tmp_path):
    folder, stop = tmp_path / "in", threading.Event()
    folder.mkdir()
    watch = Watch([folder, "s3://bucket/prefix"], tmp_path / "library", every_s=0.7)
    turns = watch.changes(stop)
    for _ in range(3):
        next(turns)
    assert watch.missing == []
    stop.set()
    assert list(turns) == []


def test_what_goes_with_watch(capsys):
    for line, why in (("--dry-run --watch", "not go with --dry-run"), ("--watch-every 5", "goes with --watch")):
        with pytest.raises(SystemExit):
            main(["ingest", ".", *line.split()])
        assert why in capsys.readouterr().err
