"""``arrowlens doctor``: a healthy library, and what is said of every way in which one can be ill."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import arrowlens
from arrowlens import Library
from arrowlens.cli import main
from arrowlens.doctor import Doctor
from arrowlens.encoders import MultimodalEmbeddingProvider
from arrowlens.errors import InputError
from arrowlens.media import Limits
from arrowlens.store import ModelRecord, MultimodalStorage, VectorRow
from arrowlens.store.index import INDEX_NAME

DEMO = Path(arrowlens.__file__).parent / "demo"
INDEX_FROM, N, D = 2_000, 2_400, 512


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """A library of five pictures and a recording, and their folder; its models are copies that may be damaged."""
    folder = tmp_path_factory.mktemp("healthy")
    media, models = folder / "media", folder / "models"
    media.mkdir()
    for path in [*sorted((DEMO / "samples" / "pictures").rglob("*.png"))[:5], DEMO / "samples/sounds/dog-01.ogg"]:
        shutil.copy(path, media)
    shutil.copytree(DEMO / "models", models)
    with Library.open(folder / "a.lens", models=f"vision={models / 'clip'},audio={models / 'audio'}") as library:
        library.ingest(media)
    return folder


@pytest.fixture
def library_folder(healthy, tmp_path):
    """The library alone, to be changed; its files and models stay where they are."""
    return Path(shutil.copytree(healthy / "a.lens", tmp_path / "a.lens"))


def ills(findings):
    """What is not ok: (level, what, value)."""
    return [(finding.level, finding.what, finding.value) for finding in findings if finding.level != "ok"]


def examine(path):
    with Library.open(path) as library:
        return library.doctor(n_files=100)


def test_a_healthy_library(healthy, capsys):
    before = {path: path.stat().st_mtime_ns for path in (healthy / "a.lens").rglob("*")}
    findings = examine(healthy / "a.lens")
    assert ills(findings) == []
    by_name = {finding.what: finding.value for finding in findings}
    assert by_name["vision vectors"] == 5
    assert by_name["lowest cosine of 6 files, encoded again"] > 0.9999
    assert len(str(by_name["vision model, SHA-256 of its weights and files"])) == 64
    assert main(["doctor", "--library", str(healthy / "a.lens"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["problems"], said["notices"]) == (0, 0)
    assert {"what", "level", "value", "cure"} == set(said["findings"][0])
    assert {path: path.stat().st_mtime_ns for path in (healthy / "a.lens").rglob("*")} == before, "nothing is changed"


def test_a_flipped_byte_in_the_weights(healthy, library_folder, capsys):
    weights = healthy / "models" / "clip" / "weights.arrow"
    with weights.open("r+b") as file:
        middle = weights.stat().st_size // 2
        byte = os.pread(file.fileno(), 1, middle)
        os.pwrite(file.fileno(), bytes([byte[0] ^ 1]), middle)
        try:
            assert main(["doctor", "--library", str(library_folder)]) == 1
            findings = examine(library_folder)
        finally:
            os.pwrite(file.fileno(), byte, middle)
    assert ills(findings) == [("problem", "vision model, SHA-256 of its weights and files", "not as recorded")]
    assert any(finding.what == "lowest cosine of 1 files, encoded again" for finding in findings), "the recording only"
    captured = capsys.readouterr()
    assert captured.err == "arrowlens: 1 problem found; each says what to do\n"
    assert str(weights) in captured.out, "the cure names the file"


def test_a_stored_vector_that_was_altered(library_folder):
    storage = MultimodalStorage(library_folder, create=False)
    row = next(row for row in storage.sample_media(100) if row["modality"] == "image")
    values = np.ones(storage.settings.models["vision"].dimension)
    storage.upsert_vectors("vision", [VectorRow(row["media_id"], row["content_hash"], "image", values)])
    storage.optimize()
    ((level, what, value),) = ills(examine(library_folder))
    assert level == "problem"
    assert os.fsdecode(row["absolute_path"]) in what
    assert value < 0.9


def test_files_that_changed_or_vanished_are_said_and_no_fault(healthy, tmp_path, capsys):
    media = Path(shutil.copytree(healthy / "media", tmp_path / "media"))
    with Library.open(tmp_path / "b.lens", models="demo") as library:
        library.ingest(media)
    changed, gone, *_ = sorted(media.glob("*.png"))
    Image.new("RGB", (40, 30), "red").save(changed)
    gone.unlink()
    what = "files that changed or are gone from disk since they were stored"
    assert ills(examine(tmp_path / "b.lens")) == [("notice", what, 2)]
    assert main(["doctor", "--library", str(tmp_path / "b.lens"), "--files", "100"]) == 0
    assert "`arrowlens ingest`" in capsys.readouterr().out


def test_a_file_over_the_usual_limits_is_no_changed_one(healthy, tmp_path):
    (tmp_path / "media").mkdir()
    Image.linear_gradient("L").resize((12_100, 10_000)).save(tmp_path / "media" / "large.jpg")
    with Library.open(tmp_path / "b.lens", models="demo") as library:
        assert library.ingest(tmp_path / "media", limits=Limits(max_pixels=130_000_000), workers=1).indexed == 1
        findings = library.doctor()
    assert ills(findings) == []
    assert [found.value for found in findings if "encoded again" in found.what] == [pytest.approx(1, abs=1e-4)]


def test_files_without_vectors_and_vectors_without_files(library_folder):
    storage = MultimodalStorage(library_folder, create=False)
    rows = storage.sample_media(100)
    images = [row for row in rows if row["modality"] == "image"]
    record = storage.settings.models["vision"]
    with storage.writing():
        storage._tables.delete(f"clip_embeddings__{record.digest[:8]}", "source_id", [images[0]["media_id"]])
        storage._tables.delete("media", "media_id", [images[1]["media_id"], images[2]["media_id"]])
    found = ills(examine(library_folder))
    assert ("problem", "files without vision vectors", 1) in found
    assert ("notice", "vision vectors without a file", 2) in found
    assert any("deleted rows" in what for _, what, _ in found)


def test_a_change_of_models_that_was_not_completed(library_folder):
    storage = MultimodalStorage(library_folder, create=False)
    models = storage.settings.models
    storage.begin_change({role: ModelRecord("e" * 64, 16, "/some/folder") for role in models})
    assert ills(examine(library_folder)) == [
        ("notice", "change to other models, begun and not complete", "/some/folder")
    ]
    with storage.writing():
        storage._state.save(
            dataclasses.replace(storage.settings, next_models={}, retired=("clip_embeddings__00000000",))
        )
    assert ills(examine(library_folder)) == [("notice", "tables of earlier models", 1)]


@pytest.mark.parametrize("options", [{"n_vectors": 0}, {"n_files": 0}])
def test_nothing_to_look_at_is_wrong_usage(healthy, options):
    with Library.open(healthy / "a.lens") as library, pytest.raises(InputError, match="from 1 on"):
        library.doctor(**options)


# -- libraries large enough for an index, whose files are on no disk -------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    provider = MultimodalEmbeddingProvider(clip_model_path=DEMO / "models" / "clip")
    storage = MultimodalStorage(tmp_path_factory.mktemp("large") / "a.lens", index_from=INDEX_FROM)
    storage.bind_models({"vision": ModelRecord(provider.digest("vision"), D, "demo")})
    add(storage, "a", N, seed=1)
    storage.optimize()
    return storage.path, provider


def add(storage, prefix, n, seed):
    root = storage.add_root("/nowhere").root_id
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(0)
    # Like pictures' vectors they spread in few directions; in all 512 alike, all would be about equally near.
    centres, directions = fixed.standard_normal((4, D)), fixed.standard_normal((48, D))
    vectors = (centres[rng.integers(0, 4, n)] + 0.4 * rng.standard_normal((n, 48)) @ directions).astype(np.float32)
    names = [f"{prefix}{number:05d}" for number in range(n)]
    storage.upsert_vectors("vision", [VectorRow(m, m, "image", v) for m, v in zip(names, vectors, strict=True)])
    storage.upsert_thumbnails(dict.fromkeys(names, b"\xff\xd8\xff\xd9"))
    common = {"root_id": root, "modality": "image", "state": "indexed"}
    storage.upsert_media([{"media_id": m, "content_hash": m, "path_bytes": m.encode(), **common} for m in names])


@pytest.fixture
def patient(large, tmp_path):
    path, provider = large
    storage = MultimodalStorage(shutil.copytree(path, tmp_path / "a.lens"), create=False, index_from=INDEX_FROM)
    return storage, provider, storage._tables.shards[0].table(f"clip_embeddings__{provider.digest('vision')[:8]}")


GONE = "files that changed or are gone from disk since they were stored"


def index_ills(patient):
    found = list(Doctor(*patient[:2]).findings(n_vectors=20, n_files=1))
    values = {finding.what: finding.value for finding in found}
    return [ill for ill in ills(found) if ill[1] != GONE], values


def test_a_healthy_index(patient):
    found, values = index_ills(patient)
    assert found == []
    assert values["vision index"] == "IVF_RQ"
    assert values["vision recall@10 of the index, 20 vectors"] >= 0.97
    assert values["vision rows beside the index"] == 0


def test_an_index_that_finds_too_little_is_built_anew(patient):
    from lancedb.index import IvfPq

    config = IvfPq(distance_type="cosine", num_partitions=1, num_sub_vectors=2, num_bits=4)
    patient[2].create_index("embedding", config=config, replace=True, name=INDEX_NAME)
    found, values = index_ills(patient)
    assert ("problem", "vision recall@10 of the index, 20 vectors") in [ill[:2] for ill in found]
    assert values["vision recall@10 of the index, 20 vectors"] < 0.9
    patient[0].optimize()
    assert index_ills(patient)[0] == []


def test_an_index_that_is_silently_not_used(patient):
    from lancedb.index import IvfRq

    patient[2].create_index(
        "embedding", config=IvfRq(distance_type="l2", num_partitions=1), replace=True, name=INDEX_NAME
    )
    found, _ = index_ills(patient)
    assert ("problem", "vision index", "there, but not used") in found
    patient[0].optimize()
    assert index_ills(patient)[0] == []


def test_an_index_that_is_missing(patient):
    patient[2].drop_index(INDEX_NAME)
    found, _ = index_ills(patient)
    assert ("problem", "vision index", "missing") in found
    patient[0].optimize(thorough=False)
    assert index_ills(patient)[0] == []


def test_rows_beside_the_index_and_fragments(patient):
    for number in range(9):
        add(patient[0], f"b{number}-", 60, seed=2 + number)
    found, values = index_ills(patient)
    assert ("notice", "vision rows beside the index", 540) in found
    assert any(what.endswith("fragments") and value == 10 for _, what, value in found)
    assert values["vision recall@10 of the index, 20 vectors"] >= 0.97, "they are found all the same"
    patient[0].optimize(thorough=False)
    assert index_ills(patient)[0] == []


def test_vectors_that_are_damaged(patient):
    import pyarrow as pa

    vector = pa.FixedSizeListArray.from_arrays(pa.array(np.full(D, 3, np.float16)), D)
    name = patient[2].search().select(["embedding_id"]).limit(1).to_arrow()["embedding_id"]
    rows = patient[2].to_arrow()
    row = rows.slice(0, 1).set_column(rows.schema.get_field_index("embedding"), rows.schema.field("embedding"), vector)
    assert row["embedding_id"].to_pylist() == name.to_pylist()
    patient[2].merge_insert("embedding_id").when_matched_update_all().execute(row)
    found = ills(Doctor(*patient[:2]).findings(n_vectors=20, n_files=1))
    assert any(what.startswith("vision vectors that are damaged") and value == 1 for _, what, value in found)


def test_vectors_that_cannot_be_read_are_a_problem_beside_all_the_others(patient):
    storage, provider, _ = patient
    (data,) = storage.path.glob("clip_embeddings__*.lance/data/*.lance")
    storage.close()
    data.write_bytes(data.read_bytes()[:100])
    storage = MultimodalStorage(storage.path, create=False, index_from=INDEX_FROM)
    found = list(Doctor(storage, provider).findings(n_vectors=5, n_files=1))
    problems = {finding.what: finding.cure for finding in found if finding.level == "problem"}
    assert "restore the library from a backup" in problems["vision vectors or their index"]
    assert any(finding.what.startswith("vision model") for finding in found), "the rest is examined all the same"


@pytest.mark.parametrize("damage", ["missing", "cut", "zeroed"])
@pytest.mark.parametrize(("table", "names"), [("media", "page_*"), ("clip_embeddings__*", "*.idx")])
def test_a_damaged_index_of_ids_or_of_vectors_is_found_and_rebuilt(patient, table, names, damage):
    storage, provider, _ = patient
    files = [file for folder in storage.path.glob(f"{table}.lance/_indices") for file in folder.rglob(names)]
    assert files
    storage.close()
    for file in files:
        if damage == "missing":
            file.unlink()
        else:
            file.write_bytes(b"" if damage == "cut" else bytes(file.stat().st_size))
    storage = MultimodalStorage(storage.path, create=False, index_from=INDEX_FROM)
    found, _ = index_ills((storage, provider))
    assert any(level == "problem" for level, *_ in found)
    Doctor(storage, provider).repair()
    assert index_ills((storage, provider))[0] == []
