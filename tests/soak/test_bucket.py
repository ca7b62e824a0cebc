"""Libraries in a bucket 30 ms away: writers that are stopped or killed, a store that is away, readers meanwhile.

The end is always that of a library in a folder, which nothing disturbed: row by row and bit by bit.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from arrowlens.errors import LibraryBusyError
from arrowlens.store import MultimodalStorage, lease
from tests.integration.test_store_upkeep import TABLES, end_of_run, library
from tests.support.store_process import DIGEST, commit

pytestmark = pytest.mark.soak
N_A_COMMIT = 4
WRITER = """
import sys
from arrowlens.errors import LibraryBusyError
from arrowlens.store import MultimodalStorage
from tests.soak.test_bucket import files_of
from tests.support.store_process import commit
storage = MultimodalStorage(sys.argv[1])
try:
    with storage.writing():
        for number in range(int(sys.argv[2]), 10_000):
            commit(storage, files_of(number))
            print(number, flush=True)
except LibraryBusyError as error:
    print(error)
"""


@pytest.fixture
def storage(bucket, proxy):
    proxy.delay_s = 0.03
    return library(bucket)


def files_of(number):
    """The files that commit ``number`` writes."""
    return [f"{number:04d}-{part}" for part in range(N_A_COMMIT)]


def start(storage, first):
    """A process that commits without end, after its first commit."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, storage.uri, str(first)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == f"{first}\n"
    return writer


def wait_for_the_lease(storage):
    ends = time.monotonic() + 2 * lease.LENGTH_S
    while True:
        try:
            with storage.writing():
                return
        except LibraryBusyError:
            assert time.monotonic() < ends
            time.sleep(1)


def assert_like_a_folder(storage, folder):
    """The files of the library are those that whole commits write, and so are their vectors and thumbnails."""
    end_of_run(storage)
    names = storage.all_media(["media_id"])["media_id"].to_pylist()
    numbers = sorted({int(name.split("-")[0]) for name in names})
    undisturbed = library(folder)
    for number in numbers:
        commit(undisturbed, files_of(number))
    assert rows(storage) == rows(undisturbed)
    assert [storage.health.n_repeated(name) for name in TABLES] == [0, 0, 0]
    return numbers


def rows(storage):
    """Everything that the tables hold, but for times of writing."""
    media = storage.all_media().to_pylist()
    contents = [row["content_hash"] for row in media]
    vectors = storage._tables.rows(
        TABLES[0], ["embedding_id", "embedding", "content_hash"], storage._tables.shards[0].table(TABLES[0]).schema
    ).sort_by("embedding_id")
    return media, vectors.to_pylist(), storage.thumbnails(contents)


def test_a_writer_that_is_stopped_beyond_its_lease_writes_no_more_when_it_wakes_up(storage, tmp_path):
    writer = start(storage, 0)
    writer.send_signal(signal.SIGSTOP)
    wait_for_the_lease(storage)
    for number in range(5):
        commit(storage, files_of(number))
    end_of_run(storage)
    before = rows(storage)
    writer.send_signal(signal.SIGCONT)
    said = writer.communicate(timeout=60)[0]
    assert "another one may be writing by now" in said
    assert rows(storage) == before
    assert assert_like_a_folder(storage, tmp_path / "folder")[:5] == [0, 1, 2, 3, 4]


def test_writers_that_are_killed_leave_nothing_that_the_next_one_does_not_mend(storage, tmp_path):
    for first in (0, 100, 200):
        writer = start(storage, first)
        time.sleep(1 + first / 200)
        writer.kill()
        n_whole = len(writer.communicate()[0].split())
        wait_for_the_lease(storage)
        numbers = assert_like_a_folder(storage, tmp_path / f"folder {first}")
        assert {*range(first, first + n_whole + 1)} <= {*numbers}, "what was committed is there"


def test_of_two_writers_at_once_one_goes_on_and_one_is_refused(storage, tmp_path):
    command = [sys.executable, "-c", WRITER, storage.uri]
    writers = [subprocess.Popen([*command, first], stdout=subprocess.PIPE, text=True) for first in ("0", "1000")]
    time.sleep(25)
    is_refused = [writer.poll() is not None for writer in writers]
    for writer in writers:
        writer.kill()
    said = [writer.communicate()[0] for writer in writers]
    assert sorted(is_refused) == [False, True]
    assert "is being written to by another run" in said[is_refused.index(True)]
    wait_for_the_lease(storage)
    numbers = assert_like_a_folder(storage, tmp_path / "folder")
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_store_that_is_away_for_15_seconds_costs_nothing(storage, proxy, tmp_path):
    with storage.writing():
        for number in range(6):
            if number == 2:
                proxy.is_away, away_since = True, time.monotonic()
                threading.Timer(15, setattr, (proxy, "is_away", False)).start()
            commit(storage, files_of(number))
            assert number != 2 or time.monotonic() - away_since >= 15, "the commit waited until the store was back"
    assert assert_like_a_folder(storage, tmp_path / "folder") == list(range(6))


@pytest.mark.parametrize("request_", ["media.lance/_versions", "clip.*/data", "thumbnails.*_transactions", "lease"])
def test_answers_that_are_lost_after_their_writes_cost_nothing(storage, proxy, tmp_path, request_):
    for number in range(8):
        proxy.lose_answers(f"PUT .*{request_}", number % 3)
        commit(storage, files_of(number))
    assert any(request.status is None for request in proxy.requests)
    assert assert_like_a_folder(storage, tmp_path / "folder") == list(range(8))


def test_readers_beside_compactions_see_whole_batches_only(storage):
    commit(storage, [f"stable-{number}" for number in range(30)])
    command = [sys.executable, "-m", "tests.support.store_process", storage.uri]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"searching\n"
        for round_ in range(6):
            commit(storage, [f"batch{round_}-{number}" for number in range(7)])
            storage.optimize(thorough=True)
        said = json.loads(reader.communicate(timeout=120)[0])
    assert said["faults"] == []
    assert said["searches"] > 5
    assert said["states"] > 2, "it searched while there were changes"
    assert MultimodalStorage(storage.uri).n_vectors("vision", DIGEST) == 72
