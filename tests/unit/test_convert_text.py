"""BERT checkpoints become model directories that compute what transformers with a masked mean computes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from arrowlens.conversion import bert, convert_text_model
from arrowlens.conversion.checkpoint import Checkpoint
from arrowlens.conversion.convert import verify_vectors
from arrowlens.encoders import TextEncoder, model_info
from arrowlens.errors import ConversionError, QualityError
from tests.support.checkpoints import bert_checkpoint, edit_config, mutated, mutual_cosine, relative_error

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # these models are so small that threads only wait for each other
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert_checkpoint(tmp_path_factory.mktemp("checkpoints") / "bert")


def relative_errors(original: Path, directory: Path) -> float:
    """The largest relative error, after verification has let the vectors pass."""
    (vectors,) = bert.compare(Checkpoint(original, "original"), TextEncoder(directory, "cpu", "float32"))
    assert mutual_cosine(vectors.reference) < 0.95, "inputs too alike for the comparison to mean anything"
    verify_vectors(vectors, "original")
    return relative_error(vectors.ours, vectors.reference)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kind": "BertForMaskedLM"},
        {"hidden_act": "relu"},
        {"layer_norm_eps": 1e-2},
        {"hidden_size": 48, "num_attention_heads": 3, "num_hidden_layers": 3, "intermediate_size": 40},
        {"max_position_embeddings": 40},  # fewer than sentence_bert_config's max_seq_length
    ],
    ids=str,
)
def test_computes_what_the_original_does(options: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = bert_checkpoint(tmp_path / "checkpoint", **options)
    report = convert_text_model(checkpoint, tmp_path / "out", dtype="float32")
    assert report.minimum is not None
    assert report.minimum > 0.99999
    assert relative_errors(checkpoint, tmp_path / "out") < 1e-3


def test_names_of_old_checkpoints(tiny: Path, tmp_path: Path) -> None:
    def old(tensors: Tensors) -> None:
        for name in list(tensors):
            spelt = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            tensors[f"bert.{spelt}"] = tensors.pop(name)
        tensors["bert.embeddings.position_ids"] = torch.arange(64)[None]
        tensors["cls.predictions.bias"] = torch.ones(256)

    checkpoint = mutated(tiny, tmp_path / "old", old)
    plain = convert_text_model(tiny, tmp_path / "plain", verify=False)
    assert convert_text_model(checkpoint, tmp_path / "out", verify=False).digest == plain.digest


def test_where_texts_are_cut(tiny: Path, tmp_path: Path) -> None:
    convert_text_model(tiny, tmp_path / "out", verify=False)
    assert model_info(tmp_path / "out").dimensions["max_length"] == 48
    checkpoint = Path(shutil.copytree(tiny, tmp_path / "copy"))
    (checkpoint / "sentence_bert_config.json").unlink()
    convert_text_model(checkpoint, tmp_path / "bare", verify=False)
    assert model_info(tmp_path / "bare").dimensions["max_length"] == 64


def test_the_seed_has_no_default_but_ours_is_minilm() -> None:
    assert convert_text_model.__defaults__ == ("sentence-transformers/all-MiniLM-L6-v2", "./models/text")


class TestMistakesShow:
    def test_wrong_activation_exceeds_the_bound(self, tiny: Path, tmp_path: Path) -> None:
        broken = edit_config(Path(shutil.copytree(tiny, tmp_path / "copy")), hidden_act="quick_gelu")
        convert_text_model(broken, tmp_path / "out", dtype="float32", verify=False)
        assert relative_errors(tiny, tmp_path / "out") > 3e-3

    @pytest.mark.parametrize("mistake", ["swapped norms", "no token types", "no positions", "keys for values"])
    def test_refused(self, tiny: Path, tmp_path: Path, mistake: str) -> None:
        def change(tensors: Tensors) -> None:
            norm, part = "encoder.layer.0.{}output.LayerNorm.weight", "encoder.layer.0.attention.self.{}.weight"
            if mistake == "swapped norms":
                first, second = norm.format("attention."), norm.format("")
                tensors[first], tensors[second] = tensors[second], tensors[first]
            elif mistake == "keys for values":
                key, value = part.format("key"), part.format("value")
                tensors[key], tensors[value] = tensors[value], tensors[key]
            else:
                kind = "token_type" if mistake == "no token types" else "position"
                tensors[f"embeddings.{kind}_embeddings.weight"].zero_()

        broken = mutated(tiny, tmp_path / "broken", change)
        convert_text_model(broken, tmp_path / "out", dtype="float32", verify=False)
        with pytest.raises(QualityError, match=r"average cosine -?0\.\d{4} against the reference is not above 0.95"):
            relative_errors(tiny, tmp_path / "out")


class TestRefused:
    @pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"version": "1.0"}'])
    def test_a_garbled_tokenizer(self, tiny: Path, tmp_path: Path, content: bytes) -> None:
        checkpoint = Path(shutil.copytree(tiny, tmp_path / "copy"))
        (checkpoint / "tokenizer.json").write_bytes(content)
        with pytest.raises(ConversionError, match=r"tokenizer.json cannot be read"):
            convert_text_model(checkpoint, tmp_path / "out", verify=False)

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"model_type": "roberta"}, "model_type 'roberta', but a 'bert' checkpoint is needed"),
            ({"position_embedding_type": "relative_key"}, "'relative_key' positions"),
            ({"is_decoder": True}, "a decoder"),
            ({"hidden_act": "gelu_new"}, "activation 'gelu_new' is not supported"),
            ({"vocab_size": 300}, r"'token_embedding.weight' has shape \(256, 32\).*\(300, 32\)"),
        ],
        ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
    )
    def test_a_config_that_does_not_fit(self, tiny: Path, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
        checkpoint = edit_config(Path(shutil.copytree(tiny, tmp_path / "copy")), **changes)
        with pytest.raises(ConversionError, match=says):
            convert_text_model(checkpoint, tmp_path / "out", verify=False)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("name", "content", "says"),
        [
            ("1_Pooling/config.json", {"pooling_mode_cls_token": True}, "pools otherwise than by the mean"),
            ("1_Pooling/config.json", {"pooling_mode": "max"}, "pools otherwise than by the mean"),
            ("modules.json", [{"type": "sentence_transformers.models.Dense"}], "adds a module 'Dense'"),
            ("modules.json", {}, "not a JSON array"),
            ("sentence_bert_config.json", [], "not a JSON object"),
        ],
    )
    def test_pooling_that_is_not_ours(self, tiny: Path, tmp_path: Path, name: str, content: object, says: str) -> None:
        checkpoint = Path(shutil.copytree(tiny, tmp_path / "copy"))
        (checkpoint / name).write_text(json.dumps(content))
        with pytest.raises(ConversionError, match=says):
            convert_text_model(checkpoint, tmp_path / "out", verify=False)

    def test_no_tokenizer(self, tiny: Path, tmp_path: Path) -> None:
        checkpoint = Path(shutil.copytree(tiny, tmp_path / "copy"))
        (checkpoint / "tokenizer.json").unlink()
        with pytest.raises(ConversionError, match=r"neither tokenizer.json nor vocab.txt"):
            convert_text_model(checkpoint, tmp_path / "out", verify=False)
