"""Ingest with the bundled models: the same bytes give the same vector, however a run works."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import arrowlens
from arrowlens.encoders import MultimodalEmbeddingProvider
from arrowlens.ingest import IngestOptions, run
from arrowlens.store import MultimodalStorage

DEMO = Path(arrowlens.__file__).parent / "demo"


@pytest.fixture(scope="module")
def provider():
    return MultimodalEmbeddingProvider(
        clip_model_path=DEMO / "models" / "clip", audio_model_path=DEMO / "models" / "audio"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "in"
    folder.mkdir()
    for path in [
        *sorted((DEMO / "samples" / "pictures").rglob("*.*"))[::10],
        *sorted((DEMO / "samples" / "sounds").iterdir())[::8],
    ]:
        shutil.copy(path, folder)
    return folder


def vectors(storage, provider):
    return {
        (role, content): storage.vectors(role, provider.digest(role), content)
        for role in ("vision", "audio")
        for _, content in sorted(storage.vector_keys(role))
    }


def least_cosine(one, other):
    assert one.keys() == other.keys()
    rows = [
        (np.concatenate([side[key] for key in one if key[0] == role]) for side in (one, other))
        for role in ("vision", "audio")
    ]
    return min(
        float(((a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min()) for a, b in rows
    )


def test_vectors_do_not_depend_on_how_the_run_works(folder, provider, tmp_path):
    found = []
    for number, options in enumerate(
        [IngestOptions(), IngestOptions(workers=3, batch_size=5, commit_every=4), IngestOptions(exact=True)]
    ):
        storage = MultimodalStorage(tmp_path / str(number))
        report = run(storage, provider, [folder], options)
        assert (report.indexed, report.skipped) == (len(list(folder.iterdir())), 0)
        found.append(vectors(storage, provider))
    assert least_cosine(found[0], found[1]) > 0.9999
    assert least_cosine(found[0], found[2]) > 0.999, "JPEGs decoded at twice the size"
    assert run(MultimodalStorage(tmp_path / "0"), provider, [folder]).indexed == 0


def test_every_file_is_nearest_to_itself(folder, provider, tmp_path):
    storage = MultimodalStorage(tmp_path / "library")
    run(storage, provider, [folder])
    assert storage.settings.models["vision"].digest == provider.digest("vision")
    for (role, content), rows in vectors(storage, provider).items():
        best = storage.search(role, provider.digest(role), rows[0], 1)
        assert best["content_hash"].to_pylist() == [content]
        assert best["score"][0].as_py() == pytest.approx(1.0, abs=1e-6)
