"""Weights in the type that a machine computes in: mapped, not copied; the same vectors; never another model's."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from arrowlens.cli import main
from arrowlens.conversion import convert_clap_model, convert_clip_model, convert_siglip_model
from arrowlens.encoders import (
    AudioEncoder,
    ClapEncoder,
    CLIPEngine,
    SiglipEngine,
    WeightLoader,
    model_info,
    onednn,
)
from arrowlens.encoders.folding import fold_model, lacks_folded_weights
from arrowlens.encoders.runtime import choose_runtime
from arrowlens.encoders.weights import FOLDED_NAME
from arrowlens.errors import ModelLoadError
from arrowlens.models import DEMO
from tests.support.checkpoints import clap_checkpoint, clip_checkpoint
from tests.support.reference import pictures
from tests.support.siglip import siglip_checkpoint

TEXTS = ["the cat", "a dog on the sea"]

pytestmark = pytest.mark.skipif(
    choose_runtime("cpu").dtype != torch.bfloat16 or not onednn.packs_alike(torch.bfloat16),
    reason="this processor does not compute in bfloat16: no model has folded weights",
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO / "clip", tmp_path / "clip"))


def vectors(path: Path, precision: str = "auto") -> np.ndarray:
    engine = CLIPEngine(path, "cpu", precision)
    size = engine.image_processor.image_size
    return np.concatenate([engine.encode_text(TEXTS), engine.encode_image(pictures(size)[:3])])


def test_folded_weights_give_the_same_vectors_and_keep_the_identity(model: Path) -> None:
    before, exact, digest = vectors(model), vectors(model, "float32"), model_info(model).digest
    assert lacks_folded_weights(model)
    assert fold_model(model)
    assert not lacks_folded_weights(model)
    assert not fold_model(model)
    np.testing.assert_array_equal(vectors(model), before)
    np.testing.assert_array_equal(vectors(model, "float32"), exact)
    assert model_info(model).digest == digest
    WeightLoader(model).verify()
    (model / FOLDED_NAME).unlink()
    np.testing.assert_array_equal(vectors(model), before)


def test_a_model_of_recordings_too(tmp_path: Path) -> None:
    model = Path(shutil.copytree(DEMO / "audio", tmp_path / "audio"))
    wave = np.random.default_rng(0).uniform(-1, 1, 40_000).astype(np.float32)
    before = AudioEncoder(model, "cpu").encode(wave, context="own")
    assert fold_model(model)
    np.testing.assert_array_equal(AudioEncoder(model, "cpu").encode(wave, context="own"), before)


@pytest.mark.parametrize("family", ["siglip", "clap"])
def test_every_family_is_folded(tmp_path: Path, family: str) -> None:
    wave = np.random.default_rng(0).uniform(-1, 1, 100_000).astype(np.float32)
    if family == "siglip":
        convert_siglip_model(siglip_checkpoint(tmp_path / "checkpoint"), tmp_path / "model", verify=False)
        engine = SiglipEngine(tmp_path / "model", "cpu")
        images = pictures(engine.image_processor.image_size)[:3]
    else:
        convert_clap_model(clap_checkpoint(tmp_path / "checkpoint"), tmp_path / "model", verify=False)

    def encoded() -> np.ndarray:
        if family == "siglip":
            engine = SiglipEngine(tmp_path / "model", "cpu")
            return np.concatenate([engine.encode_text(TEXTS), engine.encode_image(images)])
        encoder = ClapEncoder(tmp_path / "model", "cpu")
        return np.concatenate([encoder.encode_text(TEXTS), encoder.encode(wave)])

    found = encoded()
    (tmp_path / "model" / FOLDED_NAME).unlink()
    np.testing.assert_array_equal(encoded(), found)
    assert fold_model(tmp_path / "model")
    np.testing.assert_array_equal(encoded(), found)


def test_nothing_is_copied(model: Path) -> None:
    fold_model(model)
    loader = WeightLoader(model)
    engine = CLIPEngine(loader, "cpu")
    folded = loader.folded_tensors(torch.device("cpu"), torch.bfloat16)
    assert folded is not None
    weight = engine.text_tower.transformer.layers[0].mlp.fc1.weight
    assert weight.dtype == torch.bfloat16
    # Two mappings of a file lie apart; the distance between two of its tensors is the same in both.
    names = ("text.transformer.layers.0.mlp.fc1", "text.final_layernorm")
    start, end = (folded[name]["weight"].data_ptr() for name in names)
    assert engine.text_tower.final_layernorm.weight.data_ptr() - weight.data_ptr() == end - start


def test_weights_of_another_model_are_passed_over(model: Path, tmp_path: Path) -> None:
    fold_model(model)
    convert_clip_model(clip_checkpoint(tmp_path / "checkpoint"), tmp_path / "other", verify=False)
    (tmp_path / "other" / FOLDED_NAME).unlink()
    before = vectors(tmp_path / "other")
    shutil.copy(model / FOLDED_NAME, tmp_path / "other")
    assert lacks_folded_weights(tmp_path / "other")
    np.testing.assert_array_equal(vectors(tmp_path / "other"), before)
    assert fold_model(tmp_path / "other")
    np.testing.assert_array_equal(vectors(tmp_path / "other"), before)


def test_damaged_ones_are_named_with_the_cure(model: Path) -> None:
    fold_model(model)
    path = model / FOLDED_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelLoadError, match=rf"{FOLDED_NAME}: truncated.*; remove the file"):
        vectors(model)
    at = len(whole) // 2  # a weight's byte: only its hash tells
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    with pytest.raises(ModelLoadError, match=rf"{FOLDED_NAME}: the file is damaged; remove the file"):
        WeightLoader(model).verify()


def test_conversion_brings_them_and_a_disk_that_is_full_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert_clip_model(clip_checkpoint(tmp_path / "checkpoint"), tmp_path / "half", verify=False)
    assert (tmp_path / "half" / FOLDED_NAME).is_file()
    convert_clip_model(tmp_path / "checkpoint", tmp_path / "same", dtype="bfloat16", verify=False)
    assert not (tmp_path / "same" / FOLDED_NAME).exists(), "they are mapped as they are"
    (tmp_path / "half" / FOLDED_NAME).unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = sorted((tmp_path / "half").iterdir())
    monkeypatch.setattr("arrowlens.encoders.weights._write_arrow", full)
    with pytest.raises(OSError, match="No space"):
        fold_model(tmp_path / "half")
    assert sorted((tmp_path / "half").iterdir()) == before


def test_the_command_prepares_what_it_is_told(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "prepare", str(model)]) == 0
    assert capsys.readouterr().out == f"{model}: prepared\n"
    assert main(["models", "prepare", str(model)]) == 0
    assert capsys.readouterr().out == f"{model}: nothing to do\n"
    assert main(["models", "prepare", str(model.parent)]) == 1
