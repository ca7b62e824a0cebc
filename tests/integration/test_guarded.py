"""A library that serves many decodes what it is asked with, and what it draws, where a crash or a hang costs nobody."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
import soundfile

from arrowlens import Library
from arrowlens.errors import InputError, MediaError, WorkerError
from arrowlens.evaluation import evaluate
from arrowlens.media import Limits, decode, waveform
from arrowlens.media.decoded import large_bytes
from arrowlens.ui.session import close_library, shared_library
from arrowlens.workers.isolated import Isolated
from tests.support.folders import write_sound
from tests.support.media_factory import image_bytes
from tests.support.processes import is_alive, within, workers_of

SOON_S = 60.0


@pytest.fixture
def workers():
    """The processes that a test started, whatever tests before it left."""
    before = set(workers_of(os.getpid()))
    return lambda: [worker for worker in workers_of(os.getpid()) if worker not in before]


@pytest.fixture
def guard(workers):
    guard = Isolated(2.0, large_bytes(Limits()), n_processes=2)
    yield guard
    guard.close()


@pytest.fixture
def sound(tmp_path):
    return write_sound(tmp_path / "a.wav", 1)


@pytest.fixture(scope="module")
def library_path(tmp_path_factory):
    base = tmp_path_factory.mktemp("guarded")
    (base / "in").mkdir()
    write_sound(base / "in" / "held.wav", 1)
    with Library.open(base / "a.lens", models="demo") as library:
        library.ingest(base / "in", workers=1)
    return base / "a.lens"


@pytest.fixture
def hostile_decoder(tmp_path, monkeypatch):
    """New processes crash as soon as they load the decoder of recordings, which this one has loaded."""
    assert soundfile.__name__ in sys.modules
    folder = tmp_path / "hostile"
    folder.mkdir()
    (folder / "soundfile.py").write_text("import signal; signal.raise_signal(signal.SIGSEGV)", encoding="ascii")
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    return folder / "soundfile.py"


@pytest.mark.parametrize(
    ("function", "arguments", "reason"),
    [
        (signal.raise_signal, (signal.SIGSEGV,), r"the decoder crashed \(signal 11, SIGSEGV\)"),
        (os._exit, (3,), r"the decoder ended \(exit status 3\)"),
        (signal.raise_signal, (signal.SIGSTOP,), "decoding took longer than 2 s and was stopped"),
        (time.sleep, (1000,), "decoding took longer than 2 s and was stopped"),
    ],
)
def test_what_happens_to_a_decoder_is_said_and_the_next_file_is_decoded(guard, sound, function, arguments, reason):
    with pytest.raises(MediaError, match=reason):
        guard(function, *arguments)
    assert guard(decode, sound).samples is not None


def test_results_and_refusals_are_those_of_the_function(guard, sound, tmp_path):
    assert (guard(waveform.waveform, sound, 2.0, n_columns=7) == waveform.waveform(sound, 2.0, n_columns=7)).all()
    (tmp_path / "b.wav").write_bytes(b"not a sound")
    with pytest.raises(MediaError, match="not a recording"):
        guard(waveform.waveform, tmp_path / "b.wav", 2.0)
    with pytest.raises(WorkerError, match="ZeroDivisionError"):
        guard(divmod, 1, 0)
    assert guard(divmod, 7, 2) == (3, 1)


def test_an_idle_process_that_the_system_ended_costs_nobody_anything(guard, workers):
    assert guard(divmod, 7, 2) == (3, 1)
    (worker,) = workers()
    os.kill(worker, signal.SIGKILL)
    assert guard(divmod, 7, 2) == (3, 1)


def test_processes_outlive_the_threads_that_ask(guard, workers):
    for _ in range(3):
        with ThreadPoolExecutor(1) as threads:
            threads.submit(guard, divmod, 7, 2).result()
    assert len(workers()) in (1, 2)
    assert all(map(is_alive, workers()))


def test_closing_ends_what_goes_on_and_what_waits(guard, workers):
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(guard, time.sleep, 1000) for _ in range(3)]
        started = within(SOON_S, lambda: len(found := workers()) == 2 and found)
        guard.close()
        for each in asked:
            with pytest.raises(WorkerError, match="closed"):
                each.result(SOON_S)
    assert not any(map(is_alive, started))
    assert guard(divmod, 7, 2) == (3, 1)


def test_a_served_library_survives_its_decoders(library_path, hostile_decoder, tmp_path, workers):
    new = write_sound(tmp_path / "new.wav", 2)
    with Library.open(library_path, isolate_decoding=True) as library:
        (held,) = library.newest()
        for ask in (
            lambda: library.waveform(held.media_id),
            lambda: library.spectrogram(held.media_id),
            lambda: library.example(new.read_bytes(), "new.wav"),
            lambda: library.similar(new),
        ):
            with pytest.raises(MediaError, match=r"(held|new)\.wav: the decoder crashed \(signal 11, SIGSEGV\)"):
                ask()
        hostile_decoder.unlink()
        assert library.waveform(held.media_id).max() > 0.1
        assert library.similar(new)[0].path.name == "held.wav"
        (worker,) = workers()
    assert not is_alive(worker)


def test_an_evaluation_survives_its_decoders(hostile_decoder, tmp_path, workers):
    write_sound(tmp_path / "a.wav", 1)
    (tmp_path / "b.png").write_bytes(image_bytes("PNG"))
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("path,caption\na.wav,a tone\nb.png,red\n", encoding="ascii")
    with pytest.raises(InputError, match=r"none of the 2 files .*a\.wav: the decoder crashed \(signal 11, SIGSEGV\)"):
        evaluate(tmp_path, pairs, "demo")
    hostile_decoder.unlink()
    assert evaluate(tmp_path, pairs, "demo").skipped == ()
    assert not any(map(is_alive, workers()))


def test_the_page_has_its_library_guarded_and_ends_the_processes(library_path, monkeypatch, workers):
    monkeypatch.setenv("ARROWLENS_LIBRARY", str(library_path))
    library = shared_library()
    library.waveform(library.newest()[0].media_id)
    (worker,) = workers()
    close_library()
    assert not is_alive(worker)


def test_a_library_decodes_in_processes_unless_it_is_told_not_to(library_path, workers):
    with pytest.warns(DeprecationWarning, match="use isolate_decoding"):
        Library.open(library_path, guarded=False).close()
    with Library.open(library_path, isolate_decoding=False) as library:
        library.waveform(library.newest()[0].media_id)
        assert workers() == []
    with Library.open(library_path) as library:
        media_id = library.newest()[0].media_id
        assert workers() == [], "a search decodes nothing, and starts none"
        library.waveform(media_id)
        assert len(workers()) == 1
    assert workers() == []


@pytest.fixture
def server(library_path):
    """The server's process and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = {"ARROWLENS_LIBRARY": str(library_path), "ARROWLENS_HOST": "127.0.0.1", "ARROWLENS_PORT": str(port)}
    command = [sys.executable, "-P", "-m", "arrowlens.ui.server"]
    process = subprocess.Popen(command, env={**os.environ, **given}, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        within(SOON_S, lambda: _fetched(f"{address}/_stcore/health"))
        yield process, address
    finally:
        process.kill()
        process.wait(SOON_S)


def _fetched(url: str) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=SOON_S) as answer:
            return answer.read()
    except OSError:
        return None


def test_a_decoder_that_hangs_holds_up_neither_the_server_nor_its_end(server, library_path):
    process, address = server
    with Library.open(library_path) as library:
        (held,) = library.newest()
    assert _fetched(f"{address}/waveform/{held.media_id}")
    (worker,) = workers_of(process.pid)
    os.kill(worker, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        hung = threads.submit(_fetched, f"{address}/spectrogram/{held.media_id}")
        time.sleep(1.0)
        assert _fetched(f"{address}/_stcore/health")
        assert not hung.done()
        process.terminate()
        process.wait(SOON_S / 2)  # the time limit is longer
    assert not is_alive(worker)
