"""Sources in buckets: what is listed, and that a file is read in exactly the version listed."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from types import SimpleNamespace

import numpy as np
import obstore
import pytest
from PIL import Image

from arrowlens import Library
from arrowlens.cli import main
from arrowlens.doctor import Doctor
from arrowlens.embedding import EmbeddingPlan
from arrowlens.errors import FileChangedError, FolderError, InputError, MediaError
from arrowlens.ingest import IngestOptions, run
from arrowlens.ingest import bucket as buckets
from arrowlens.ingest.bucket import BucketSource, Sources, read_manifest
from arrowlens.ingest.prepare import Preparer
from arrowlens.ingest.reading import ReadingStep, Unread
from arrowlens.media import Limits, decode
from arrowlens.store import MultimodalStorage, Settings
from tests.soak.whole import assert_whole, read
from tests.support.film_factory import film_bytes
from tests.support.folders import write_folder, write_picture, write_sound
from tests.support.object_store import SECRET_KEY
from tests.support.small_models import SmallProvider


def client(address):
    from arrowlens.ingest import bucket

    return bucket._store(address)


@pytest.fixture(autouse=True)
def _no_clients_of_earlier_tests():
    """Clients take the environment when they are made."""
    from arrowlens.ingest import bucket

    bucket._store.cache_clear()


def put(address, folder):
    """Copy a folder to a prefix."""
    for path in folder.rglob("*"):
        if path.is_file():
            obstore.put(client(address), path.relative_to(folder).as_posix(), path.read_bytes())


def listed(address, source=None):
    source = source or BucketSource((address,))
    settings = Settings()
    for root in source.roots:
        settings = settings.with_root(root)
    return source.walk(settings)


def test_a_bucket_gives_the_library_that_its_files_in_a_folder_give(bucket, storage, tmp_path):
    folder = write_folder(tmp_path / "in", 20, 3)
    (folder / "bad.png").write_bytes(b"bad")
    (folder / "picture 001.txt").write_text("a bicycle", encoding="utf-8")
    (folder / "twin.png").write_bytes((folder / "picture 002.png").read_bytes())
    (folder / ".arrowlensignore").write_text("picture 004*\naside/\n")
    (folder / "aside").mkdir()
    write_picture(folder / "aside" / "x.png", 99)
    put(bucket, folder)
    elsewhere = MultimodalStorage(tmp_path / "elsewhere")
    here = run(storage, SmallProvider(("vision", "audio", "text")), [folder])
    there = run(elsewhere, SmallProvider(("vision", "audio", "text")), [bucket])
    for name in ("indexed", "skipped", "copied", "captions", "reasons", "left_alone"):
        assert getattr(here, name) == getattr(there, name), name
    mine, theirs = read(storage.path), read(elsewhere.path)
    of_files = {name: rows for name, rows in theirs.keys.items() if not name.startswith("text")}
    assert_whole(dataclasses.replace(theirs, keys=of_files), settled=True)
    by_path = [{row["path"]: row for row in state.media} for state in (mine, theirs)]
    assert by_path[0].keys() == by_path[1].keys()
    for path, row in by_path[0].items():
        for column in ("content_hash", "state", "reason", "caption", "width", "duration", "size"):
            assert row[column] == by_path[1][path][column], (path, column)
    assert theirs.thumbnails == mine.thumbnails
    vectors = [
        {
            (name, row.get("content_hash"), row.get("start")): vector.tobytes()
            for name in state.keys
            for row, vector in zip(state.keys[name], state.vectors[name], strict=True)
        }
        for state in (mine, theirs)
    ]
    assert vectors[0] == vectors[1]
    again = run(elsewhere, SmallProvider(("vision", "audio", "text")), [bucket])
    assert (again.indexed, again.unchanged) == (0, there.indexed)
    obstore.delete(client(bucket), ["picture 002.png"])
    obstore.put(client(bucket), "picture 001.txt", b"a red bicycle")
    changed = run(elsewhere, SmallProvider(("vision", "audio", "text")), [bucket])
    assert (changed.removed, changed.captions, changed.indexed) == (1, 1, 0)


def test_two_writes_in_one_second_are_two_versions(bucket, storage, tmp_path):
    """They may have equal sizes and times."""
    first, second = (write_picture(tmp_path / f"{seed}.png", seed).read_bytes() for seed in (1, 2))
    second = second + b"\0" * (len(first) - len(second)) if len(first) > len(second) else second
    obstore.put(client(bucket), "x.png", first)
    (file,) = listed(bucket).files
    source = BucketSource((bucket,))
    assert source.fetch(file).data == first
    (ahead,) = source.read_ahead([file])
    assert ahead.content == first
    run(storage, SmallProvider(), [bucket])
    obstore.put(client(bucket), "x.png", second)
    assert source.fetch(file) is None
    (stale,) = source.read_ahead([file])
    assert stale.content is None
    now = source.look(file)
    assert now.stamp != file.stamp
    same_time = dataclasses.replace(now, size=file.size, modified_ns=file.modified_ns)
    assert same_time.stamp != file.stamp
    assert run(storage, SmallProvider(), [bucket]).indexed == 1


def test_a_file_replaced_between_listing_and_reading_is_read_as_it_is_and_again_by_the_next_run(
    bucket, storage, tmp_path
):
    one, other = (write_picture(tmp_path / f"{seed}.png", seed).read_bytes() for seed in (1, 2))
    obstore.put(client(bucket), "x.png", one)

    def replace(event):
        if event.phase == "index" and event.path is None:
            obstore.put(client(bucket), "x.png", other)

    assert run(storage, SmallProvider(), [bucket], on_event=replace).indexed == 1
    assert run(storage, SmallProvider(), [bucket]).unchanged == 1
    (row,) = storage.all_media().to_pylist()
    with Library(storage, SmallProvider()) as library:
        assert library.original(row["media_id"]) == other


def test_a_listing_that_breaks_off_removes_nothing(bucket, proxy, storage, tmp_path, monkeypatch):
    monkeypatch.setattr("arrowlens.ingest.bucket._RETRY_S", 1.0)
    put(bucket, write_folder(tmp_path / "in", 6, 0))
    assert run(storage, SmallProvider(), [bucket]).indexed == 6
    proxy.is_away = True
    with pytest.raises(FolderError, match=f"{bucket} cannot be listed") as raised:
        run(storage, SmallProvider(), [bucket], IngestOptions(prune=True))
    assert SECRET_KEY not in str(raised.value)
    assert "\n" not in str(raised.value)
    proxy.is_away = False
    whole = obstore.list

    def broken(store, **how):
        yield next(iter(whole(store, chunk_size=2)))
        raise obstore.exceptions.GenericError("the connection was cut")

    monkeypatch.setattr(obstore, "list", broken)
    obstore.delete(client(bucket), ["picture 005.jpg"])
    report = run(storage, SmallProvider(), [bucket], IngestOptions(prune=True))
    assert (report.unchanged, report.removed) == (2, 0)
    assert report.unread_folders == {
        bucket: "the listing broke off: the store does not give it: the connection was cut"
    }
    monkeypatch.undo()


def test_a_manifest_names_what_is_read_and_removes_nothing(bucket, storage, tmp_path):
    put(bucket, write_folder(tmp_path / "in", 4, 0))
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"address,note\n{bucket}/picture 001.jpg,x\n{bucket}/picture 002.png,y\n{bucket}/gone.png,z\n")
    report = run(storage, SmallProvider(), [manifest])
    assert (report.indexed, report.skipped, report.reasons) == (2, 1, {"the object is gone": 1})
    assert run(storage, SmallProvider(), [bucket]).indexed == 2, "what the manifest did not name"
    manifest.write_text(f"address\n{bucket}/picture 001.jpg\n")
    again = run(storage, SmallProvider(), [manifest], IngestOptions(prune=True))
    assert (again.unchanged, again.removed) == (1, 0)
    for content, message in (("name\nx\n", "no column address, uri, url, path"), ("path\nx.png\n", "is no address in")):
        manifest.write_text(content)
        with pytest.raises(FolderError, match=message):
            read_manifest(manifest)


def captions(storage):
    return {row["path"]: row["caption"] for row in storage.all_media().to_pylist() if row["caption"]}


def test_a_manifest_keeps_captions_and_finds_new_ones(bucket, storage, tmp_path):
    put(bucket, write_folder(tmp_path / "in", 2, 0))
    obstore.put(client(bucket), "picture 001.txt", b"a bicycle")
    run(storage, SmallProvider(), [bucket])
    assert captions(storage) == {"picture 001.jpg": "a bicycle"}
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"address\n{bucket}/picture 001.jpg\n{bucket}/below/picture 000.png\n")
    assert run(storage, SmallProvider(), [manifest]).unchanged == 2
    obstore.put(client(bucket), "below/picture 000.png.txt", b"a boat")
    obstore.put(client(bucket), "picture 001.jpg", write_picture(tmp_path / "other.png", 77).read_bytes())
    assert run(storage, SmallProvider(), [manifest]).indexed == 1
    assert captions(storage) == {"picture 001.jpg": "a bicycle", "below/picture 000.png": "a boat"}
    obstore.delete(client(bucket), ["picture 001.txt"])
    run(storage, SmallProvider(), [manifest])
    assert captions(storage) == {"below/picture 000.png": "a boat"}


def test_a_listing_that_breaks_off_before_a_caption_keeps_it(bucket, storage, tmp_path, monkeypatch):
    put(bucket, write_folder(tmp_path / "in", 2, 0))
    obstore.put(client(bucket), "picture 001.txt", b"a bicycle")
    run(storage, SmallProvider(), [bucket])
    whole = obstore.list

    def broken(store, **how):
        yield [meta for page in whole(store) for meta in page if meta["path"] != "picture 001.txt"]
        raise obstore.exceptions.GenericError("the connection was cut")

    with monkeypatch.context() as patch:
        patch.setattr(obstore, "list", broken)
        assert run(storage, SmallProvider(), [bucket]).unchanged == 2
        obstore.put(client(bucket), "picture 001.jpg", write_picture(tmp_path / "other.png", 77).read_bytes())
        report = run(storage, SmallProvider(), [bucket])
        assert (report.unchanged, report.skipped, report.indexed) == (1, 1, 0)
        assert captions(storage) == {"picture 001.jpg": "a bicycle"}
    assert run(storage, SmallProvider(), [bucket]).indexed == 1
    assert captions(storage) == {"picture 001.jpg": "a bicycle"}


@pytest.fixture
def in_parts(monkeypatch):
    """Objects of more than 20,000 bytes count as large, and are read in parts of 4,096."""
    monkeypatch.setattr("arrowlens.ingest.bucket._MOST_READ_AHEAD", 20_000)
    monkeypatch.setattr("arrowlens.ingest.bucket._PART", 4096)


@pytest.mark.parametrize("name", ["film.mp4", "sound.wav", "picture.png"])
def test_a_large_object_is_decoded_from_parts_of_it(bucket, proxy, tmp_path, in_parts, name):
    path = tmp_path / name
    if name == "film.mp4":
        path.write_bytes(film_bytes("mp4", seconds=6.0, channels=2))
    elif name == "sound.wav":
        write_sound(path, 3, 4.0)
    else:
        noise = np.random.default_rng(5).integers(0, 256, (128, 128, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    assert path.stat().st_size > 20_000
    obstore.put(client(bucket), name, path.read_bytes())
    source = BucketSource((bucket,))
    (file,) = source.read_ahead(listed(bucket).files)
    assert file.content is None
    preparer = Preparer(source, EmbeddingPlan.of(SmallProvider()), Limits())
    before = len(proxy.requests)
    prepared, local = preparer(file), decode(path, min_side=preparer.plan.min_side)
    assert len(proxy.requests) - before >= path.stat().st_size / 4096
    assert prepared.decoded.reason is None
    assert prepared.decoded.content_hash == local.content_hash == preparer.content(file)
    assert (prepared.decoded.duration, prepared.decoded.width) == (local.duration, local.width)
    assert source.fetch(file).data is None
    assert source.fetch(dataclasses.replace(file, size=0, file_id=None)).data is None, "of a file not looked at"
    one = "image" if name == "picture.png" else "audio"
    reader = SimpleNamespace(min_side=None, reads=one, extract=lambda decoded: [decoded.content_hash])
    item = Unread(file, local.content_hash, local.modality, local.duration)
    texts_read = ReadingStep(source, reader, Limits())(item)
    assert (texts_read.texts, texts_read.reason) == ((local.content_hash,), None)


def test_a_large_object_that_is_replaced_or_refused_while_it_is_decoded_counts_as_unread(
    bucket, tmp_path, in_parts, monkeypatch
):
    write_sound(tmp_path / "sound.wav", 3, 4.0)
    data = (tmp_path / "sound.wav").read_bytes()
    obstore.put(client(bucket), "sound.wav", data)
    source = BucketSource((bucket,))
    (file,) = listed(bucket).files
    preparer = Preparer(source, EmbeddingPlan.of(SmallProvider()), Limits())
    whole, n_parts = obstore.get, itertools.count(1)

    def replaced(*arguments, **how):
        if next(n_parts) == len(data) // 4096 + 4:  # after the content was hashed
            obstore.put(client(bucket), "sound.wav", data[:-2] + b"xx")
        return whole(*arguments, **how)

    def refused(*arguments, **how):
        if next(n_parts) >= len(data) // 4096 + 4:
            raise obstore.exceptions.GenericError("no answer")
        return whole(*arguments, **how)

    with monkeypatch.context() as patch:
        patch.setattr(obstore, "get", replaced)
        prepared = preparer(file)
    assert prepared.unread
    assert "the object changed since it was listed" in prepared.decoded.reason
    assert source.fetch(file) is None
    (file,), n_parts = listed(bucket).files, itertools.count(1)
    monkeypatch.setattr(obstore, "get", refused)
    prepared = preparer(file)
    assert (prepared.unread, prepared.unreachable, prepared.decoded.content_hash) == (True, True, None)
    assert prepared.decoded.reason == "the store does not give it: no answer"


def test_a_mistyped_prefix_leaves_the_library_as_it_was(bucket, storage, tmp_path):
    with pytest.raises(FolderError, match="nowhere holds no objects; check the address; nothing was changed"):
        run(storage, SmallProvider(), [write_folder(tmp_path / "in", 1, 0), f"{bucket}/nowhere"])
    assert (storage.settings.roots, storage.settings.models) == ((), {})


@pytest.mark.parametrize("prefix", ["a#b", "a?b", "a%20b", "a b", "ä/ö"])
def test_prefixes_are_no_urls(bucket, storage, tmp_path, prefix):
    put(bucket, write_folder(tmp_path / "in", 1, 0))
    for place in ("a", prefix):
        path = write_picture(tmp_path / "x.png", len(place))
        obstore.put(client(bucket), f"{place}/c#d%20.png", path.read_bytes())
    (file,) = listed(f"{bucket}/{prefix}").files
    assert file.path == f"{bucket}/{prefix}/c#d%20.png".encode()
    assert BucketSource((bucket,)).fetch(file).data == path.read_bytes()
    assert run(storage, SmallProvider(), [f"{bucket}/{prefix}"]).indexed == 1


def test_messages_hide_keys_of_stores_alone(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a long secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "list")
    monkeypatch.setenv("OTHER_KEY", "the listing")
    assert buckets._redacted("the listing broke off: a long secret") == "the listing broke off: ***"


def test_originals_and_waveforms_are_read_through_the_source(bucket, storage, tmp_path):
    put(bucket, folder := write_folder(tmp_path / "in", 1, 1))
    run(storage, SmallProvider(), [bucket])
    with Library(storage, SmallProvider()) as library:
        hits = {hit.modality: hit for hit in library.hits(storage.all_media()["media_id"].to_pylist())}
        picture = hits["image"]
        assert str(picture.path) == f"{bucket}/below/picture 000.png"
        assert picture.path.name == "picture 000.png"
        data = (folder / "below/picture 000.png").read_bytes()
        assert library.original(picture.media_id) == data
        with library.open_original(picture.media_id) as original:
            original.file.seek(-10, 2)
            assert original.file.read() == data[-10:]
            original.file.seek(1)
            assert original.file.read(3) == b"PNG"
        assert library.waveform(hits["audio"].media_id, 10).shape == (10,)
        with pytest.raises(MediaError, match="over the limit of 5 bytes"):
            library.original(picture.media_id, 5)
        obstore.put(client(bucket), "below/picture 000.png", b"another one")
        with pytest.raises(FileChangedError):
            library.original(picture.media_id)
        same, changed = Doctor(storage, SmallProvider())._files(2, set())
        assert (same.what, changed.value) == ("lowest cosine of 1 files, encoded again", 1)
        with pytest.raises(InputError, match="is not on this machine"):
            library.similar(f"{bucket}/below/picture 000.png")


def test_what_a_bucket_holds_is_forgotten_by_its_address(bucket, storage, tmp_path):
    put(bucket, write_folder(tmp_path / "in", 4, 0))
    run(storage, SmallProvider(), [bucket])
    with Library(storage, SmallProvider()) as library:
        assert [str(folder) for folder in library.folders()] == [bucket]
        assert library.remove([f"{bucket}/picture 001.jpg"]) == 1
        with pytest.raises(InputError, match=f"the library knows nothing at {bucket}/nowhere"):
            library.remove([f"{bucket}/nowhere"])
        assert library.remove([f"{bucket}/"]) == 3


def test_the_command(bucket, tmp_path, capsys):
    put(bucket, write_folder(tmp_path / "in", 2, 0))
    local = write_folder(tmp_path / "local", 1, 0)
    library = ["--library", str(tmp_path / "library")]
    assert main(["ingest", bucket, str(local), *library, "--models", "demo", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["new"] == 3
    assert main(["ingest", f"{bucket}/nowhere/at all", *library, "--models", "demo", "--dry-run"]) == 1
    assert "/nowhere/at all holds no objects; check the address" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["ingest", "ftp://host/x", *library])
    assert not (tmp_path / "library").exists()


def test_a_run_commits_once_in_a_bucket_and_every_few_seconds_on_a_disk(bucket, storage, tmp_path, monkeypatch):
    folder, commits = write_folder(tmp_path / "in", 6, 0), []
    upsert = MultimodalStorage.upsert_media

    def counted(self, rows):
        commits.append((self.uri, len(rows)))
        upsert(self, rows)

    def wait(event):
        if event.indexed == 2:
            time.sleep(1.1)

    monkeypatch.setattr(MultimodalStorage, "upsert_media", counted)
    elsewhere = MultimodalStorage(f"{bucket}/library")
    for library in (storage, elsewhere):
        assert run(library, SmallProvider(), [folder], IngestOptions(workers=1, batch_size=1), wait).indexed == 6
    assert [n for uri, n in commits if uri == bucket + "/library"] == [6]
    assert len([n for uri, n in commits if uri == storage.uri]) > 1


def test_reads_at_once_hide_the_way_to_the_bucket(bucket, proxy, tmp_path):
    proxy.delay_s = 0.03
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(64):
        (folder / f"{number:02d}.png").write_bytes(b"x" * 1000)
    put(bucket, folder)
    files = listed(bucket).files
    started = time.perf_counter()
    assert [file.content for file in BucketSource((bucket,)).read_ahead(files)] == [b"x" * 1000] * 64
    assert time.perf_counter() - started < 64 * 0.03 / 3


def test_a_source_of_folders_and_buckets_gives_each_what_is_its_own(bucket, tmp_path):
    put(bucket, write_folder(tmp_path / "in", 2, 0))
    local = write_folder(tmp_path / "local", 2, 0)
    source = Sources.of([local, bucket], None, ())
    seen = listed(bucket, source)
    assert len(seen.files) == 4
    ahead = list(source.read_ahead(seen.files))
    assert [file.content is None for file in ahead] == [True, True, False, False]
    for file in ahead:
        assert source.fetch(file) is not None
        assert source.look(file).stamp == file.stamp
    with source.open(seen.files[-1].path) as stream:
        assert stream.read(4)
