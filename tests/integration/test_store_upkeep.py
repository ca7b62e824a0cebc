"""What a library leaves on disk and what a search sees meanwhile: nothing that was removed, nothing by halves."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from arrowlens.errors import StorageError
from arrowlens.store import ModelRecord, MultimodalStorage, VectorRow
from arrowlens.store.maintenance import MAX_FRAGMENTS, MAX_FRAGMENTS_MEANWHILE
from tests.support.store_process import DIGEST, THUMBNAIL_BYTES, D, bytes_of, commit, thumbnail_of, vector_of

TABLES = (f"clip_embeddings__{DIGEST[:8]}", "thumbnails", "media")


def library(path):
    storage = MultimodalStorage(path)
    storage.bind_models({"vision": ModelRecord(DIGEST, D)})
    storage.add_root("/pictures")
    return storage


def end_of_run(storage):
    """What a run does when everything is committed."""
    storage.repair()
    storage.optimize(thorough=False)


def shapes(storage):
    stats = storage.table_stats()
    return {name: stats.get(name) for name in TABLES}


def n_bytes(storage):
    return storage.statistics().n_bytes


def traces(storage, name):
    """Files of a library that hold a file's vector or its thumbnail."""
    wanted = [bytes_of(name), thumbnail_of(name)]
    files = [path for path in storage.path.rglob("*") if path.is_file()]
    return [path.name for path in files if any(part in path.read_bytes() for part in wanted)]


def stored_rows(storage, table):
    """Rows that are physically there, deleted ones included."""
    stats = storage._tables.shards[0].read(table, lambda handle: handle.stats(), None)["fragment_stats"]
    return round(stats["lengths"]["mean"] * stats["num_fragments"])


def test_what_is_removed_is_gone_from_the_disk(tmp_path):
    """One file of many, which lance by itself would keep until a tenth of the rows is deleted."""
    storage = library(tmp_path / "l")
    for batch in range(3):
        commit(storage, [f"{batch}-{number}" for number in range(100)])
    end_of_run(storage)
    assert traces(storage, "1-7")
    storage.delete_media(["1-7"])
    assert traces(storage, "1-7") == []
    assert traces(storage, "1-8")
    for table in TABLES:
        assert stored_rows(storage, table) == 299
    assert not any(shape.has_deleted for shape in shapes(storage).values())
    assert not storage.needs_optimizing()


def test_all_files_of_a_run_removed_leave_nothing_on_the_disk(tmp_path):
    """Their rows lie in a file of their own, which the newest version merely ceases to name."""
    storage = library(tmp_path / "l")
    commit(storage, [f"a-{number}" for number in range(1000)])
    end_of_run(storage)
    commit(storage, [f"b-{number}" for number in range(5)])
    end_of_run(storage)
    assert traces(storage, "b-2")
    storage.delete_media([f"b-{number}" for number in range(5)])
    assert traces(storage, "b-2") == []
    assert traces(storage, "a-2")


def test_the_last_file_removed_leaves_nothing_of_itself(tmp_path):
    storage = library(tmp_path / "l")
    commit(storage, ["only"])
    storage.delete_media(["only"])
    assert traces(storage, "only") == []
    assert [stored_rows(storage, table) for table in TABLES] == [0, 0, 0]
    assert storage.settings.roots == (), "nor of its folder"
    assert b"pictures" not in (storage.path / "library.json").read_bytes()
    commit(storage, ["another"])
    assert storage.search("vision", DIGEST, vector_of("another"), 5)["media_id"].to_pylist() == ["another"]


def test_replaced_content_is_gone_after_the_run(tmp_path):
    storage = library(tmp_path / "l")
    commit(storage, [f"{number}" for number in range(100)])
    end_of_run(storage)
    commit(storage, {"5": "another content"})
    end_of_run(storage)
    assert traces(storage, "5") == []
    assert traces(storage, "another content")


def test_a_removal_that_was_killed_is_finished_by_the_next_run(tmp_path):
    storage = library(tmp_path / "l")
    commit(storage, [f"{number}" for number in range(200)])
    end_of_run(storage)
    code = "import sys; from arrowlens.store import MultimodalStorage as M; M(sys.argv[1]).delete_media(sys.argv[2:])"
    random_ = random.Random(0)
    for number in range(6):
        process = subprocess.Popen([sys.executable, "-c", code, str(storage.path), str(number)])
        time.sleep(random_.uniform(0.2, 2.0))
        process.kill()
        process.wait()
        if storage.repair() or storage.needs_optimizing():
            storage.optimize(thorough=False)
        if storage.media([str(number)]).num_rows == 0:
            assert traces(storage, str(number)) == []
    assert storage.statistics().images >= 194


@pytest.mark.parametrize(
    "is_timed", [pytest.param(False, id="room"), pytest.param(True, id="and time", marks=pytest.mark.soak)]
)
def test_fifty_small_runs_take_no_more_room_than_one_large_one(tmp_path, is_timed):
    one, many = library(tmp_path / "one"), library(tmp_path / "many")
    names = [f"{number:05d}" for number in range(2000)]
    for start in range(0, 2000, 256):
        commit(one, names[start : start + 256])
    end_of_run(one)
    for start in range(0, 2000, 40):
        commit(many, names[start : start + 40])
        end_of_run(many)
    assert max(shape.n_fragments for shape in shapes(many).values()) <= MAX_FRAGMENTS
    assert n_bytes(many) <= 1.3 * n_bytes(one)
    if not is_timed:
        return
    seconds = {one: [], many: []}
    for number in range(40):
        for storage in (one, many):
            started = time.perf_counter()
            hits = storage.search("vision", DIGEST, vector_of(names[number]), 20)
            storage.media(hits["media_id"].to_pylist())
            seconds[storage].append(time.perf_counter() - started)
    assert min(seconds[many]) <= 1.5 * min(seconds[one])


def test_a_long_run_does_not_pile_up_fragments(tmp_path):
    storage = library(tmp_path / "l")
    for number in range(2 * MAX_FRAGMENTS_MEANWHILE):
        commit(storage, [f"{number}"])
        storage.optimize_meanwhile()
        if number % 10 == 0:
            largest = max(shape.n_fragments for shape in shapes(storage).values())
            assert largest <= MAX_FRAGMENTS_MEANWHILE + 1
    end_of_run(storage)
    assert max(shape.n_fragments for shape in shapes(storage).values()) <= MAX_FRAGMENTS
    assert storage.statistics().images == 2 * MAX_FRAGMENTS_MEANWHILE


def test_a_compaction_that_was_killed_leaves_no_bloat(tmp_path):
    storage = library(tmp_path / "l")
    for batch in range(6):
        commit(storage, [f"{batch}-{number}" for number in range(200)])
    expected = 1200 * (THUMBNAIL_BYTES + 2 * D)
    code = "import sys; from arrowlens.store import MultimodalStorage as M; M(sys.argv[1]).optimize()"
    random_ = random.Random(1)
    for batch in range(6, 10):
        commit(storage, [f"{batch}-{number}" for number in range(5)])
        process = subprocess.Popen([sys.executable, "-c", code, str(storage.path)])
        time.sleep(random_.uniform(0.8, 1.6))
        process.kill()
        process.wait()
        assert storage.statistics().images == 1200 + 5 * (batch - 5)
    if storage.needs_optimizing():
        storage.optimize(thorough=False)
    assert n_bytes(storage) <= 1.3 * expected


def test_searches_in_another_process_see_whole_batches_only(tmp_path):
    """While batches come, change their content, and go, and tables are compacted all the while."""
    storage = library(tmp_path / "l")
    commit(storage, [f"stable-{number}" for number in range(30)])
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.store_process", str(storage.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"searching\n"
        for round_ in range(12):
            commit(storage, [f"batch{round_}-{number}" for number in range(7)])
            commit(storage, {f"stable-{number}": f"{round_:08d} content {number}" for number in range(5)})
            storage.repair()
            if round_ % 3 == 0:
                storage.delete_media([f"batch{round_}-{number}" for number in range(7)])
            storage.optimize(thorough=round_ % 2 == 0)
        said = reader.communicate(timeout=60)[0]
    seen = json.loads(said)
    assert seen["faults"] == []
    assert seen["searches"] > 20
    assert seen["states"] > 3, "the searches fell between the commits"


def test_a_search_that_a_commit_overtakes_misses_nothing(tmp_path, monkeypatch):
    """Between its look at the vectors and its look at the media, every file gets another content."""
    storage, reader = library(tmp_path / "l"), MultimodalStorage(tmp_path / "l")
    names = [f"{number}" for number in range(20)]
    commit(storage, names)
    read, overtaken = reader._tables.shards[0].read, []

    def overtaken_read(name, ask, empty):
        answer = read(name, ask, empty)
        if name == TABLES[0] and len(overtaken) < 3:
            overtaken.append(name)
            commit(storage, {file: f"{len(overtaken):08d} {file}" for file in names})
            storage.repair()
        return answer

    monkeypatch.setattr(reader._tables.shards[0], "read", overtaken_read)
    hits = reader.search("vision", DIGEST, vector_of("query"), 100)
    assert len(overtaken) == 3
    assert sorted(hits["media_id"].to_pylist()) == sorted(names)
    assert {content[:8] for content in hits["content_hash"].to_pylist()} == {"00000003"}


FULL = """
import json, resource, sys
from arrowlens.errors import StorageError
from tests.support.store_process import commit
from arrowlens.store import MultimodalStorage
storage, limit = MultimodalStorage(sys.argv[1]), int(sys.argv[3])
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
said = []
if sys.argv[2] == "merging":
    act = lambda: commit(storage, ["lost in flight"] + [f"new-{n}" for n in range(300)])
else:
    act = lambda: storage.optimize()
storage.statistics()
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
for attempt in range(3):
    try:
        act()
        said.append("done")
    except StorageError as error:
        said.append(str(error))
    assert storage.statistics().images == 400
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
act()
storage.repair()
storage.optimize(thorough=False)
print(json.dumps(said))
"""


@pytest.mark.parametrize(("doing", "limit"), [("merging", 100), ("merging", 60_000), ("compacting", 200_000)])
def test_a_full_disk_loses_nothing_and_the_next_attempt_goes_on(tmp_path, doing, limit):
    storage = library(tmp_path / "l")
    for batch in range(4):
        commit(storage, [f"{batch}-{number}" for number in range(100)])
    process = [sys.executable, "-c", FULL, str(storage.path), doing, str(limit)]
    done = subprocess.run(process, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for message in json.loads(done.stdout):
        assert "free disk space" in message
        assert "\n" not in message
    n_files = 701 if doing == "merging" else 400
    assert storage.statistics().images == n_files
    assert n_bytes(storage) <= 1.3 * n_files * (THUMBNAIL_BYTES + 2 * D + 300), "nothing is left of the attempts"
    for name in ("0-0", "3-99"):
        assert storage.search("vision", DIGEST, vector_of(name), 1)["media_id"].to_pylist() == [name]


def test_a_commit_is_on_the_disk_when_it_is_made(tmp_path, monkeypatch):
    """Each file is synced once it is written, and a compaction's before it deletes what they replace."""
    synced, sync = set(), os.fsync

    def traced(descriptor):
        synced.add(os.path.realpath(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", traced)
    storage = library(tmp_path / "l")
    for batch in range(3):
        commit(storage, [f"{batch}-{number}" for number in range(10)])
        assert files_of(storage) <= synced
    before = files_of(storage)
    storage.optimize()
    after = files_of(storage)
    assert after <= synced
    assert not {path for path in before & after if "/data/" in path}, "everything was written anew"


def files_of(storage):
    return {str(path) for path in storage.path.glob("*.lance/*/*") if not path.name.endswith(".json")}


@pytest.mark.parametrize(
    ("table", "part", "rest"),
    [
        *((table, part, 0) for table in TABLES for part in ("_versions", "data")),
        ("media", "_versions", 0.5),
        (TABLES[0], "data", 0.5),
    ],
)
def test_what_a_loss_of_power_cuts_off_is_taken_back(tmp_path, table, part, rest):
    storage = library(tmp_path / "l")
    for batch in range(3):
        commit(storage, [f"{batch}-{number}" for number in range(10)])
    storage.close()
    files = [path for path in (storage.path / f"{table}.lance" / part).iterdir() if path.suffix != ".json"]
    newest = max(files, key=lambda path: path.stat().st_mtime_ns)
    os.truncate(newest, int(rest * newest.stat().st_size))
    storage = MultimodalStorage(tmp_path / "l")
    with pytest.raises(StorageError) as caught:
        storage._tables.shards[0].read(table, lambda handle: handle.to_arrow(), None)
    message = str(caught.value)
    cure = "did not reach the disk whole; `arrowlens ingest` takes it back"
    assert cure in message or (rest and "run again" in message), "half a file may hold any nonsense"
    assert ".rs:" not in message
    assert "\n" not in message
    storage.repair()
    assert storage.search("vision", DIGEST, vector_of("1-3"), 1)["media_id"].to_pylist() == ["1-3"]
    assert storage.statistics().images == (20 if (table, part) == ("media", "data") else 30), "a manifest has a copy"
    commit(storage, [f"2-{number}" for number in range(10)])
    end_of_run(storage)
    assert storage.search("vision", DIGEST, vector_of("2-3"), 1)["media_id"].to_pylist() == ["2-3"]
    assert [stored_rows(storage, name) for name in TABLES] == [30, 30, 30]


def test_a_table_that_lost_more_than_its_newest_version_is_left_as_it_is(tmp_path):
    storage = library(tmp_path / "l")
    for batch in range(2):
        commit(storage, [f"{batch}"])
    for path in (storage.path / "media.lance" / "data").iterdir():
        os.truncate(path, 0)
    before = sorted((storage.path / "media.lance" / "_versions").iterdir())
    with pytest.raises(StorageError):
        MultimodalStorage(storage.path).repair()
    assert sorted((storage.path / "media.lance" / "_versions").iterdir()) == before


def test_vectors_of_a_recording_come_whole(tmp_path):
    storage = library(tmp_path / "l")
    rows = [VectorRow("m", "h", "audio", np.eye(D)[number], number, 5.0 * number) for number in range(6)]
    storage.upsert_vectors("vision", rows)
    assert storage.vectors("vision", DIGEST, "h").shape == (6, D)
