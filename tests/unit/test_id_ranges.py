"""Ranges of ids, and that nothing depends on how many of them a library is read in."""

from __future__ import annotations

import hashlib
import os

import pyarrow as pa
import pytest

from arrowlens.ingest.diff import compare
from arrowlens.ingest.walk import ScannedFile, Walk
from arrowlens.store import MEDIA_LAYOUT, ModelRecord, MultimodalStorage, VectorRow, id_ranges
from tests.support.store_process import DIGEST, D, vector_of

N_FILES = 40


@pytest.mark.parametrize("n_rows", [0, 1, 100_001, 1_600_000, 10_000_000_000_000])
def test_every_id_is_in_one_range(n_rows):
    ranges = id_ranges.id_ranges(n_rows)
    ids = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(200)]
    ids += ["", "0", "7fff", "8000", "8000-strip", "ffff", "m-1", "Ω"]
    table = pa.table({"id": ids})
    for number in {id_ranges.range_of(ranges, one) for one in ids}:
        expected = [one for one in ids if id_ranges.range_of(ranges, one) == number]
        assert ranges[number].rows(table, "id")["id"].to_pylist() == expected
    assert len(ranges) == min(max(1, -(-n_rows // id_ranges.MAX_ROWS)), 16**4)


@pytest.fixture
def in_small_ranges(monkeypatch):
    monkeypatch.setattr(id_ranges, "MAX_ROWS", 9)


@pytest.fixture
def storage(address):
    """A library of pictures of which 32 to 39 have no vectors, and that has vectors and thumbnails too many."""
    storage = MultimodalStorage(address, index_from=10)  # so that it is not read from memory
    storage.bind_models({"vision": ModelRecord(DIGEST, D)})
    root = storage.add_root("/pictures")
    files = [scanned(root, number) for number in range(N_FILES)]
    held = [VectorRow(file.media_id, content_of(file), "image", vector_of("v")) for file in files[:32]]
    stale = [VectorRow(file.media_id, "earlier", "image", vector_of("v")) for file in files[5:12]]
    nobody = [VectorRow(f"{number:x}-nobody", "c", "image", vector_of("v")) for number in range(16)]
    with storage.writing():
        storage.upsert_vectors("vision", [*held, *stale, *nobody])
        used = [name for file in files for name in (content_of(file), f"{content_of(file)}-strip")]
        unused = [f"{number:x}-unused" for number in range(16)]
        storage.upsert_thumbnails(dict.fromkeys([*used, *unused], b"jpeg"))
        storage.upsert_media([row_of(file) for file in files])
    return storage


def scanned(root, number):
    relative = b"%02d.jpg" % number
    path = b"/pictures/" + relative
    return ScannedFile(path, root, relative, "image", 1000 + number % 7, number, file_id=f"1:{number}")


def content_of(file):
    return hashlib.sha256(file.relative).hexdigest()


def row_of(file):
    return {
        "media_id": file.media_id,
        "root_id": file.root.root_id,
        "path": os.fsdecode(file.relative),
        "path_bytes": file.relative,
        "size": file.size,
        "modified_ns": file.modified_ns,
        "file_id": file.file_id,
        "content_hash": content_of(file),
        "modality": "image",
        "state": "indexed",
        "trivial": False,
        "layout": MEDIA_LAYOUT,
    }


def test_repair_deletes_the_same_in_many_ranges(storage, in_small_ranges):
    assert len(storage.id_ranges()) > 5
    media = storage._tables.shards[0].table("media")
    media.add(pa.Table.from_batches(media.search().limit(2).to_arrow().to_batches()))
    assert storage.repair() == 23
    assert storage.health.n_repeated("media") == 0
    assert len(storage.all_media(["media_id"])) == N_FILES
    assert len(storage.vector_ids("vision")) == 32
    contents = [content_of(scanned(storage.settings.roots[0], number)) for number in range(N_FILES)]
    kept = {name for content in contents for name in (content, f"{content}-strip")}
    everything = [*kept, *(f"{number:x}-unused" for number in range(16))]
    assert storage.thumbnails(everything).keys() == kept
    assert storage.repair() == 0


def test_a_walk_is_compared_with_the_same_result_in_many_ranges(storage, in_small_ranges, monkeypatch):
    root = storage.settings.roots[0]
    files = [scanned(root, number) for number in range(3, N_FILES + 4)]  # 0 to 2 are gone, 40 to 43 new
    walk = Walk(("/pictures",), files, ignored={b"/pictures/01.jpg"})
    in_parts = compare(storage, walk, retry=False)
    assert [file.relative for file in in_parts.to_read] == [b"%02d.jpg" % number for number in range(32, 44)]
    assert [file.relative for file in in_parts.unchanged] == [b"%02d.jpg" % number for number in range(3, 32)]
    assert in_parts.gone == sorted(scanned(root, number).media_id for number in (0, 2))
    assert in_parts.ignored == [scanned(root, 1).media_id]
    assert in_parts.n_known == {root.root_id: N_FILES}
    assert in_parts.known.keys() >= {scanned(root, number).media_id for number in (0, 1, 2, *range(32, 40))}
    alike = {file.media_id for file in files[:29] if file.size in {1000 + number % 7 for number in range(32, 44)}}
    assert in_parts.known.keys() >= alike, "files to be read may be copies of them"
    monkeypatch.setattr(id_ranges, "MAX_ROWS", 100_000)
    assert len(storage.id_ranges()) == 1
    assert compare(storage, walk, retry=False) == in_parts


def test_a_run_over_unchanged_files_keeps_nothing_of_the_library(storage, in_small_ranges):
    root = storage.settings.roots[0]
    plan = compare(storage, Walk(("/pictures",), [scanned(root, number) for number in range(32)]), retry=False)
    assert len(plan.unchanged) == 32
    assert plan.known.keys() == {scanned(root, number).media_id for number in range(32, N_FILES)}, "they are gone"
    walk = Walk(("/elsewhere",), [])
    assert compare(storage, walk, retry=False).known == {}
