"""Thousands of mutated files: each gives contents or a reason, in bounded time and memory.

A crash of a native decoder is counted and named, with the number that makes it again: it costs one file, since ingest
decodes in processes of their own. Python's side must never fail. FUZZ_FIRST=10000 begins with other files.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from arrowlens.media import decode
from tests.fuzz.mutations import mutated, seeds

N_INPUTS = int(os.environ.get("FUZZ_INPUTS", "200"))
FIRST = int(os.environ.get("FUZZ_FIRST", "0"))
N_PROCESSES = 2
MOST_WALL_SECONDS = 60.0  # without an outcome: a hang
MOST_SECONDS = 10.0  # of a processor
MOST_MEMORY = 1024**3  # bytes
MOST_CRASHES = 0.01  # of the inputs


@dataclass
class Findings:
    n_contents: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    memory: int = 0


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
def test_mutated_files_give_contents_or_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    findings = Findings()
    workers = [_Worker(FIRST + start, findings) for start in range(N_PROCESSES)]
    while steps := [worker.step() for worker in workers]:
        if not any(steps):
            break
    with capsys.disabled():
        print(f"\n{N_INPUTS} mutated files: {findings.n_contents} readable, {sum(findings.reasons.values())} refused, ")
        print(f"{len(findings.crashes)} crashed or hung a native decoder, {findings.memory / 2**20:,.0f} MB at most")
        for crash in findings.crashes:
            print(f"  {crash}")
    assert not findings.faults
    assert findings.n_contents + sum(findings.reasons.values()) + len(findings.crashes) == N_INPUTS
    assert len(findings.crashes) <= max(1, MOST_CRASHES * N_INPUTS)
    assert findings.n_contents > 0.02 * N_INPUTS  # mutations that are only ever refused at the door find nothing
    assert findings.memory < MOST_MEMORY


def test_every_seed_is_readable_and_mutations_are_deterministic() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert {name: decode("x", data=data).reason for name, data in seeds().items()} == dict.fromkeys(seeds())
    assert [mutated(number) for number in range(50)] == [mutated(number) for number in range(50)]
    assert sum(mutated(number)[1] != seeds()[mutated(number)[0]] for number in range(100)) > 95


class _Worker:
    """One process at a time that decodes every N_PROCESSES-th file; a new one after a crash or a hang."""

    def __init__(self, first: int, findings: Findings) -> None:
        self._next = first
        self._findings = findings
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def step(self) -> bool:
        """Take one line; whether there is more to come."""
        if self._process is None:
            if self._next >= FIRST + N_INPUTS:
                return False
            self._start()
        line = self._line()
        if line is None:
            self._ended()
        elif line[:1] == b"{":
            self._outcome(json.loads(line))
        else:
            self._next = int(line)
        return True

    def _start(self) -> None:
        arguments = [str(self._next), str(N_PROCESSES), str(FIRST + N_INPUTS)]
        program = [sys.executable, "-W", "ignore", "-m", "tests.fuzz.decoding", *arguments]
        self._process = subprocess.Popen(program, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        self._buffer = b""
        self._is_at_work = False

    def _line(self) -> bytes | None:
        assert self._process is not None
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._process.stdout], [], [], MOST_WALL_SECONDS)
            part = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            if not ready:
                self._process.kill()
            if not part:
                return None
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        self._is_at_work = line[:1] != b"{"
        return line

    def _outcome(self, outcome: dict) -> None:
        findings, number = self._findings, self._next
        if outcome["reason"] is None:
            findings.n_contents += 1
        else:
            findings.reasons[outcome["reason"]] += 1
        if outcome["fault"]:
            findings.faults.append(f"input {number} ({outcome['name']}): {outcome['fault']}")
        if outcome["seconds"] > MOST_SECONDS:
            findings.faults.append(f"input {number} ({outcome['name']}): took {outcome['seconds']:.0f} s")
        findings.memory = max(findings.memory, outcome["memory"])
        self._next = number + N_PROCESSES

    def _ended(self) -> None:
        assert self._process is not None
        self._process.stdout.close()
        status = self._process.wait()
        self._process = None
        if self._is_at_work:
            self._findings.crashes.append(f"input {self._next} ({mutated(self._next)[0]}): status {status}")
            self._next += N_PROCESSES
        elif status != 0:
            self._findings.faults.append(f"the process before input {self._next} ended with {status}")
            self._next += N_PROCESSES
