"""The installed command as a process of its own: bound by permissions and limits, killed, watched with its workers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

COMMAND = Path(sys.executable).with_name("arrowlens")
ROOT = Path(__file__).parents[2]
_MARK = "SOAK_RUN"
_SECONDS_TO_END = 60.0

# Permissions do not bind root, so that privilege is given up for good; a limit on file sizes is what a full disk is.
_LAUNCH = """
import ctypes, os, resource, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
limit, bound, *command = sys.argv[1:]
if bound == "bound" and os.geteuid() == 0:
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        if ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            sys.exit("cannot give up root's privileges")
if limit != "none":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
os.execv(sys.executable, [sys.executable, *command])
"""


class Run:
    """A command under way, in a session of its own; a context manager that leaves no process behind.

    Args:
        arguments: of ``arrowlens``, or of Python with ``program="-c"`` or a script's path.
        bound: whether permissions bind it, also when the tests run as root.
        file_limit: bytes that a file may have at most (RLIMIT_FSIZE).
    """

    def __init__(
        self,
        *arguments: str | bytes | Path,
        program: str | Path = COMMAND,
        bound: bool = False,
        file_limit: int | None = None,
        cwd: Path | None = None,
        **environment: str,
    ) -> None:
        self._mark = uuid.uuid4().hex
        launch = [sys.executable, "-c", _LAUNCH, str(file_limit or "none"), "bound" if bound else "free"]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ARROWLENS_")}
        fixed = {_MARK: self._mark, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            [*launch, program, *arguments],
            cwd=cwd,
            env={**inherited, **fixed, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._said = {"out": b"", "err": b""}
        pipes = {"out": self.process.stdout, "err": self.process.stderr}
        self._readers = [threading.Thread(target=self._read, args=item, daemon=True) for item in pipes.items()]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in self.pids():
            _send(pid, signal.SIGKILL)
        self.process.wait()

    def _read(self, name: str, pipe: Any) -> None:
        while data := os.read(pipe.fileno(), 65_536):
            self._said[name] += data
        pipe.close()

    @property
    def stdout(self) -> str:
        return self._said["out"].decode("utf-8", "surrogateescape")

    @property
    def stderr(self) -> str:
        return self._said["err"].decode("utf-8", "surrogateescape")

    def wait(self, seconds: float = 600.0) -> int:
        """The exit status, once everything it said has been read.

        Raises:
            subprocess.TimeoutExpired: it goes on.
        """
        status = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(_SECONDS_TO_END)
            assert not reader.is_alive(), "a process that was left behind holds the output open"
        return status

    def report(self, seconds: float = 600.0) -> dict[str, Any]:
        """The JSON object of a command that must succeed."""
        assert self.wait(seconds) == 0, self.stderr
        assert self.stdout.count("\n") == 1, self.stdout
        found: dict[str, Any] = json.loads(self.stdout)
        return found

    def kill(self, whole_group: bool = False) -> None:
        """SIGKILL to the process alone, or to everything in its group, as a terminal that is closed by force."""
        if whole_group:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()

    def pids(self) -> list[int]:
        """Every living process that descends from this one, however it was orphaned: they inherit an environment."""
        marked = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{_MARK}={self._mark}\0".encode() in (folder / "environ").read_bytes():
                    marked.append(int(folder.name))
            except OSError:  # gone, or another user's
                continue
        return sorted(marked)

    def workers(self) -> list[int]:
        """The living descendants without the process itself."""
        return [pid for pid in self.pids() if pid != self.process.pid]

    def assert_nothing_left(self) -> None:
        """No worker outlives the run by more than some seconds."""
        deadline = time.monotonic() + _SECONDS_TO_END
        while left := self.pids():
            assert time.monotonic() < deadline, [_command_line(pid) for pid in left]
            time.sleep(0.05)


class PeakMemory(threading.Thread):
    """The most memory that a run and its workers held together, in bytes, pages they share counted once (PSS)."""

    def __init__(self, run: Run, every_s: float = 0.05) -> None:
        super().__init__(daemon=True)
        self._run, self._every_s = run, every_s
        self.peak = 0
        self.parts: dict[int, int] = {}
        """What each process held at the peak, by id; the first one is the run."""
        self.n_samples = 0
        self.start()

    def run(self) -> None:
        known: list[int] = []
        while self._run.process.poll() is None:
            if self.n_samples % 10 == 0:  # looking for new workers costs more than asking the known ones
                known = self._run.pids()
            parts = {pid: proportional_memory(pid) for pid in known}
            if sum(parts.values()) > self.peak:
                self.peak, self.parts = sum(parts.values()), parts
            self.n_samples += 1
            time.sleep(self._every_s)


def proportional_memory(pid: int) -> int:
    """Bytes of a process, shared pages divided by their users; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss: +(\d+) kB", text, re.M)
    return int(found.group(1)) * 1024 if found else 0


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _command_line(pid: int) -> str:
    try:
        return f"{pid}: " + Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return f"{pid}: gone"
