"""``arrowlens doctor --repair``: what doctor says it mends, it mends; ``doctor`` alone changes nothing."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest

import arrowlens
from arrowlens import Library
from arrowlens.cli import main
from arrowlens.errors import StorageError
from arrowlens.store import MultimodalStorage
from arrowlens.store.location import LocalLocation

SAMPLES = Path(arrowlens.__file__).parent / "demo" / "samples"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    (folder / "media").mkdir()
    for path in sorted((SAMPLES / "pictures").rglob("*.png"))[:4]:
        shutil.copy(path, folder / "media")
    with Library.open(folder / "a.lens", models="demo") as library:
        library.ingest(folder / "media", workers=1)
    return folder / "a.lens"


@pytest.fixture
def path(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "a.lens"))


def state_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def doctor(path: Path, *options: str) -> int:
    return main(["doctor", "--library", str(path), *options])


def found(path: Path, text: str) -> list[str]:
    with Library.open(path) as library:
        return [hit.path.name for hit in library.search(text, mode="keyword")]


def a_name(path: Path) -> str:
    with MultimodalStorage(path, create=False) as storage:
        return str(storage.sample_media(1)[0]["path"])


@pytest.mark.parametrize("damage", ["missing", "cut", "zeroed"])
def test_a_damaged_word_index_is_found_and_rebuilt(path, damage, capsys):
    files = [file for file in (path / "media.lance" / "_indices").rglob("*") if file.is_file()]
    assert files
    for file in files:
        size = file.stat().st_size
        if damage == "missing":
            file.unlink()
        else:
            file.write_bytes(b"" if damage == "cut" else bytes(size))
    before = state_of(path)
    assert doctor(path) == 1
    assert "doctor --repair" in capsys.readouterr().out
    assert state_of(path) == before, "doctor alone changes nothing"
    assert doctor(path, "--repair") == 0
    assert doctor(path) == 0
    name = a_name(path)
    assert name in found(path, name)


def test_missing_unreadable_and_unused_thumbnails_are_found_and_made_anew(path, capsys):
    storage = MultimodalStorage(path, create=False)
    first, second, *_ = [row["content_hash"] for row in storage.sample_media(100)]
    right = storage.thumbnails([first, second])
    with storage.writing():
        storage._tables.delete("thumbnails", "content_hash", [first])
        storage.upsert_thumbnails({second: right[second][:50], "f" * 32: b"nobody's"})
    before = state_of(path)
    assert doctor(path) == 1
    said = capsys.readouterr().out
    assert "pictures and films without a thumbnail" in said
    assert "thumbnails without a file" in said
    assert state_of(path) == before
    assert doctor(path, "--repair") == 0
    storage = MultimodalStorage(path, create=False)
    assert storage.thumbnails([first, second, "f" * 32]) == right


@pytest.mark.parametrize("table", ["media", "thumbnails", "clip"])
def test_an_emptied_newest_manifest_is_restored(path, table):
    (folder,) = path.glob(f"{table}*.lance")
    newest = min((folder / "_versions").glob("*.manifest"))
    content = newest.read_bytes()
    newest.write_bytes(b"")
    with MultimodalStorage(path, create=False) as storage, pytest.raises(StorageError, match="doctor --repair"):
        storage._tables.shards[0].read(folder.name.removesuffix(".lance"), lambda handle: handle.to_arrow(), None)
    assert doctor(path, "--repair") == 0
    assert len(found(path, a_name(path))) == 1
    with Library.open(path) as library:
        assert library.status().images == 4
    assert content


@pytest.mark.parametrize("damage", ["missing", "cut", "empty"])
def test_lost_settings_are_restored_by_the_command_that_the_error_names(path, damage, capsys):
    file = path / "library.json"
    right = json.loads(file.read_text())
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:100] if damage == "cut" else b"")
    with pytest.raises(StorageError, match=r"arrowlens doctor --repair --library .* restores it") as caught:
        Library.open(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(StorageError):
        MultimodalStorage(path, create=True)
    assert doctor(path, "--repair") == 0
    assert json.loads(file.read_text()) == right


def test_settings_that_the_disk_refuses_to_read_are_not_replaced(path, monkeypatch):
    """What cannot be read now may be newer than its copy."""
    file = path / "library.json"
    newer = file.read_bytes() + b"\n"
    file.write_bytes(newer)

    def refused(self, name, read=LocalLocation.read):
        if name == "library.json":
            raise OSError(errno.EIO, "Input/output error")
        return read(self, name)

    with monkeypatch.context() as patched:
        patched.setattr(LocalLocation, "read", refused)
        with pytest.raises(StorageError, match=r"library.json cannot be read \(Input/output error\)"):
            Library.restore_settings(path)
    assert file.read_bytes() == newer


def test_a_library_of_an_earlier_version_gets_its_copies_with_the_next_write(path):
    shutil.rmtree(path / "copies")
    with Library.open(path) as library:
        library.repair()
    (path / "library.json").unlink()
    assert Library.restore_settings(path)
    assert doctor(path) == 0


def test_removed_names_leave_the_copies_too(path):
    name = a_name(path)
    with Library.open(path) as library:
        with MultimodalStorage(path, create=False) as storage:
            places = [Path(row["absolute_path"].decode()) for row in storage.sample_media(100)]
        library.remove(places)
    assert [file for file, content in state_of(path).items() if name.encode() in content] == []
    assert [file for file, content in state_of(path).items() if str(places[0].parent).encode() in content] == []
