"""Ctrl-C twice in a row, at any moment of a command: 130, and no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.folders import write_folder

_COMMAND = """
import sys
from arrowlens.cli import main, signals
signals.end_on_interrupt()
print("ready", flush=True)
sys.exit(main())
"""
SEED = 13


@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", ["ingest", "search", "status"])
def test_two_interrupts_in_a_row_end_in_130_and_no_traceback(tmp_path, command):
    library = tmp_path / "a.lens"
    folder = write_folder(tmp_path / "in", 20, 1)
    arguments = {"ingest": [folder, "--models", "demo"], "search": ["a cat"], "status": []}[command]
    if command != "ingest":
        ingest = [sys.executable, "-c", "import sys; from arrowlens.cli import main; sys.exit(main())"]
        subprocess.run([*ingest, "ingest", folder, "--models", "demo", "--library", library], check=True)
    dice = np.random.default_rng(SEED)
    for delay in (*dice.uniform(0.0, 0.5, 4), *dice.uniform(0.5, 4.0, 3)):
        process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, command, *arguments, "--library", library],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        time.sleep(dice.uniform(0.0, 0.05))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
        assert process.returncode in (130, 0, -signal.SIGINT), (delay, said)  # the latter two once it is over
        assert "Traceback" not in said, (delay, said)
        assert "Exception ignored" not in said, (delay, said)
