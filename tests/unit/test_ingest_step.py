"""The step that engines repeat: files and what is known of them -> outcomes, on whatever machine and in any order."""

from __future__ import annotations

import pickle
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

import arrowlens
from arrowlens.embedding import encode
from arrowlens.encoders import MultimodalEmbeddingProvider
from arrowlens.ingest.diff import Action, Known
from arrowlens.ingest.engines.local import LocalEngine
from arrowlens.ingest.progress import Progress
from arrowlens.ingest.source import FolderSource
from arrowlens.ingest.step import EncodeStep, StepSpec
from arrowlens.media import Limits
from arrowlens.store import Settings
from arrowlens.workers.isolated import Isolated
from tests.support.folders import write_folder, write_picture, write_sound
from tests.support.hostile_steps import CRASH, HostileProcessor, write_plain
from tests.support.small_models import SmallProvider

DEMO = Path(arrowlens.__file__).parent / "demo"
INDEX = Action("vectors", "indexed")


def files_of(folder):
    source = FolderSource((str(folder),), folder.parent / "library")
    return source.walk(Settings().with_root(str(folder))).files


def spec_of(folder, provider=None, **changes):
    given = {"batch_size": 4, **changes}
    source = FolderSource((str(folder),), folder.parent / "library")
    provider = provider or SmallProvider()
    return StepSpec(source, provider, frozenset({"vision", "audio"}), Limits(max_decode_s=60.0), **given)


def known_of(outcome):
    """What a library that holds an outcome knows of its file."""
    file, decoded = outcome.prepared.file, outcome.prepared.decoded
    return Known(
        file.root.root_id,
        file.relative,
        *file.stamp,
        decoded.content_hash,
        None,
        indexed=True,
        modality=decoded.modality,
    )


def by_file(outcomes):
    found = {outcome.prepared.file.relative: outcome for outcome in outcomes}
    assert len(found) == len(outcomes)
    return found


def through_the_local_engine(spec, files, known):
    engine = LocalEngine(2, Progress(None))
    return [outcome for part in engine.outcomes(spec, files, known, threading.Event()) for outcome in part]


def test_a_pickled_step_gives_the_outcomes_of_the_local_engine(tmp_path):
    folder = write_folder(tmp_path / "in")
    (folder / "bad.png").write_bytes(b"bad")
    (folder / "picture 001.txt").write_text("a bicycle", encoding="utf-8")
    files, spec = files_of(folder), spec_of(folder)
    step = pickle.loads(pickle.dumps(EncodeStep(spec)))
    ours, theirs = (
        by_file(pickle.loads(pickle.dumps(step(files, {})))),
        by_file(through_the_local_engine(spec, files, {})),
    )
    assert ours.keys() == theirs.keys() == {file.relative for file in files}
    for name, one in ours.items():
        other = theirs[name]
        assert one.action == other.action
        assert (one.prepared.file, one.prepared.caption) == (other.prepared.file, other.prepared.caption)
        assert one.prepared.decoded.content_hash == other.prepared.decoded.content_hash
        assert one.prepared.decoded.thumbnail == other.prepared.decoded.thumbnail
        if one.action == INDEX:
            assert one.prepared.inputs.content is None, "pixels and samples do not travel"
            assert one.prepared.inputs.windows == other.prepared.inputs.windows
            np.testing.assert_array_equal(one.vectors, other.vectors)
    assert ours[b"picture 001.jpg"].prepared.caption == "a bicycle"
    assert ours[b"bad.png"].action.counts_as == "skipped"
    assert len(ours[b"sound 002.wav"].vectors) == 4


def test_outcomes_depend_neither_on_the_order_nor_on_the_division_of_files(tmp_path):
    """Bit by bit, with real models."""
    folder = tmp_path / "in"
    folder.mkdir()
    pictures, sounds = ((DEMO / "samples" / name).rglob("*.*") for name in ("pictures", "sounds"))
    for path in [*sorted(pictures)[::16], *sorted(sounds)[::12]]:
        shutil.copy(path, folder)
    write_sound(folder / "long.wav", 1, 28.0)
    provider = MultimodalEmbeddingProvider(
        clip_model_path=DEMO / "models" / "clip", audio_model_path=DEMO / "models" / "audio"
    )
    step, files = EncodeStep(spec_of(folder, provider, batch_size=None)), files_of(folder)
    whole = by_file(step(files, {}))
    again = pickle.loads(pickle.dumps(step))  # with models of its own
    shuffled = [files[index] for index in np.random.default_rng(0).permutation(len(files))]
    parts = by_file(
        [outcome for start in range(0, len(files), 5) for outcome in again(shuffled[start : start + 5], {})]
    )
    assert len(files) > 12
    assert whole.keys() == parts.keys()
    for name, outcome in whole.items():
        np.testing.assert_array_equal(parts[name].vectors, outcome.vectors)


def test_models_are_given_full_batches_only(tmp_path, monkeypatch):
    sizes = []

    def counted(modality, segments, models):
        lengths = {len(segment) for segment in segments}
        sizes.append((modality, len(segments), lengths if modality == "audio" else set()))
        return encode(modality, segments, models)

    monkeypatch.setattr("arrowlens.ingest.step.encode", counted)
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(6):
        write_picture(folder / f"{number}.png", number)
    for number, seconds in enumerate((3.0, 4.0, 23.0)):  # the last one: three windows of 10 s, and one of 8 s
        write_sound(folder / f"{number}.wav", number, seconds)
    outcomes = by_file(EncodeStep(spec_of(folder))(files_of(folder), {}))
    assert sorted(size for size in sizes if size[0] == "image") == [("image", 4, set())] * 2
    assert {(n, *lengths) for modality, n, lengths in sizes if modality == "audio"} == {
        (1, 48_000),
        (1, 64_000),
        (1, 128_000),
        (4, 160_000),
    }
    alone = SmallProvider()
    for number in range(6):
        (picture,) = (file for file in files_of(folder) if file.relative == b"%d.png" % number)
        segments = spec_of(folder).preparer()(picture).inputs.segments
        np.testing.assert_allclose(outcomes[picture.relative].vectors, encode("image", segments, alone), atol=1e-6)


def test_what_is_known_is_not_encoded_again(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, seed in ((b"a", 1), (b"b", 2), (b"copy of a", 1), (b"moved c", 3), (b"twin of moved c", 3)):
        write_picture(folder / f"{name.decode()}.png", seed)
    files, provider = files_of(folder), SmallProvider()
    spec = spec_of(folder, provider, batch_size=1)
    first = by_file(EncodeStep(spec)(files, {}))
    assert provider.n_encoded == 3
    assert {name for name, outcome in first.items() if outcome.vectors is None} == {
        b"copy of a.png",
        b"twin of moved c.png",
    }
    a, c = first[b"a.png"], first[b"moved c.png"]
    known = {a.prepared.file.media_id: known_of(a), "another place": known_of(c)}
    for outcomes in (EncodeStep(spec)(files, known), through_the_local_engine(spec, files, known)):
        again = by_file(outcomes)
        assert again[b"a.png"].action == Action("row", "unchanged")
        assert {name for name, outcome in again.items() if outcome.vectors is not None} == {b"b.png"}
        assert {name for name, outcome in again.items() if outcome.action == INDEX} == set(first) - {b"a.png"}
    assert provider.n_encoded == 3 + 1 + 1


def test_a_copy_comes_behind_the_file_that_has_its_vectors(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(12):
        write_picture(folder / f"{number:02d}.png", number % 3)
    files = files_of(folder)
    for outcomes in (EncodeStep(spec_of(folder))(files, {}), through_the_local_engine(spec_of(folder), files, {})):
        encoded = set()
        for outcome in outcomes:
            content = outcome.prepared.decoded.content_hash
            assert (outcome.vectors is None) == (content in encoded)
            encoded.add(content)
        assert len(encoded) == 3


def test_a_decoder_that_crashes_costs_its_own_file(tmp_path):
    folder = write_folder(tmp_path / "in", 3, 0)
    write_plain(folder / "a crashes.png", CRASH)
    provider = SmallProvider()
    provider.clip_engine.image_processor = HostileProcessor(image_size=32)
    isolated = Isolated(60.0, 10**9, 1)
    try:
        outcomes = by_file(EncodeStep(spec_of(folder, provider), isolated)(files_of(folder), {}))
    finally:
        isolated.close()
    reason = outcomes.pop(b"a crashes.png").action.reason
    assert reason == "the decoder crashed (signal 11, SIGSEGV)"
    assert [outcome.action for outcome in outcomes.values()] == [INDEX] * 3


@pytest.mark.parametrize("n_taken", [1, 5])
def test_an_engine_that_is_closed_early_leaves_nothing_running(tmp_path, n_taken):
    folder = write_folder(tmp_path / "in", 30, 0)
    before = {*threading.enumerate()}  # other tests of the process may have left pools of theirs
    stream = LocalEngine(2, Progress(None)).outcomes(spec_of(folder), files_of(folder), {}, threading.Event())
    for _ in range(n_taken):
        next(stream)
    stream.close()
    names = {thread.name.rstrip("0123456789_-") for thread in {*threading.enumerate()} - before}
    assert names.isdisjoint({"decode", "encode", "memory"})
