"""A folder's life in a library: real files, a real store, small deterministic models."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arrowlens.errors import FolderError, ModelMismatchError
from arrowlens.ingest import IngestEvent, IngestOptions, known_content, run
from arrowlens.media.files import hash_bytes
from arrowlens.store import ModelRecord, MultimodalStorage
from tests.support.folders import write_folder, write_odd_names, write_picture, write_sound
from tests.support.media_factory import make_good_folder, make_hostile_folder
from tests.support.small_models import AUDIO_DIGEST, CLIP_DIGEST, SmallProvider

N_PICTURES, N_SOUNDS, N_WINDOWS = 12, 3, 6  # of ``write_folder``: two sounds of one window, one of four
N_FILES = N_PICTURES + N_SOUNDS


def counts(report):
    return report.indexed, report.unchanged, report.skipped, report.removed


def snapshot(storage):
    """Everything in a library but times of writing, in order: rows, thumbnails, and vectors apart."""
    media = storage.all_media().drop_columns(["modified", "modified_ns"]).to_pylist()
    hashes = sorted({row["content_hash"] for row in media if row["content_hash"]})
    keys, vectors = [], []
    for role, digest in (("vision", CLIP_DIGEST), ("audio", AUDIO_DIGEST)):
        keys.append(sorted(storage.vector_keys(role)))
        for content in hashes:
            found = storage.vectors(role, digest, content)
            keys.append((role, content, len(found)))
            vectors.append(found)
    return media, storage.thumbnails(hashes), keys, np.concatenate(vectors)


def assert_same(one, other):
    """Rows, ids and order exactly; vectors as "the same vector" is defined."""
    assert one[:3] == other[:3]
    np.testing.assert_allclose((one[3] * other[3]).sum(axis=1), 1.0, atol=1e-3)


def paths_in(storage):
    return {os.fsdecode(row["absolute_path"]) for row in storage.media_under(os.sep).to_pylist()}


def found_for(storage, path, k=1):
    """Absolute paths nearest to a stored picture."""
    row = storage.media_by_path(path)
    query = storage.vectors("vision", CLIP_DIGEST, row["content_hash"])[0]
    hits = storage.search("vision", CLIP_DIGEST, query, k)
    rows = {row["media_id"]: row["absolute_path"] for row in storage.media(hits["media_id"].to_pylist()).to_pylist()}
    return [os.fsdecode(rows[media_id]) for media_id in hits["media_id"].to_pylist()]


def test_a_first_run_indexes_and_a_second_one_nothing(storage, folder, provider):
    report = run(storage, provider, [folder])
    assert counts(report) == (N_FILES, 0, 0, 0)
    assert (provider.clip_engine.n_encoded, provider.audio_encoder.n_encoded) == (N_PICTURES, N_WINDOWS)
    before, versions = snapshot(storage), sorted(storage.path.glob("*.lance/_versions/*"))
    report = run(storage, provider, [folder])
    assert counts(report) == (0, N_FILES, 0, 0)
    assert provider.n_encoded == N_PICTURES + N_WINDOWS
    assert_same(snapshot(storage), before)
    assert sorted(storage.path.glob("*.lance/_versions/*")) == versions, "nothing was written at all"


def test_everything_indexed_is_found(storage, folder, provider):
    run(storage, provider, [folder])
    for path in [*folder.rglob("*.png"), *folder.rglob("*.jpg")]:
        assert found_for(storage, path) == [str(path)]
    long = storage.media_by_path(folder / "sound 002.wav")
    assert long["duration"] == pytest.approx(23.0)
    vectors = storage.vectors("audio", AUDIO_DIGEST, long["content_hash"])
    hits = storage.search("audio", AUDIO_DIGEST, vectors[3], 5)
    assert hits["media_id"][0].as_py() == long["media_id"]
    thumbnails = storage.thumbnails([storage.media_by_path(folder / "picture 001.jpg")["content_hash"]])
    assert next(iter(thumbnails.values())).startswith(b"\xff\xd8\xff")


def test_a_changed_file_is_encoded_again(storage, folder, provider):
    run(storage, provider, [folder])
    changed = folder / "picture 001.jpg"
    earlier = storage.media_by_path(changed)["content_hash"]
    write_picture(changed, 999)
    report = run(storage, provider, [folder])
    assert counts(report) == (1, N_FILES - 1, 0, 0)
    assert provider.clip_engine.n_encoded == N_PICTURES + 1
    assert storage.vectors("vision", CLIP_DIGEST, earlier).shape[0] == 0
    assert storage.thumbnails([earlier]) == {}
    assert found_for(storage, changed) == [str(changed)]
    assert storage.statistics().indexes["vision"].n_rows == N_PICTURES


def test_a_recording_that_became_shorter_keeps_no_old_windows(storage, folder, provider):
    run(storage, provider, [folder])
    write_sound(folder / "sound 002.wav", 77, 2.0)
    run(storage, provider, [folder])
    assert storage.statistics().indexes["audio"].n_rows == N_SOUNDS


def test_a_new_time_alone_costs_no_encoding(storage, folder, provider):
    run(storage, provider, [folder])
    n_encoded = provider.n_encoded
    os.utime(folder / "picture 001.jpg", (1, 1))
    assert counts(run(storage, provider, [folder])) == (0, N_FILES, 0, 0)
    assert storage.media_by_path(folder / "picture 001.jpg")["modified"].year == 1970
    assert provider.n_encoded == n_encoded


def test_moved_and_copied_files_cost_no_encoding(storage, folder, provider):
    run(storage, provider, [folder])
    n_encoded, before = provider.n_encoded, storage.statistics()
    (folder / "picture 001.jpg").rename(folder / "below" / "moved.jpg")
    (folder / "sound 002.wav").rename(folder / "below" / "moved.wav")
    shutil.copy(folder / "picture 002.png", folder / "copy.png")
    report = run(storage, provider, [folder])
    assert (counts(report), report.moved) == ((3, N_FILES - 2, 0, 0), 2)
    assert report.copied == 3
    assert provider.n_encoded == n_encoded
    assert (report.timings["decoding"], report.rate) == (0.0, 0.0), "its bytes say enough"
    after = storage.statistics()
    assert after.indexes["audio"].n_rows == before.indexes["audio"].n_rows
    assert after.indexes["vision"].n_rows == before.indexes["vision"].n_rows + 1
    assert found_for(storage, folder / "below" / "moved.jpg") == [str(folder / "below" / "moved.jpg")]
    assert len(set(found_for(storage, folder / "copy.png", 99))) == N_PICTURES, "equal content comes once"


def test_a_renamed_folder_is_moved_and_nothing_of_it_is_decoded(storage, folder, provider):
    shutil.copy(folder / "below" / "picture 000.png", folder / "below" / "the same.png")
    run(storage, provider, [folder])
    n_encoded, before = provider.n_encoded, snapshot(storage)
    (folder / "below").rename(folder / "renamed")
    (folder / "renamed" / "picture 003.txt").write_text("a caption of now")
    write_picture(folder / "renamed" / "as large.png", 1)  # of the size of a known file, with another content
    known = (folder / "renamed" / "the same.png").read_bytes()
    (folder / "renamed" / "as large.png").write_bytes(known[:-1] + b"x")
    report = run(storage, provider, [folder])
    assert (counts(report), report.moved) == ((5, N_FILES - 4, 1, 0), 5)
    assert provider.n_encoded == n_encoded
    rows = storage.all_media().to_pylist()
    captions = {row["path"]: row["caption"] for row in rows if row["caption"]}
    assert captions == {"renamed/picture 003.jpg": "a caption of now"}
    of_content = ("content_hash", "format", "width", "height", "metadata", "trivial", "modality", "size")
    was = sorted(str([row[name] for name in of_content]) for row in before[0])
    assert sorted(str([row[name] for name in of_content]) for row in rows if row["state"] == "indexed") == was
    assert counts(run(storage, provider, [folder])) == (0, N_FILES + 1, 1, 0)


def test_a_single_file_is_ingested_and_nothing_around_it(storage, folder, provider):
    report = run(storage, provider, [folder / "picture 001.jpg"])
    assert counts(report) == (1, 0, 0, 0)
    assert paths_in(storage) == {str(folder / "picture 001.jpg")}
    (folder / "picture 001.jpg").unlink()
    assert counts(run(storage, provider, [folder / "sound 000.wav"])) == (1, 0, 0, 0), "what is gone stays"
    assert counts(run(storage, provider, [folder])) == (N_FILES - 2, 1, 0, 1)


@pytest.mark.parametrize("commit_every", [1, 256])
@pytest.mark.parametrize("batch_size", [1, 64])
def test_copies_within_one_run_are_encoded_once(storage, tmp_path, provider, batch_size, commit_every):
    (tmp_path / "in").mkdir()
    write_picture(tmp_path / "in" / "a.png", 1)
    write_sound(tmp_path / "in" / "a.wav", 1, 23.0)
    for name in ("b", "c", "d"):
        for suffix in (".png", ".wav"):
            shutil.copy(tmp_path / "in" / f"a{suffix}", tmp_path / "in" / f"{name}{suffix}")
    report = run(storage, provider, [tmp_path / "in"], IngestOptions(batch_size=batch_size, commit_every=commit_every))
    assert (report.indexed, report.copied) == (8, 6)
    assert (provider.clip_engine.n_encoded, provider.audio_encoder.n_encoded) == (1, 4)
    states = storage.index_states()
    assert (states["vision"].n_rows, states["audio"].n_rows) == (4, 16)


def test_a_file_that_swaps_its_content_with_another(storage, folder, provider):
    run(storage, provider, [folder])
    n_encoded = provider.n_encoded
    one, two = folder / "picture 002.png", folder / "picture 004.png"
    one.rename(folder / "x")
    two.rename(one)
    (folder / "x").rename(two)
    os.utime(one, (1, 1))
    os.utime(two, (2, 2))
    assert counts(run(storage, provider, [folder])) == (2, N_FILES - 2, 0, 0)
    assert provider.n_encoded == n_encoded
    for path in (one, two):
        assert found_for(storage, path) == [str(path)]
    assert storage.statistics().indexes["vision"].n_rows == N_PICTURES


def test_many_files_that_exchange_their_contents_get_what_is_theirs(storage, tmp_path, provider, monkeypatch):
    """However few of them are taken at once, and however often is written."""
    monkeypatch.setattr(known_content, "_AT_ONCE", 4)
    monkeypatch.setattr(known_content, "_MOST_EXCHANGED", 20)
    folder, n_files = tmp_path / "exchanged", 40
    folder.mkdir()
    for number in range(n_files):
        Image.new("RGB", (8, 8), (number, 0, 255 - number)).save(folder / f"{number:02d}.bmp")
    (folder / "stays.bmp").write_bytes((folder / "00.bmp").read_bytes())
    options = IngestOptions(commit_every=3)
    run(storage, provider, [folder], options)
    contents = [(folder / f"{number:02d}.bmp").read_bytes() for number in range(n_files)]
    for number, content in enumerate(reversed(contents)):
        path = folder / f"{number:02d}.bmp"
        path.write_bytes(content)
        os.utime(path, (number, number))
    assert counts(run(storage, provider, [folder], options)) == (n_files, 1, 0, 0)
    rows = storage.media_under(os.sep).to_pylist()
    for row in rows:
        assert row["content_hash"] == hash_bytes(Path(os.fsdecode(row["absolute_path"])).read_bytes())
    assert storage.vector_keys("vision") == {(row["media_id"], row["content_hash"]) for row in rows}


def test_removed_files_leave_the_library_unless_told_to_stay(storage, folder, provider):
    run(storage, provider, [folder])
    shutil.rmtree(folder / "below")
    n_gone = len([number for number in range(N_PICTURES) if number % 3 == 0])
    assert counts(run(storage, provider, [folder], IngestOptions(prune=False))) == (0, N_FILES - n_gone, 0, 0)
    assert storage.statistics().images == N_PICTURES
    assert counts(run(storage, provider, [folder])) == (0, N_FILES - n_gone, 0, n_gone)
    assert storage.statistics().images == N_PICTURES - n_gone
    assert storage.statistics().indexes["vision"].n_rows == N_PICTURES - n_gone
    assert not any("below" in path for path in paths_in(storage))


def test_only_what_lies_below_the_given_folders_is_removed(storage, tmp_path, provider):
    one, two = write_folder(tmp_path / "one", 4, 0), write_folder(tmp_path / "two", 4, 0)
    run(storage, provider, [one, two])
    shutil.rmtree(two / "below")
    (two / "picture 001.jpg").unlink()
    assert run(storage, provider, [one]).removed == 0
    assert run(storage, provider, [two / "below"] if (two / "below").exists() else [one / "below"]).removed == 0
    assert run(storage, provider, [two]).removed == 3
    assert len(paths_in(storage)) == 5


def test_a_folder_inside_a_root_is_part_of_it(storage, folder, provider):
    run(storage, provider, [folder])
    write_picture(folder / "below" / "new.png", 500)
    (folder / "picture 001.jpg").unlink()
    assert counts(run(storage, provider, [folder / "below"])) == (1, 4, 0, 0)
    assert len(storage.settings.roots) == 1
    assert storage.media_by_path(folder / "below" / "new.png")["path"] == "below/new.png"
    assert counts(run(storage, provider, [folder])) == (0, N_FILES, 0, 1)


def test_a_folder_around_a_root_leaves_its_files_to_it(storage, folder, provider):
    run(storage, provider, [folder / "below"])
    n_encoded = provider.n_encoded
    inner = snapshot(storage)
    report = run(storage, provider, [folder])
    assert counts(report) == (N_FILES - 4, 4, 0, 0)
    assert provider.n_encoded == n_encoded + N_PICTURES + N_WINDOWS - 4
    assert len(storage.settings.roots) == 2
    ids = {row["media_id"] for row in inner[0]}
    assert ids <= {row["media_id"] for row in snapshot(storage)[0]}
    assert len(paths_in(storage)) == N_FILES, "each file once"


def test_a_missing_folder_is_an_error_and_nothing_is_touched(storage, folder, provider):
    run(storage, provider, [folder])
    before = snapshot(storage)
    folder.rename(folder.parent / "elsewhere")
    with pytest.raises(FolderError, match="is missing"):
        run(storage, provider, [folder])
    (folder.parent / "other").mkdir()
    with pytest.raises(FolderError, match="is missing"):
        run(storage, provider, [folder.parent / "other", folder])
    assert len(storage.settings.roots) == 1
    assert_same(snapshot(storage), before)


def test_other_models_are_refused(storage, folder, provider):
    storage.bind_models({"vision": ModelRecord("f" * 64, 24, "another")})
    with pytest.raises(ModelMismatchError, match="another"):
        run(storage, provider, [folder])
    assert storage.statistics().images == 0


def test_names_of_every_kind(storage, tmp_path, provider):
    (tmp_path / "in").mkdir()
    paths = write_odd_names(tmp_path / "in")
    assert counts(run(storage, provider, [tmp_path / "in"])) == (len(paths), 0, 0, 0)
    for path in paths:
        assert found_for(storage, os.fsdecode(path)) == [os.fsdecode(path)]
    assert counts(run(storage, provider, [tmp_path / "in"])) == (0, len(paths), 0, 0)
    Path(os.fsdecode(paths[0])).unlink()
    assert run(storage, provider, [tmp_path / "in"]).removed == 1


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # media says so too, but pytest has the last word
def test_a_hostile_folder(storage, tmp_path, provider):
    good = make_good_folder(tmp_path / "in")
    bad = make_hostile_folder(tmp_path / "in" / "bad")
    bad.pop(tmp_path / "in" / "bad" / "folder.png")  # a folder is a folder, whatever its name
    report = run(storage, provider, [tmp_path / "in"])
    skipped = {os.fsdecode(row["absolute_path"]): row["reason"] for row in storage.skipped().to_pylist()}
    assert skipped.keys() == {str(path) for path in bad}
    for path, reason in bad.items():
        assert reason in skipped[str(path)], path
    assert counts(report) == (len(good), 0, len(bad), 0)
    assert sum(report.reasons.values()) == len(bad)
    assert {path for path in paths_in(storage) if path not in skipped} == {str(path) for path in good}
    before = snapshot(storage)
    versions = sorted(storage.path.glob("*.lance/_versions/*"))
    assert counts(run(storage, provider, [tmp_path / "in"])) == (0, len(good), len(bad), 0)
    assert_same(snapshot(storage), before)
    assert sorted(storage.path.glob("*.lance/_versions/*")) == versions, "the ledger was right already"


def test_a_bad_file_that_becomes_good_is_indexed_and_back(storage, folder, provider):
    path = folder / "picture 002.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:300])
    assert counts(run(storage, provider, [folder])) == (N_FILES - 1, 0, 1, 0)
    path.write_bytes(whole)
    assert counts(run(storage, provider, [folder])) == (1, N_FILES - 1, 0, 0)
    assert storage.skipped().num_rows == 0
    path.write_bytes(whole[:300])
    assert counts(run(storage, provider, [folder])) == (0, N_FILES - 1, 1, 0)
    assert storage.statistics().indexes["vision"].n_rows == N_PICTURES - 1, (
        "its content is gone, and so are its vectors"
    )
    path.unlink()
    assert counts(run(storage, provider, [folder])) == (0, N_FILES - 1, 0, 1)


def test_retry_opens_bad_files_again(storage, tmp_path, provider):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.png").write_bytes(b"bad")
    run(storage, provider, [tmp_path / "in"])
    events: list[IngestEvent] = []
    run(storage, provider, [tmp_path / "in"], on_event=events.append)
    assert not any(event.path for event in events), "not opened"
    report = run(storage, provider, [tmp_path / "in"], IngestOptions(retry=True), events.append)
    assert any(event.path and event.reason for event in events)
    assert counts(report) == (0, 0, 1, 0)


def test_a_kind_without_a_model_is_accounted_for_and_not_opened(storage, folder):
    provider = SmallProvider(["vision"])
    report = run(storage, provider, [folder])
    assert counts(report) == (N_PICTURES, 0, N_SOUNDS, 0)
    assert report.reasons == {"the library has no model for audio files": N_SOUNDS}
    assert counts(run(storage, provider, [folder])) == (0, N_PICTURES, N_SOUNDS, 0)
    only_sound = MultimodalStorage(folder.parent / "sounds")
    assert counts(run(only_sound, SmallProvider(["audio"]), [folder])) == (N_SOUNDS, 0, N_PICTURES, 0)


def test_content_of_another_kind_than_the_name(storage, tmp_path, provider):
    (tmp_path / "in").mkdir()
    write_sound(tmp_path / "in" / "x.wav", 1).rename(tmp_path / "in" / "x.png")
    assert run(storage, provider, [tmp_path / "in"]).indexed == 1
    assert storage.statistics().audio == 1
    other = MultimodalStorage(tmp_path / "pictures only")
    assert run(other, SmallProvider(["vision"]), [tmp_path / "in"]).skipped == 1


@pytest.mark.parametrize(
    "options",
    [
        IngestOptions(workers=1, batch_size=1, commit_every=1),
        IngestOptions(workers=4, batch_size=3, commit_every=5),
        IngestOptions(workers=2, batch_size=64),
    ],
)
def test_the_same_rows_whatever_workers_batches_and_order(storage, folder, tmp_path, options):
    shutil.copy(folder / "picture 002.png", folder / "copy.png")
    (folder / "bad.png").write_bytes(b"bad")
    run(storage, SmallProvider(), [folder])
    other = MultimodalStorage(tmp_path / "other")
    run(other, SmallProvider(), [folder / "below"], options)  # another order: the inner folder becomes a root first
    run(other, SmallProvider(), [folder], options)
    third = MultimodalStorage(tmp_path / "third")
    run(third, SmallProvider(), [folder], options)
    assert_same(snapshot(third), snapshot(storage))
    assert paths_in(other) == paths_in(storage)
