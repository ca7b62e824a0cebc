"""What users put beside their files and do to them: ignore files, captions, moves; and what the library makes of it."""

from __future__ import annotations

import datetime as dt
import os
import shutil

import pytest
from PIL import Image

from arrowlens.ingest import IngestOptions, run
from arrowlens.media import Limits
from tests.support.folders import write_folder, write_picture, write_sound
from tests.support.small_models import CLIP_DIGEST

N_FILES = 15  # of ``write_folder``


def counts(report):
    return report.indexed, report.unchanged, report.skipped, report.removed


def versions(storage):
    return sorted(storage.path.glob("*.lance/_versions/*"))


def ignoring(folder, text):
    (folder / ".arrowlensignore").write_text(text)


def test_what_is_ignored_leaves_the_library_and_may_come_back(storage, folder, provider):
    run(storage, provider, [folder])
    ignoring(folder, "below/\n*.wav\n")
    assert counts(run(storage, provider, [folder], IngestOptions(prune=False))) == (0, 8, 0, 0)
    assert storage.media_under(folder).num_rows == N_FILES
    assert counts(run(storage, provider, [folder])) == (0, 8, 0, 7)
    assert storage.media_under(folder).num_rows == 8
    assert storage.media_under(folder / "below").num_rows == 0
    state = versions(storage)
    assert counts(run(storage, provider, [folder])) == (0, 8, 0, 0)
    assert counts(run(storage, provider, [folder / "below"])) == (0, 0, 0, 0), "whichever folder is named"
    assert versions(storage) == state
    ignoring(folder, "*.wav\n!*.wav\n")
    assert counts(run(storage, provider, [folder])) == (7, 8, 0, 0)


def test_an_ignore_file_that_cannot_be_followed_deletes_nothing_and_is_reported(storage, folder, provider):
    ignoring(folder / "below", "# nothing yet\n")
    run(storage, provider, [folder])
    (folder / "below" / "picture 000.png").unlink()
    write_picture(folder / "below" / "new.png", 77)
    ignoring(folder / "below", "!\n")
    report = run(storage, provider, [folder])
    assert counts(report) == (0, N_FILES - 4, 0, 0)
    assert report.unread_folders.keys() == {str(folder / "below")}
    assert "line 1: '!'" in report.unread_folders[str(folder / "below")]
    assert storage.media_under(folder).num_rows == N_FILES
    ignoring(folder / "below", "new.png\n")
    assert counts(run(storage, provider, [folder])) == (0, N_FILES - 1, 0, 1)


def test_a_caption_is_stored_and_follows_its_file_without_encoding(storage, folder, provider):
    picture, sound = folder / "picture 002.png", folder / "sound 000.wav"
    (folder / "picture 002.txt").write_text("two  patches\n")
    (folder / "sound 000.wav.txt").write_bytes("caf\u00e9".encode("cp1252"))
    run(storage, provider, [folder])
    n_encoded = provider.n_encoded
    assert storage.media_by_path(picture)["caption"] == "two patches"
    assert storage.media_by_path(sound)["caption"] == "caf\u00e9"
    state = versions(storage)
    assert counts(run(storage, provider, [folder])) == (0, N_FILES, 0, 0)
    assert versions(storage) == state
    (folder / "picture 002.txt").write_text("three patches")
    (folder / "sound 000.wav.txt").unlink()
    (folder / "picture 004.png.txt").write_text("new")
    assert counts(run(storage, provider, [folder])) == (0, N_FILES, 0, 0)
    captions = {row["path"]: row["caption"] for row in storage.all_media().to_pylist() if row["caption"]}
    assert captions == {"picture 002.png": "three patches", "picture 004.png": "new"}
    assert provider.n_encoded == n_encoded
    state = versions(storage)
    assert counts(run(storage, provider, [folder])) == (0, N_FILES, 0, 0)
    assert versions(storage) == state


def test_a_caption_that_cannot_be_read_now_is_kept(storage, folder, provider):
    picture, text = folder / "picture 002.png", folder / "picture 002.txt"
    (folder / "elsewhere.text").write_text("two patches")
    text.symlink_to("elsewhere.text")
    run(storage, provider, [folder])
    (folder / "elsewhere.text").rename(folder / "away")
    for _ in range(2):
        assert counts(run(storage, provider, [folder])) == (0, N_FILES - 1, 1, 0)
        row = storage.media_by_path(picture)
        assert (row["caption"], row["state"]) == ("two patches", "indexed")
        assert "caption cannot be read" in row["reason"]
    (folder / "away").rename(folder / "elsewhere.text")
    assert counts(run(storage, provider, [folder])) == (0, N_FILES, 0, 0)
    assert storage.media_by_path(picture)["reason"] is None


def test_when_and_where_a_file_came_about(storage, tmp_path, provider):
    base = tmp_path / "in"
    base.mkdir()
    exif = Image.Exif()
    exif[0x0110] = "Box Camera"
    exif.get_ifd(0x8769)[0x9003] = "2019:05:06 07:08:09"
    Image.new("RGB", (64, 48), "teal").save(base / "dated.jpg", exif=exif)
    write_picture(base / "undated.png", 1)
    stamp = dt.datetime(2020, 1, 2, 3, 4, 5).timestamp()
    for path in base.iterdir():
        os.utime(path, (stamp, stamp))
    run(storage, provider, [base])
    dated, undated = (storage.media_by_path(base / name) for name in ("dated.jpg", "undated.png"))
    assert (dated["taken"], dated["captured_at"], dated["camera"]) == (
        dt.datetime(2019, 5, 6, 7, 8, 9),
        dt.datetime(2019, 5, 6, 7, 8, 9),
        "Box Camera",
    )
    assert (undated["taken"], undated["captured_at"]) == (dt.datetime(2020, 1, 2, 3, 4, 5), None), "local time"


@pytest.mark.parametrize("nanoseconds", [0, -(2**55), 2**62])
def test_files_of_any_age(storage, tmp_path, provider, nanoseconds):
    base = tmp_path / "in"
    base.mkdir()
    write_picture(base / "x.png", 1)
    os.utime(base / "x.png", ns=(nanoseconds, nanoseconds))
    assert run(storage, provider, [base]).indexed == 1
    state = versions(storage)
    assert run(storage, provider, [base]).unchanged == 1
    assert versions(storage) == state


def test_a_file_that_moves_from_one_root_to_another_costs_no_encoding(storage, tmp_path, provider):
    one, two = write_folder(tmp_path / "one", 4, 1), tmp_path / "two"
    two.mkdir()
    write_sound(two / "a.wav", 50)
    run(storage, provider, [one, two])
    n_encoded = provider.n_encoded
    (one / "sound 000.wav").rename(two / "moved.wav")
    shutil.move(one / "picture 001.jpg", two / "moved.jpg")
    report = run(storage, provider, [one, two])
    assert (counts(report), report.copied, report.moved) == ((2, 4, 0, 0), 2, 2)
    assert provider.n_encoded == n_encoded
    assert [len(storage.settings.roots), storage.media_under(two).num_rows] == [2, 3]


def test_a_folder_of_which_nothing_is_left_is_forgotten(storage, tmp_path, provider):
    one, two = write_folder(tmp_path / "one", 2, 0), write_folder(tmp_path / "two", 2, 0)
    run(storage, provider, [one, two])
    for path in two.rglob("*.*"):
        path.unlink()
    assert run(storage, provider, [two]).removed == 2
    assert [root.path for root in storage.settings.roots] == [str(one)]
    write_picture(two / "back.png", 9)
    assert run(storage, provider, [two]).indexed == 1
    assert storage.media_by_path(two / "back.png")["state"] == "indexed"


def test_a_decoder_that_fails_on_content_it_once_read_takes_no_vectors_away(storage, folder, provider):
    """With a new time the file is opened again, and refused: by a lower limit here, by a lack of memory elsewhere."""
    run(storage, provider, [folder])
    path = folder / "picture 001.jpg"
    before = storage.media_by_path(path)
    os.utime(path, (1, 1))
    report = run(storage, provider, [folder], IngestOptions(limits=Limits(max_pixels=100)))
    assert counts(report) == (0, N_FILES, 0, 0)
    after = storage.media_by_path(path)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"modified_ns", "modified", "taken"}
    assert storage.vectors("vision", CLIP_DIGEST, before["content_hash"]).shape[0] == 1
    state = versions(storage)
    assert counts(run(storage, provider, [folder])) == (0, N_FILES, 0, 0)
    assert versions(storage) == state


def test_removed_files_leave_the_disk_with_the_run(storage, folder, provider):
    run(storage, provider, [folder])
    path = folder / "picture 001.jpg"
    content = storage.media_by_path(path)["content_hash"]
    traces = [
        storage.vectors("vision", CLIP_DIGEST, content)[0].astype("float16").tobytes(),
        storage.thumbnails([content])[content],
    ]

    def found():
        files = [file.read_bytes() for file in storage.path.rglob("*") if file.is_file()]
        return [any(trace in data for data in files) for trace in traces]

    assert found() == [True, True]
    path.unlink()
    assert run(storage, provider, [folder]).removed == 1
    assert found() == [False, False]
