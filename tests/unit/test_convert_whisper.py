"""Whisper checkpoints of every kind and size become model directories that compute what transformers computes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from arrowlens.conversion import convert_whisper_model, whisper
from arrowlens.conversion.checkpoint import Checkpoint
from arrowlens.conversion.convert import verify_vectors
from arrowlens.encoders import AudioEncoder, WeightLoader, model_info
from arrowlens.errors import ConversionError, QualityError
from tests.support.checkpoints import edit_config, mutated, mutual_cosine, relative_error, whisper_checkpoint

Tensors = dict[str, torch.Tensor]
GENERATION, CLASSIFICATION = "WhisperForConditionalGeneration", "WhisperForAudioClassification"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # these models are so small that threads only wait for each other
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whisper_checkpoint(tmp_path_factory.mktemp("checkpoints") / "whisper")


def relative_errors(original: Path, directory: Path) -> float:
    """The largest relative error, after verification has let the vectors pass."""
    (vectors,) = whisper.compare(Checkpoint(original, "original"), AudioEncoder(directory, "cpu", "float32"))
    assert mutual_cosine(vectors.reference) < 0.9, "inputs too alike for the comparison to mean anything"
    verify_vectors(vectors, "original")
    return relative_error(vectors.ours, vectors.reference)


KINDS: dict[str, dict[str, Any]] = {
    "the encoder and decoder": {"kind": "WhisperModel"},
    "with a language head": {"kind": GENERATION},
    "large-v3's 128 bins": {"kind": GENERATION, "num_mel_bins": 128},
    "with a projector": {"kind": CLASSIFICATION, "classifier_proj_size": 24},
    "depth and width of their own": {"d_model": 48, "encoder_layers": 3, "encoder_attention_heads": 4},
    "shards": {"shard_bytes": 60_000},
    "a pickle of tensors": {"as_bin": True},
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
def test_computes_what_the_original_does(options: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = whisper_checkpoint(tmp_path / "checkpoint", **options)
    report = convert_whisper_model(checkpoint, tmp_path / "out", dtype="float32")
    assert [(kind.kind, kind.count) for kind in report.verified] == [("sounds", 6)]
    assert report.minimum is not None
    assert report.minimum > 0.99999
    assert relative_errors(checkpoint, tmp_path / "out") < 1e-3


@pytest.mark.parametrize(("dtype", "bound"), [("float16", 0.9999), ("bfloat16", 0.999)])
def test_stored_in_half(tiny: Path, tmp_path: Path, dtype: str, bound: float) -> None:
    report = convert_whisper_model(tiny, tmp_path / "out", dtype=dtype)
    assert report.minimum is not None
    assert report.minimum > bound
    tensors = WeightLoader(tmp_path / "out").load_weights()
    assert tensors.pop("mel_filters").dtype == torch.float32
    assert {tensor.dtype for tensor in tensors.values()} == {getattr(torch, dtype)}


def test_a_projector_widens_the_vector(tmp_path: Path) -> None:
    checkpoint = whisper_checkpoint(tmp_path / "c", CLASSIFICATION, classifier_proj_size=24)
    convert_whisper_model(checkpoint, tmp_path / "out", verify=False)
    assert model_info(tmp_path / "out").dimension == 24
    assert AudioEncoder(tmp_path / "out").encode(np.ones(8000, np.float32)).shape == (1, 24)


@pytest.mark.parametrize(
    ("kind", "config", "layer"),
    [(GENERATION, {"encoder_layers": 5}, 2), (CLASSIFICATION, {"classifier_proj_size": 24}, None)],
    ids=["half of the layers", "the last with a projector"],
)
def test_the_layer_that_libraries_read_is_named(
    tmp_path: Path, kind: str, config: dict[str, int], layer: int | None
) -> None:
    checkpoint = whisper_checkpoint(tmp_path / "c", kind, **config)
    convert_whisper_model(checkpoint, tmp_path / "out", verify=False)
    assert model_info(tmp_path / "out").pooling_layer == layer
    assert json.loads((tmp_path / "out" / "config.json").read_text())["pooling_layer"] == layer


@pytest.mark.parametrize("n_mels", [80, 128])
def test_mel_filters_are_whisper_s(n_mels: int) -> None:
    reference = transformers.WhisperFeatureExtractor(feature_size=n_mels).mel_filters  # (bins, n_mels)
    ours = whisper.mel_filters(n_mels)
    assert ours.shape == (n_mels, 201)
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours.numpy(), reference.T, atol=1e-8)


def test_keys_have_no_bias(tiny: Path, tmp_path: Path) -> None:
    convert_whisper_model(tiny, tmp_path / "out", dtype="float32", verify=False)
    query, key, value = WeightLoader(tmp_path / "out").tensor("transformer.layers.0.attention.qkv.bias").split(32)
    original = {name: tensor.load() for name, tensor in Checkpoint(tiny, "test").tensors()}
    assert torch.equal(query, original["encoder.layers.0.self_attn.q_proj.bias"])
    assert not key.any()
    assert torch.equal(value, original["encoder.layers.0.self_attn.v_proj.bias"])


def test_the_decoder_stays_behind(tmp_path: Path) -> None:
    checkpoint = whisper_checkpoint(tmp_path / "c", GENERATION)
    report = convert_whisper_model(checkpoint, tmp_path / "out", verify=False)
    assert not [name for name in WeightLoader(tmp_path / "out").load_weights() if "decoder" in name]
    assert report.original_bytes < (checkpoint / "model.safetensors").stat().st_size


def test_the_seed_s_defaults() -> None:
    assert convert_whisper_model.__defaults__ == ("openai/whisper-base", "./models/whisper")


class TestMistakesShow:
    """What would go wrong in a conversion is put into a copy of the checkpoint; the original does not agree with it."""

    def test_none_at_all(self, tiny: Path, tmp_path: Path) -> None:
        convert_whisper_model(tiny, tmp_path / "out", dtype="float32", verify=False)
        assert relative_errors(tiny, tmp_path / "out") < 1e-3

    @pytest.mark.parametrize("mistake", ["queries for keys", "upside-down spectrum"])
    def test_refused(self, tiny: Path, tmp_path: Path, mistake: str) -> None:
        self.convert_with(mistake, tiny, tmp_path)
        with pytest.raises(QualityError, match=r"average cosine -?0\.\d{4} against the reference is not above 0.95"):
            relative_errors(tiny, tmp_path / "out")

    @pytest.mark.parametrize("mistake", ["no positions", "no value bias"])
    def test_far_beyond_the_bound(self, tiny: Path, tmp_path: Path, mistake: str) -> None:
        self.convert_with(mistake, tiny, tmp_path)
        (vectors,) = whisper.compare(Checkpoint(tiny, "original"), AudioEncoder(tmp_path / "out", "cpu", "float32"))
        assert relative_error(vectors.ours, vectors.reference) > 0.1

    @staticmethod
    def convert_with(mistake: str, tiny: Path, tmp_path: Path) -> None:
        def change(tensors: Tensors) -> None:
            attention = "encoder.layers.0.self_attn.{}_proj.{}"
            if mistake == "queries for keys":
                q, k = attention.format("q", "weight"), attention.format("k", "weight")
                tensors[q], tensors[k] = tensors[k], tensors[q]
            elif mistake == "no positions":
                tensors["encoder.embed_positions.weight"].zero_()
            elif mistake == "upside-down spectrum":
                tensors["encoder.conv1.weight"] = tensors["encoder.conv1.weight"].flip(1)
            else:
                tensors[attention.format("v", "bias")].zero_()

        broken = mutated(tiny, tmp_path / "broken", change)
        convert_whisper_model(broken, tmp_path / "out", dtype="float32", verify=False)

    def test_a_wrong_activation_exceeds_the_bound(self, tiny: Path, tmp_path: Path) -> None:
        # The original is told to use another activation; ours keeps to Whisper's.
        convert_whisper_model(tiny, tmp_path / "out", dtype="float32", verify=False)
        other = edit_config(Path(shutil.copytree(tiny, tmp_path / "copy")), activation_function="quick_gelu")
        assert relative_errors(other, tmp_path / "out") > 3e-3


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"max_source_positions": 750}, "max_source_positions 750"),
            ({"activation_function": "relu"}, "activation 'relu' is not supported"),
            ({"use_weighted_layer_sum": True}, "use_weighted_layer_sum"),
            ({"encoder_layers": 3}, "tensor 'encoder.layers.2.self_attn_layer_norm.weight' is missing"),
            ({"encoder_layers": 1}, "tensor 'encoder.layers.1.fc1.bias' and 14 more has no place"),
            ({"encoder_attention_heads": 3}, "3 heads, which do not divide the width 32"),
            ({"num_mel_bins": 128}, "feature_size 80 in preprocessor_config.json; it must be 128"),
            ({"encoder_ffn_dim": 63}, r"'transformer.layers.0.mlp.fc1.weight' has shape \(64, 32\)"),
            ({"model_type": "wav2vec2"}, "model_type 'wav2vec2', but a 'whisper' checkpoint is needed"),
        ],
        ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
    )
    def test_a_config_that_does_not_fit(self, tiny: Path, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
        checkpoint = edit_config(Path(shutil.copytree(tiny, tmp_path / "copy")), **changes)
        with pytest.raises(ConversionError, match=says):
            convert_whisper_model(checkpoint, tmp_path / "out", verify=False)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("changes", [{"hop_length": 320}, {"sampling_rate": 8000}, {"chunk_length": 15}])
    def test_other_spectra(self, tiny: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
        checkpoint = Path(shutil.copytree(tiny, tmp_path / "copy"))
        path = checkpoint / "preprocessor_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        with pytest.raises(ConversionError, match=rf"{next(iter(changes))} \d+ in preprocessor_config.json"):
            convert_whisper_model(checkpoint, tmp_path / "out", verify=False)

    @pytest.mark.parametrize("name", ["encoder.conv2.bias", "encoder.layers.1.self_attn.v_proj.bias"])
    def test_a_missing_tensor_is_named(self, tiny: Path, tmp_path: Path, name: str) -> None:
        checkpoint = mutated(tiny, tmp_path / "broken", lambda tensors: tensors.__delitem__(name))
        with pytest.raises(ConversionError, match=f"tensor '{name}' is missing"):
            convert_whisper_model(checkpoint, tmp_path / "out", verify=False)

    def test_a_key_bias_has_no_place(self, tiny: Path, tmp_path: Path) -> None:
        name = "encoder.layers.0.self_attn.k_proj.bias"
        checkpoint = mutated(tiny, tmp_path / "broken", lambda tensors: tensors.update({name: torch.ones(32)}))
        with pytest.raises(ConversionError, match=f"tensor '{name}' has no place"):
            convert_whisper_model(checkpoint, tmp_path / "out", verify=False)

    def test_without_preprocessor_config(self, tiny: Path, tmp_path: Path) -> None:
        checkpoint = Path(shutil.copytree(tiny, tmp_path / "copy"))
        (checkpoint / "preprocessor_config.json").unlink()
        assert convert_whisper_model(checkpoint, tmp_path / "out").average > 0.9999  # type: ignore[operator]
