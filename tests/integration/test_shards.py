"""A library of four shards beside one that is not divided: the same rows, and the same answers, bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import obstore
import pytest

import arrowlens
from arrowlens import Library
from arrowlens.cli import main
from arrowlens.doctor import Doctor
from arrowlens.errors import InputError, LibraryNotFoundError, LibraryVersionError, StorageError
from arrowlens.ingest import IngestOptions, migrate, run
from arrowlens.store import SCHEMA_VERSION, SHARDED_VERSION, ModelRecord, MultimodalStorage, VectorRow
from arrowlens.store import settings as store_settings
from arrowlens.store.location import location_at
from arrowlens.store.tables import Shard
from tests.soak.whole import assert_same, assert_whole, read
from tests.support.folders import write_folder
from tests.support.small_models import SmallProvider

SAMPLES = Path(arrowlens.__file__).parent / "demo" / "samples"
DIGEST, DIMENSION = "5" * 64, 32
PLAIN = IngestOptions(workers=1)


# -- the same questions to both -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A library of one shard and one of four, of the same files, some of which are there twice."""
    place = tmp_path_factory.mktemp("both")
    folder = place / "in"
    folder.mkdir()
    pictures, sounds = (sorted((SAMPLES / kind).rglob("*.*")) for kind in ("pictures", "sounds"))
    for number, path in enumerate([*pictures[::8], *sounds[::8]]):
        shutil.copy(path, folder)
        if number % 4 == 0:
            shutil.copy(path, folder / f"copy of {path.name}")
    libraries = []
    for n_shards in (None, 4):
        library = Library.open(place / f"{n_shards}.lens", "demo", isolate_decoding=False, n_shards=n_shards)
        library.ingest(folder)
        libraries.append(library)
    yield libraries
    for library in libraries:
        library.close()


def shown(hits):
    return [(hit.media_id, hit.score, hit.start, hit.end, hit.relevance, hit.found_by) for hit in hits]


QUESTIONS = {
    "meaning and words": {"text": "a red flower"},
    "meaning": {"text": "a dog", "mode": "vector"},
    "filtered": {"text": "a dog", "mode": "vector", "where": "size >= 3000"},
    "recordings": {"text": "rain", "modality": "audio", "mode": "vector"},
    "composed": {"text": "a dog", "plus": ["grass"], "minus": ["a cat"]},
    "collapsed": {"text": "a lake", "collapse": True, "mode": "vector"},
    "by date": {"text": "a flower", "sort": "date", "mode": "vector"},
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_a_question_has_the_same_answer(both, question):
    one, four = (library.search(k=30, **question) for library in both)
    assert shown(one) == shown(four)
    assert (len(one) > 0, one.n_matches, one.has_match) == (True, four.n_matches, four.has_match)


def test_words_find_the_same_files(both):
    """BM25 differs by shard, and so may the order; but a name that is the whole text comes first in both."""
    name = "copy of " + next(path.name for path in sorted((SAMPLES / "pictures").rglob("*.*")))
    for text in ("copy", name, "cop", "cpoy", '"copy of"'):
        one, four = (library.search(text, k=100, mode="keyword") for library in both)
        assert {hit.media_id for hit in one} == {hit.media_id for hit in four}
        assert len(one) > 0, text
    assert [library.search(name, mode="keyword")[0].path.name for library in both] == [name, name]


def test_all_else_that_is_asked_has_the_same_answer(both):
    one, four = both
    for example in ("pictures/nature/lion-01.png", "sounds/dog-01.ogg"):
        assert shown(one.similar(SAMPLES / example, k=20)) == shown(four.similar(SAMPLES / example, k=20))
    assert shown(one.newest(30)) == shown(four.newest(30))
    assert shown(one.newest(30, where="modality = audio")) == shown(four.newest(30, where="modality = audio"))
    assert one.facets() == four.facets()
    assert one.facets(where="modality = image") == four.facets(where="modality = image")
    assert (one.status().images, one.status().audio) == (four.status().images, four.status().audio)
    assert (one.status().n_shards, four.status().n_shards) == (1, 4)
    assert one.duplicates("identical") == four.duplicates("identical")
    assert len(four.duplicates("identical")) > 5
    hit = four.search("a dog", modality="image")[0]
    assert four.thumbnail(hit.content_hash) == one.thumbnail(hit.content_hash) is not None
    four.set_favourites([hit])
    assert [each.media_id for each in four.search(where="favourite = yes", text="a dog")] == [hit.media_id]
    assert {finding.level for finding in four.doctor(n_vectors=5, n_files=2)} == {"ok"}


# -- writing ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder, and a library of it that is not divided."""
    place = tmp_path_factory.mktemp("small")
    folder = write_folder(place / "in", 24, 4)
    with MultimodalStorage(place / "library") as storage:
        run(storage, SmallProvider(), [folder], PLAIN)
    return folder, place / "library"


@pytest.fixture
def sharded(tmp_path, small):
    """The same in four shards."""
    with MultimodalStorage(tmp_path / "sharded", n_shards=4) as storage:
        run(storage, SmallProvider(), [small[0]], PLAIN)
        yield storage


def test_the_rows_are_those_of_a_library_that_is_not_divided(small, sharded):
    assert_whole(read(sharded.path), settled=True)
    assert_same(read(sharded.path), read(small[1]))
    assert sum("media" in shard.names() for shard in sharded._tables.shards) > 1
    again = run(sharded, SmallProvider(), [small[0]], PLAIN)
    assert (again.indexed, again.unchanged) == (0, 28)


def test_a_run_that_ends_in_the_middle_of_a_commit_is_gone_on_with(tmp_path, small, monkeypatch):
    """Some shards have the rows, others have not: what a search shows is whole, and nothing is lost."""
    merge, library = Shard.merge, tmp_path / "library"

    def stopping_at(table):
        def stopping(shard, name, key, rows):
            if name == table and shard.location.path.name > "001":
                raise StorageError("the power is gone")
            merge(shard, name, key, rows)

        return stopping

    for table in ("thumbnails", "media"):
        with monkeypatch.context() as patch, MultimodalStorage(library, n_shards=4) as storage:
            patch.setattr(Shard, "merge", stopping_at(table))
            with pytest.raises(StorageError, match="power"):
                run(storage, SmallProvider(), [small[0]], PLAIN)
        assert_whole(read(library), settled=False)
    with MultimodalStorage(library) as storage:
        n_held = len(storage.all_media())
        assert 0 < n_held < 28, "some shards were written"
        assert run(storage, SmallProvider(), [small[0]], PLAIN).unchanged == n_held
    assert_same(read(library), read(small[1]))
    assert_whole(read(library), settled=True)


def test_shards_without_settings_are_no_new_library(sharded):
    sharded.close()
    (sharded.path / "library.json").unlink()
    shutil.rmtree(sharded.path / "copies")
    for n_shards in (None, 8):
        with pytest.raises(LibraryNotFoundError, match="holds other things"):
            MultimodalStorage(sharded.path, n_shards=n_shards)


def test_files_are_removed_from_all_shards(sharded, small):
    n_rows = len(sharded.all_media())
    assert sharded.forget([small[0] / "below"]) == 8
    assert_whole(read(sharded.path), settled=True)
    assert len(sharded.all_media()) == n_rows - 8
    run(sharded, SmallProvider(), [small[0]], PLAIN)
    assert_same(read(sharded.path), read(small[1]))


def test_other_models_are_taken_by_all_shards(tmp_path, small, sharded):
    other = SmallProvider(seed=5, dimension=32)
    shutil.copytree(small[1], tmp_path / "one")
    with MultimodalStorage(tmp_path / "one") as one:
        for storage in (one, sharded):
            migrate(storage, other, other.records(), PLAIN)
    assert_same(read(sharded.path), read(tmp_path / "one"))
    assert not list(sharded.path.rglob(f"*{SmallProvider().digest('vision')[:8]}*"))


def test_one_damaged_shard_is_mended(small, sharded):
    """The newest version of a table of the shard did not reach the disk, and the thumbnails of another are gone."""
    whole = read(sharded.path)
    one = next(shard for shard in sharded._tables.shards if "media" in shard.names())
    other = next(shard for shard in sharded._tables.shards if shard is not one and "thumbnails" in shard.names())
    manifest = one.location.path / one.location.manifests("media")[0]
    manifest.write_bytes(manifest.read_bytes()[:10])
    other.drop("thumbnails")
    sharded.close()
    with MultimodalStorage(sharded.path, create=False) as again:
        with pytest.raises(StorageError, match=f"{one.location.path.name}: reading media"):
            again.all_media()
        Doctor(again, SmallProvider()).repair()
    assert_same(read(sharded.path), whole)
    assert_whole(read(sharded.path), settled=True)


def test_indexes_of_shards_find_what_comparing_everything_finds(tmp_path):
    """Scores are equal to the last bit, whether everything is compared or each shard asks its index."""
    dice = np.random.default_rng(1)
    vectors = dice.standard_normal((3000, DIMENSION)).astype(np.float32)
    rows = [VectorRow(dice.bytes(16).hex(), dice.bytes(16).hex(), "image", each) for each in vectors]
    media = [{"media_id": row.media_id, "content_hash": row.content_hash} for row in rows]
    asked = []
    for n_shards, index_from in ((1, 10_000), (4, 1_000)):
        with MultimodalStorage(tmp_path / f"{n_shards}", n_shards=n_shards, index_from=index_from) as storage:
            storage.bind_models({"vision": ModelRecord(DIGEST, DIMENSION)})
            storage.upsert_vectors("vision", rows)
            root = storage.add_root("/pictures").root_id
            common = {"root_id": root, "modality": "image", "state": "indexed", "path": "a", "path_bytes": b"a"}
            storage.upsert_media([row | common for row in media])
            storage.optimize()
            state, stats = storage.index_states()["vision"], storage.table_stats()["media"]
            asked.append([storage.search("vision", DIGEST, query, 10).to_pydict() for query in vectors[:40]])
            assert asked[-1] == [storage.search("vision", DIGEST, q, 10, exact=True).to_pydict() for q in vectors[:40]]
            among = storage.select([("media_id", "in", [row.media_id for row in rows[::7]])])
            asked[-1].append(storage.search("vision", DIGEST, vectors[0], 10, among=among).to_pydict())
    assert asked[0] == asked[1]
    assert (state.n_rows, state.kind, state.n_unindexed, stats.n_rows) == (3000, "IVF_RQ", 0, 3000)


# -- making one ------------------------------------------------------------------------------------------------------


def test_only_libraries_with_shards_have_the_new_layout(tmp_path):
    def content(n_shards):
        MultimodalStorage(tmp_path / f"{n_shards}", n_shards=n_shards)
        return json.loads((tmp_path / f"{n_shards}" / "library.json").read_text())

    plain, divided = content(1), content(8)
    assert (plain["schema_version"], divided["schema_version"]) == (SCHEMA_VERSION, SHARDED_VERSION)
    assert divided == plain | {"schema_version": SHARDED_VERSION, "n_shards": 8}
    assert MultimodalStorage(tmp_path / "8", n_shards=8).settings.n_shards == 8
    assert len(MultimodalStorage(tmp_path / "8").building()._tables.shards) == 8
    for wrong in (0, 3, -4, 512, 2.0, True):
        with pytest.raises(InputError, match="power of two"):
            MultimodalStorage(tmp_path / "none", n_shards=wrong)
    assert not (tmp_path / "none").exists()
    with pytest.raises(InputError, match="was made with 8 shards, not 4"):
        MultimodalStorage(tmp_path / "8", n_shards=4)
    with pytest.raises(InputError, match="was made with 1 shard, not 4"):
        MultimodalStorage(tmp_path / "1", n_shards=4)
    (tmp_path / "8" / "library.json").write_text(json.dumps(divided | {"n_shards": 3}))
    with pytest.raises(StorageError, match="damaged"):
        MultimodalStorage(tmp_path / "8")


def test_a_version_that_knows_no_shards_says_so(tmp_path, monkeypatch):
    MultimodalStorage(tmp_path / "l", n_shards=2)
    monkeypatch.setattr(store_settings, "SHARDED_VERSION", SCHEMA_VERSION)  # as the parser of those versions compares
    with pytest.raises(LibraryVersionError, match=f"layout {SHARDED_VERSION}.*update"):
        MultimodalStorage(tmp_path / "l")


def test_a_library_in_a_bucket_is_divided_by_the_command(tmp_path, bucket, monkeypatch, capsys):
    """Made, searched in its copy on this machine, emptied; the rows lie below the prefixes of the shards."""
    monkeypatch.setenv("ARROWLENS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "in"
    folder.mkdir()
    for path in sorted((SAMPLES / "pictures").rglob("*.png"))[::20]:
        shutil.copy(path, folder)

    def said(*arguments):
        assert main([*map(str, arguments), "--library", bucket, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    n_files = len(list(folder.iterdir()))
    assert n_files > 1
    assert said("ingest", folder, "--models", "demo", "--shards", "2", "--workers", "1")["indexed"] == n_files
    assert said("status")["n_shards"] == 2
    in_the_copy, in_the_bucket = (said("search", "a lion", *options)["hits"] for options in ((), ("--no-replica",)))
    assert in_the_copy == in_the_bucket
    assert len(in_the_copy) == n_files
    with MultimodalStorage(bucket) as storage:
        assert [shard.location.uri for shard in storage._tables.shards] == [f"{bucket}/shards/{n:03d}" for n in (0, 1)]
        assert any("media" in shard.names() for shard in storage._tables.shards)
        assert storage._location.tables() == [], "nothing lies beside the shards"
    said("remove", folder)
    assert said("status")["images"] == 0
    assert main(["ingest", str(folder), "--library", bucket, "--shards", "4"]) == 1
    assert "was made with 2 shards, not 4" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["ingest", str(folder), "--library", bucket, "--shards", "3"])
    assert "power of two" in capsys.readouterr().err
    obstore.delete(location_at(bucket)._store, "library.json")
    for options in ([], ["--shards", "4"]):
        assert main(["ingest", str(folder), "--library", bucket, "--models", "demo", *options]) == 1
        assert "holds other things" in capsys.readouterr().err
