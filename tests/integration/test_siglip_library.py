"""A library whose pictures are encoded by SigLIP: ingest, search by text and by picture, doctor, benchmark, models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from arrowlens import Library
from arrowlens.benchmark import benchmark
from arrowlens.cli import main
from arrowlens.conversion import convert_siglip_model
from arrowlens.embedding import EmbeddingPlan, prepare
from arrowlens.encoders import SiglipEngine
from arrowlens.media import decode
from arrowlens.models import DEMO
from tests.integration.test_parity_from_files import scene
from tests.support.siglip import siglip_checkpoint

NATURE = DEMO.parent / "samples" / "pictures" / "nature"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("siglip")
    convert_siglip_model(siglip_checkpoint(folder / "checkpoint"), folder / "model", verify=False)
    return folder / "model"


@pytest.fixture(scope="module")
def library(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    folder = tmp_path_factory.mktemp("pictures")
    for path in sorted(NATURE.iterdir())[:12]:
        shutil.copy(path, folder)
    with Library.open(tmp_path_factory.mktemp("library") / "a.lens", models=f"vision={model}") as library:
        assert library.ingest(folder).indexed == 12
        yield library


def test_a_text_finds_pictures_in_the_order_of_the_model(library: Library, model: Path) -> None:
    engine = SiglipEngine(model)
    results = library.search("a lion", k=12, mode="vector")
    assert len(results) == 12
    pictures = engine.encode_image([hit.path for hit in results])
    scores = (engine.encode_text(["a lion"]) @ pictures.T)[0]
    np.testing.assert_allclose([hit.score for hit in results], scores, atol=5e-3)
    assert [hit.score for hit in results] == sorted((hit.score for hit in results), reverse=True)


def test_a_picture_finds_itself_first(library: Library) -> None:
    path = library.search("a lion", k=1, mode="vector")[0].path
    hits = library.similar(path, k=3)
    assert hits[0].path == path
    assert hits[0].score == pytest.approx(1, abs=1e-3)
    assert library.embed(path).shape == (1, 32)


def test_a_text_that_is_too_long_is_said(library: Library) -> None:
    notices = library.search("a lion on the grass " * 40, k=1, mode="vector").notices
    assert any("the text is longer than the model reads" in notice for notice in notices)
    assert library.search("ライオン", k=1, mode="vector").notices == (), "SigLIP knows many languages"


def test_a_large_photograph_reduced_while_decoding_has_nearly_the_vector_of_the_whole(
    model: Path, tmp_path: Path
) -> None:
    engine = SiglipEngine(model, precision="float32")
    scene(1600, 300).save(tmp_path / "wide.jpg", quality=95)
    scene(300, 1600).save(tmp_path / "tall.jpg", quality=95)
    for path in tmp_path.iterdir():
        prepared = []
        for exact in (False, True):
            plan = EmbeddingPlan(engine.image_processor, exact=exact)
            prepared.append(prepare(decode(path, min_side=plan.min_side), plan).content)
        reduced, whole = (pixels.astype(int) for pixels in prepared)
        assert np.abs(reduced - whole).mean() < 1, "of 255"
        assert decode(path, min_side=32).pixels.shape != decode(path).pixels.shape


def test_the_commands_know_the_family(library: Library, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    families = {family["name"]: family for family in json.loads(capsys.readouterr().out)["families"]}
    assert families["siglip"]["role"] == "vision"
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    assert families["siglip"]["verified"] in printed
    assert main(["doctor", "--library", str(library.path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["problems"] == report["notices"] == 0
    found = {finding["what"]: finding["value"] for finding in report["findings"]}
    assert found["lowest cosine of 8 files, encoded again"] > 0.9999


def test_a_conversion_is_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = siglip_checkpoint(tmp_path / "checkpoint")
    assert main(["convert", "siglip", str(checkpoint), "--output", str(tmp_path / "model")]) == 0
    printed = capsys.readouterr().out
    assert "siglip model from checkpoint" in printed
    assert "Cosine against the original, 8 pictures: 1.0000" in printed
    assert "Cosine against the original, 9 texts: 1.0000" in printed


def test_the_benchmark_measures_it(model: Path) -> None:
    measured = benchmark(f"vision={model}", device="cpu", seconds=0.02)
    assert "pictures in bulk" in [measure.what for measure in measured.measures]
