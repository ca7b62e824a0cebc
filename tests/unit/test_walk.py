from __future__ import annotations

import dataclasses
import os

import pytest

from arrowlens.errors import FolderError
from arrowlens.ingest.walk import mount_of, resolve_folders, walk
from arrowlens.store import Root, Settings
from tests.folders import ODD_NAMES, write_odd_names


@pytest.fixture
def library(tmp_path):
    path = tmp_path / "some.lens"
    path.mkdir()
    return path


def seen(library, *folders, roots=(), mounts=()):
    """Walk; the folders become roots as a run makes them."""
    scopes = resolve_folders(folders, library, mounts)
    settings = Settings(roots=tuple(Root.at(os.path.realpath(root)) for root in roots), mounts=tuple(mounts))
    for scope in scopes:
        settings = settings.with_root(scope)
    return walk(scopes, settings, library)


def names(result, base):
    return [os.fsdecode(os.path.relpath(found.path, os.fsencode(base))) for found in result.files]


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_media_files_in_the_order_of_their_paths(library, tmp_path):
    base = tmp_path / "in"
    touch(base / "b.PNG", base / "a" / "z.wav", base / "a.jpg", base / "note.txt", base / "noext")
    result = seen(library, base)
    assert names(result, base) == ["a.jpg", "a/z.wav", "b.PNG"]
    assert [found.modality for found in result.files] == ["image", "audio", "image"]
    assert all(found.size == 1 for found in result.files)
    assert result.files[0].modified_ns == (base / "a.jpg").stat().st_mtime_ns
    assert not result.unread


def test_junk_is_left_alone(library, tmp_path):
    base = tmp_path / "in"
    touch(
        *(base / folder / "x.jpg" for folder in (".hidden", "@eaDir", ".thumbnails", "deep/@eaDir")), base / "._x.jpg"
    )
    touch(base / "kept" / "x.jpg")
    assert names(seen(library, base), base) == ["kept/x.jpg"]


def test_a_hidden_folder_may_be_given_itself(library, tmp_path):
    touch(tmp_path / ".hidden" / "x.jpg")
    assert names(seen(library, tmp_path / ".hidden"), tmp_path) == [".hidden/x.jpg"]


def test_names_are_bytes(library, tmp_path):
    base = tmp_path / "in"
    base.mkdir()
    paths = write_odd_names(base)
    (base / os.fsdecode(b"dir \xfe\n")).mkdir()
    touch(base / os.fsdecode(b"dir \xfe\n") / "x.jpg")
    result = seen(library, base)
    assert [found.path for found in result.files] == sorted([*paths, os.fsencode(base) + b"/dir \xfe\n/x.jpg"])
    assert {found.relative for found in result.files} == {*ODD_NAMES, b"dir \xfe\n/x.jpg"}
    assert len({found.media_id for found in result.files}) == len(ODD_NAMES) + 1


def test_the_library_is_not_its_own_content(tmp_path):
    base = tmp_path / "in"
    library = base / "photos.lens"
    touch(base / "x.jpg", library / "y.jpg")
    assert names(seen(library, base), base) == ["x.jpg"]
    with pytest.raises(FolderError, match="is the library itself"):
        resolve_folders([library], library, ())


def test_links(library, tmp_path):
    base, other = tmp_path / "in", tmp_path / "other"
    touch(base / "real" / "x.jpg", other / "y.jpg", tmp_path / "z.png")
    (base / "file link.png").symlink_to(tmp_path / "z.png")
    (base / "a loop").symlink_to("..")
    (base / "real" / "self").symlink_to(".")
    (base / "another name").symlink_to(base / "real")
    (base / "elsewhere").symlink_to(other)
    (other / "back").symlink_to(base)
    (base / "ring.jpg").symlink_to("ring.jpg")
    (base / "lost.jpg").symlink_to("nowhere")
    (base / "lost folder").symlink_to("nowhere either")
    result = seen(library, base)
    assert names(result, base) == ["elsewhere/y.jpg", "file link.png", "lost.jpg", "real/x.jpg", "ring.jpg"]
    assert [found.size is None for found in result.files] == [False, False, True, False, True]
    assert not result.covers(os.fsencode(base / "lost folder" / "was there.jpg"))
    assert result.covers(os.fsencode(base / "gone.jpg"))
    assert not result.covers(os.fsencode(tmp_path / "in2" / "x.jpg"))


def test_a_pipe_and_a_folder_with_the_name_of_a_picture(library, tmp_path):
    base = tmp_path / "in"
    touch(base / "folder.jpg" / "x.jpg")
    os.mkfifo(base / "pipe.jpg")
    result = seen(library, base)
    assert names(result, base) == ["folder.jpg/x.jpg", "pipe.jpg"]


def test_files_belong_to_the_deepest_root(library, tmp_path):
    base = tmp_path / "in"
    touch(base / "x.jpg", base / "inner" / "y.jpg", base / "inner" / "deep" / "z.jpg")
    result = seen(library, base, roots=[base / "inner"])
    assert [(found.root.path, found.relative) for found in result.files] == [
        (str(base / "inner"), b"deep/z.jpg"),
        (str(base / "inner"), b"y.jpg"),
        (str(base), b"x.jpg"),
    ]
    part = seen(library, base / "inner" / "deep", roots=[base])
    assert [(found.root.path, found.relative) for found in part.files] == [(str(base), b"inner/deep/z.jpg")]
    assert not part.covers(os.fsencode(base / "x.jpg"))


def test_folders_given(library, tmp_path, monkeypatch):
    base = tmp_path / "in"
    touch(base / "inner" / "x.jpg", base / "file.jpg")
    (tmp_path / "name").symlink_to(base)
    monkeypatch.chdir(tmp_path)
    folders = resolve_folders(["in", base / "inner", tmp_path / "name", str(base) + "/"], library, ())
    assert folders == (str(base),), "one folder by many names, and one inside it"
    for bad in (base / "missing", base / "file.jpg"):
        with pytest.raises(FolderError, match=f"{bad} .*nothing was changed"):
            resolve_folders([base, bad], library, ())
    with pytest.raises(FolderError, match="no folder given"):
        resolve_folders([], library, ())


def test_an_unmounted_disk_is_not_an_empty_folder(library, tmp_path):
    disk = tmp_path / "in" / "disk"
    disk.mkdir(parents=True)
    touch(tmp_path / "in" / "x.jpg")
    file = os.fsencode(disk / "y.jpg")
    assert seen(library, tmp_path / "in").covers(file)
    result = seen(library, tmp_path / "in", mounts=[str(disk)])
    assert not result.covers(file)
    assert "disk that was mounted" in result.unread[os.fsencode(disk)]
    with pytest.raises(FolderError, match="not mounted now"):
        seen(library, disk, mounts=[str(disk)])
    disk.rmdir()  # what automounters do
    assert not seen(library, tmp_path / "in", mounts=[str(disk)]).covers(file)
    touch(disk / "z.jpg")  # the place was taken by an ordinary folder
    assert seen(library, tmp_path / "in", mounts=[str(disk)]).covers(file)


def test_mount_points_are_remembered(library, tmp_path):
    result = seen(library, tmp_path)
    assert result.mounts == {mount_of(os.path.realpath(tmp_path))} - {os.sep}
    assert mount_of("/proc/self") == "/proc"


def test_what_is_found_is_a_value(library, tmp_path):
    touch(tmp_path / "in" / "x.jpg")
    found = seen(library, tmp_path / "in").files[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.size = 3
