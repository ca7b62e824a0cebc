"""A run on a Ray cluster leaves what a local run leaves, row by row and bit by bit, whatever dies on the way."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from unittest.mock import patch

import numpy as np
import obstore
import pytest

import arrowlens
from arrowlens import Library
from arrowlens.encoders import MultimodalEmbeddingProvider
from arrowlens.encoders.model_directory import model_files
from arrowlens.errors import InputError, ModelLoadError, WorkerError
from arrowlens.ingest import IngestOptions, RayOptions, run
from arrowlens.ingest.bucket import _store as open_store
from arrowlens.ingest.diff import Action, Known
from arrowlens.ingest.engines import ray as engine
from arrowlens.ingest.progress import Progress
from arrowlens.ingest.step import StepSpec
from arrowlens.ingest.walk import ScannedFile
from arrowlens.media import Limits
from arrowlens.store import MediaText, MultimodalStorage, Root
from tests.soak.whole import assert_whole, read
from tests.support.folders import write_folder
from tests.support.hostile_steps import CRASH, HostileProcessor, write_plain
from tests.support.processes import is_alive
from tests.support.ray_cluster import running_cluster
from tests.support.small_models import SmallProvider
from tests.support.text_readers import KnownTexts, content_of

# Ray leaves the pipes and files of its processes to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]


@pytest.fixture(scope="module")
def cluster(object_store):
    """A cluster that has the keys of the S3 server."""
    with patch.dict(os.environ, object_store.environment), running_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A folder, and what a local run makes of it."""
    place = tmp_path_factory.mktemp("local")
    folder = write_folder(place / "in", 30, 4)
    (folder / "bad.png").write_bytes(b"bad")
    (folder / "picture 001.txt").write_text("a bicycle", encoding="utf-8")
    (folder / "twin.png").write_bytes((folder / "picture 002.png").read_bytes())
    write_plain(folder / "a crash.png", CRASH)
    run(MultimodalStorage(place / "library"), HostileProvider(), [folder])
    return folder, read(place / "library")


class HostileProvider(SmallProvider):
    """A picture of one colour takes its decoder along."""

    def __init__(self):
        super().__init__()
        self.clip_engine.image_processor = HostileProcessor(image_size=32)

    def __reduce__(self):
        return HostileProvider, ()


def assert_equal(state, other):
    """Every row, and every bit of every vector."""
    assert_whole(state, settled=True)
    assert state.media == other.media
    assert state.keys == other.keys
    for name, vectors in other.vectors.items():
        np.testing.assert_array_equal(state.vectors[name], vectors)
    assert (state.thumbnails, state.fingerprints) == (other.thumbnails, other.fingerprints)


def test_a_run_on_two_nodes_equals_a_local_one_though_a_decoder_and_a_worker_die(cluster, local, tmp_path):
    folder, expected = local
    storage, nodes, killed = MultimodalStorage(tmp_path / "library"), set(), []

    def kill_one(event):
        if event.nodes and not killed:
            killed.append(cluster.kill_a_worker())
        nodes.add(event.nodes)

    report = run(storage, HostileProvider(), [folder], IngestOptions(commit_every=8), kill_one, engine=RayOptions())
    assert_equal(read(storage.path), expected)
    assert report.reasons["the decoder crashed (signal 11, SIGSEGV)"] == 1
    assert (report.indexed, report.skipped, max(nodes)) == (35, 2, 2)
    assert not is_alive(*killed)
    assert report.bound is not None


def test_a_bucket_is_encoded_by_the_cluster_and_its_texts_are_read_here(cluster, bucket, tmp_path):
    folder = write_folder(tmp_path / "in", 4, 1)
    for path in filter(Path.is_file, folder.rglob("*")):
        obstore.put(open_store(bucket), path.name, path.read_bytes())
    written, said = (
        KnownTexts(source, reads, {content_of(folder / name): [MediaText(source, text)]}, tmp_path / source)
        for source, reads, name, text in (
            ("ocr", "image", "picture 001.jpg", "platform eleven"),
            ("speech", "audio", "sound 000.wav", "all aboard"),
        )
    )
    storage = MultimodalStorage(tmp_path / "library")
    report = run(storage, SmallProvider(), [bucket], IngestOptions(readers=(written, said)), engine=RayOptions())
    assert (report.indexed, report.read, report.heard, report.skipped) == (5, 4, 1, 0)
    assert (written.n_read, said.n_read) == (4, 1)
    read_with_text = [row for row in storage.readings().to_pylist() if row["n_texts"]]
    expected = {("ocr", content_of(folder / "picture 001.jpg")), ("speech", content_of(folder / "sound 000.wav"))}
    assert {(row["source"], row["content_hash"]) for row in read_with_text} == expected


DRIVER = """
import os, signal, sys
from arrowlens.ingest import IngestOptions, RayOptions, run
from arrowlens.ingest.bucket import _store as open_store
from arrowlens.store import MultimodalStorage
from tests.integration.test_ingest_ray import demo_models

def kill(event):
    if event.indexed == 24:
        os.kill(os.getpid(), signal.SIGKILL)

folder, library, address = sys.argv[1:]
options, cluster = IngestOptions(commit_every=4), RayOptions(address)
run(MultimodalStorage(library), demo_models(), [folder], options, kill, engine=cluster)
"""


def demo_models():
    models = Path(arrowlens.__file__).parent / "demo" / "models"
    return MultimodalEmbeddingProvider(clip_model_path=models / "clip", audio_model_path=models / "audio")


@pytest.mark.soak
def test_a_driver_that_is_killed_costs_what_was_under_way_and_a_rerun_goes_on(cluster, tmp_path):
    folder = write_folder(tmp_path / "in", 60, 2)
    here, there = (MultimodalStorage(tmp_path / name) for name in ("here", "there"))
    driver = subprocess.run([sys.executable, "-c", DRIVER, folder, there.path, cluster.address], check=False)
    assert driver.returncode == -signal.SIGKILL
    held = there.all_media(["media_id"]).num_rows
    assert 0 < held < 62, "it was killed in the middle"
    again = run(there, demo_models(), [folder], engine=RayOptions())
    assert (again.unchanged, again.indexed) == (held, 62 - held)
    run(here, demo_models(), [folder])
    assert_equal(read(there.path), read(here.path))


class Crew:
    """Workers that die over some files; none of them is real."""

    n_workers = 2

    def __init__(self, deadly):
        self.deadly, self.n_deaths, self._given = deadly, 0, []

    @property
    def n_under_way(self):
        return len(self._given)

    @property
    def has_room(self):
        return len(self._given) < 4

    def begin(self, chunk, known):
        self._given.append(chunk)

    def wait(self):
        given, self._given = self._given, []
        return [(chunk, self._result(chunk)) for chunk in given]

    def _result(self, chunk):
        if self.deadly & {file.relative for file in chunk.files}:
            self.n_deaths += 1
            return "the worker died"
        return [file.relative for file in chunk.files]


def test_a_file_over_which_workers_die_is_named_and_costs_no_other_file():
    root = Root.at("/pictures")
    names = [b"%03d.jpg" % number for number in range(100)]
    files = [ScannedFile(b"/pictures/" + name, root, name, "image", 1, 1) for name in names]
    spec, crew = StepSpec(None, SmallProvider(), frozenset({"vision"}), Limits()), Crew({b"017.jpg"})
    ray_engine = engine.RayEngine(RayOptions(), Progress(None))
    stream = ray_engine._run(crew, spec, files, engine._Contents({}), threading.Event())
    outcomes = [outcome for part in stream for outcome in part]
    (lost,) = [outcome for outcome in outcomes if not isinstance(outcome, bytes)]
    assert sorted(set(names) - {*outcomes}) == [lost.prepared.file.relative] == [b"017.jpg"]
    assert lost.action == Action("row", "skipped", lost.action.reason)
    assert lost.action.reason == "3 workers died over it (the worker died); the next run tries again"
    assert lost.prepared.unread
    assert crew.n_deaths == 3 * 6, "three times each as one of 25, 12, 6, 3 and 1 or 2, and alone"


def test_a_chunk_is_told_of_its_own_files_and_of_those_that_may_be_equal():
    root = Root.at("/pictures")
    known = {
        name: Known(root.root_id, b"x", size, 1, "c", None, indexed=True) for name, size in {"a": 5, "b": 6}.items()
    }
    mine = ScannedFile(b"/pictures/y", root, b"y", "image", 5, 2)
    known[mine.media_id] = Known(root.root_id, b"y", 7, 1, "d", None, indexed=True)
    assert engine._Contents(known).of([mine]).keys() == {"a", mine.media_id}
    many = {f"{number}": known["a"] for number in range(1000)}
    assert engine._Contents(known | many).of([mine]).keys() == {mine.media_id}, "a chunk stays small"


def test_models_reach_a_node_that_does_not_have_them(tmp_path, monkeypatch):
    monkeypatch.setenv("ARROWLENS_CACHE", str(tmp_path / "cache"))
    clip = Path(arrowlens.__file__).parent / "demo" / "models" / "clip"
    sent, asked = model_files(clip), []

    def get(ref):
        asked.append(ref)
        return sent

    models = MultimodalEmbeddingProvider(clip_model_path=clip, device="cpu", precision="float32")
    files = {"vision": (models.digest("vision"), "reference")}
    assert engine.with_local_models(models, files, get).path("vision") == clip
    assert asked == [], "it lies here"
    elsewhere = models.elsewhere({"vision": tmp_path / "not here"}, "cpu", "float32")
    for _ in range(2):
        local = engine.with_local_models(elsewhere, files, get)
        assert local.path("vision").is_relative_to(tmp_path / "cache")
        picture = np.zeros((1, 56, 56, 3), np.uint8)
        np.testing.assert_array_equal(local.encode_image(picture), models.encode_image(picture))
    assert asked == ["reference"], "once"
    with pytest.raises(ModelLoadError, match="not the model 00000000 that was sent"):
        engine.with_local_models(elsewhere, {"vision": ("0" * 64, "")}, get)


def test_workers_share_a_cluster():
    nodes = [{"CPU": 4.0, "GPU": 2.0}, {"CPU": 8.0}, {"memory": 1.0}]
    assert engine.shares(nodes, RayOptions()) == (3, 4)
    assert engine.shares(nodes, RayOptions(concurrency=4)) == (4, 2)
    assert engine.shares(nodes, RayOptions(concurrency=99)) == (99, 1)
    assert engine.shares(nodes, RayOptions(num_gpus=0.5)) == (4, 1)
    with pytest.raises(WorkerError, match="no node of the Ray cluster has a CPU and 4 GPUs"):
        engine.shares(nodes, RayOptions(num_gpus=4))
    with pytest.raises(InputError, match="concurrency is 0"):
        RayOptions(concurrency=0)


def test_an_unknown_engine_is_named(tmp_path, storage):
    with (
        Library(storage, SmallProvider()) as library,
        pytest.raises(InputError, match="engine is 'spark'; use 'local'"),
    ):
        library.ingest(tmp_path, engine="spark")


def test_without_the_extra_the_message_names_it(tmp_path, monkeypatch, storage):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, engine.__name__)
    monkeypatch.delattr(importlib.import_module("arrowlens.ingest.engines"), "ray")
    with pytest.raises(WorkerError, match=r"pip install 'arrowlens\[ray\]'"):
        run(storage, SmallProvider(), [write_folder(tmp_path / "in", 1, 0)], engine=RayOptions())


def test_chunks_are_of_so_many_files_or_bytes_and_a_film_is_one_by_itself():
    mb, root = 1024**2, Root.at("/in")
    sounds, films = [("audio", 200 * mb), ("audio", 100 * mb)], [("video", mb), ("video", 9)]
    sizes = [*[("image", mb)] * 3, *sounds, *films, ("image", None)]
    files = [ScannedFile(b"/in/%d" % n, root, b"%d" % n, *each, 1) for n, each in enumerate(sizes)]
    parts = list(engine.split(files, 2))
    assert [file for part in parts for file in part] == files
    names = [b" ".join(file.relative for file in part) for part in parts]
    assert names == [b"0 1", b"2 3", b"4", b"5", b"6", b"7"]
    assert list(engine.split([], 2)) == []
