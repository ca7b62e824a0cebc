"""While a run goes on: stopping it, its events, a second run, searches."""

from __future__ import annotations

import os
import shutil
import threading

import numpy as np

from arrowlens.errors import LibraryBusyError
from arrowlens.ingest import IngestEvent, IngestOptions, run
from arrowlens.store import ModelRecord, MultimodalStorage
from tests.support.folders import write_folder, write_picture
from tests.support.small_models import CLIP_DIGEST, SmallProvider

N_PICTURES, N_WINDOWS, N_FILES = 12, 6, 15  # of ``write_folder``


def test_stopping_finishes_the_batch_and_the_next_run_goes_on(storage, folder, provider):
    stop = threading.Event()

    def stop_after_five(event):
        if event.indexed >= 5:
            stop.set()

    report = run(storage, provider, [folder], IngestOptions(batch_size=2, workers=2), stop_after_five, stop)
    assert report.stopped
    assert 5 <= report.indexed < N_FILES
    assert storage.media_under(os.sep).num_rows == report.indexed, "what was encoded is written"
    rest = run(storage, provider, [folder])
    assert (rest.indexed, rest.unchanged) == (N_FILES - report.indexed, report.indexed)
    assert (rest.skipped, rest.removed) == (0, 0)
    assert provider.n_encoded == N_PICTURES + N_WINDOWS, "nothing was encoded twice"


def test_a_stopped_run_removes_nothing(storage, folder, provider):
    run(storage, provider, [folder])
    shutil.rmtree(folder / "below")
    stop = threading.Event()
    stop.set()
    report = run(storage, provider, [folder], stop=stop)
    assert (report.stopped, report.removed) == (True, 0)
    assert storage.statistics().images == N_PICTURES


def test_events_lead_from_the_walk_to_the_end(storage, folder, provider):
    events: list[IngestEvent] = []
    (folder / "bad.png").write_bytes(b"bad")
    run(storage, provider, [folder], on_event=events.append)
    phases = list(dict.fromkeys(event.phase for event in events))
    assert phases == ["walk", "index", "optimize", "done"]
    indexing = [event for event in events if event.phase == "index"]
    assert [event.done for event in indexing] == sorted(event.done for event in indexing)
    assert {event.path for event in indexing} - {None} == {str(path) for path in folder.rglob("*.*")}
    assert [event.reason is not None for event in indexing].count(True) == 1
    assert (events[-1].done, events[-1].total) == (N_FILES + 1, N_FILES + 1)


def test_two_runs_at_once(storage, folder, provider):
    outcome = []

    def second(event):
        if event.phase == "index" and not outcome:
            try:
                run(MultimodalStorage(storage.path), SmallProvider(), [folder])
            except LibraryBusyError as error:
                outcome.append(str(error))

    assert run(storage, provider, [folder], on_event=second).indexed == N_FILES
    assert "another run" in outcome[0]


def test_searching_goes_on_and_sees_whole_files(storage, tmp_path, provider):
    folder = write_folder(tmp_path / "in", 60, 0)
    done, failures, seen = threading.Event(), [], []
    query = np.random.default_rng(5).standard_normal(24)
    storage.bind_models({role: ModelRecord(provider.digest(role), 24) for role in ("vision", "audio")})

    def search():
        reader = MultimodalStorage(storage.path, create=False)
        try:
            while not done.is_set():
                hits = reader.search("vision", CLIP_DIGEST, query, 100)
                assert len(reader.media(hits["media_id"].to_pylist())) == hits.num_rows
                seen.append(hits.num_rows)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for round_ in range(3):
            run(storage, provider, [folder], IngestOptions(commit_every=7))
            for number in range(0, 60, 7):
                write_picture(next(folder.rglob(f"picture {number:03d}.*")), 1000 * (round_ + 1) + number)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert max(seen) == 60
