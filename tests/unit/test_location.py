"""The place of a library: what its parts rely on, whether it is a folder or a prefix in a bucket."""

from __future__ import annotations

import datetime as dt
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from arrowlens.addresses import local_path
from arrowlens.errors import InputError, LibraryBusyError, LibraryNotFoundError, StorageError
from arrowlens.store import lease
from arrowlens.store.location import LocalLocation, location_at
from arrowlens.store.object_location import ObjectLocation


@pytest.fixture
def location(empty_address):
    location = location_at(empty_address)
    location.create()
    with location.writer():
        yield location


def make_folder(location, name):
    """In a bucket there are none."""
    if location.path is not None:
        (location.path / name).mkdir(parents=True)


def without_lease(sizes):
    return {name: size for name, size in sizes.items() if name not in (lease.LEASE_NAME, "writer.lock")}


def test_a_file_is_replaced_only_while_it_is_the_one_that_was_read(location):
    assert location.read("a") is None
    first = location.replace("a", b"1", None)
    assert location.read("a") == (b"1", first)
    second = location.replace("a", b"2", first)
    assert second != first
    for stale in (first, None):
        with pytest.raises(LibraryBusyError, match="was changed by another run"):
            location.replace("a", b"3", stale)
    assert location.read("a") == (b"2", second)
    assert without_lease(location.sizes()) == {"a": 1}, "nothing partial is left"


def test_sizes_are_those_of_all_files_below_a_folder(location):
    make_folder(location, "media.lance/data")
    location.write("media.lance/data/x", b"12345")
    location.write("library.json", b"{}")
    assert without_lease(location.sizes()) == {"library.json": 2, "media.lance/data/x": 5}
    assert location.sizes("media.lance") == {"media.lance/data/x": 5}
    assert location.sizes("thumbnails.lance") == {}


def test_a_table_exists_from_its_first_manifest_until_it_is_dropped(location):
    make_folder(location, "media.lance/_versions")
    assert location.tables() == []
    location.write("media.lance/_versions/5.manifest", b"")
    assert location.tables() == ["media"]
    location.keep_copy("media.lance/_versions/5.manifest")
    assert location.kept_manifest("media") == (None if location.is_durable else "copies/media/5.manifest")
    location.drop("media")
    location.drop("media")
    assert (location.tables(), without_lease(location.sizes())) == ([], {})


@pytest.mark.parametrize("empty_address", ["folder"], indirect=True)
def test_a_copy_is_the_only_one_of_its_table(location):
    (location.path / "media.lance" / "_versions").mkdir(parents=True)
    location.write("library.json", b"{}")
    location.keep_copy("library.json")
    for number in (6, 5):
        location.write(f"media.lance/_versions/{number}.manifest", b"")
        location.keep_copy(f"media.lance/_versions/{number}.manifest")
    assert [name for name in location.sizes() if name.startswith("copies")] == [
        "copies/library.json",
        "copies/media/5.manifest",
    ]


@pytest.mark.parametrize("empty_address", ["folder"], indirect=True)
@pytest.mark.parametrize("name", ["../media", "other", "", "media.lance", "clip_embeddings__0"])
def test_a_name_that_no_table_has_leads_nowhere(location, name):
    for act in (location.drop, location.manifests, location.sync):
        with pytest.raises(StorageError, match="is not a table"):
            act(name)


def test_only_folders_and_buckets_can_hold_a_library(tmp_path):
    assert isinstance(location_at(tmp_path), LocalLocation)
    assert isinstance(location_at("s3://photos/library/"), ObjectLocation)
    assert location_at("s3://photos/library/").uri == "s3://photos/library"
    wrong = (
        "gs://b/p",
        "s3://",
        "s3:/b/p",
        "s3://b",
        "s3://user:password@photos/p",
        "s3://photos/../p",
        "s3://photos/p?x=1",
    )
    for address in wrong:
        with pytest.raises(InputError) as caught:
            location_at(address)
        assert "password" not in str(caught.value)
    with pytest.raises(InputError, match="storage options are for libraries in a bucket"):
        location_at(tmp_path, {"region": "us-east-1"})
    with pytest.raises(InputError, match="is not on this machine"):
        local_path("s3://photos/p")


def test_an_unknown_storage_option_is_named_without_any_value():
    with pytest.raises(InputError, match="no_such_option") as caught:
        ObjectLocation("s3://photos/p", {"no_such_option": "hidden-1", "secret_access_key": "hidden-2"})
    assert "hidden" not in str(caught.value)


def test_errors_of_a_bucket_are_one_line_without_credentials(bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret-Xy7")
    for options in ({}, {"secret_access_key": "wrong-secret-Zq4"}):
        with pytest.raises(StorageError, match="check the credentials") as caught:
            ObjectLocation(bucket, options).read("library.json")
        assert "wrong-secret" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_prefix_with_other_things_is_refused(bucket):
    location = ObjectLocation(bucket)
    location.require_usable()
    with location.writer():
        location.write("holiday.jpg", b"")
    with pytest.raises(LibraryNotFoundError, match=r"holds other things \('holiday.jpg'\)"):
        location.require_usable()


def test_a_write_whose_answer_was_lost_counts(bucket, proxy):
    location = ObjectLocation(bucket)
    proxy.lose_answers("PUT .*writer.lease")
    with location.writer():
        proxy.lose_answers("PUT .*library.json")
        tag = location.replace("library.json", b"1", None)
        assert location.read("library.json") == (b"1", tag)
        with pytest.raises(LibraryBusyError):
            location.replace("library.json", b"2", None)


def test_the_lease_goes_to_one_at_a_time_and_its_epoch_rises(bucket):
    one, other = ObjectLocation(bucket), ObjectLocation(bucket)
    with one.writer(), one.writer():
        with pytest.raises(LibraryBusyError, match="is being written to by another run"), other.writer():
            pass
        with ThreadPoolExecutor(1) as pool, pytest.raises(LibraryBusyError):
            pool.submit(enter, one).result()
    with other.writer():
        pass
    assert (one._lease.epoch, other._lease.epoch) == (1, 2)
    with pytest.raises(LibraryBusyError):
        one.write("a", b"")


def enter(location):
    with location.writer():
        pass


def use_until_it_ends(location):
    while True:
        location.require_writer()
        time.sleep(0.05)


def is_taken(location):
    try:
        enter(location)
    except LibraryBusyError:
        return False
    return True


def test_a_lease_that_is_not_renewed_ends_first_for_its_holder(bucket, monkeypatch):
    monkeypatch.setattr(lease, "LENGTH_S", 2.0)
    holder, other = ObjectLocation(bucket), ObjectLocation(bucket)
    with holder.writer():
        with monkeypatch.context() as away:
            away.setattr(holder._lease, "_replace", refuse)
            with pytest.raises(LibraryBusyError, match="another one may be writing by now"):
                use_until_it_ends(holder)
            with pytest.raises(LibraryBusyError):
                holder.write("a", b"")
            while not is_taken(other):
                time.sleep(0.2)
        time.sleep(1.5)  # the holder asks for it again, and sees that somebody else had it
        with pytest.raises(LibraryBusyError):
            holder.write("a", b"")
    assert json.loads(other.read(lease.LEASE_NAME)[0])["epoch"] == 2
    assert "a" not in other.sizes()


def refuse(holder):
    raise StorageError("the bucket is away")


def test_a_lease_whose_renewal_was_held_up_goes_on_if_nobody_took_it(bucket, proxy, monkeypatch):
    monkeypatch.setattr(lease, "LENGTH_S", 2.0)
    holder, other = ObjectLocation(bucket), ObjectLocation(bucket)
    with holder.writer():
        proxy.hold(f"PUT .*{lease.LEASE_NAME}")
        with pytest.raises(LibraryBusyError, match="another one may be writing by now"):
            use_until_it_ends(holder)
        proxy.release()
        deadline = time.monotonic() + 10
        while not holder._lease._ends > lease._now() and time.monotonic() < deadline:
            time.sleep(0.05)
        holder.write("a", b"")
        assert not is_taken(other)
    assert "a" in other.sizes()


def test_a_lease_that_is_renewed_does_not_end(bucket, monkeypatch):
    monkeypatch.setattr(lease, "LENGTH_S", 1.0)
    holder, other = ObjectLocation(bucket), ObjectLocation(bucket)
    with holder.writer():
        ends = dt.datetime.now() + dt.timedelta(seconds=3.5)
        while dt.datetime.now() < ends:
            holder.require_writer()
            with pytest.raises(LibraryBusyError), other.writer():
                pass
            time.sleep(0.2)
