from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from arrowlens.errors import (
    InputError,
    LibraryBusyError,
    LibraryNotFoundError,
    LibraryVersionError,
    ModelMismatchError,
    StorageError,
)
from arrowlens.store import SCHEMA_VERSION, SHARDED_VERSION, ModelRecord, MultimodalStorage, Root, root_id_of
from arrowlens.store.location import location_at

CLIP = ModelRecord("c" * 64, 24, "demo", "space")
AUDIO = ModelRecord("a" * 64, 24)


def test_creates_a_missing_or_empty_folder_and_opens_it_again(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "deep" / "new", tmp_path / "empty"):
        made = MultimodalStorage(path)
        made.bind_models({"vision": CLIP})
        again = MultimodalStorage(path, create=False)
        assert again.settings == made.settings
        assert again.settings.models == {"vision": CLIP}
        assert again.settings.schema_version == SCHEMA_VERSION


def test_a_mistyped_library_is_an_error_and_leaves_nothing_behind(tmp_path):
    with pytest.raises(LibraryNotFoundError, match=r"typo.*arrowlens ingest"):
        MultimodalStorage(tmp_path / "typo", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_things_is_refused_untouched(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    for create in (True, False):
        with pytest.raises(LibraryNotFoundError):
            MultimodalStorage(tmp_path, create=create)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        MultimodalStorage(tmp_path / "file")


def test_a_creation_that_was_cut_off_does_not_stand_in_the_way(tmp_path):
    (tmp_path / "writer.lock").touch()
    (tmp_path / "library.json.partial").write_text('{"schema_ver')
    MultimodalStorage(tmp_path)
    assert MultimodalStorage(tmp_path, create=False).settings.models == {}


def test_a_newer_layout_is_refused_unchanged(address):
    MultimodalStorage(address)
    location = location_at(address)
    content, _ = location.read("library.json")
    newer = json.dumps({**json.loads(content), "schema_version": SHARDED_VERSION + 1}).encode()
    with location.writer():
        location.write("library.json", newer)
    with pytest.raises(LibraryVersionError, match=f"layout {SHARDED_VERSION + 1}.*update"):
        MultimodalStorage(address)
    assert location.read("library.json")[0] == newer


@pytest.mark.parametrize("text", ["", "[]", '{"schema_version": 1}', "\x00"])
def test_damaged_settings_are_an_error_and_stay(tmp_path, text):
    MultimodalStorage(tmp_path / "l")
    (tmp_path / "l" / "library.json").write_text(text)
    with pytest.raises(StorageError, match=r"library\.json is damaged"):
        MultimodalStorage(tmp_path / "l")
    assert (tmp_path / "l" / "library.json").read_text() == text


def test_models_are_bound_once(address):
    storage = MultimodalStorage(address)
    storage.bind_models({"vision": CLIP})
    storage.bind_models(
        {"vision": dataclasses.replace(CLIP, source="elsewhere"), "audio": AUDIO}
    )  # a role more is fine
    assert storage.settings.models == {"vision": CLIP, "audio": AUDIO}
    other = ModelRecord("d" * 64, 24)
    for models in ({"vision": other, "audio": AUDIO}, {"vision": CLIP}, {}):
        with pytest.raises(ModelMismatchError, match=r"cccccccc \(demo\)|aaaaaaaa"):
            storage.bind_models(models)
    assert storage.settings.models == {"vision": CLIP, "audio": AUDIO}


def test_settings_follow_what_another_handle_writes(address):
    one, other = MultimodalStorage(address), MultimodalStorage(address)
    one.bind_models({"vision": CLIP})
    assert other.settings.models == {"vision": CLIP}
    one.add_root("/some/folder")
    assert [root.path for root in other.settings.roots] == ["/some/folder"]


def test_a_file_belongs_to_the_deepest_root(address):
    storage = MultimodalStorage(address)
    inner = storage.add_root("/a/b/c")
    assert storage.add_root("/a/b/c/d") == inner, "a folder inside a root is no new root"
    outer = storage.add_root("/a")
    assert [root.path for root in storage.settings.roots] == ["/a/b/c", "/a"]
    assert storage.settings.root_of("/a/b/c/x.png") == inner
    assert storage.settings.root_of("/a/b/cx.png") == outer
    assert storage.settings.root_of("/ab") is None
    assert outer.relative("/a/b/x") == b"b/x"
    assert outer.absolute(b"b/x") == b"/a/b/x"
    with pytest.raises(InputError):
        storage.add_root("relative")


def test_the_file_systems_top_can_be_a_root():
    top = Root.at(os.sep)
    assert top.relative("/x/y") == b"x/y"
    assert top.absolute(b"x/y") == b"/x/y"


def test_a_root_whose_name_is_not_text_comes_back(address):
    name = os.fsdecode(b'/odd \xff\n"name')
    MultimodalStorage(address).add_root(name)
    root = MultimodalStorage(address).settings.roots[0]
    assert root == Root(root_id_of(name), name)
    assert os.fsencode(root.path) == b'/odd \xff\n"name'


def test_one_writer_among_threads_and_it_may_enter_again(address):
    storage = MultimodalStorage(address)
    failures = []

    def write():
        try:
            storage.add_root("/thread")
        except LibraryBusyError as error:
            failures.append(str(error))

    with storage.writing(), storage.writing():
        storage.add_root("/mine")
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        with pytest.raises(LibraryBusyError), MultimodalStorage(address).writing():
            pass
    assert len(failures) == 1
    assert "being written to" in failures[0]
    write()
    assert len(failures) == 1
    assert {root.path for root in storage.settings.roots} == {"/mine", "/thread"}


def test_an_address_without_a_library_is_an_error_and_stays_so(empty_address):
    for _ in range(2):
        with pytest.raises(LibraryNotFoundError, match=r"no library at .*arrowlens ingest"):
            MultimodalStorage(empty_address, create=False)


_HOLD = """
import sys
from arrowlens.store import MultimodalStorage
with MultimodalStorage(sys.argv[1]).writing():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_writer_among_processes_and_a_dead_one_lets_go(tmp_path):
    storage = MultimodalStorage(tmp_path / "l")
    command = [sys.executable, "-c", _HOLD, str(storage.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LibraryBusyError) as caught, storage.writing():
            pass
        assert "\n" not in str(caught.value)
        assert storage.settings.models == {}, "reading goes on"
        holder.kill()
        holder.wait()
    storage.add_root("/after")


def test_importing_the_store_does_not_import_lancedb():
    code = "import sys, arrowlens.store, arrowlens.ingest; print({'lancedb', 'torch'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_paths_are_absolute_whatever_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage = MultimodalStorage("relative")
    monkeypatch.chdir("/")
    storage.upsert_thumbnails({"h": b"jpeg"})
    assert (tmp_path / "relative" / "thumbnails.lance").is_dir()
    assert storage.thumbnails(["h"]) == {"h": b"jpeg"}
    assert storage.path == Path(tmp_path / "relative")
