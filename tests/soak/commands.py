"""``arrowlens`` with the demo models, in a process of its own or in the test's: what it reports, what it refuses."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from arrowlens.cli import main
from tests.soak.processes import Run


def start(folder: str | bytes | Path, library: Path, *options: str, **how: object) -> Run:
    return Run("ingest", folder, "--library", library, "--models", "demo", "--json", *options, **how)


def ingest(folder: str | bytes | Path, library: Path, *options: str, **how: object) -> dict:
    """The report of a run that must succeed, say nothing else, and leave no process behind."""
    with start(folder, library, *options, **how) as running:
        report = running.report()
        assert running.stderr == ""
        running.assert_nothing_left()
        return report


def command(capsys: pytest.CaptureFixture[str], *arguments: str | bytes | Path) -> dict:
    """The JSON object of a command run in this process, which is faster; it must succeed and say nothing else."""
    capsys.readouterr()
    assert main([os.fsdecode(argument) for argument in (arguments[0], "--json", *arguments[1:])]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    found: dict = json.loads(captured.out)
    return found


def counts(report: dict) -> tuple[int, int, int, int]:
    return report["indexed"], report["unchanged"], report["skipped"], report["removed"]


def one_line(running: Run) -> str:
    """What a command that must fail says: exit 1, nothing on stdout, one line on stderr."""
    assert running.wait() == 1, (running.stdout, running.stderr)
    running.assert_nothing_left()
    assert running.stdout == ""
    assert running.stderr.startswith("arrowlens: ")
    assert running.stderr.count("\n") == 1, running.stderr
    return running.stderr


def wait_until(condition: Callable[[], object], running: Run, seconds: float = 120.0) -> None:
    """Until something becomes true, while a run goes on."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert running.process.poll() is None, running.stderr
        assert time.monotonic() < deadline
        time.sleep(0.005)
