"""Another model set for a library in use: nothing is lost, nothing is mixed, and whatever ends a run is mended."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import subprocess
import threading
import time

import numpy as np
import obstore
import pytest

from arrowlens.errors import FolderError, LibraryBusyError, ModelMismatchError
from arrowlens.ingest import IngestOptions, migrate, run
from arrowlens.ingest import bucket as buckets
from arrowlens.ingest.migration import Rewriter
from arrowlens.media import decode, windows
from arrowlens.store import MultimodalStorage
from arrowlens.store.identifiers import vector_table_name
from arrowlens.store.tables import Tables
from tests.soak.processes import Run
from tests.soak.whole import assert_searchable, assert_whole, read
from tests.support.folders import write_folder, write_picture, write_sound
from tests.support.other_models import write_other_models
from tests.support.small_models import SmallProvider

OLD, NEW = SmallProvider(), SmallProvider(seed=5, dimension=32)
SLOWLY = IngestOptions(workers=1, batch_size=1, commit_every=1)


@pytest.fixture
def own(tmp_path, folder):
    """A library of ``folder``, whose files may be changed."""
    with MultimodalStorage(tmp_path / "library") as storage:
        run(storage, OLD, [folder], IngestOptions(workers=1))
        yield storage


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder, library = write_folder(tmp_path_factory.mktemp("made") / "in"), tmp_path_factory.mktemp("made") / "library"
    with MultimodalStorage(library) as storage:
        run(storage, OLD, [folder], IngestOptions(workers=1))
    return folder, library


@pytest.fixture
def storage(tmp_path, made):
    """The same over a folder that tests share and leave as it is."""
    shutil.copytree(made[1], tmp_path / "library")
    with MultimodalStorage(tmp_path / "library") as storage:
        yield storage


def change(storage, provider=NEW, **how):
    return migrate(storage, provider, provider.records(), how.pop("options", IngestOptions(workers=1)), **how)


def tables(storage):
    return sorted(path.name for path in storage.path.glob("*_embeddings__*"))


def names(provider):
    return sorted(f"{vector_table_name(role, provider.digest(role))}.lance" for role in ("vision", "audio"))


def assert_serves(storage, provider):
    """Every file has its vectors of these models, none has others, and each finds itself with them."""
    settings, state = storage.settings, read(storage.path)
    assert {role: one.digest for role, one in settings.models.items()} == {
        role: provider.digest(role) for role in ("vision", "audio")
    }
    state = dataclasses.replace(
        state,
        keys={name: rows for name, rows in state.keys.items() if f"{name}.lance" in names(provider)},
        vectors={name: rows for name, rows in state.vectors.items() if f"{name}.lance" in names(provider)},
    )
    assert_whole(state, settled=True)
    assert_searchable(storage.path, state)
    rows = storage.media(storage.all_media(["media_id"])["media_id"].to_pylist()).to_pylist()
    for row in (row for row in rows if row["state"] == "indexed"):
        role = {"image": "vision", "audio": "audio"}[row["modality"]]
        stored = storage.vectors(role, provider.digest(role), row["content_hash"])
        np.testing.assert_allclose(stored, vectors_of(provider, row), atol=2e-3)


def vectors_of(provider, row):
    """What the models give for a file, decoded here."""
    decoded = decode(row["absolute_path"], min_side=32)
    if decoded.pixels is not None:
        pixels = provider.clip_engine.image_processor(decoded.pixels, normalize=False, box=decoded.box)
        return provider.clip_engine.encode_image(pixels[None])
    parts = [decoded.samples[window.slice()] for window in windows(len(decoded.samples))]
    return provider.audio_encoder.encode(parts, context="own")


def stop_after(n_files):
    """An event to stop by, and a listener that sets it once so many files are encoded."""
    stop = threading.Event()

    def listen(event):
        if event.indexed >= n_files:
            stop.set()

    return {"stop": stop, "on_event": listen, "options": SLOWLY}


def test_every_file_is_encoded_and_the_old_vectors_go(storage):
    before = storage.all_media()
    report = change(storage)
    assert (report.encoded, report.unchanged, report.lost, report.switched) == (15, 0, 0, True)
    assert tables(storage) == names(NEW)
    assert storage.all_media().equals(before)
    assert storage.settings.retired == ()
    assert storage.settings.next_models == {}
    assert_serves(storage, NEW)
    again = change(storage)
    assert (again.encoded, again.unchanged, again.switched) == (0, 15, True)
    assert change(storage, OLD).encoded == 15, "and back"
    assert_serves(storage, OLD)


def test_a_run_that_is_stopped_goes_on_from_there(storage):
    first = change(storage, **stop_after(4))
    assert 4 <= first.encoded < 15
    assert not first.switched
    assert_serves(storage, OLD)
    assert len(tables(storage)) > 2
    second = change(storage)
    assert (second.encoded + second.unchanged, second.unchanged, second.switched) == (15, first.encoded, True)
    assert tables(storage) == names(NEW)
    assert_serves(storage, NEW)


def test_files_come_change_and_go_while_it_is_half_done(own, folder, tmp_path):
    change(own, **stop_after(6))
    assert own.settings.next_models
    write_picture(folder / "new.png", 500)
    write_picture(folder / "picture 001.jpg", 501)
    (folder / "picture 002.png").unlink()
    (folder / "picture 004.png").rename(folder / "moved.png")
    report = run(own, OLD, [folder], IngestOptions(workers=1))
    assert (report.indexed, report.removed, report.moved) == (3, 1, 1)
    assert_serves(own, OLD)
    kept = {row["content_hash"] for row in own.all_media().to_pylist()}
    for name, rows in read(own.path).keys.items():
        assert {row["content_hash"] for row in rows} <= kept, f"{name} holds what was removed"
    done = change(own)
    assert (done.encoded + done.unchanged, done.lost) == (15, 0)
    assert_serves(own, NEW)
    write_sound(folder / "later.wav", 77)
    assert run(own, NEW, [folder], IngestOptions(workers=1)).indexed == 1
    assert_serves(own, NEW)


def test_what_can_no_longer_be_read_leaves_the_results_and_is_named(own, folder):
    (folder / "sound 000.wav").unlink()
    write_picture(folder / "picture 001.jpg", 900)
    good = (folder / "picture 002.png").read_bytes()
    (folder / "picture 002.png").write_bytes(b"no longer a picture")
    report = change(own)
    assert (report.encoded, report.lost, sum(report.reasons.values()), report.switched) == (12, 3, 3, True)
    reasons = {row["absolute_path"].rsplit(b"/", 1)[1]: row["reason"] for row in own.skipped().to_pylist()}
    assert reasons.keys() == {b"sound 000.wav", b"picture 001.jpg", b"picture 002.png"}
    assert "changed since it was indexed" in reasons[b"picture 001.jpg"]
    assert own.statistics().images + own.statistics().audio == 12
    state = read(own.path)
    assert_whole(state, settled=True)
    assert_searchable(own.path, state)
    (folder / "picture 002.png").write_bytes(good)
    after = run(own, NEW, [folder], IngestOptions(workers=1))
    assert (after.indexed, after.skipped, after.removed) == (2, 0, 1)
    assert_serves(own, NEW)


def test_copies_of_a_file_that_changed_get_the_vectors_of_their_own_content(own, folder):
    """One file has become another's copy since it was indexed: the other one needs the vectors all the same."""
    other = (folder / "picture 002.png").read_bytes()
    (folder / "picture 001.jpg").write_bytes(other)
    report = change(own)
    assert (report.encoded, report.lost) == (14, 1)
    assert_whole(read(own.path), settled=True)
    run(own, NEW, [folder], IngestOptions(workers=1))
    assert_serves(own, NEW)


def test_a_set_for_other_kinds_of_files_and_a_missing_folder_change_nothing(own, folder):
    settings = own.settings
    with pytest.raises(ModelMismatchError, match="holds 3 audio files and the new set has no audio model"):
        change(own, SmallProvider(["vision"], seed=5))
    folder.rename(folder.with_name("away"))
    with pytest.raises(FolderError, match="is missing; nothing was changed"):
        change(own)
    assert own.settings == settings
    assert tables(own) == names(OLD)


def test_another_set_in_between_leaves_nothing_of_the_first(storage):
    third = SmallProvider(seed=9)
    change(storage, **stop_after(3))
    change(storage, third, **stop_after(3))
    assert tables(storage) == sorted({*names(OLD), *(name for name in tables(storage) if name in names(third))})
    assert change(storage, OLD).encoded == 0, "giving it up"
    assert tables(storage) == names(OLD)
    assert storage.settings.next_models == {}
    assert_serves(storage, OLD)


def test_a_model_that_stays_is_not_run_again(storage):
    half = SmallProvider(seed=5)
    half._digests["vision"], half.clip_engine = OLD.digest("vision"), OLD.clip_engine
    before = OLD.clip_engine.n_encoded
    report = change(storage, half)
    assert (report.encoded, report.unchanged) == (3, 12)
    assert OLD.clip_engine.n_encoded == before
    assert tables(storage) == sorted([names(OLD)[1], names(half)[0]])


def test_one_writer_and_any_number_of_readers(storage):
    """While files are encoded, another handle finds everything with the old models, and nobody else may write."""
    answers = []

    def look(event):
        if event.phase != "done":
            with MultimodalStorage(storage.path, create=False) as other:
                answers.append(other.search("vision", OLD.digest("vision"), np.ones(24), 50).to_pylist())
                with pytest.raises(LibraryBusyError):
                    other.optimize()

    change(storage, on_event=look, options=SLOWLY)
    assert len(answers) > 15
    assert len(answers[0]) == 12
    assert all(answer == answers[0] for answer in answers)


def test_a_handle_of_the_old_models_is_refused_once_the_new_ones_serve(storage):
    with MultimodalStorage(storage.path, create=False) as other:
        content = other.all_media()["content_hash"][0].as_py()
        assert len(other.search("vision", OLD.digest("vision"), np.ones(24), 50)) == 12
        change(storage)
        for ask in (
            lambda: other.search("vision", OLD.digest("vision"), np.ones(24), 50),
            lambda: other.vectors("vision", OLD.digest("vision"), content),
            lambda: other.bind_models(OLD.records()),
            lambda: run(other, OLD, [storage.settings.roots[0].path]),
        ):
            with pytest.raises(ModelMismatchError, match="open it with"):
                ask()
        assert len(other.search("vision", NEW.digest("vision"), np.ones(32), 50)) == 12


def test_tables_say_what_their_vectors_come_from(storage):
    """Settings that do not belong to the tables, restored from another backup for one, are refused."""
    settings = (storage.path / "library.json").read_text()
    digest = OLD.digest("audio")
    other_windows = json.loads(settings)
    other_windows["models"]["audio"]["recipe"]["windows"]["length_s"] = 12.0
    assert digest in settings
    for changed, what in (
        (json.dumps(other_windows), "window_s 10"),
        (settings.replace(digest, digest[:8] + "0" * 56), f"model {digest[:16]}"),
    ):
        (storage.path / "library.json").write_text(changed)
        with MultimodalStorage(storage.path, create=False) as other:
            held = other.settings.models["audio"].digest
            with pytest.raises(ModelMismatchError, match=f"holds vectors of {what}"):
                other.search("audio", held, np.ones(24), 5)
    (storage.path / "library.json").write_text(settings)
    alike = NEW.records() | {"vision": NEW.records()["vision"].__class__(OLD.digest("vision")[:8] + "1" * 56, 32)}
    with pytest.raises(ModelMismatchError, match="begin alike"):
        migrate(storage, NEW, alike)


class KilledError(BaseException):
    """What ends a run at a point; nothing on disk tells it from a kill."""


@pytest.mark.parametrize(
    ("where", "call", "before", "serves"),
    [
        (Tables, "merge", 3, OLD),
        (Rewriter, "_write_files", 3, OLD),
        (MultimodalStorage, "optimize", 1, OLD),
        (MultimodalStorage, "finish_change", 1, OLD),
        (Tables, "drop", 1, NEW),
        (shutil, "rmtree", 2, NEW),
    ],
)
def test_a_run_that_is_cut_off_anywhere_leaves_a_library_that_works(storage, monkeypatch, where, call, before, serves):
    real, n_calls = getattr(where, call), itertools.count(1)

    def cut_off(*arguments, **options):
        if next(n_calls) == before:
            raise KilledError
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(where, call, cut_off)
        with pytest.raises(KilledError):
            change(storage, options=IngestOptions(workers=1, commit_every=4))
    with MultimodalStorage(storage.path, create=False) as again:
        assert_serves(again, serves)
        report = change(again)
        assert (report.encoded + report.unchanged, report.switched) == (15, True)
        assert report.unchanged >= {OLD: 0, NEW: 15}[serves]
        assert_serves(again, NEW)
        assert tables(again) == names(NEW)


def test_a_run_over_folders_finishes_what_a_cut_off_change_left_to_delete(storage, made, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", raises(KilledError))
        with pytest.raises(KilledError):
            change(storage)
    assert any(name.endswith(".dropped") for name in tables(storage))
    assert run(storage, NEW, [made[0]], IngestOptions(workers=1)).unchanged == 15
    assert tables(storage) == names(NEW)
    assert storage.settings.retired == ()


def raises(error):
    def call(*arguments, **options):
        raise error

    return call


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("n_pictures", "n_kills"),
    [pytest.param(60, 2, id="short"), pytest.param(600, 12, id="long", marks=pytest.mark.soak)],
)
def test_a_change_killed_at_random_moments(tmp_path, n_pictures, n_kills):
    """The command, SIGKILL to it or to all its processes; a searching process never sees anything but whole answers."""
    folder, library, other = tmp_path / "in", tmp_path / "library", write_other_models(tmp_path / "models")
    folder.mkdir()
    for number in range(n_pictures):
        write_picture(folder / f"{number:04d}.png", number)
    write_sound(folder / "sound.wav", 1, 17.0)
    with Run("ingest", folder, "--library", library, "--models", "demo", "--json") as first:
        first.report()
    models = {"demo": MultimodalStorage(library).settings.models}
    dice, n_killed, started = np.random.default_rng(8), 0, time.monotonic()
    with Run("models", "use", other, "--library", library, "--json") as undisturbed:
        assert undisturbed.report()["encoded"] == n_pictures + 1
    duration = time.monotonic() - started
    models["other"], goals = MultimodalStorage(library).settings.models, itertools.cycle(["demo", other])
    assert models["other"] != models["demo"]
    goal = next(goals)
    while n_killed < n_kills:
        with Run("models", "use", goal, "--library", library, "--json") as run_:
            try:
                assert run_.wait(dice.uniform(0.5, 1) * duration) == 0, run_.stderr
                goal = next(goals)  # it came to its end: back again
            except subprocess.TimeoutExpired:
                run_.kill(whole_group=bool(dice.integers(2)))
                n_killed += 1
        assert_answers(library, list(models.values()), n_pictures + 1)
    with Run("models", "use", goal, "--library", library, "--json") as last:
        report = last.report()
    assert (report["encoded"] + report["unchanged"], report["lost"], report["switched"]) == (n_pictures + 1, 0, True)
    assert MultimodalStorage(library).settings.models == models["demo" if goal == "demo" else "other"]
    assert_whole(read(library), settled=True)


def assert_answers(library, sets, n_files):
    """One of two sets serves, and everything is found with it."""
    with MultimodalStorage(library, create=False) as storage:
        serving = storage.settings.models
        assert serving in sets
        for role, n in (("vision", n_files - 1), ("audio", 1)):
            query = np.random.default_rng(0).standard_normal(serving[role].dimension)
            assert len(storage.search(role, serving[role].recipe_digest, query, n_files + 1)) == n


@pytest.fixture
def in_a_bucket(bucket, tmp_path):
    """A library of six pictures in a bucket, whose clients are made anew."""
    fresh_clients()
    folder = write_folder(tmp_path / "of the bucket", 6, 0)
    for path in folder.rglob("*.*"):
        obstore.put(buckets._store(bucket), path.name, path.read_bytes())
    with MultimodalStorage(tmp_path / "library") as storage:
        run(storage, OLD, [bucket], IngestOptions(workers=1))
        yield storage
    fresh_clients()


def fresh_clients():
    """Clients take the environment when they are made."""
    buckets._store.cache_clear()


def test_a_bucket_that_refuses_the_keys_changes_nothing(in_a_bucket, monkeypatch):
    settings = in_a_bucket.settings
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another key")
    fresh_clients()
    with pytest.raises(FolderError, match="check the address and the credentials; nothing was changed"):
        change(in_a_bucket)
    assert in_a_bucket.settings == settings


def test_a_bucket_that_refuses_files_later_loses_none_of_them(in_a_bucket, bucket, monkeypatch):
    before = in_a_bucket.all_media()
    with monkeypatch.context() as patch:
        patch.setattr("arrowlens.ingest.migration._check_folders", lambda storage, rows: None)
        patch.setenv("AWS_SECRET_ACCESS_KEY", "another key")
        fresh_clients()
        report = change(in_a_bucket)
    assert (report.encoded, report.lost, report.switched) == (0, 6, False)
    assert in_a_bucket.all_media().equals(before)
    fresh_clients()
    obstore.delete(buckets._store(bucket), ["picture 001.jpg"])
    report = change(in_a_bucket)
    assert (report.encoded, report.reasons, report.switched) == (5, {"the object is gone": 1}, True)
