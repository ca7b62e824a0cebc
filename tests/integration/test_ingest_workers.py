"""A decoder that crashes or hangs costs its own file, whoever starts the run and however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from arrowlens.errors import WorkerError
from arrowlens.ingest import IngestOptions, run
from arrowlens.ingest.walk import ScannedFile
from arrowlens.media import Limits
from arrowlens.media.decoded import large_bytes
from arrowlens.store import Root
from arrowlens.workers.pool import Workers
from arrowlens.workers.prefetch import ReadAhead
from arrowlens.workers.resources import Spent
from tests.integration.test_ingest import counts
from tests.support import hostile_steps
from tests.support.folders import write_folder, write_picture
from tests.support.hostile_steps import (
    CRASH,
    IMPORTS,
    LEAVE,
    N_ATTEMPTS,
    RAISE,
    SLEEP,
    STARVE,
    STOP,
    HostileProcessor,
    LargeStep,
    LongStep,
    write_plain,
)
from tests.support.processes import is_alive, within, workers_of
from tests.support.small_models import SmallProvider

ROOT = Path(__file__).parents[2]
N_GOOD = 15  # of ``write_folder``
LIMITED = IngestOptions(workers=2, limits=Limits(max_decode_s=2.0))
SOON_S = 60.0


@pytest.fixture
def provider():
    provider = SmallProvider()
    provider.clip_engine.image_processor = HostileProcessor(image_size=32)
    return provider


@pytest.fixture
def attempts(tmp_path, monkeypatch):
    """How often a hostile picture was tried since the last question."""
    path = tmp_path / "attempts"
    monkeypatch.setenv(N_ATTEMPTS, str(path))

    def count():
        n_attempts = len(path.read_bytes()) if path.exists() else 0
        path.unlink(missing_ok=True)
        return n_attempts

    return count


def reasons(storage):
    return {Path(os.fsdecode(row["absolute_path"])).name: row["reason"] for row in storage.skipped().to_pylist()}


@pytest.mark.parametrize(
    ("colour", "reason", "n_attempts"),
    [
        (CRASH, "the decoder crashed (signal 11, SIGSEGV)", 2),
        (LEAVE, "the decoder ended (exit status 3)", 2),
        (STOP, "decoding took longer than 2 s and was stopped", 1),
        (SLEEP, "decoding took longer than 2 s and was stopped", 1),
    ],
)
def test_what_ends_a_decoder_costs_one_file_and_is_not_tried_again(
    storage, folder, provider, attempts, colour, reason, n_attempts
):
    path = write_plain(folder / "hostile.png", colour)
    assert counts(run(storage, provider, [folder], LIMITED)) == (N_GOOD, 0, 1, 0)
    assert reasons(storage) == {"hostile.png": reason}
    assert attempts() == n_attempts
    assert storage.media_by_path(path)["content_hash"] is not None
    assert counts(run(storage, provider, [folder], LIMITED)) == (0, N_GOOD, 1, 0)
    assert attempts() == 0, "known by its content"
    again = IngestOptions(retry=True, limits=LIMITED.limits)
    assert counts(run(storage, provider, [folder], again)) == (0, N_GOOD, 1, 0)
    assert attempts() == n_attempts
    write_picture(path, 999)
    assert counts(run(storage, provider, [folder], LIMITED)) == (1, N_GOOD, 0, 0)
    assert workers_of(os.getpid()) == []


def test_a_folder_of_nothing_but_hostile_files(storage, tmp_path, provider):
    (tmp_path / "in").mkdir()
    for number, colour in enumerate((CRASH, LEAVE, STARVE, RAISE, IMPORTS) * 3):
        write_plain(tmp_path / "in" / f"{number}.png", colour)
    assert counts(run(storage, provider, [tmp_path / "in"], LIMITED)) == (0, 0, 15, 0)
    said = reasons(storage)
    assert said["2.png"] == "cannot be prepared for the model: MemoryError"
    assert said["3.png"] == "cannot be prepared for the model: KeyError: 'what no decoder\\nshould raise'"
    ignored = "loaded: [], SIGINT <Handlers.SIG_IGN: 1>"
    assert said["4.png"] == f"cannot be prepared for the model: RuntimeError: {ignored}"


def test_what_decoders_print_reaches_nobody(storage, folder, provider, capfd):
    write_plain(folder / "hostile.png", CRASH)
    run(storage, provider, [folder], LIMITED)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_worker_that_is_killed_or_stopped_from_outside(storage, tmp_path, provider):
    """SIGKILL costs nothing, the file is tried again; SIGSTOP costs at most the file that the worker was at."""
    folder = write_folder(tmp_path / "in", 300, 0)
    hit = []

    def disturb(event):
        if event.phase == "index" and event.done in (40, 80, 120) and (found := workers_of(os.getpid())):
            number = signal.SIGSTOP if event.done == 80 else signal.SIGKILL
            os.kill(found[0], number)
            hit.append(number)

    report = run(storage, provider, [folder], LIMITED, disturb)
    assert hit.count(signal.SIGKILL) == 2
    assert report.indexed + report.skipped == 300
    assert report.skipped <= hit.count(signal.SIGSTOP), reasons(storage)
    assert all("took longer than 2 s" in reason for reason in report.reasons)


def test_what_takes_much_memory_is_decoded_alone(tmp_path):
    """Also where the one before it took its worker along."""
    root = Root.at(str(tmp_path))
    names = [b"crash" if number == 3 else b"%d" % number for number in range(12)]
    files = [ScannedFile(bytes(tmp_path) + b"/" + name, root, name, "image", 1, 1) for name in names]
    workers = Workers(LargeStep(tmp_path / "journal"), 30.0, Spent(), large_bytes(Limits()))
    with ReadAhead(workers.open, files, 4, lambda _: 1, threading.Event()) as results:
        reasons = {prepared.file.relative: prepared.decoded.reason for prepared in results}
    assert len(reasons) == 12
    assert {name for name, reason in reasons.items() if reason} == {b"crash"}
    assert reasons[b"crash"] == "the decoder was killed (signal 9, SIGKILL), possibly out of memory"
    assert (tmp_path / "journal").read_text().split() == ["begin", "end"] * 12


def test_fetching_a_long_result_is_no_decoding():
    found = ScannedFile(b"/x", Root.at("/"), b"x", "audio", 1, 1)
    with Workers(LongStep(), 30.0, Spent(), large_bytes(Limits())).open() as decoder:
        content = decoder(found).inputs[0].content
    assert content is not None
    np.testing.assert_array_equal(content[::1_000_000], np.arange(0, 50_000_000, 1_000_000))


def test_long_recordings_come_one_after_the_other(tmp_path):
    """The next one is decoded once the one before it has been used."""
    root = Root.at(str(tmp_path))
    files = [ScannedFile(b"/x", root, b"%d" % number, "audio", 1, 1) for number in range(3)]
    workers = Workers(LargeStep(tmp_path / "journal", n_samples=20_000_000), 30.0, Spent(), large_bytes(Limits()))
    with ReadAhead(workers.open, files, 3, lambda _: 1, threading.Event()) as results:
        for n_begun in (1, 2, 3):
            prepared = next(results)
            time.sleep(0.5)
            assert (tmp_path / "journal").read_text().count("begin") == n_begun
            workers.used(prepared)
        workers.close()


def test_a_run_with_nothing_to_read_starts_no_process(storage, folder, provider):
    seen, done = set(), threading.Event()

    def watch():
        while not done.wait(0.005):
            seen.update(workers_of(os.getpid()))

    for expected in ({1, 2}, {0}):
        done.clear()
        seen.clear()
        watcher = threading.Thread(target=watch)
        watcher.start()
        run(storage, provider, [folder], LIMITED)
        done.set()
        watcher.join()
        assert len(seen) in expected


def test_stopping_does_not_wait_for_a_decoder_that_hangs(storage, folder, provider):
    write_plain(folder / "a hangs.png", SLEEP)
    stop = threading.Event()
    timer = threading.Timer(3.0, stop.set)
    options = IngestOptions(workers=2, limits=Limits(max_decode_s=1000.0))
    timer.start()
    started = time.monotonic()
    report = run(storage, provider, [folder], options, lambda _: None, stop)
    assert time.monotonic() - started < SOON_S
    assert report.stopped
    assert workers_of(os.getpid()) == []


class NoStep:
    """Cannot be understood by a worker: it does not know this module."""

    def __reduce__(self):
        return (__import__, ("a_module_that_only_the_parent_has",))


def test_a_worker_that_cannot_work_is_an_error_with_its_words(folder):
    words = "ModuleNotFoundError: No module named 'a_module_that_only_the_parent_has'"
    with (
        pytest.raises(WorkerError, match=words),
        Workers(NoStep(), 5.0, Spent(), large_bytes(Limits())).open() as decoder,
    ):
        decoder(None)
    assert workers_of(os.getpid()) == []


_SCRIPT = """
import sys, threading
from pathlib import Path
sys.path.insert(0, {root!r})
from arrowlens.ingest import run
from arrowlens.store import MultimodalStorage
from tests.support.small_models import SmallProvider
def work():
    report = run(MultimodalStorage(sys.argv[1]), SmallProvider(), [sys.argv[2]])
    print("indexed", report.indexed, "skipped", report.skipped)
print("this module ran")
{start}
"""
_STARTS = {"in its main thread": "work()", "in a thread": "t = threading.Thread(target=work); t.start(); t.join()"}


@pytest.mark.parametrize("start", _STARTS)
@pytest.mark.parametrize("kind", ["file", "stdin", "-c"])
def test_a_script_without_a_guard(tmp_path, folder, start, kind):
    """Modules beside the script that are called as Python's own do no harm."""
    here = tmp_path / "scripts"
    here.mkdir()
    for name in ("pickle", "struct", "resource"):
        (here / f"{name}.py").write_text("raise SystemExit('the wrong module')" if kind != "file" else "")
    if kind == "file":
        for name in ("pickle", "struct", "resource"):
            (here / f"{name}.py").unlink()
    text = textwrap.dedent(_SCRIPT).format(root=str(ROOT), start=_STARTS[start])
    (here / "script").write_text(text)
    given = {"file": [str(here / "script")], "stdin": ["-P", "-"], "-c": ["-P", "-c", text]}[kind]
    done = subprocess.run(
        [sys.executable, *given, str(tmp_path / "library"), str(folder)],
        input=text if kind == "stdin" else None,
        capture_output=True,
        text=True,
        cwd=here,
        timeout=120,
    )
    assert done.stderr == ""
    assert done.stdout == f"this module ran\nindexed {N_GOOD} skipped 0\n"


_HANGING = """
import signal, sys
from arrowlens.ingest import IngestOptions, run
from arrowlens.media import Limits
from arrowlens.media.decoded import large_bytes
from arrowlens.store import MultimodalStorage
from tests.support.hostile_steps import HostileProcessor
from tests.support.small_models import SmallProvider
provider = SmallProvider()
provider.clip_engine.image_processor = HostileProcessor(image_size=32)
options = IngestOptions(workers=3, limits=Limits(max_decode_s=1000.0))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born ignoring it
run(MultimodalStorage(sys.argv[1]), provider, [sys.argv[2]], options)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_the_run_that_was_ended(tmp_path, number):
    """One worker sleeps, one is stopped, one is idle or decodes."""
    folder = write_folder(tmp_path / "in", 60, 0)
    write_plain(folder / "a sleeps.png", SLEEP)
    write_plain(folder / "a stops.png", STOP)
    arguments = [sys.executable, "-c", _HANGING, str(tmp_path / "library"), str(folder)]
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        workers = within(120, lambda: (found := workers_of(process.pid)) and len(found) == 3 and found)
        time.sleep(1.5)
        process.send_signal(number)
        process.wait(SOON_S)
        within(30, lambda: not any(is_alive(pid) for pid in workers))
    finally:
        process.kill()
        process.communicate()


def test_the_workers_know_the_step_by_a_module_of_its_own():
    """Else the processes would import pytest with this module, and the check of what they load would mean little."""
    assert HostileProcessor.__module__ == hostile_steps.__name__
