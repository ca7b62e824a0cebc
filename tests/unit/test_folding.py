"""Weights in the type that a machine computes in: mapped, not copied; the same vectors; never another model's."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arrowlens.cli import main
from arrowlens.conversion import convert_clap_model, convert_clip_model, convert_siglip_model, convert_whisper_model
from arrowlens.encoders import (
    AudioEncoder,
    ClapEncoder,
    CLIPEngine,
    SiglipEngine,
    WeightLoader,
    model_info,
    onednn,
    write_model,
)
from arrowlens.encoders.folding import fold_model, lacks_folded_weights
from arrowlens.encoders.runtime import choose_runtime
from arrowlens.encoders.weights import FOLDED_NAME
from arrowlens.errors import ModelLoadError
from arrowlens.models import DEMO
from tests.support.checkpoints import clap_checkpoint, clip_checkpoint, whisper_checkpoint
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


CONVERT: dict[str, tuple[Callable[..., Path], Callable[..., Any]]] = {
    "clip": (clip_checkpoint, convert_clip_model),
    "siglip": (siglip_checkpoint, convert_siglip_model),
    "whisper": (whisper_checkpoint, convert_whisper_model),
    "clap": (clap_checkpoint, convert_clap_model),
}


@pytest.mark.parametrize("stored", ["float16", "bfloat16"])
@pytest.mark.parametrize("family", CONVERT)
def test_every_family_is_folded_where_it_is_cast(tmp_path: Path, family: str, stored: str) -> None:
    checkpoint, convert = CONVERT[family]
    convert(checkpoint(tmp_path / "checkpoint"), tmp_path / "model", dtype=stored, verify=False)
    file, is_cast = tmp_path / "model" / FOLDED_NAME, stored == "float16"
    assert file.is_file() == is_cast
    found = encoded(family, tmp_path / "model")
    file.unlink(missing_ok=True)
    np.testing.assert_array_equal(encoded(family, tmp_path / "model"), found)
    assert lacks_folded_weights(tmp_path / "model") == is_cast
    assert fold_model(tmp_path / "model") == is_cast
    assert file.is_file() == is_cast
    np.testing.assert_array_equal(encoded(family, tmp_path / "model"), found)


def encoded(family: str, model: Path) -> np.ndarray:
    """Vectors of everything that a model takes."""
    if family == "clip":
        return vectors(model)
    wave = np.random.default_rng(0).uniform(-1, 1, 100_000).astype(np.float32)
    if family == "whisper":
        return AudioEncoder(model, "cpu").encode(wave, context="own")
    if family == "clap":
        encoder = ClapEncoder(model, "cpu")
        return np.concatenate([encoder.encode_text(TEXTS), encoder.encode(wave)])
    engine = SiglipEngine(model, "cpu")
    images = pictures(engine.image_processor.image_size)[:3]
    return np.concatenate([engine.encode_text(TEXTS), engine.encode_image(images)])


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_a_layer_goes_by_its_weight_not_by_its_bias(model: Path, tmp_path: Path, stored: torch.dtype) -> None:
    loader, other = WeightLoader(model), torch.bfloat16 if stored == torch.float16 else torch.float32
    of_layers = {name: each.dtype for name, each in loader.load_weights().items() if ".transformer.layers." in name}
    mixed = {name: each.to(stored) for name, each in loader.load_weights().items()}
    for name in of_layers:
        if name.endswith("bias") or ".layers.0." in name:
            mixed[name] = mixed[name].to(other)
    info = loader.info
    (tmp_path / "mixed").mkdir()
    write_model(
        tmp_path / "mixed",
        mixed,
        family="clip",
        dimensions=info.dimensions,
        source="mixed",
        files={name: loader.read_file(name) for name in info.files},
    )
    before, exact = vectors(tmp_path / "mixed"), vectors(tmp_path / "mixed", "float32")
    assert (before * exact).sum(axis=1).min() > 0.999
    assert fold_model(tmp_path / "mixed")
    np.testing.assert_array_equal(vectors(tmp_path / "mixed"), before)


def test_the_batch_changes_vectors_by_rounding_only(model: Path) -> None:
    engine = CLIPEngine(model, "cpu")
    images = pictures(engine.image_processor.image_size)
    apart = np.concatenate([engine.encode_image(image[None]) for image in images])
    assert (engine.encode_image(images) * apart).sum(axis=1).min() > 0.9999


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


def test_damaged_ones_are_named_with_the_cure(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = vectors(model)
    fold_model(model)
    path = model / FOLDED_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    np.testing.assert_array_equal(vectors(model), before)
    (warning,) = caplog.messages
    assert re.search(rf"{FOLDED_NAME}: truncated.*; remove the file.*cast from weights\.arrow$", warning)
    with pytest.raises(ModelLoadError, match=rf"{FOLDED_NAME}: truncated.*; remove the file"):
        WeightLoader(model).verify()
    assert fold_model(model), "it is made again"
    assert path.read_bytes() == whole
    at = len(whole) // 2  # a weight's byte: only its hash tells
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    with pytest.raises(ModelLoadError, match=rf"{FOLDED_NAME}: the file is damaged; remove the file"):
        WeightLoader(model).verify()


def test_ones_without_a_module_are_passed_over(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = vectors(model)
    fold_model(model)
    read = WeightLoader.folded_tensors

    def without_one(self: WeightLoader, *args: Any) -> Any:
        folded = dict(read(self, *args) or {})
        folded.pop("text.final_layernorm", None)
        return folded or None

    monkeypatch.setattr(WeightLoader, "folded_tensors", without_one)
    np.testing.assert_array_equal(vectors(model), before)
    assert "the parameters of 'text.final_layernorm' are missing; remove the file" in caplog.text


def test_ones_that_are_removed_meanwhile_are_not_missed(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before, is_file = vectors(model), Path.is_file
    monkeypatch.setattr(Path, "is_file", lambda path: path.name == FOLDED_NAME or is_file(path))
    np.testing.assert_array_equal(vectors(model), before)
    assert not caplog.messages


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
