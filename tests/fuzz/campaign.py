"""Decodes mutated files in processes that may crash or hang, and collects what came of them."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

N_INPUTS = int(os.environ.get("FUZZ_INPUTS", "200"))
FIRST = int(os.environ.get("FUZZ_FIRST", "0"))
_N_PROCESSES = 2
_MOST_WALL_SECONDS = 60.0  # without an outcome: a hang
_MOST_SECONDS = 10.0  # of a processor


@dataclass
class Findings:
    """What came of a campaign; ``faults`` and ``crashes`` name the number that makes the file again."""

    n_contents: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    memory: int = 0

    @property
    def n_outcomes(self) -> int:
        """Files of which something came."""
        return self.n_contents + sum(self.reasons.values()) + len(self.crashes)

    def summary(self) -> str:
        """For a terminal."""
        counts = f"{self.n_contents} readable, {sum(self.reasons.values())} refused"
        crashes = f"{len(self.crashes)} crashed or hung a native decoder, {self.memory / 2**20:,.0f} MB at most"
        return "\n  ".join([f"{self.n_outcomes} mutated files: {counts}, {crashes}", *self.crashes, *self.faults])


def run_campaign(source: str) -> Findings:
    """Decode ``N_INPUTS`` files from ``FIRST`` on, of a source that ``tests.fuzz.decoding`` knows."""
    findings = Findings()
    workers = [_Worker(source, FIRST + start, findings) for start in range(_N_PROCESSES)]
    while sum(worker.step() for worker in workers):  # each takes a step, whatever the others do
        pass
    return findings


class _Worker:
    """One process at a time that decodes every _N_PROCESSES-th file; a new one after a crash or a hang."""

    def __init__(self, source: str, first: int, findings: Findings) -> None:
        self._source = source
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
        arguments = [self._source, str(self._next), str(_N_PROCESSES), str(FIRST + N_INPUTS)]
        program = [sys.executable, "-W", "ignore", "-m", "tests.fuzz.decoding", *arguments]
        self._process = subprocess.Popen(program, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        self._buffer = b""
        self._is_at_work = False

    def _line(self) -> bytes | None:
        assert self._process is not None
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._process.stdout], [], [], _MOST_WALL_SECONDS)
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
        for fault in filter(None, (outcome["fault"], outcome["memory_fault"])):
            findings.faults.append(f"{self._source} input {number} ({outcome['name']}): {fault}")
        if outcome["seconds"] > _MOST_SECONDS:
            findings.faults.append(
                f"{self._source} input {number} ({outcome['name']}): took {outcome['seconds']:.0f} s"
            )
        findings.memory = max(findings.memory, outcome["memory"])
        self._next = number + _N_PROCESSES

    def _ended(self) -> None:
        assert self._process is not None
        self._process.stdout.close()
        status = self._process.wait()
        self._process = None
        if self._is_at_work:
            self._findings.crashes.append(f"{self._source} input {self._next}: status {status}")
            self._next += _N_PROCESSES
        elif status != 0:
            self._findings.faults.append(f"the process before {self._source} input {self._next} ended with {status}")
            self._next += _N_PROCESSES
