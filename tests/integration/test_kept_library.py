"""A library that an earlier version wrote, kept as test data: it opens, is searched as before, and is upgraded."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from arrowlens import Library
from arrowlens.store import SCHEMA_VERSION, MultimodalStorage

KEPT = Path(__file__).parents[1] / "data" / "library-schema-3.tar.gz"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    with tarfile.open(KEPT) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "library.lens"


@pytest.mark.parametrize(
    ("text", "first"),
    [("a blue bus", "blue-bus-01.webp"), ("a dog barking", "dog-01.ogg"), ("a butterfly", "purple-butterfly-01.jpg")],
)
def test_it_is_searched_with_the_models_it_names(kept: Path, text: str, first: str) -> None:
    with Library.open(kept) as library:
        assert library.search(text, k=3)[0].path.name == first


def test_nothing_of_it_is_lost(kept: Path) -> None:
    storage = MultimodalStorage(kept, create=False)
    statistics = storage.statistics()
    assert (statistics.images, statistics.audio, statistics.skipped) == (6, 3, 1)
    media = {row["path"].rsplit("/", 1)[-1]: row for row in storage.all_media().to_pylist()}
    assert media["blue-bus-01.webp"]["caption"] == "a picture that a test describes in words"
    assert media["broken.jpg"]["reason"]


def test_vectors_stored_by_name_are_found(kept: Path) -> None:
    generator = np.random.default_rng(14)
    storage = MultimodalStorage(kept, create=False)
    for number in range(3):
        best, *_ = storage.query_similar_images(generator.standard_normal(768).astype(np.float32), top_k=3)
        assert best["image_id"] == f"image-{number}"
        assert best["similarity"] > 0.999


def test_a_writer_upgrades_it(kept: Path) -> None:
    assert json.loads((kept / "library.json").read_text())["schema_version"] == 3
    with Library.open(kept) as library:
        before = [(hit.path, hit.score) for hit in library.search("a blue bus", k=9)]
        library.optimize()
    assert json.loads((kept / "library.json").read_text())["schema_version"] == SCHEMA_VERSION
    with Library.open(kept) as library:
        assert [(hit.path, hit.score) for hit in library.search("a blue bus", k=9)] == before
