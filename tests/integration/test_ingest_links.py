"""Links: what is read through them, where it is recorded to lie, and that a folder is indexed once by all its names."""

from __future__ import annotations

import dataclasses
import os

import lancedb
import pytest

from arrowlens.ingest import run
from arrowlens.store import MEDIA_LAYOUT
from tests.support.folders import write_picture
from tests.support.small_models import SmallProvider


def paths(storage):
    return sorted(os.fsdecode(row["absolute_path"]) for row in storage.media_under("/").to_pylist())


@pytest.fixture
def folders(tmp_path):
    """A folder with a link to a folder beside it."""
    (tmp_path / "in").mkdir()
    (tmp_path / "other" / "deep").mkdir(parents=True)
    write_picture(tmp_path / "in" / "a.png", 1)
    write_picture(tmp_path / "other" / "deep" / "b.png", 2)
    (tmp_path / "in" / "link").symlink_to(tmp_path / "other")
    return tmp_path / "in", tmp_path / "other"


@pytest.mark.parametrize("order", ["link first", "name first", "both at once", "inner folder"])
def test_a_folder_reached_by_a_link_and_by_its_name_is_indexed_once_by_its_real_place(folders, storage, order):
    linking, other = folders
    provider = SmallProvider()
    inner = other / "deep" if order == "inner folder" else other
    runs = {"link first": [[linking], [other]], "name first": [[other], [linking]], "both at once": [[linking, other]]}
    for scopes in runs.get(order, [[linking], [inner]]):
        report = run(storage, provider, scopes)
        assert (report.removed, report.held_back) == (0, {})
    assert paths(storage) == sorted([str(linking / "a.png"), str(other / "deep" / "b.png")])
    assert provider.n_encoded == 2
    for scopes in ([linking], [other], [linking, other]):
        report = run(storage, provider, scopes)
        assert (report.indexed, report.removed, report.moved) == (0, 0, 0)
    assert len(paths(storage)) == 2


def test_a_folder_that_the_library_has_twice_heals(folders, storage):
    """Rows of the earlier layout, which did not say where a file really lay."""
    linking, other = folders
    run(storage, SmallProvider(), [linking])
    row = storage.media_by_path(linking / "link" / "deep" / "b.png")
    run(storage, SmallProvider(), [other])
    vectors = storage.vector_rows("vision", [row["content_hash"]])[row["content_hash"]]
    storage.upsert_vectors("vision", [type(vector)(row["media_id"], *tuple_of(vector)[1:]) for vector in vectors])
    storage.upsert_media([{**without_place(row), "layout": 2, "real_path": None, "file_id": None}])
    assert len(paths(storage)) == 3
    report = run(storage, SmallProvider(), [linking])
    assert (report.moved, report.removed) == (1, 0)
    assert paths(storage) == sorted([str(linking / "a.png"), str(other / "deep" / "b.png")])


def tuple_of(row):
    return tuple(getattr(row, field.name) for field in dataclasses.fields(row))


def without_place(row):
    return {name: value for name, value in row.items() if name != "absolute_path"}


def test_a_folder_that_moved_and_left_a_link_is_taken_by_its_real_place(tmp_path, storage):
    (tmp_path / "old").mkdir()
    write_picture(tmp_path / "old" / "a.png", 1)
    provider = SmallProvider()
    run(storage, provider, [tmp_path / "old"])
    (tmp_path / "old").rename(tmp_path / "new")
    (tmp_path / "old").symlink_to("new")
    report = run(storage, provider, [tmp_path / "old"])
    assert (report.indexed, report.copied, report.moved, report.removed) == (1, 1, 1, 0)
    assert paths(storage) == [str(tmp_path / "new" / "a.png")]
    assert [root.path for root in storage.settings.roots] == [str(tmp_path / "new")]


def test_a_hidden_folder_is_read_through_a_link_that_shows_it(tmp_path, storage):
    (tmp_path / "in" / ".store").mkdir(parents=True)
    write_picture(tmp_path / "in" / ".store" / "a.png", 1)
    (tmp_path / "in" / "shown").symlink_to(".store")
    assert run(storage, SmallProvider(), [tmp_path / "in"]).indexed == 1
    assert run(storage, SmallProvider(), [tmp_path / "in"]).unchanged == 1
    row = storage.media_by_path(tmp_path / "in" / "shown" / "a.png")
    assert row["real_path"] == os.fsencode(tmp_path / "in" / ".store" / "a.png")


def test_where_a_file_really_lies_is_recorded(folders, storage):
    linking, other = folders
    (linking / "c.png").symlink_to(linking / "a.png")
    run(storage, SmallProvider(), [linking])
    real = {row["path"]: row["real_path"] for row in storage.all_media().to_pylist()}
    expected = {"a.png": None, "c.png": os.fsencode(linking / "a.png")}
    assert real == {**expected, "link/deep/b.png": os.fsencode(other / "deep" / "b.png")}
    row = storage.media_by_path(linking / "a.png")
    status = (linking / "a.png").stat()
    assert row["file_id"] == f"{status.st_dev}:{status.st_ino}"


def test_another_inode_of_an_equal_file_is_recorded_without_reading_it(folders, storage):
    """As a restored backup or another mount has it; permissions would refuse the file, were it opened."""
    linking, _ = folders
    provider = SmallProvider()
    run(storage, provider, [linking])
    path = linking / "a.png"
    before, status = storage.media_by_path(path), path.stat()
    path.rename(linking / "aside")
    path.write_bytes((linking / "aside").read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    path.chmod(0)
    report = run(storage, provider, [linking])
    assert (report.unchanged, report.indexed, report.skipped) == (2, 0, 0)
    after = storage.media_by_path(path)
    assert after["file_id"] == f"{path.stat().st_dev}:{path.stat().st_ino}" != before["file_id"]
    assert {**after, "file_id": before["file_id"]} == before
    version = lancedb.connect(str(storage.path)).open_table("media").version
    run(storage, provider, [linking])
    assert lancedb.connect(str(storage.path)).open_table("media").version == version


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_a_link_to_another_file_of_equal_size_and_time_is_read(tmp_path, storage, kind):
    """Whoever may write into a folder can give a picture of theirs the size and time of a file that is not theirs."""
    (tmp_path / "in").mkdir()
    path, secret = write_picture(tmp_path / "in" / "a.bmp", 1), tmp_path / "secret"
    secret.write_bytes(b"x" * path.stat().st_size)
    os.utime(secret, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    run(storage, SmallProvider(), [tmp_path / "in"])
    path.unlink()
    path.symlink_to(secret) if kind == "soft" else path.hardlink_to(secret)
    assert run(storage, SmallProvider(), [tmp_path / "in"]).skipped == 1
    assert storage.media_by_path(path)["format"] is None


def test_rows_of_an_earlier_layout_are_completed_without_decoding(folders, storage):
    linking, _ = folders
    run(storage, SmallProvider(), [linking])
    rows = [{**without_place(row), "layout": 2, "file_id": None, "real_path": None} for row in all_rows(storage)]
    storage.upsert_media(rows)
    (linking / "a.png").chmod(0)
    provider = SmallProvider()
    assert run(storage, provider, [linking]).unchanged == 2
    assert provider.n_encoded == 0
    assert {row["layout"] for row in all_rows(storage)} == {MEDIA_LAYOUT}
    assert all(row["file_id"] for row in all_rows(storage))


def all_rows(storage):
    return storage.media(storage.all_media(["media_id"])["media_id"].to_pylist()).to_pylist()


def test_a_caption_is_read_only_where_it_really_lies_below_a_root(tmp_path, storage):
    (tmp_path / "in" / "notes").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("a secret")
    (tmp_path / "in" / "notes" / "b.txt").write_text("a note")
    for seed, name in enumerate("abc"):
        write_picture(tmp_path / "in" / f"{name}.png", seed)
    (tmp_path / "in" / "a.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "in" / "b.txt").symlink_to("notes/b.txt")
    os.mkfifo(tmp_path / "in" / "c.txt")
    report = run(storage, SmallProvider(), [tmp_path / "in"])
    assert (report.indexed, report.skipped) == (3, 0)
    captions = {row["path"]: row["caption"] for row in all_rows(storage)}
    assert captions == {"a.png": None, "b.png": "a note", "c.png": None}
    (tmp_path / "in" / "b.txt").unlink()
    (tmp_path / "in" / "b.txt").symlink_to(tmp_path / "secret.txt")
    run(storage, SmallProvider(), [tmp_path / "in"])
    assert {row["caption"] for row in all_rows(storage)} == {None}
