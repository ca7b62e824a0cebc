from __future__ import annotations

import dataclasses
import os

import pytest

from arrowlens.errors import FolderError
from arrowlens.ingest.walk import mount_of, resolve_folders, walk
from arrowlens.store import Root, Settings
from tests.support.folders import ODD_NAMES, write_odd_names


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
    touch(base / "inner" / "x.jpg", base / "file.txt")
    (tmp_path / "name").symlink_to(base)
    monkeypatch.chdir(tmp_path)
    folders = resolve_folders(["in", base / "inner", tmp_path / "name", str(base) + "/"], library, ())
    assert folders == (str(base),), "one folder by many names, and one inside it"
    for bad in (base / "missing", base / "file.txt"):
        with pytest.raises(FolderError, match=f"{bad} .*nothing was changed"):
            resolve_folders([base, bad], library, ())
    with pytest.raises(FolderError, match="no folder given"):
        resolve_folders([], library, ())


def test_single_files_are_listed_with_their_captions_and_nothing_else_is_known(library, tmp_path):
    base = tmp_path / "in"
    touch(base / "a.jpg", base / "a.txt", base / "b.jpg", base / "inner" / "c.wav", base / "inner" / "d.wav")
    scopes = resolve_folders([base / "a.jpg", base / "inner" / "c.wav", base / "inner" / "c.wav"], library, ())
    assert scopes == (str(base / "a.jpg"), str(base / "inner" / "c.wav"))
    result = walk(scopes, Settings().with_root(str(base)), library)
    assert names(result, base) == ["a.jpg", "inner/c.wav"]
    assert result.files[0].sidecar == os.fsencode(base / "a.txt")
    assert not any(result.covers(os.fsencode(base / gone)) for gone in ("a.jpg", "b.jpg", "inner/d.wav"))
    assert result.passed_over() == {}


def test_a_missing_folder_that_the_library_knows_is_said_to_be_known(library, tmp_path):
    base = tmp_path / "in"
    for missing, root in ((base, base), (base / "inner", base), (base, base / "inner")):
        with pytest.raises(FolderError, match="nothing removed, though the library knows it"):
            resolve_folders([missing], library, (), [str(root)])
    with pytest.raises(FolderError, match=r"in is missing; nothing was changed$"):
        resolve_folders([base], library, (), [str(tmp_path / "other")])
    base.mkdir()
    with pytest.raises(FolderError, match=r"tpyo is missing; nothing was changed$"):
        resolve_folders([base / "tpyo"], library, (), [str(base)])


@pytest.mark.parametrize("left", ["y.jpg", ".keep", "deep/er/z.jpg"])
def test_a_place_whose_disk_is_not_mounted_is_refused_whatever_lies_in_it(library, tmp_path, left):
    disk = tmp_path / "in" / "disk"
    touch(disk / left, tmp_path / "in" / "x.jpg")
    result = seen(library, tmp_path / "in", mounts=[str(disk)])
    assert names(result, tmp_path / "in") == ["x.jpg"]
    assert not result.covers(os.fsencode(disk / "y.jpg"))
    assert "not mounted now" in result.unread[os.fsencode(disk)]
    for scope in (disk, (disk / left).parent):
        with pytest.raises(FolderError, match="not mounted now"):
            seen(library, scope, mounts=[str(disk)])


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


def test_mount_points_are_remembered(library, tmp_path):
    result = seen(library, tmp_path)
    assert result.mounts == {mount_of(os.path.realpath(tmp_path))} - {os.sep}
    assert mount_of("/proc/self") == "/proc"


def test_what_is_found_is_a_value(library, tmp_path):
    touch(tmp_path / "in" / "x.jpg")
    found = seen(library, tmp_path / "in").files[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.size = 3


def test_bins_and_caches_of_other_programs_are_left_alone(library, tmp_path):
    base = tmp_path / "in"
    for name in ("#recycle", "@Recycle", "$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information", "__MACOSX"):
        touch(base / name / "x.jpg", base / "deep" / name / "deeper" / "y.jpg")
    touch(base / "lost+found" / "x.jpg", base / ".Trash-1000" / "x.jpg", base / "recycled art" / "kept.jpg")
    assert names(seen(library, base), base) == ["recycled art/kept.jpg"]


def ignoring(folder, *lines):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".arrowlensignore").write_bytes(b"\n".join(os.fsencode(line) for line in lines) + b"\n")


def test_ignore_files_have_the_syntax_of_gitignore(library, tmp_path):
    base = tmp_path / "in"
    touch(base / "a.jpg", base / "a.png", base / "keep.png", base / "private" / "x.jpg", base / "sub" / "private.jpg")
    touch(base / "sub" / "drafts" / "x.jpg", base / "drafts" / "x.jpg", base / "deep" / "er" / "x.jpg")
    ignoring(base, "# drawings", "*.png", "!keep.png", "private/", "/drafts", "deep/**/x.jpg", "")
    result = seen(library, base)
    assert names(result, base) == ["a.jpg", "keep.png", "sub/drafts/x.jpg", "sub/private.jpg"]
    for path in ("a.png", "private/x.jpg", "private/gone.jpg", "drafts/x.jpg", "deep/er/x.jpg"):
        assert result.ignores(os.fsencode(base / path)), path
    for path in ("a.jpg", "gone.png", "sub/drafts/x.jpg"):
        assert not result.ignores(os.fsencode(base / path)), path


def test_what_is_left_alone_is_counted(library, tmp_path):
    base = tmp_path / "in"
    touch(base / "a.jpg", base / "a.wav", base / "a.txt", base / "b.txt", base / "letter.doc", base / "Makefile")
    touch(base / ".hidden.jpg", base / "@eaDir" / "x.jpg", base / "@eaDir" / "y.jpg", base / "drafts" / "x.jpg")
    touch(base / "c.png")
    assert seen(library, base).left_alone == {"hidden": 2, "other": 3}, "a caption is not, whatever it belongs to"
    ignoring(base, "drafts", "*.png", "*.doc", "a.wav", "a.txt")
    assert seen(library, base).left_alone == {"hidden": 2, "other": 4, "ignored": 3}


def test_the_innermost_ignore_file_decides(library, tmp_path):
    base = tmp_path / "in"
    touch(*(base / folder / name for folder in ("", "sub", "sub/deep", "closed") for name in ("x.jpg", "x.png")))
    ignoring(base, "*.png", "closed")
    ignoring(base / "sub", "!*.png", "x.jpg")
    ignoring(base / "sub" / "deep", "/x.png")
    ignoring(base / "closed", "!*")
    assert names(seen(library, base), base) == ["sub/x.png", "x.jpg"], "nothing comes back from a closed folder"


def test_ignore_files_above_the_folder_given_rule_as_far_as_the_root(library, tmp_path):
    base = tmp_path / "in"
    touch(base / "sub" / "x.jpg", base / "sub" / "x.png", base / "private" / "deep" / "x.jpg")
    ignoring(tmp_path, "*")
    ignoring(base, "*.png", "private/")
    assert names(seen(library, base / "sub", roots=[base]), base) == ["sub/x.jpg"]
    assert names(seen(library, base / "sub"), base) == ["sub/x.jpg", "sub/x.png"], "no root is above it"
    closed = seen(library, base / "private" / "deep", roots=[base])
    assert closed.files == []
    assert closed.ignores(os.fsencode(base / "private" / "deep" / "x.jpg"))


def test_ignored_names_need_not_be_text(library, tmp_path):
    base = tmp_path / "in"
    touch(*(base / os.fsdecode(name) for name in (b"caf\xe9.jpg", b"line\nbreak/x.png", "\u00e9.jpg".encode())))
    ignoring(base, os.fsdecode(b"caf\xe9*"), "*.png")
    (base / ".arrowlensignore").write_bytes(b"\xef\xbb\xbf" + (base / ".arrowlensignore").read_bytes())
    assert names(seen(library, base), base) == ["\u00e9.jpg"]


def test_ignored_links_are_not_followed(library, tmp_path):
    base, other = tmp_path / "in", tmp_path / "other"
    touch(base / "x.jpg", other / "y.jpg")
    (base / "closed").symlink_to(other)
    (base / "link.jpg").symlink_to(other / "y.jpg")
    ignoring(base, "closed/", "link.jpg")
    result = seen(library, base)
    assert names(result, base) == ["x.jpg"]
    assert result.ignores(os.fsencode(base / "closed" / "y.jpg"))


@pytest.mark.parametrize("case", ["invalid", "a folder", "a pipe", "a lost link", "huge"])
def test_an_ignore_file_that_cannot_be_followed_leaves_its_folder_untouched(library, tmp_path, case):
    base = tmp_path / "in"
    touch(base / "x.jpg", base / "sub" / "y.jpg", base / "sub" / "deep" / "z.jpg")
    path = base / "sub" / ".arrowlensignore"
    match case:
        case "invalid":
            ignoring(base / "sub", "*.png", "!")
        case "a folder":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case "a lost link":
            path.symlink_to("nowhere")
        case "huge":
            path.write_bytes(b"x\n" * 1024**2)
    result = seen(library, base)
    assert names(result, base) == ["x.jpg"]
    reason = result.unread[os.fsencode(base / "sub")]
    assert reason.startswith(".arrowlensignore")
    assert "\n" not in reason
    assert not result.covers(os.fsencode(base / "sub" / "deep" / "gone.jpg"))
    below = seen(library, base / "sub" / "deep", roots=[base])
    assert below.files == []
    assert not below.covers(os.fsencode(base / "sub" / "deep" / "gone.jpg"))
    if case == "invalid":
        assert "line 2: '!'" in reason


@pytest.mark.timeout(60)
def test_an_ignore_file_of_many_stars_does_not_hang_the_walk(library, tmp_path):
    base = tmp_path / "in"
    touch(base / ("a" * 200 + ".jpg"), base / ("a" * 200 + "b.jpg"))
    ignoring(base, "*a" * 40 + "*b.jpg", "**/" + "*a" * 40 + "*c.jpg")
    assert names(seen(library, base), base) == ["a" * 200 + ".jpg"]


def captions(result):
    return {found.relative.decode(): found.sidecar and found.sidecar.split(b"/")[-1] for found in result.files}


def test_text_files_beside_media_are_captions(library, tmp_path):
    base = tmp_path / "in"
    touch(base / "a.jpg", base / "a.txt", base / "b.jpg", base / "b.txt", base / "b.jpg.txt", base / "C.WAV")
    touch(base / "C.TXT", base / "d.jpg", base / "e.txt", base / "sub" / "d.txt", base / "f.png", base / "g.jpg")
    (base / "f.txt").mkdir()
    (base / "g.txt").symlink_to("nowhere")
    touch(base / ".h.txt", base / "i.jpg", base / "i.txt")
    ignoring(base, "i.txt")
    result = seen(library, base)
    expected = {"a.jpg": b"a.txt", "b.jpg": b"b.jpg.txt", "C.WAV": b"C.TXT", "g.jpg": b"g.txt"}
    assert captions(result) == {"d.jpg": None, "f.png": None, "i.jpg": None, **expected}
    stamps = {found.relative: found.caption_stamp for found in result.files}
    assert stamps[b"a.jpg"] == f"1:{(base / 'a.txt').stat().st_mtime_ns}"
    assert stamps[b"d.jpg"] is stamps[b"g.jpg"] is None
    (base / "a.txt").write_text("longer")
    changed = {found.relative: found.caption_stamp for found in seen(library, base).files}
    assert {name for name in stamps if stamps[name] != changed[name]} == {b"a.jpg"}


def test_each_file_is_looked_at_once(library, tmp_path, monkeypatch):
    base = tmp_path / "in"
    touch(*(base / f"{number}" / f"{name}.jpg" for number in range(3) for name in range(20)))
    touch(*(base / "0" / f"{name}.txt" for name in range(5)), *(base / "1" / f"note {name}.txt" for name in range(5)))
    stat, looked = os.stat, []

    def counted(path, *args, **options):
        looked.append(path)
        return stat(path, *args, **options)

    monkeypatch.setattr(os, "stat", counted)
    result = seen(library, base)
    files = [path for path in looked if str(path)[-5:].strip("'").endswith((".jpg", ".txt"))]
    assert len(files) == len(set(files)) == len(result.files) + 5
