"""``Library.embed`` and ``embed_text``: the vectors that a library stores and asks with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arrowlens import Library
from arrowlens.errors import InputError, MediaError
from arrowlens.models import DEMO

SAMPLES = DEMO.parent / "samples"
LION, DOG = SAMPLES / "pictures/nature/lion-01.png", SAMPLES / "sounds/dog-01.ogg"
SAME = 0.9999


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    folder = tmp_path_factory.mktemp("media")
    for path in (LION, DOG):
        shutil.copy(path, folder)
    with Library.open(tmp_path_factory.mktemp("library") / "a.lens", models="demo") as library:
        library.ingest(folder)
        yield library


def test_products_of_the_vectors_are_the_scores(library: Library) -> None:
    results = {hit.modality: hit for hit in library.search("a lion", k=2, mode="vector")}
    for item, modality in ((LION, "image"), (DOG, "audio")):
        vectors = library.embed(item)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
        score = (vectors @ library.embed_text("a lion", modality)).max()
        assert results[modality].score == pytest.approx(float(score), abs=1e-3)


def test_what_is_not_in_the_library_is_encoded_as_what_is(library: Library, tmp_path: Path) -> None:
    with Image.open(LION) as picture:
        (stored,), (made,) = library.embed(LION), library.embed(picture.convert("RGB"))
    assert stored @ made > SAME
    other = shutil.copy(SAMPLES / "sounds/cat-01.ogg", tmp_path)
    (first, *_), (again, *_) = library.embed(other), library.embed(Path(other).read_bytes())
    assert first @ again > SAME
    long = np.sin(np.arange(250 * 16_000) * 0.05).astype(np.float32)
    assert library.embed((long, 16_000)).shape == (49, 512), "all windows, more than a question compares"


def test_what_has_no_vector_is_said(library: Library, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(MediaError, match=r"broken\.png"):
        library.embed(tmp_path / "broken.png")
    with pytest.raises(InputError, match="the example is a int"):
        library.embed(3)  # type: ignore[arg-type]


def test_texts_that_reach_no_recordings_are_refused(tmp_path: Path) -> None:
    with (
        Library.open(tmp_path / "a.lens", models=f"vision={DEMO / 'clip'}") as library,
        pytest.raises(InputError, match="do not find recordings"),
    ):
        library.embed_text("a lion", "audio")
