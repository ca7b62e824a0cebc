from __future__ import annotations

import os
import pickle
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arrowlens.embedding import EmbeddingPlan
from arrowlens.encoders import ImageProcessor
from arrowlens.encoders.runtime import encoding_threads
from arrowlens.errors import AudioValidationError, ImageValidationError, InputError
from arrowlens.ingest import IngestEvent, IngestOptions
from arrowlens.ingest.batching import Batcher, Batches, ModelFailure, Pending, encode_each
from arrowlens.ingest.prepare import Preparer
from arrowlens.ingest.progress import Progress
from arrowlens.ingest.source import FolderSource
from arrowlens.ingest.walk import ScannedFile, Walk
from arrowlens.media import Limits
from arrowlens.store import Root
from arrowlens.workers.prefetch import MAX_BYTES, MAX_WAITING, ReadAhead
from arrowlens.workers.process import receive, send
from arrowlens.workers.resources import MemoryWatch, Spent, proportional_memory
from tests.support.folders import write_picture, write_sound

SOURCE = FolderSource((), Path())


def encode(inputs):
    """Sums; refuses a batch with a NaN, breaks on an input of infinity, gives a zero vector for zeros."""
    batch = np.stack(inputs)
    if np.isnan(batch).any():
        raise AudioValidationError("samples hold NaN")
    if np.isinf(batch).any():
        raise RuntimeError("the kernel broke\nwith a trace")
    return np.stack([batch.sum(axis=1), batch[:, 0]], axis=1)


def test_an_input_that_cannot_be_encoded_costs_only_itself():
    good, nan, inf, zero = np.ones(3), np.full(3, np.nan), np.full(3, np.inf), np.zeros(3)
    results = encode_each(encode, [good, nan, 2 * good, inf, zero])
    np.testing.assert_array_equal(results[0], [3, 1])
    np.testing.assert_array_equal(results[2], [6, 2])
    assert results[1] == "cannot be encoded: samples hold NaN"
    assert results[3] == "the model cannot encode it: the kernel broke"
    assert not any(isinstance(result, ModelFailure) for result in results)
    assert results[4] == "the model gives it a vector without direction"


def test_inputs_on_which_alone_the_model_breaks_are_to_blame():
    """It works on noise of their shape."""
    for broken in ([np.full(3, np.inf)], [np.full(3, np.inf)] * 3):
        assert encode_each(encode, broken) == ["the model cannot encode it: the kernel broke"] * len(broken)


def test_a_model_that_does_not_work_blames_no_file():
    def broken(inputs):
        raise RuntimeError("the kernel broke")

    with pytest.raises(RuntimeError, match="kernel broke"):
        encode_each(broken, [np.ones(3)] * 3)
    (alone,) = encode_each(broken, [np.ones(3)])
    assert alone == "the model failed, the next run tries again: the kernel broke"
    assert isinstance(alone, ModelFailure)


def test_want_of_memory_blames_no_file():
    def starved(inputs):
        if max(map(len, inputs)) > 5:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")
        return encode([value[:3] for value in inputs])

    small, large = encode_each(starved, [np.ones(3), np.ones(9)])
    np.testing.assert_array_equal(small, [3, 1])
    assert isinstance(large, ModelFailure)


def test_an_input_that_fails_once_is_encoded():
    failures = iter([True, True])

    def moody(inputs):
        if next(failures, False):
            raise RuntimeError("once in the batch, once alone")
        return encode(inputs)

    results = encode_each(moody, [np.ones(3), 2 * np.ones(3)])
    np.testing.assert_array_equal(results, [[3, 1], [6, 2]])


def test_batches_are_full_span_files_and_are_encoded_side_by_side():
    sizes, together = [], threading.Barrier(2, timeout=20)

    def counting(inputs):
        sizes.append(len(inputs))
        if len(inputs) == 4:
            together.wait()  # two at once, or never
        return encode(inputs)

    spent = Spent()
    with ThreadPoolExecutor(2) as pool:
        batches = Batches(pool, 2, spent)
        batcher = Batcher(batches, counting, 4)
        files = [Pending(None, [None] * n) for n in (1, 6, 2)]
        for number, pending in enumerate(files):
            batcher.add(pending, [np.full(3, number + 1.0)] * len(pending.vectors))
        batcher.flush()
        batcher.flush()
        batches.finish()
    assert sorted(sizes) == [1, 4, 4]
    assert {id(pending) for pending in batches.complete()} == {id(pending) for pending in files}
    assert batches.complete() == []
    assert all(pending.is_complete for pending in files)
    assert spent.busy > 0
    assert [[tuple(vector) for vector in pending.vectors] for pending in files] == [
        [(3, 1)],
        [(6, 2)] * 6,
        [(9, 3)] * 2,
    ]


def test_no_more_batches_are_begun_than_the_threads_can_use():
    release = threading.Event()

    def waiting(inputs):
        release.wait(20)
        return encode(inputs)

    with ThreadPoolExecutor(1) as pool:
        batches = Batches(pool, 1, Spent())
        batcher = Batcher(batches, waiting, 1)
        files = [Pending(None, [None]) for _ in range(5)]
        adding = threading.Thread(target=lambda: [batcher.add(pending, [np.ones(3)]) for pending in files])
        adding.start()
        adding.join(0.3)
        assert adding.is_alive(), "waits for the first two"
        release.set()
        adding.join(20)
        batches.finish()
        assert len(batches.complete()) == 5


def test_threads_that_encode_keep_to_themselves_and_leave_the_others_alone():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with encoding_threads("cpu") as threads:
            assert threads.n == 3
            gate = threading.Barrier(3, timeout=20)
            counts = [threads.pool.submit(lambda: (gate.wait(), torch.get_num_threads())[1]) for _ in range(3)]
            assert [count.result() for count in counts] == [1, 1, 1]
            fresh = []
            thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
            thread.start()
            thread.join()
            assert (fresh, torch.get_num_threads()) == ([3], 3), "a search meanwhile"
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


class Counting:
    """A step for ``ReadAhead`` that knows how often it was opened and what it has begun."""

    def __init__(self, seconds=0.0):
        self.seconds, self.lock = seconds, threading.Lock()
        self.begun, self.running, self.most, self.n_open = [], 0, 0, 0

    @contextmanager
    def open(self):
        with self.lock:
            self.n_open += 1
        yield self
        with self.lock:
            self.n_open -= 1

    def __call__(self, number):
        with self.lock:
            self.begun.append(number)
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(self.seconds * (1 + number % 3))
        with self.lock:
            self.running -= 1
        return -number


def test_reading_ahead_gives_every_result_once_and_closes_its_steps():
    step = Counting(0.002)
    with ReadAhead(step.open, range(60), 4, lambda _: 1, threading.Event()) as results:
        assert sorted(results) == [-number for number in reversed(range(60))]
    assert (step.most, step.n_open) == (4, 0)


def test_a_slow_item_holds_up_nothing_else():
    step = Counting()
    release = threading.Event()

    def first_waits(number):
        if number == 0:
            release.wait(20)
        return step(number)

    with ReadAhead(lambda: nullcontext(first_waits), range(50), 2, lambda _: 1, threading.Event()) as results:
        taken = [next(results) for _ in range(49)]
        release.set()
        assert sorted(taken) == [-number for number in reversed(range(1, 50))]
        assert list(results) == [0]


def test_reading_ahead_stays_bounded_by_count_and_by_bytes():
    step = Counting()
    with ReadAhead(step.open, range(1000), 4, lambda _: 1, threading.Event()) as results:
        next(results)
        time.sleep(0.2)
        assert MAX_WAITING <= len(step.begun) <= MAX_WAITING + 1 + 4
    large = Counting()
    with ReadAhead(large.open, range(12), 4, lambda _: MAX_BYTES, threading.Event()) as results:
        for n_taken in range(1, 13):
            next(results)
            time.sleep(0.01)
            assert len(large.begun) <= n_taken + 4


def test_closing_drops_what_has_not_begun():
    step = Counting(0.02)
    with ReadAhead(step.open, range(1000), 2, lambda _: 1, threading.Event()) as results:
        next(results)
    assert len(step.begun) < 8
    assert (step.running, step.n_open) == (0, 0)


def test_what_goes_wrong_in_a_thread_comes_out():
    def break_down(number):
        raise KeyError(number)

    with (
        ReadAhead(lambda: nullcontext(break_down), range(9), 3, lambda _: 1, threading.Event()) as results,
        pytest.raises(KeyError),
    ):
        next(results)


def test_time_at_work_and_time_at_the_disk_are_told_apart():
    spent = Spent()
    with spent.timed():
        time.sleep(0.2)
    assert spent.busy == pytest.approx(0.2, abs=0.1)
    assert spent.idle == pytest.approx(spent.busy, abs=0.02)
    computing, end = Spent(), time.thread_time() + 0.2
    with computing.timed():
        while time.thread_time() < end:
            sum(range(1000))
    assert computing.busy == pytest.approx(0.2, abs=0.1)
    assert computing.idle < 0.05


def test_the_peak_of_memory_is_of_one_moment():
    before = proportional_memory(os.getpid())
    assert before > 10_000_000
    with MemoryWatch(lambda: [os.getpid(), 2**22 + 1]) as memory:  # this process twice, and one that is not there
        for _ in range(3):
            held = np.ones(10_000_000)
            time.sleep(0.2)
            del held
    assert 2 * (before + 60_000_000) < memory.peak < 2 * (before + 160_000_000)
    assert proportional_memory(2**22 + 1) == 0


def test_a_consumed_array_arrives_whole_and_its_memory_is_given_back():
    reading, writing = os.pipe()
    array = np.random.default_rng(0).random(20_000_000)
    small = array[:1000].copy()
    expected, before = array.sum(), proportional_memory(os.getpid())
    received = []
    reader = threading.Thread(target=lambda: received.append(receive(reading)))
    reader.start()
    send(writing, {"array": array, "small": small}, consume=True)
    reader.join()
    os.close(reading)
    os.close(writing)
    np.testing.assert_array_equal(received[0]["small"], received[0]["array"][:1000])
    assert received[0]["array"].sum() == expected
    if sys.platform == "linux":
        assert proportional_memory(os.getpid()) < before + array.nbytes / 4


def prepared(path, **changes):
    options = {"source": SOURCE, "plan": EmbeddingPlan(ImageProcessor(image_size=32)), "limits": Limits()}
    preparer = Preparer(**{**options, **changes})
    status = path.stat() if path.exists() else path.parent.stat()
    size, modified_ns = status.st_size, status.st_mtime_ns
    found = ScannedFile(bytes(path), Root.at(str(path.parent)), path.name.encode(), "image", size, modified_ns)
    return pickle.loads(pickle.dumps(preparer))(found)


def test_a_picture_becomes_one_input(tmp_path):
    result = prepared(write_picture(tmp_path / "x.jpg", 1, (640, 480)))
    assert [(value.shape, value.dtype) for value in result.inputs.segments] == [((32, 32, 3), np.uint8)]
    assert result.inputs.windows == ()
    assert result.decoded.pixels is None
    assert (result.decoded.width, result.decoded.height) == (640, 480)
    pickle.loads(pickle.dumps(result))


def test_a_recording_becomes_windows(tmp_path):
    result = prepared(write_sound(tmp_path / "x.wav", 1, 23.0))
    assert [(window.start_s, window.end_s) for window in result.inputs.windows] == [
        (0, 10),
        (5, 15),
        (10, 20),
        (15, 23),
    ]
    assert [len(value) for value in result.inputs.segments] == [160_000, 160_000, 160_000, 128_000]
    assert result.decoded.samples is None


def test_a_large_picture_waits_until_it_has_room(tmp_path):
    path = tmp_path / "large.png"
    Image.new("1", (6000, 4500)).save(path)
    waiting = prepared(path, concurrent=True)
    assert waiting.needs_room
    assert waiting.inputs is None
    alone = prepared(path)
    assert (alone.needs_room, alone.decoded.reason) == (False, None)
    assert alone.inputs.content.shape == (32, 32, 3)
    write_picture(path, 1)
    assert not prepared(path, concurrent=True).needs_room
    refused = prepared(path, concurrent=True, limits=Limits(max_pixels=10))
    assert (refused.needs_room, refused.decoded.too_large) == (False, True), "room would not help"


def test_the_text_beside_a_file_comes_along(tmp_path):
    path = write_picture(tmp_path / "x.png", 1)
    (tmp_path / "x.txt").write_text("a bicycle\n", encoding="utf-8")
    found = ScannedFile(bytes(path), Root.at(str(tmp_path)), b"x.png", "image", 1, 1, bytes(tmp_path / "x.txt"), "10:1")
    preparer = Preparer(SOURCE, EmbeddingPlan(None), Limits())
    assert preparer(found).caption == "a bicycle"
    (tmp_path / "x.txt").unlink()
    assert preparer(found).caption is None


def test_bad_content_is_not_the_same_as_no_content(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    bad = prepared(tmp_path / "bad.jpg")
    assert bad.decoded.reason is not None
    assert not bad.unread
    missing = prepared(tmp_path / "missing.jpg")
    assert missing.decoded.reason is not None
    assert missing.unread
    write_picture(tmp_path / "large.png", 1)
    large = prepared(tmp_path / "large.png", limits=Limits(max_image_bytes=10, max_file_bytes=10))
    assert large.decoded.reason is not None
    assert not large.unread, "too large now: what was indexed is no longer its content"


def test_a_file_that_changes_meanwhile_is_not_judged(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(write_picture(tmp_path / "whole.png", 1).read_bytes()[:200])
    assert not prepared(path).unread, "truncated, and that is that"
    preparer = Preparer(SOURCE, EmbeddingPlan(ImageProcessor(image_size=32)), Limits())
    found = ScannedFile(bytes(path), Root.at(str(tmp_path)), b"x.png", "image", 100, path.stat().st_mtime_ns)
    result = preparer(found)
    assert result.decoded.reason is not None
    assert result.unread, "it was shorter when the walk saw it: somebody is writing it"


def test_a_picture_without_a_model_has_no_inputs(tmp_path):
    result = prepared(write_picture(tmp_path / "x.jpg", 1), plan=EmbeddingPlan(None))
    assert result.decoded.reason is None
    assert result.inputs.segments == ()


@pytest.mark.parametrize("name", ["workers", "batch_size", "commit_every"])
def test_options_are_checked(name):
    with pytest.raises(InputError, match=name):
        IngestOptions(**{name: 0})
    assert IngestOptions().n_workers >= 1
    assert IngestOptions(workers=7).n_workers == 7


def test_progress_tells_counts_rate_and_time_left():
    events: list[IngestEvent] = []
    progress = Progress(events.append)
    progress.total = 4
    progress.count("unchanged")
    progress.start_reading()
    time.sleep(0.05)
    progress.count("indexed", b"/x/\xff.png")
    progress.count("skipped", b"/x/y.png", "truncated")
    first, second = events
    assert (first.done, first.total, first.indexed, first.unchanged, first.skipped) == (2, 4, 1, 1, 0)
    assert first.path == "/x/\udcff.png"
    assert 0 < first.rate <= 1 / 0.05
    assert first.seconds_left == pytest.approx(2 / first.rate)
    assert (second.done, second.reason) == (3, "truncated")
    report = progress.report(True, Walk((), unread={b"/y": "denied"}))
    assert report.to_dict()["reasons"] == {"truncated": 1}
    assert report.unread_folders == {"/y": "denied"}
    assert report.stopped


def test_input_errors_are_those_of_the_encoders():
    assert issubclass(ImageValidationError, InputError)


def test_a_window_between_long_silences_does_not_keep_the_recording_in_memory():
    """Its samples are a view of all of them, which would stay as long as the window waits for a full batch."""
    recording = weakref.ref(samples := np.zeros(2_000_000, np.float32).view(_Weak))
    with ThreadPoolExecutor(1) as pool:
        batcher = Batcher(Batches(pool, 1, Spent()), lambda inputs: np.ones((len(inputs), 2)), 8)
        batcher.add(Pending(None, [None]), [samples[1_000_000:1_016_000]])
        del samples
        assert recording() is None


def test_an_item_that_has_to_be_waited_for_keeps_no_result_back():
    """As the next file of a bucket, which is still being read."""
    release = threading.Event()

    def items():
        yield 1
        release.wait(20)
        yield 2

    with ReadAhead(lambda: nullcontext(lambda item: item), items(), 2, lambda _: 1, threading.Event()) as results:
        started = time.monotonic()
        assert next(results) == 1
        assert time.monotonic() - started < 10
        release.set()
        assert list(results) == [2]


class _Weak(np.ndarray):
    """An array that says when it is gone."""
