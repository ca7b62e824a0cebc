"""The place of a library: what its parts rely on, whether it is a folder or, later, an object store."""

from __future__ import annotations

import pytest

from arrowlens.errors import LibraryBusyError, StorageError
from arrowlens.store.location import Location


@pytest.fixture
def location(tmp_path):
    location = Location(tmp_path / "library")
    location.create()
    return location


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
    assert location.sizes() == {"a": 1}, "nothing partial is left"


def test_sizes_are_those_of_all_files_below_a_folder(location):
    (location.path / "media.lance" / "data").mkdir(parents=True)
    location.write("media.lance/data/x", b"12345")
    location.write("library.json", b"{}")
    assert location.sizes() == {"library.json": 2, "media.lance/data/x": 5}
    assert location.sizes("media.lance") == {"media.lance/data/x": 5}
    assert location.sizes("thumbnails.lance") == {}


def test_a_table_exists_from_its_first_manifest_until_it_is_dropped(location):
    versions = location.path / "media.lance" / "_versions"
    versions.mkdir(parents=True)
    assert location.tables() == []
    location.write("media.lance/_versions/5.manifest", b"")
    assert location.tables() == ["media"]
    location.keep_copy("media.lance/_versions/5.manifest")
    assert location.kept_manifest("media") == "copies/media/5.manifest"
    location.drop("media")
    location.drop("media")
    assert (location.tables(), location.sizes()) == ([], {})


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


@pytest.mark.parametrize("name", ["../media", "other", "", "media.lance", "clip_embeddings__0"])
def test_a_name_that_no_table_has_leads_nowhere(location, name):
    for act in (location.drop, location.manifests, location.sync):
        with pytest.raises(StorageError, match="is not a table"):
            act(name)
