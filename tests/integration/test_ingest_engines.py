"""A run is the same with every engine: one on other machines answers in any order, and may answer twice."""

from __future__ import annotations

import dataclasses
import pickle
import threading

import numpy as np
import pytest

from arrowlens.errors import StorageError
from arrowlens.ingest import IngestOptions, run
from arrowlens.ingest.step import EncodeStep
from arrowlens.store import MultimodalStorage
from tests.soak.whole import assert_same, assert_whole, read
from tests.support.folders import write_folder, write_picture
from tests.support.small_models import SmallProvider


class Elsewhere:
    """Steps that travel, over a few files each; every answer comes twice, in an order of its own."""

    def __init__(self, seed=0):
        self._dice = np.random.default_rng(seed)
        self.n_lists, self.is_closed = 0, False

    def outcomes(self, spec, files, known, stop):
        chunks = [files[start : start + 4] for start in range(0, len(files), 4)] * 2
        try:
            for index in self._dice.permutation(len(chunks)):
                step = pickle.loads(pickle.dumps(EncodeStep(spec)))
                self.n_lists += 1
                yield pickle.loads(pickle.dumps(step(chunks[index], known)))
                if stop.is_set():
                    return
        finally:
            self.is_closed = True


def counts(report):
    kept = dataclasses.asdict(report)
    return {name: kept[name] for name in ("indexed", "unchanged", "skipped", "removed", "moved", "captions", "reasons")}


def test_the_library_is_the_same_as_by_the_local_engine(tmp_path, folder):
    here, there = (MultimodalStorage(tmp_path / name) for name in ("here", "there"))
    (folder / "bad.png").write_bytes(b"bad")
    (folder / "picture 001.txt").write_text("a bicycle", encoding="utf-8")
    (folder / "twin.png").write_bytes((folder / "picture 002.png").read_bytes())

    def both(**options):
        provider = SmallProvider(("vision", "audio", "text"))
        engine = Elsewhere(1)
        reports = [
            run(here, provider, [folder], IngestOptions(**options)),
            run(there, provider, [folder], IngestOptions(**options, commit_every=3), engine=engine),
        ]
        assert counts(reports[0]) == counts(reports[1])
        assert_same(read(here.path), read(there.path))
        return engine.n_lists, reports[1]

    n_lists, report = both()
    assert (n_lists, report.indexed, report.skipped, report.captions) == (10, 16, 1, 1)
    write_picture(folder / "picture 004.png", 99)
    (folder / "picture 001.txt").write_text("a red bicycle", encoding="utf-8")
    (folder / "picture 005.jpg").rename(folder / "moved.jpg")
    (folder / "sound 000.wav").unlink()
    n_lists, report = both(prune=True)
    assert (n_lists, report.indexed, report.copied, report.moved, report.removed) == (2, 2, 1, 1, 1)
    assert both()[0] == 0, "nothing to read"


def test_a_run_that_is_stopped_goes_on_with_another_engine(tmp_path, folder, storage):
    stop, engine = threading.Event(), Elsewhere()

    def stop_after_one(event):
        if event.indexed:
            stop.set()

    report = run(storage, SmallProvider(), [folder], None, stop_after_one, stop, engine)
    assert (report.stopped, engine.is_closed, engine.n_lists) == (True, True, 1)
    assert 0 < report.indexed <= 4
    rest = run(storage, SmallProvider(), [folder])
    assert (rest.indexed, rest.unchanged) == (15 - report.indexed, report.indexed)
    assert_whole(read(storage.path), settled=True)


def test_an_engine_is_closed_when_the_library_cannot_be_written(tmp_path, monkeypatch, storage):
    folder = write_folder(tmp_path / "many", 12, 0)

    def refuse(*arguments, **options):
        raise StorageError("the disk is full; make room")

    monkeypatch.setattr(MultimodalStorage, "upsert_vectors", refuse)
    engine = Elsewhere()
    with pytest.raises(StorageError, match="the disk is full") as raised:
        run(storage, SmallProvider(), [folder], IngestOptions(commit_every=1), engine=engine)
    assert raised.tb is not None, "the error holds on to the run's variables: nothing is closed by leaving them"
    assert (engine.n_lists, engine.is_closed) == (1, True)
