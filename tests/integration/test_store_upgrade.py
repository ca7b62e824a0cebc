"""A library of the first layout: searched as it is, upgraded by the next run, its rows completed without encoding."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from tempfile import TemporaryDirectory

import lancedb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from arrowlens.errors import LibraryVersionError, ModelMismatchError, StorageError
from arrowlens.ingest import run
from arrowlens.modalities import FIRST_RECIPE, SAMPLE_RATES, Recipe, Windows
from arrowlens.store import MEDIA_LAYOUT, SCHEMA_VERSION, SHARDED_VERSION, ModelRecord, MultimodalStorage, media_schema
from arrowlens.store.state import restored
from tests.support.folders import write_folder, write_sound
from tests.support.small_models import CLIP_DIGEST, SmallProvider

# As version 1 wrote it.
KEY = {"lance-schema:unenforced-primary-key": "true"}
MEDIA_1 = pa.schema(
    [
        pa.field("media_id", pa.string(), nullable=False, metadata=KEY),
        pa.field("root_id", pa.string()),
        pa.field("path", pa.string()),
        pa.field("path_bytes", pa.binary()),
        pa.field("content_hash", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("modified_ns", pa.int64()),
        pa.field("modified", pa.timestamp("us", tz="UTC")),
        pa.field("modality", pa.string()),
        pa.field("format", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("duration", pa.float64()),
        pa.field("sample_rate", pa.int32()),
        pa.field("channels", pa.int32()),
        pa.field("captured_at", pa.timestamp("us")),
        pa.field("metadata", pa.map_(pa.string(), pa.string())),
        pa.field("trivial", pa.bool_()),
        pa.field("state", pa.string()),
        pa.field("reason", pa.string()),
    ]
)
SECONDS = st.floats(0.5, 30.0, allow_nan=False)
RECIPES = st.builds(
    Recipe,
    windows=st.builds(Windows, SECONDS, SECONDS, st.booleans()),
    sample_rate=st.sampled_from(SAMPLE_RATES),
    layer=st.none() | st.integers(1, 32),
    skip_silence=st.booleans(),
)
WINDOWS_OF_ALL = {"window_s": 10.0, "hop_s": 5.0}
NEW_COLUMNS = set(media_schema().names) - set(MEDIA_1.names)


def as_version_1(path):
    """Write settings back as version 1 had them, in which the roles had other names and models no recipes."""
    settings, new = json.loads(path.read_text()), ("recipe", "takes_text")
    models = {
        {"vision": "clip", "audio": "audio"}[role]: {key: value for key, value in record.items() if key not in new}
        for role, record in settings["models"].items()
    }
    path.write_text(json.dumps({**settings, **WINDOWS_OF_ALL, "models": models, "schema_version": 1}))


def write_version_1(library, folder):
    """A library as version 1 left it: today's vectors and thumbnails, and a ``media`` table of the old columns."""
    storage = MultimodalStorage(library)
    run(storage, SmallProvider(), [folder])
    rows = storage.all_media().select(MEDIA_1.names).cast(MEDIA_1)
    storage.close()
    database = lancedb.connect(str(library))
    database.drop_table("media")
    table = database.create_table("media", schema=MEDIA_1)
    merge = table.merge_insert("media_id").when_matched_update_all().when_not_matched_insert_all()
    merge.use_index(False).execute(rows)
    as_version_1(library / "library.json")


@pytest.fixture
def folder(tmp_path):
    folder = write_folder(tmp_path / "in", 4, 1)
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Canon", "Canon EOS R5"  # Make, Model
    Image.new("RGB", (64, 48), "teal").save(folder / "camera.jpg", exif=exif)
    (folder / "camera.txt").write_text("a teal square")
    (folder / "bad.png").write_bytes(b"bad")
    return folder


@pytest.fixture
def old(tmp_path, folder):
    write_version_1(tmp_path / "library", folder)
    return tmp_path / "library"


def test_it_is_searched_and_counted_as_it_is(old, folder):
    storage = MultimodalStorage(old, create=False)
    assert storage.settings.schema_version == 1
    row = storage.media_by_path(folder / "camera.jpg")
    assert row.keys() - {"absolute_path"} == set(media_schema().names)
    assert {row[name] for name in NEW_COLUMNS} == {None}
    query = storage.vectors("vision", CLIP_DIGEST, row["content_hash"])[0]
    assert storage.search("vision", CLIP_DIGEST, query, 1)["media_id"].to_pylist() == [row["media_id"]]
    assert storage.statistics().images == 5
    assert [row["reason"] is not None for row in storage.skipped().to_pylist()] == [True]
    assert MultimodalStorage(old).settings.schema_version == 1, "reading changes nothing"


def test_the_next_run_completes_its_rows_without_encoding(old, folder):
    storage, provider = MultimodalStorage(old), SmallProvider()
    before = storage.all_media(MEDIA_1.names)
    vectors = storage.vector_keys("vision"), storage.vector_keys("audio")
    report = run(storage, provider, [folder])
    assert (report.indexed, report.unchanged, report.skipped, report.removed) == (0, 6, 1, 0)
    assert provider.n_encoded == 0
    assert storage.settings.schema_version == SCHEMA_VERSION
    assert (storage.vector_keys("vision"), storage.vector_keys("audio")) == vectors
    assert storage.all_media(MEDIA_1.names).to_pylist() == before.to_pylist()
    row = storage.media_by_path(folder / "camera.jpg")
    assert (row["camera"], row["caption"], row["layout"]) == ("Canon EOS R5", "a teal square", MEDIA_LAYOUT)
    assert row["taken"] is not None
    versions = sorted(old.glob("*.lance/_versions/*"))
    assert run(storage, provider, [folder]).unchanged == 6
    assert sorted(old.glob("*.lance/_versions/*")) == versions, "once is enough"


def test_any_writer_upgrades(old):
    storage = MultimodalStorage(old)
    storage.optimize()
    assert storage.settings.schema_version == SCHEMA_VERSION
    assert set(lancedb.connect(str(old)).open_table("media").schema.names) == set(media_schema().names)
    assert storage.all_media(["layout"])["layout"].null_count == storage.all_media(["layout"]).num_rows


def test_a_library_without_rows_upgrades(tmp_path):
    MultimodalStorage(tmp_path / "l")
    as_version_1(tmp_path / "l" / "library.json")
    MultimodalStorage(tmp_path / "l").add_root("/pictures")
    assert MultimodalStorage(tmp_path / "l").settings.schema_version == SCHEMA_VERSION


def test_an_upgrade_that_was_cut_off_is_taken_up(old, folder):
    """With some columns, and with all of them but the old number in the settings."""
    table = lancedb.connect(str(old)).open_table("media")
    table.add_columns([media_schema().field("layout"), media_schema().field("caption")])
    storage = MultimodalStorage(old)
    assert storage.media_by_path(folder / "camera.jpg")["caption"] is None
    storage.optimize()
    as_version_1(old / "library.json")
    again = MultimodalStorage(old)
    assert run(again, SmallProvider(), [folder]).unchanged == 6
    assert again.settings.schema_version == SCHEMA_VERSION
    assert again.media_by_path(folder / "camera.jpg")["caption"] == "a teal square"


def test_killed_at_any_moment_of_the_upgrade_it_goes_on(old, folder, tmp_path):
    code = "import sys; from arrowlens.store import MultimodalStorage as M; s = M(sys.argv[1]); s.optimize()"
    for delay in (0.0, 0.3, 0.6, 0.9, 1.2):
        process = subprocess.Popen([sys.executable, "-c", code, str(old)])
        time.sleep(delay)
        process.kill()
        process.wait()
        assert MultimodalStorage(old).statistics().images == 5
    storage = MultimodalStorage(old)
    assert run(storage, SmallProvider(), [folder]).unchanged == 6
    assert storage.media_by_path(folder / "camera.jpg")["caption"] == "a teal square"


def test_a_full_disk_leaves_the_old_layout(old):
    code = """
import resource, sys
from arrowlens.errors import StorageError
from arrowlens.store import MultimodalStorage
storage = MultimodalStorage(sys.argv[1])
storage.statistics()
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    storage.optimize()
except StorageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(old)], capture_output=True, text=True, check=True)
    assert "free disk space" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    storage = MultimodalStorage(old)
    assert storage.statistics().images == 5
    storage.optimize()
    assert storage.settings.schema_version == SCHEMA_VERSION


def test_a_moved_file_of_an_old_library_costs_no_encoding(old, folder):
    (folder / "camera.jpg").rename(folder / "below" / "moved.jpg")
    write_sound(folder / "new.wav", 99)
    storage, provider = MultimodalStorage(old), SmallProvider()
    report = run(storage, provider, [folder])
    assert (report.indexed, report.copied, report.moved, report.removed) == (2, 1, 1, 0)
    assert (provider.clip_engine.n_encoded, provider.audio_encoder.n_encoded) == (0, 1)


def test_what_cannot_be_read_now_keeps_its_old_row_until_it_can(old, folder):
    place = folder / "camera.jpg"
    place.rename(folder / "aside")
    os.mkfifo(place)
    storage, provider = MultimodalStorage(old), SmallProvider()
    assert run(storage, provider, [folder]).skipped == 2
    row = storage.media_by_path(place)
    assert (row["state"], row["layout"], row["reason"] is None) == ("indexed", None, False)
    place.unlink()
    (folder / "aside").rename(place)
    assert run(storage, provider, [folder]).skipped == 1
    assert storage.media_by_path(place)["layout"] == MEDIA_LAYOUT
    assert provider.n_encoded == 0


def test_a_newer_library_is_refused_by_this_one(old):
    settings = json.loads((old / "library.json").read_text())
    (old / "library.json").write_text(json.dumps({**settings, "schema_version": SHARDED_VERSION + 1}))
    with pytest.raises(LibraryVersionError):
        MultimodalStorage(old)


def test_roles_of_earlier_settings_have_their_names_of_now(tmp_path):
    """The tables that they lead to keep their names."""
    path = tmp_path / "l" / "library.json"
    MultimodalStorage(tmp_path / "l").close()
    models = {role: {"digest": digit * 64, "dimension": 8} for role, digit in (("clip", "c"), ("vision", "d"))}
    settings = {**json.loads(path.read_text()), **WINDOWS_OF_ALL, "models": models, "next_models": models}
    path.write_text(json.dumps({**settings, "schema_version": 3}))
    for role, digit, table in (("vision", "c", "clip"), ("pooled_vision", "d", "vision")):
        storage = MultimodalStorage(tmp_path / "l", create=False)
        assert storage.settings.models[role].digest == storage.settings.next_models[role].digest == digit * 64
        assert f"{table}_embeddings__{digit * 8}" in storage.settings.vector_tables
        storage.add_root(f"/{role}")  # a writer: settings of now from here on
        assert {*json.loads(path.read_text())["models"]} == {"vision", "pooled_vision"}


def test_windows_of_earlier_settings_are_the_recipe_of_recordings(tmp_path):
    """Its table keeps its name, whatever the windows were: it was named by the model alone."""
    path = tmp_path / "l" / "library.json"
    MultimodalStorage(tmp_path / "l").close()
    settings = {**json.loads(path.read_text()), "models": {"audio": {"digest": "a" * 64, "dimension": 8}}}
    path.write_text(json.dumps({**settings, "window_s": 4.0, "hop_s": 3.0, "schema_version": 3}))
    storage = MultimodalStorage(tmp_path / "l", create=False)
    assert storage.settings.recipe == Recipe(Windows(4.0, 3.0))
    assert storage.settings.models["audio"].recipe_digest == "a" * 64
    with pytest.raises(ModelMismatchError, match=r"length_s=4.0.* not by .*length_s=10.0"):
        storage.bind_models({"audio": ModelRecord("a" * 64, 8)})


@settings(deadline=None)
@given(recipe=RECIPES)
def test_settings_remember_any_recipe(recipe):
    with TemporaryDirectory() as folder:
        record = ModelRecord("a" * 64, 8, recipe=recipe)
        MultimodalStorage(folder).bind_models({"audio": record})
        assert MultimodalStorage(folder, create=False).settings.models == {"audio": record}
        is_first = dataclasses.replace(recipe, windows=FIRST_RECIPE.windows) == FIRST_RECIPE
        assert (record.recipe_digest == record.digest) == is_first


def test_settings_state_a_recipe_for_recordings_only_and_are_read_with_others(tmp_path):
    path, models = tmp_path / "l" / "library.json", {role: ModelRecord("a" * 64, 8) for role in ("vision", "audio")}
    MultimodalStorage(path.parent).bind_models(models)
    settings = json.loads(path.read_text())
    assert {role: "recipe" in record for role, record in settings["models"].items()} == {"vision": False, "audio": True}
    settings["models"]["vision"]["recipe"] = settings["models"]["audio"]["recipe"]  # as earlier versions wrote it
    path.write_text(json.dumps(settings))
    storage = MultimodalStorage(path.parent, create=False)
    assert storage.settings.models == models
    storage.add_root("/pictures")
    assert "recipe" not in json.loads(path.read_text())["models"]["vision"]


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_settings_restored_from_a_copy_of_an_earlier_layout_are_upgraded_by_the_next_writer(old, damage):
    """The copy is taken as it is; written anew, it would have been of neither layout."""
    path, storage = old / "library.json", MultimodalStorage(old)
    before = path.read_bytes()
    storage._state.location.keep_copy("library.json")
    storage.close()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(before[:50])
    assert restored(old)
    assert path.read_bytes() == before
    storage = MultimodalStorage(old, create=False)
    assert (storage.settings.schema_version, set(storage.models)) == (1, {"vision", "audio"})
    storage.optimize()
    assert storage.settings.schema_version == SCHEMA_VERSION
    assert storage.statistics().images == 5


@pytest.mark.parametrize(
    "recipe",
    [
        {"windows": {"length_s": 10.0, "hop_s": 1e-5}},
        {"windows": {"length_s": 31.0, "hop_s": 5.0}},
        {"windows": {"length_s": 10.0, "hop_s": 5.0}, "sample_rate": 8_000},
        {"windows": {"length_s": 10.0, "hop_s": 5.0}, "sample_rate": [48_000]},
        {"windows": {"length_s": 10.0, "hop_s": 5.0, "is_maximum": 1}},
        {"windows": {"length_s": 10.0, "hop_s": 5.0}, "layer": 0},
        {"windows": {"length_s": 10.0, "hop_s": 5.0}, "skip_silence": 1},
    ],
)
def test_recipes_that_nothing_makes_are_refused(tmp_path, recipe):
    path = tmp_path / "l" / "library.json"
    MultimodalStorage(path.parent).close()
    for role, stated in (("audio", recipe), ("vision", {"windows": {"length_s": 9.0, "hop_s": 5.0}})):
        models = {role: {"digest": "a" * 64, "dimension": 8, "recipe": stated}}
        path.write_text(json.dumps({**json.loads(path.read_text()), "models": models}))
        with pytest.raises(StorageError, match="is damaged") as refused:
            MultimodalStorage(path.parent, create=False)
        assert "\n" not in str(refused.value)
