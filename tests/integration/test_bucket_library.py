"""A library in a bucket from end to end: the commands and the API give what they give for one in a folder."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import obstore
import pyarrow as pa
import pytest
from obstore.store import from_url
from PIL import Image

import arrowlens
from arrowlens import Library
from arrowlens.cli import main
from arrowlens.errors import InputError, LibraryBusyError, LibraryError
from arrowlens.store import MultimodalStorage, lease, object_location
from tests.integration.test_cli_journey import SAMPLES
from tests.integration.test_store_upkeep import TABLES, end_of_run, library
from tests.support.object_store import ACCESS_KEY, SECRET_KEY
from tests.support.store_process import bytes_of, commit, thumbnail_of

FILES = ("pictures/nature/lion-01.png", "sounds/dog-01.ogg")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "media"
    folder.mkdir()
    for name in FILES:
        shutil.copy(SAMPLES / name, folder)
    shutil.copy(SAMPLES / FILES[0], folder / "copy.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ARROWLENS_CACHE", str(tmp_path / "cache"))


def said(capsys, *arguments):
    """The JSON object that a command gives."""
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_command_gives_what_it_gives_for_a_folder(tmp_path, folder, bucket, monkeypatch, capsys):
    answers = []
    for address in (tmp_path / "library", bucket):
        monkeypatch.setenv("ARROWLENS_LIBRARY", str(address))
        ingested = said(capsys, "ingest", folder, "--models", "demo", "--workers", "1")
        again = said(capsys, "ingest", folder, "--dry-run")
        hits = said(capsys, "search", "a lion")["hits"]
        like = said(capsys, "similar", folder / "dog-01.ogg")["hits"]
        status = said(capsys, "status")
        assert (ingested["library"], status["uri"]) == (str(address), str(address))
        assert said(capsys, "optimize")["bytes_after"] > 0
        findings = said(capsys, "doctor", "--repair")["findings"]
        ills = [finding for finding in findings if finding["level"] != "ok"]
        removed = said(capsys, "remove", folder / "copy.png")
        answers.append(
            (
                [ingested[name] for name in ("indexed", "skipped", "removed")],
                again["unchanged"],
                [(hit["path"], round(hit["score"], 6)) for hit in hits],
                [(hit["path"], round(hit["score"], 6)) for hit in like],
                [status[name] for name in ("images", "audio", "skipped", "models", "folders")],
                said(capsys, "skipped"),
                len(said(capsys, "duplicates")["groups"]),
                (ills, removed),
            )
        )
    assert answers[0] == answers[1]
    assert answers[0][0] == [3, 1, 0]


def test_credentials_are_nowhere_to_be_read(folder, bucket, monkeypatch, capsys, caplog):
    options = {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY, "region": "us-east-1"}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    given = [part for pair in options.items() for part in ("--storage-option", "=".join(pair))]
    common = ["--library", bucket, *given]
    assert main(["ingest", str(folder), "--models", "demo", "--workers", "1", *common]) == 0
    assert main(["status", *common]) == 0
    wrong = [part.replace(ACCESS_KEY, "other-access-key") for part in common]
    assert main(["status", *wrong]) == 1
    assert main(["status", *common, "--storage-option", f"no_such_option={SECRET_KEY}"]) == 1
    with pytest.raises(SystemExit):
        main(["status", "--library", bucket, "--storage-option", SECRET_KEY])
    output = capsys.readouterr()
    store = from_url(bucket, config=options)
    objects = b"".join(bytes(obstore.get(store, each["path"]).bytes()) for page in obstore.list(store) for each in page)
    with Library.open(bucket, storage_options=options) as library:
        shown = f"{library!r} {library.status()} {library._storage.settings}"
    assert SECRET_KEY not in output.out + output.err + caplog.text + shown
    assert SECRET_KEY.encode() not in objects


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "clip", "openai/clip", "--output", "s3://photos/model"],
        ["similar", "s3://photos/a.jpg"],
        ["search", "x", "--like", "s3://photos/a.jpg"],
        ["eval", "s3://photos", "pairs.csv"],
        ["ui", "--password-file", "s3://photos/hash"],
    ],
)
def test_an_address_where_only_a_path_will_do_is_wrong_usage(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "is not on this machine" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_library_that_is_not_there_is_an_error_and_leaves_nothing(bucket, capsys):
    assert main(["status", "--library", bucket]) == 1
    assert "arrowlens: no library at s3://" in capsys.readouterr().err
    assert main(["status", "--library", "gs://photos/library"]) == 1
    assert "s3://BUCKET/PREFIX" in capsys.readouterr().err
    assert not [each for page in obstore.list(from_url(bucket)) for each in page]


def test_without_the_extra_one_line_names_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    assert main(["status", "--library", "s3://photos/library"]) == 1
    error = capsys.readouterr().err
    assert "pip install 'arrowlens[s3]'" in error
    assert error.count("\n") == 1


def traces(bucket, name):
    """Objects that hold a file's vector or its thumbnail."""
    store = from_url(bucket)
    wanted = [bytes_of(name), thumbnail_of(name)]
    paths = [each["path"] for page in obstore.list(store) for each in page]
    return [path for path in paths if any(part in bytes(obstore.get(store, path).bytes()) for part in wanted)]


def test_what_is_removed_leaves_the_bucket_once_the_versions_that_hold_it_are_old(bucket, monkeypatch):
    monkeypatch.setattr(object_location, "RETENTION", dt.timedelta(seconds=4))
    storage = library(bucket)
    for number in range(3):
        commit(storage, [f"{number}-{part}" for part in range(4)])
    end_of_run(storage)
    storage.delete_media(["1-2"])
    n_bytes, until = storage.retained()
    assert traces(bucket, "1-2"), "a writer that was paused may still need it"
    assert n_bytes > 0
    assert until - dt.datetime.now(dt.UTC) < dt.timedelta(seconds=5)
    time.sleep(6)
    storage = MultimodalStorage(bucket)
    assert storage.needs_optimizing()
    storage.optimize(thorough=False)
    assert traces(bucket, "1-2") == []
    assert len(traces(bucket, "1-1")) == 2
    assert all(stats.n_versions <= 2 for stats in storage.table_stats().values())


def test_rows_that_are_there_twice_are_counted_and_one_of_each_is_kept(bucket):
    storage = library(bucket)
    commit(storage, ["a", "b"])
    assert [storage.health.n_repeated(name) for name in TABLES] == [0, 0, 0]
    for name in TABLES:
        table = storage._tables.shards[0].table(name)
        table.add(pa.Table.from_batches(table.search().limit(1).to_arrow().to_batches()))
    assert [storage.health.n_repeated(name) for name in TABLES] == [1, 1, 1]
    assert storage.repair() == 1
    assert [storage.health.n_repeated(name) for name in TABLES] == [0, 0, 0]
    assert storage.statistics().images == 2


def test_a_writer_that_was_paused_beyond_its_lease_writes_no_more(bucket, monkeypatch):
    storage, other = library(bucket), MultimodalStorage(bucket)
    with storage.writing():
        commit(storage, ["a"])
        monkeypatch.setattr(storage._location._lease, "_ends", 0.0)
        with pytest.raises(LibraryBusyError, match="another one may be writing"):
            commit(storage, ["b"])
    assert other.statistics().images == 1


def test_a_lease_that_ended_while_the_bucket_was_away_goes_on_if_nobody_took_it(bucket, monkeypatch):
    monkeypatch.setattr(lease, "LENGTH_S", 1.0)
    storage = library(bucket)
    with storage.writing():
        monkeypatch.setattr(storage._location._lease, "_ends", 0.0)
        deadline = time.monotonic() + 10
        while not storage._location._lease._ends and time.monotonic() < deadline:
            time.sleep(0.05)
        commit(storage, ["a"])
    assert MultimodalStorage(bucket).statistics().images == 1


def test_search_by_an_address_is_an_error(bucket, folder):
    with Library.open(bucket, models="demo") as library, pytest.raises(InputError, match="is not on this machine"):
        library.similar("s3://photos/a.jpg")


def test_searches_go_to_a_copy_that_is_brought_up_to_date(folder, bucket, proxy, tmp_path, monkeypatch):
    monkeypatch.setattr(arrowlens.library, "_REPLICA_CHECK_S", 3600.0)
    with Library.open(bucket, models="demo", replica=False) as writer, Library.open(bucket) as reader:
        writer.ingest(folder, workers=1)
        expected = writer.search("a lion")
        assert reader.search("a lion").to_arrow() == expected.to_arrow()
        proxy.requests.clear()
        assert reader.search("a dog").to_arrow().num_rows == len(expected)
        assert proxy.requests == [], "a search reads nothing of the bucket"
        assert len(reader.thumbnails(expected)) == 1, "of the picture"
        in_memory = Image.open(folder / "lion-01.png").convert("RGB").resize((300, 300))
        assert reader.similar(in_memory)[0].found_by == "copy", "by a thumbnail, which the copy lacks"
        writer.remove([folder / "dog-01.ogg"])
        monkeypatch.setattr(arrowlens.library, "_REPLICA_CHECK_S", 0.0)
        assert len(reader.search("a lion")) == len(expected) - 1
        (copy,) = (tmp_path / "cache" / "replicas").iterdir()
        assert not list(copy.glob("thumbnails.lance/*"))
        proxy.requests.clear()
        reader.search("a lion")
        assert [request.method for request in proxy.requests] == ["GET"], "one listing"


def test_a_copy_that_broke_off_or_was_damaged_is_completed(folder, bucket, proxy, tmp_path):
    with Library.open(bucket, models="demo") as library:
        library.ingest(folder, workers=1)
        expected = library.search("a lion").to_arrow()
    (copy,) = (tmp_path / "cache" / "replicas").iterdir()
    (data, *_) = sorted(copy.glob("media.lance/data/*"))
    data.write_bytes(b"cut")
    (manifest,) = copy.glob("media.lance/_versions/*")
    manifest.unlink()
    with Library.open(bucket) as library:
        assert library.search("a lion").to_arrow() == expected


def test_a_store_that_is_away_for_seconds_or_loses_answers_costs_nothing(bucket, proxy):
    storage = library(bucket)
    proxy.lose_answers("PUT .*/media.lance/_versions/", 2)
    proxy.lose_answers("PUT .*/thumbnails.lance/data/")
    commit(storage, ["a", "b"])
    proxy.is_away = True
    threading.Timer(4, setattr, (proxy, "is_away", False)).start()
    commit(storage, ["b", "c"])
    assert storage.statistics().images == 3
    assert [storage.health.n_repeated(name) for name in TABLES] == [0, 0, 0]


def test_a_merge_that_was_held_up_while_others_wrote_and_compacted_writes_no_id_twice(bucket, proxy, object_store):
    """Without the versions in between lance would not notice that the ids were written meanwhile."""
    storage = library(bucket)
    commit(storage, ["a", "b"])
    options = {"endpoint": object_store.endpoint}
    other = MultimodalStorage(bucket, storage_options=options)
    proxy.hold("PUT .*/media.lance/(data|_transactions)")
    paused = ThreadPoolExecutor(1).submit(commit, storage, ["c", "d"])
    proxy.wait_until_held()
    other._location._lease = storage._location._lease.__class__(
        bucket, other._location._store, other._location.failing, lambda: dt.datetime.max.replace(tzinfo=dt.UTC)
    )  # for this one the first writer's lease is over
    commit(other, ["c", "d"])
    other.optimize()
    proxy.release()
    error = paused.exception(timeout=60)
    assert error is None or isinstance(error, LibraryError), "it saw what was written meanwhile, or was refused"
    assert [other.health.n_repeated(name) for name in TABLES] == [0, 0, 0]
    assert other.statistics().images == 4
