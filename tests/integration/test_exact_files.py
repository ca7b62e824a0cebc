"""Originals, waveforms and spectrograms are of the file that was indexed, and of no other that takes its place."""

from __future__ import annotations

import os
import shutil

import pytest

from arrowlens import Library
from arrowlens.errors import FileChangedError, MediaError
from tests.support.folders import write_picture, write_sound


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    base = tmp_path_factory.mktemp("exact")
    (base / "in" / "deep").mkdir(parents=True)
    (base / "elsewhere").mkdir()
    write_picture(base / "in" / "deep" / "a.png", 1)
    write_sound(base / "in" / "deep" / "a.wav", 1)
    write_picture(base / "elsewhere" / "b.png", 2)
    (base / "in" / "b.png").symlink_to(base / "elsewhere" / "b.png")
    with Library.open(base / "a.lens", models="demo") as library:
        library.ingest(base / "in", workers=1)
    return base


def ids(library):
    return {hit.path.name: hit.media_id for hit in library.newest(10)}


def assert_changed(library, media_id, is_sound=False):
    with pytest.raises(FileChangedError, match=r"changed since it was indexed; run `arrowlens ingest`"):
        library.original(media_id)
    with pytest.raises(FileChangedError), library.open_original(media_id):
        pass
    if is_sound:
        for draw in (library.waveform, library.spectrogram):
            with pytest.raises(FileChangedError):
                draw(media_id)


def test_originals_are_opened_while_they_are_the_files_that_were_indexed(indexed):
    with Library.open(indexed / "a.lens") as library:
        for name, place in (("a.png", "in/deep/a.png"), ("b.png", "elsewhere/b.png"), ("a.wav", "in/deep/a.wav")):
            assert library.original(ids(library)[name]) == (indexed / place).read_bytes()
        assert library.waveform(ids(library)["a.wav"]).max() > 0


@pytest.mark.parametrize("name", ["a.png", "a.wav"])
@pytest.mark.parametrize("case", ["link", "link to an equal file", "copy", "hard link", "pipe", "folder", "edited"])
def test_another_file_in_its_place_is_not_opened(indexed, tmp_path, name, case):
    place, aside, secret = indexed / "in" / "deep" / name, tmp_path / "aside", tmp_path / "secret"
    status = place.stat()
    data = place.read_bytes()
    secret.write_bytes(b"x" * len(data) if case != "link to an equal file" else data)
    os.utime(secret, ns=(status.st_atime_ns, status.st_mtime_ns))
    place.rename(aside)
    try:
        match case:
            case "link" | "link to an equal file":
                place.symlink_to(secret)
            case "copy":
                shutil.copy2(secret, place)
            case "hard link":
                place.hardlink_to(secret)
            case "pipe":
                os.mkfifo(place)
            case "folder":
                place.mkdir()
            case "edited":
                shutil.copy2(aside, tmp_path / "kept")
                aside.rename(place)
                place.write_bytes(data[:-1] + b"x")
        with Library.open(indexed / "a.lens") as library:
            assert_changed(library, ids(library)[name], is_sound=name == "a.wav")
    finally:
        if case == "edited":
            place.write_bytes(data)
            os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))
        else:
            place.rmdir() if case == "folder" else place.unlink()
            aside.rename(place)
    with Library.open(indexed / "a.lens") as library:
        assert library.original(ids(library)[name]) == data


def test_no_component_of_the_path_may_be_a_link(indexed):
    (indexed / "in" / "deep").rename(indexed / "in" / "moved")
    (indexed / "in" / "deep").symlink_to("moved")
    try:
        with Library.open(indexed / "a.lens") as library:
            assert_changed(library, ids(library)["a.png"])
    finally:
        (indexed / "in" / "deep").unlink()
        (indexed / "in" / "moved").rename(indexed / "in" / "deep")


def test_a_link_that_leads_elsewhere_now_does_not_matter_to_the_file_that_was_read(indexed, tmp_path):
    """What was read is what is given out, as long as it lies where it lay."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    (indexed / "in" / "b.png").unlink()
    (indexed / "in" / "b.png").symlink_to(secret)
    try:
        with Library.open(indexed / "a.lens") as library:
            assert library.original(ids(library)["b.png"]) == (indexed / "elsewhere" / "b.png").read_bytes()
    finally:
        (indexed / "in" / "b.png").unlink()
        (indexed / "in" / "b.png").symlink_to(indexed / "elsewhere" / "b.png")


def test_rows_of_an_earlier_layout_serve_files_without_links_in_their_paths(tmp_path):
    (tmp_path / "in").mkdir()
    write_picture(tmp_path / "in" / "a.png", 1)
    write_picture(tmp_path / "b.png", 2)
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "b.png")
    with Library.open(tmp_path / "a.lens", models="demo") as library:
        library.ingest(tmp_path / "in", workers=1)
        storage = library._storage
        rows = storage.media(storage.all_media(["media_id"])["media_id"].to_pylist()).drop_columns(["absolute_path"])
        storage.upsert_media([{**row, "layout": 2, "real_path": None, "file_id": None} for row in rows.to_pylist()])
        assert library.original(ids(library)["a.png"]) == (tmp_path / "in" / "a.png").read_bytes()
        assert_changed(library, ids(library)["b.png"])
        assert library.ingest(tmp_path / "in", workers=1).unchanged == 2
        assert library.original(ids(library)["b.png"]) == (tmp_path / "b.png").read_bytes()


def test_what_is_gone_and_what_could_not_be_read_is_said(tmp_path):
    (tmp_path / "in").mkdir()
    write_picture(tmp_path / "in" / "a.png", 1)
    (tmp_path / "in" / "bad.png").symlink_to("/etc/passwd")
    with Library.open(tmp_path / "a.lens", models="demo") as library:
        library.ingest(tmp_path / "in", workers=1)
        (tmp_path / "in" / "a.png").unlink()
        with pytest.raises(MediaError, match=r"a\.png: the file is gone"):
            library.original(ids(library)["a.png"])
        bad = library._storage.media_by_path(tmp_path / "in" / "bad.png")
        with pytest.raises(MediaError, match="could not be read when it was ingested"):
            library.original(bad["media_id"])
