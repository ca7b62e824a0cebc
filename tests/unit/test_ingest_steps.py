from __future__ import annotations

import pickle
import threading
import time
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest

from arrowlens.encoders import ImageProcessor
from arrowlens.errors import AudioValidationError, ImageValidationError, InputError
from arrowlens.ingest import Event, IngestOptions
from arrowlens.ingest.ahead import MAX_BYTES, MAX_WAITING, ReadAhead
from arrowlens.ingest.encode import Batcher, ModelFailure, Pending, encode_each
from arrowlens.ingest.jobs import Progress
from arrowlens.ingest.prepare import Preparer
from arrowlens.ingest.walk import Found
from arrowlens.media import Limits
from arrowlens.store import Root
from tests.folders import write_picture, write_sound


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
    assert results[3] == "the model failed, the next run tries again: the kernel broke"
    assert [isinstance(result, ModelFailure) for result in results] == [False, False, False, True, False]
    assert results[4] == "the model gives it a vector without direction"


def test_a_model_that_does_not_work_blames_no_file():
    broken = [np.full(3, np.inf)] * 3
    with pytest.raises(RuntimeError, match="kernel broke"):
        encode_each(encode, broken)


def test_batches_are_full_and_span_files():
    sizes = []

    def counting(inputs):
        sizes.append(len(inputs))
        return encode(inputs)

    batcher = Batcher(counting, 4)
    files = [Pending(None, [None] * n) for n in (1, 6, 2)]
    for number, pending in enumerate(files):
        batcher.add(pending, [np.full(3, number + 1.0)] * len(pending.vectors))
    assert [pending.is_complete for pending in files] == [True, True, False]
    batcher.flush()
    batcher.flush()
    assert sizes == [4, 4, 1]
    assert [[tuple(vector) for vector in pending.vectors] for pending in files] == [
        [(3, 1)],
        [(6, 2)] * 6,
        [(9, 3)] * 2,
    ]


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


def prepared(path, **changes):
    options = {"image_processor": ImageProcessor(image_size=32), "limits": Limits(), "exact": False}
    preparer = Preparer(**{**options, **changes}, window_s=10.0, hop_s=5.0)
    status = path.stat() if path.exists() else path.parent.stat()
    size, modified_ns = status.st_size, status.st_mtime_ns
    found = Found(bytes(path), Root.at(str(path.parent)), path.name.encode(), "image", size, modified_ns)
    return pickle.loads(pickle.dumps(preparer))(found)


def test_a_picture_becomes_one_input(tmp_path):
    result = prepared(write_picture(tmp_path / "x.jpg", 1, (640, 480)))
    assert [(value.shape, value.dtype) for value in result.inputs] == [((32, 32, 3), np.uint8)]
    assert result.windows == ()
    assert result.decoded.pixels is None
    assert (result.decoded.width, result.decoded.height) == (640, 480)
    pickle.loads(pickle.dumps(result))


def test_a_recording_becomes_windows(tmp_path):
    result = prepared(write_sound(tmp_path / "x.wav", 1, 23.0))
    assert [(window.start_s, window.end_s) for window in result.windows] == [(0, 10), (5, 15), (10, 20), (15, 23)]
    assert [len(value) for value in result.inputs] == [160_000, 160_000, 160_000, 128_000]
    assert result.decoded.samples is None


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
    preparer = Preparer(ImageProcessor(image_size=32), Limits(), exact=False, window_s=10.0, hop_s=5.0)
    found = Found(bytes(path), Root.at(str(tmp_path)), b"x.png", "image", 100, path.stat().st_mtime_ns)
    result = preparer(found)
    assert result.decoded.reason is not None
    assert result.unread, "it was shorter when the walk saw it: somebody is writing it"


def test_a_picture_without_a_model_has_no_inputs(tmp_path):
    result = prepared(write_picture(tmp_path / "x.jpg", 1), image_processor=None)
    assert result.decoded.reason is None
    assert result.inputs == ()


@pytest.mark.parametrize("name", ["workers", "batch_size", "commit_every"])
def test_options_are_checked(name):
    with pytest.raises(InputError, match=name):
        IngestOptions(**{name: 0})
    assert IngestOptions().n_workers >= 1
    assert IngestOptions(workers=7).n_workers == 7


def test_progress_tells_counts_rate_and_time_left():
    events: list[Event] = []
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
    report = progress.report(True, {b"/y": "denied"})
    assert report.to_dict()["reasons"] == {"truncated": 1}
    assert report.unread_folders == {"/y": "denied"}
    assert report.stopped


def test_input_errors_are_those_of_the_encoders():
    assert issubclass(ImageValidationError, InputError)
