from __future__ import annotations

import dataclasses
import os
import shutil

import numpy as np
import pyarrow as pa
import pytest
from lancedb.table import LanceTable

from arrowlens.errors import InputError, ModelMismatchError, StorageError
from arrowlens.store import (
    AUDIO_EMBEDDING_SCHEMA,
    CLIP_EMBEDDING_SCHEMA,
    VISION_EMBEDDING_SCHEMA,
    MediaRecord,
    ModelRecord,
    MultimodalStorage,
    VectorRow,
    media_id_of,
    media_schema,
    stored_embedding_schema,
)
from arrowlens.store.tables import Tables

CLIP, AUDIO = "c" * 64, "a" * 64
D = 8


@pytest.fixture
def storage(address):
    storage = MultimodalStorage(address)
    storage.bind_models({"vision": ModelRecord(CLIP, D), "audio": ModelRecord(AUDIO, D)})
    storage.add_root("/pictures")
    return storage


def place(storage, name, content, modality="image", **columns):
    """A media row of a file below the root."""
    root = storage.settings.roots[0]
    relative = os.fsencode(name)
    return {
        "media_id": media_id_of(root.root_id, relative),
        "root_id": root.root_id,
        "path": relative.decode("utf-8", "backslashreplace"),
        "path_bytes": relative,
        "content_hash": content,
        "modality": modality,
        "state": "indexed",
        "trivial": False,
        **columns,
    }


def unit(*values):
    vector = np.zeros(D, np.float32)
    vector[: len(values)] = values
    return vector / np.linalg.norm(vector)


def index(storage, name, content, vectors, role="vision", modality="image"):
    """Write a file with its vectors; returns its id."""
    row = place(storage, name, content, modality)
    rows = [
        VectorRow(
            row["media_id"],
            content,
            modality,
            vector,
            number,
            *((5.0 * number, 5.0 * number + 10) if role == "audio" else ()),
        )
        for number, vector in enumerate(vectors)
    ]
    storage.upsert_vectors(role, rows)
    storage.upsert_media([row])
    return row["media_id"]


def test_the_columns_of_media_are_those_that_libraries_have_on_disk():
    text, time, utc = pa.string(), pa.timestamp("us"), pa.timestamp("us", tz="UTC")
    texts = pa.map_(text, text)
    columns = {
        "media_id": text,
        "root_id": text,
        "path": text,
        "path_bytes": pa.binary(),
        "content_hash": text,
        "size": pa.int64(),
        "modified_ns": pa.int64(),
        "modified": utc,
        "modality": text,
        "format": text,
        "width": pa.int32(),
        "height": pa.int32(),
        "duration": pa.float64(),
        "sample_rate": pa.int32(),
        "channels": pa.int32(),
        "captured_at": time,
        "metadata": texts,
        "trivial": pa.bool_(),
        "state": text,
        "reason": text,
        "layout": pa.int32(),
        "caption": text,
        "caption_stamp": text,
        "taken": time,
        "camera": text,
        "latitude": pa.float64(),
        "longitude": pa.float64(),
        "title": text,
        "artist": text,
        "album": text,
        "description": text,
        "words": text,
        "real_path": pa.binary(),
        "file_id": text,
    }
    schema = media_schema()
    assert list(zip(schema.names, schema.types, strict=True)) == list(columns.items())
    assert [field.name for field in schema if not field.nullable] == ["media_id"]
    assert schema.field("media_id").metadata == {b"lance-schema:unenforced-primary-key": b"true"}
    assert [field.name for field in dataclasses.fields(MediaRecord)] == schema.names


def test_a_storage_that_is_building_knows_the_next_models_only(storage):
    new, d_new = "d" * 64, 4
    media_id = index(storage, "a.png", "content", [unit(1)])
    storage.begin_change({"vision": ModelRecord(new, d_new)})
    building, query = storage.building(), np.array([0, 1, 0, 0], np.float32)
    assert building.search("vision", new, query, 1).num_rows == 0
    building.upsert_vectors("vision", [VectorRow(media_id, "content", "image", query)])
    assert building.search("vision", new, query, 1)["media_id"].to_pylist() == [media_id]
    np.testing.assert_array_equal(building.vectors("vision", new, "content"), [query])
    assert building.scan_vectors("vision", {media_id: "content"}).vectors.shape == (1, d_new)
    assert building.index_states()["vision"].n_rows == 1
    for ask in (
        lambda: building.search("vision", CLIP, unit(1), 1),
        lambda: building.vectors("vision", CLIP, "content"),
    ):
        with pytest.raises(ModelMismatchError, match=r"dddddddd.*cccccccc"):
            ask()
    with pytest.raises(InputError, match="no audio model"):
        building.upsert_vectors("audio", [VectorRow(media_id, "content", "image", query)])
    # The storage that it came from goes on with the models in use.
    np.testing.assert_array_equal(storage.vectors("vision", CLIP, "content"), [unit(1)])
    with pytest.raises(ModelMismatchError):
        storage.search("vision", new, query, 1)
    storage.finish_change()
    assert storage.search("vision", new, query, 1)["media_id"].to_pylist() == [media_id]
    assert dict(building.models) == {}


def found(storage, query, k=10, role="vision", modality=None):
    return storage.search(role, {"vision": CLIP, "audio": AUDIO}[role], query, k, modality)


def test_the_seeds_schemas():
    assert VISION_EMBEDDING_SCHEMA.names == ["embedding_id", "image_id", "embedding", "model", "timestamp"]
    assert AUDIO_EMBEDDING_SCHEMA.names == ["embedding_id", "audio_id", "embedding", "model", "timestamp"]
    assert CLIP_EMBEDDING_SCHEMA.names == ["embedding_id", "source_id", "modality", "embedding", "model", "timestamp"]
    assert VISION_EMBEDDING_SCHEMA.field("embedding").type == pa.list_(pa.float16(), 768)
    for schema in (AUDIO_EMBEDDING_SCHEMA, CLIP_EMBEDDING_SCHEMA):
        assert schema.field("embedding").type == pa.list_(pa.float16(), 512)
    for role, seed in (("pooled_vision", VISION_EMBEDDING_SCHEMA), ("vision", CLIP_EMBEDDING_SCHEMA)):
        stored = stored_embedding_schema(role, seed.field("embedding").type.list_size)
        assert set(seed.names) < set(stored.names)
        assert not stored.field("embedding_id").nullable


def test_an_empty_library_answers(storage):
    assert found(storage, unit(1)).num_rows == 0
    assert storage.media(["x"]).num_rows == 0
    assert storage.thumbnails(["x"]) == {}
    assert storage.vectors("vision", CLIP, "x").shape == (0, D)
    assert storage.skipped().num_rows == 0
    assert storage.media_by_path("/pictures/x.png") is None
    assert storage.statistics().images == 0
    assert storage.repair() == 0
    storage.delete_media([])
    storage.optimize()


def test_scores_are_cosines_best_first_with_ties_by_id(storage):
    ids = [index(storage, f"{n}.png", f"h{n}", [unit(1, 1)]) for n in range(5)]
    best = index(storage, "best.png", "hb", [unit(3, 0.1)])
    worst = index(storage, "worst.png", "hw", [unit(-1)])
    table = found(storage, 7 * unit(1))
    assert table["media_id"].to_pylist() == [best, *sorted(ids), worst]
    np.testing.assert_allclose(table["score"].to_numpy(), [3 / np.hypot(3, 0.1), *[np.sqrt(0.5)] * 5, -1], atol=2e-4)
    assert len(set(table["score"].to_pylist()[1:6])) == 1, "equal vectors score equally to the last bit"
    assert table.schema.names == ["media_id", "score", "start", "end", "content_hash"]


def test_the_best_window_of_each_recording(storage):
    one = index(storage, "one.wav", "h1", [unit(0, 1), unit(1, 0.2), unit(0, 0, 1)], "audio", "audio")
    two = index(storage, "two.wav", "h2", [unit(1), unit(0, 1)], "audio", "audio")
    table = found(storage, unit(1), 2, role="audio")
    assert table["media_id"].to_pylist() == [two, one]
    assert table["start"].to_pylist() == [0.0, 5.0]
    assert table["end"].to_pylist() == [10.0, 15.0]


def test_k_is_filled_though_windows_and_copies_crowd_the_top(storage):
    for n in range(3):
        index(storage, f"long {n}.wav", f"h{n}", [unit(1, 0.001 * i) for i in range(300)], "audio", "audio")
    last = index(storage, "other.wav", "other", [unit(0, 1)], "audio", "audio")
    table = found(storage, unit(1), 4, role="audio")
    assert table.num_rows == 4
    assert table["media_id"].to_pylist()[-1] == last


def test_ties_go_by_id_however_many_there_are(storage):
    rows = [place(storage, f"{number}.png", f"h{number}") for number in range(400)]
    storage.upsert_vectors(
        "vision", [VectorRow(row["media_id"], row["content_hash"], "image", unit(1)) for row in rows]
    )
    storage.upsert_media(rows)
    assert found(storage, unit(1, 1), 3)["media_id"].to_pylist() == sorted(row["media_id"] for row in rows)[:3]


def test_equal_content_comes_once_under_the_least_id(storage):
    ids = [index(storage, name, "same", [unit(1)]) for name in ("a.png", "b.png", "c.png")]
    other = index(storage, "d.png", "other", [unit(0, 1)])
    assert found(storage, unit(1))["media_id"].to_pylist() == [min(ids), other]


def test_modality_filters(storage):
    index(storage, "a.png", "h", [unit(1)])
    assert found(storage, unit(1), modality="image").num_rows == 1
    assert found(storage, unit(1), modality="audio").num_rows == 0
    assert found(storage, unit(1), modality="x' or 1=1 --").num_rows == 0


def test_writes_are_idempotent(storage):
    for _ in range(3):
        index(storage, "a.png", "h", [unit(1)])
    assert found(storage, unit(1)).num_rows == 1
    state = storage.statistics()
    assert (state.images, state.indexes["vision"].n_rows) == (1, 1)


def test_ids_that_repeat_within_a_batch_are_written_once(storage):
    row = place(storage, "a.png", "h")
    vector = VectorRow(row["media_id"], "h", "image", unit(1))
    storage.upsert_vectors("vision", [vector, vector])
    storage.upsert_media([{**row, "size": 1}, {**row, "size": 2}])
    assert storage.index_states()["vision"].n_rows == 1
    assert storage.all_media(["size"])["size"].to_pylist() == [2]


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (np.full(D, np.nan), "vector 1 holds NaN"),
        (np.r_[np.inf, np.zeros(D - 1)], "vector 1 holds NaN or infinity"),
        (np.zeros(D), "vector 1 is zero"),
        (np.ones(D + 1), "shape"),
    ],
)
def test_unusable_vectors_are_refused_whole(storage, vector, message):
    good = VectorRow("m", "h", "image", unit(1))
    with pytest.raises(InputError, match=message):
        storage.upsert_vectors("vision", [good, VectorRow("n", "h", "image", vector)])
    assert storage.index_states()["vision"].n_rows == 0


def test_vectors_are_stored_with_length_one_whatever_their_length(storage):
    index(storage, "tiny.png", "h1", [1e-9 * unit(1, 2)])
    index(storage, "huge.png", "h2", [1e30 * unit(1, 2)])
    for content in ("h1", "h2"):
        np.testing.assert_allclose(storage.vectors("vision", CLIP, content), [unit(1, 2)], atol=1e-3)


@pytest.mark.parametrize("query", [np.zeros(D), np.full(D, np.nan), np.ones(D - 1), np.ones((2, D)), np.ones((0, D))])
def test_unusable_queries_are_refused(storage, query):
    with pytest.raises(InputError):
        found(storage, query)


def test_k_below_one_and_foreign_models_are_refused(storage):
    with pytest.raises(InputError, match="k is 0"):
        found(storage, unit(1), 0)
    with pytest.raises(ModelMismatchError, match=r"cccccccc.*dddddddd"):
        storage.search("vision", "d" * 64, unit(1), 1)
    with pytest.raises(InputError, match="no text model"):
        storage.upsert_vectors("text", [VectorRow("m", "h", "text", unit(1))])


def test_a_media_row_is_the_commit(storage):
    row = place(storage, "a.png", "new")
    storage.upsert_vectors("vision", [VectorRow(row["media_id"], "new", "image", unit(1))])
    assert found(storage, unit(1)).num_rows == 0, "no media row yet"
    storage.upsert_media([row])
    assert found(storage, unit(1)).num_rows == 1


def test_a_replaced_content_switches_at_once_and_repair_clears_the_old(storage):
    media_id = index(storage, "a.png", "old", [unit(1)])
    storage.upsert_vectors("vision", [VectorRow(media_id, "new", "image", unit(0, 1))])
    assert found(storage, unit(1))["score"].to_pylist() == [1.0], "until the media row says otherwise"
    storage.upsert_media([place(storage, "a.png", "new")])
    assert found(storage, unit(1))["content_hash"].to_pylist() == ["new"]
    assert found(storage, unit(1))["score"].to_pylist() == [0.0]
    assert storage.repair() == 1
    assert storage.index_states()["vision"].n_rows == 1
    assert found(storage, unit(1))["content_hash"].to_pylist() == ["new"]


def test_repair_deletes_what_a_killed_run_left_and_nothing_else(storage):
    kept = index(storage, "kept.png", "h", [unit(1)])
    storage.upsert_thumbnails({"h": b"kept", "orphan": b"x"})
    storage.upsert_vectors("vision", [VectorRow("nobody", "orphan", "image", unit(1))])
    storage.upsert_media([{**place(storage, "bad.png", "bad"), "state": "skipped", "reason": "broken"}])
    storage.upsert_vectors("vision", [VectorRow(place(storage, "bad.png", "")["media_id"], "bad", "image", unit(1))])
    assert storage.repair() == 2
    assert storage.repair() == 0
    assert found(storage, unit(1))["media_id"].to_pylist() == [kept]
    assert storage.thumbnails(["h", "orphan"]) == {"h": b"kept"}


def test_deleting_takes_what_only_that_place_used(storage):
    gone = index(storage, "a.png", "shared", [unit(1)])
    stays = index(storage, "b.png", "shared", [unit(1)])
    alone = index(storage, "c.png", "alone", [unit(0, 1)])
    storage.upsert_thumbnails({"shared": b"s", "alone": b"a"})
    storage.delete_media([gone, alone, "unknown"])
    assert found(storage, unit(1))["media_id"].to_pylist() == [stays]
    assert storage.thumbnails(["shared", "alone"]) == {"shared": b"s"}
    assert storage.index_states()["vision"].n_rows == 1
    assert storage.media_by_path("/pictures/a.png") is None


def test_rows_come_back_as_written_with_odd_names(storage):
    names = ['it\'s "q".png', "new\nline.png", os.fsdecode(b"raw \xff.png"), "\U0001f6b2.png", "'; drop--.png"]
    for number, name in enumerate(names):
        row = place(
            storage, name, f"h{number}", width=number, metadata=[("artist", name.encode("utf-8", "replace").decode())]
        )
        storage.upsert_media([row])
    for number, name in enumerate(names):
        row = storage.media_by_path("/pictures/" + name)
        assert row is not None
        assert os.fsdecode(row["absolute_path"]) == "/pictures/" + name
        assert row["width"] == number
        assert dict(row["metadata"]).keys() == {"artist"}
    assert storage.media_under("/pictures").num_rows == len(names)
    assert storage.media_under("/pictures/" + names[0]).num_rows == 1
    assert storage.media_under("/pic").num_rows == 0
    table = storage.all_media()
    assert table.schema.names == media_schema().names
    assert table["media_id"].to_pylist() == sorted(table["media_id"].to_pylist())


def test_skipped_names_every_file_with_a_reason(storage):
    index(storage, "good.png", "h", [unit(1)])
    storage.upsert_media(
        [
            place(storage, "z.png", None, state="skipped", reason="truncated"),
            place(storage, "kept.png", "k", reason="permission denied"),
        ]
    )
    rows = storage.skipped().to_pylist()
    assert [(row["absolute_path"], row["reason"], row["state"]) for row in rows] == [
        (b"/pictures/kept.png", "permission denied", "indexed"),
        (b"/pictures/z.png", "truncated", "skipped"),
    ]
    counts = storage.statistics()
    assert (counts.images, counts.skipped, counts.trivial) == (2, 2, 0)
    assert counts.n_bytes > 0


def test_vectors_of_a_content_are_those_of_one_place_in_order(storage):
    windows = [unit(1), unit(0, 1), unit(0, 0, 1)]
    for name in ("a.wav", "b.wav"):
        index(storage, name, "same", windows, "audio", "audio")
    np.testing.assert_allclose(storage.vectors("audio", AUDIO, "same"), windows, atol=1e-3)
    rows = storage.vector_rows("audio", ["same", "unknown"])
    assert rows.keys() == {"same"}
    assert [(row.index, row.start, row.end) for row in rows["same"]] == [(0, 0, 10), (1, 5, 15), (2, 10, 20)]


def test_another_handle_sees_writes_at_once(storage):
    other = MultimodalStorage(storage.uri, create=False)
    assert found(other, unit(1)).num_rows == 0
    index(storage, "a.png", "h", [unit(1)])
    assert found(other, unit(1)).num_rows == 1
    index(storage, "b.png", "i", [unit(1)])
    assert found(other, unit(1)).num_rows == 2
    storage.optimize()
    assert found(other, unit(1)).num_rows == 2


def test_rows_that_come_while_a_question_is_put_push_out_none(storage, monkeypatch):
    """A large ``k`` is lowered to the number of rows, which another process may raise before the search begins."""
    ids = {index(storage, f"cat {n}.png", f"h{n}", [unit(1, 0.5)]) for n in range(5)}
    to_come = [place(storage, f"cat/cat {n}.png", f"n{n}") for n in range(7)]
    vectors = [VectorRow(row["media_id"], row["content_hash"], "image", unit(1)) for row in to_come]
    writers = {
        "clip": lambda: storage.upsert_vectors("vision", vectors),
        "media": lambda: storage.upsert_media(to_come),
    }

    def then_write(count, name_of):
        def count_then_write(counted, *arguments):
            n_rows = count(counted, *arguments)
            for name in [name for name in writers if name_of(counted, *arguments).startswith(name)]:
                writers.pop(name)()
            return n_rows

        return count_then_write

    large = MultimodalStorage(storage.uri, create=False, index_from=1)  # a small table is read whole, without a limit
    assert set(found(large, unit(1), 5)["media_id"].to_pylist()) == ids
    monkeypatch.setattr(Tables, "n_rows", then_write(Tables.n_rows, lambda tables, name: name))  # counts a version once
    monkeypatch.setattr(LanceTable, "count_rows", then_write(LanceTable.count_rows, lambda table: table.name))
    assert set(found(large, unit(1), 20_000)["media_id"].to_pylist()) == ids
    assert ids < set(storage.find_words("cat", 20_000)["media_id"].to_pylist())
    assert not writers


def test_the_seeds_methods(storage):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((6, 768)).astype(np.float32)
    for number, vector in enumerate(vectors):
        storage.store_vision_embedding(f"e{number}", f"i{number}", vector)
    storage.store_vision_embedding("e0", "i0", vectors[0])
    storage.store_vision_embedding("again", "i1", vectors[1])
    storage.store_audio_embedding("e0", "a0", rng.standard_normal(512))
    storage.store_vision_embedding("x", "other model", rng.standard_normal(16), model="small")
    hits = storage.query_similar_images(vectors[2], top_k=4)
    assert len(hits) == 4
    cosines = vectors @ vectors[2] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[2])
    assert [hit["image_id"] for hit in hits] == [f"i{n}" for n in np.argsort(-cosines)[:4]]
    np.testing.assert_allclose([hit["similarity"] for hit in hits], np.sort(cosines)[::-1][:4], atol=1e-3)
    assert len(storage.query_similar_images(vectors[2], top_k=99)) == 6
    assert storage.query_similar_images(np.ones(5), model="never stored") == []
    for bad in (np.zeros(768), np.ones(3), np.full(768, np.nan)):
        with pytest.raises(InputError):
            storage.store_vision_embedding("bad", "bad", bad)
    assert storage.repair() == 0, "they are no part of the media, and stay"
    assert len(storage.query_similar_images(vectors[2], top_k=99)) == 6


@pytest.mark.parametrize("address", ["folder"], indirect=True)
def test_a_library_that_lost_files_is_one_line_of_cause_and_cure(storage):
    index(storage, "a.png", "h", [unit(1)])
    shutil.rmtree(storage.path / f"clip_embeddings__{CLIP[:8]}.lance" / "data")
    with pytest.raises(StorageError) as caught:
        found(MultimodalStorage(storage.path), unit(1))
    assert "clip_embeddings__cccccccc" in str(caught.value)
    assert "restore it from a backup" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["folder"], indirect=True)
def test_a_table_that_was_cut_off_while_it_was_made_is_no_table(storage):
    for name in ("media", f"clip_embeddings__{CLIP[:8]}"):
        (storage.path / f"{name}.lance" / "_versions").mkdir(parents=True)
        (storage.path / f"{name}.lance" / "data").mkdir()
    assert found(storage, unit(1)).num_rows == 0
    index(storage, "a.png", "h", [unit(1)])
    assert found(storage, unit(1)).num_rows == 1


@pytest.mark.parametrize("address", ["folder"], indirect=True)
def test_a_library_that_is_gone_is_an_error(storage):
    shutil.rmtree(storage.path)
    with pytest.raises(StorageError):
        storage.upsert_media([place(storage, "a.png", "h")])
