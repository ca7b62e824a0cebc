"""SigLIP checkpoints become model directories that compute what transformers computes, from the same tokens."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arrowlens.conversion import convert_siglip_model, siglip
from arrowlens.conversion.checkpoint import Checkpoint
from arrowlens.conversion.convert import verify_vectors
from arrowlens.conversion.sentencepiece import siglip_tokenizer
from arrowlens.encoders import SiglipEngine, WeightLoader, model_info, write_model
from arrowlens.encoders.image_processor import SHORTEST_SIDE
from arrowlens.errors import ConversionError, InputError, ModelLoadError, TextValidationError
from tests.support.checkpoints import clip_checkpoint, edit_config, mutated, mutual_cosine, relative_error
from tests.support.languages import ODD, TEXTS
from tests.support.siglip import BICUBIC, SiglipReference, gemma_tokenizer, siglip_checkpoint

BOUND = 1e-4  # of relative errors; the approximation of gelu by tanh, which is close, exceeds it
TOKENIZERS = ("Siglip2Tokenizer", "GemmaTokenizer", "SiglipTokenizer")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return siglip_checkpoint(tmp_path_factory.mktemp("checkpoints") / "siglip")


@pytest.fixture(scope="module")
def converted(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "siglip"
    convert_siglip_model(tiny, directory, dtype="float32", verify=False)
    return directory


def errors(checkpoint: Path, engine: SiglipEngine) -> dict[str, float]:
    """The largest relative error of pictures and of texts."""
    return {
        vectors.kind: relative_error(vectors.ours, vectors.reference)
        for vectors in siglip.compare(Checkpoint(checkpoint, "original"), engine)
    }


SHAPES: dict[str, dict[str, Any]] = {
    "a 14-pixel patch": {"vision": {"image_size": 56, "patch_size": 14}},
    "a picture that patches do not fill": {"vision": {"image_size": 50, "patch_size": 16}},
    "depth and width of their own": {
        "vision": {"num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 80},
        "text": {"hidden_size": 24, "num_hidden_layers": 1, "intermediate_size": 40, "projection_size": 32},
    },
    "exact gelu": {"vision": {"hidden_act": "gelu"}, "text": {"hidden_act": "gelu"}},
    "an epsilon of its own": {"vision": {"layer_norm_eps": 1e-3}, "text": {"layer_norm_eps": 1e-2}},
    "a short context": {"text": {"max_position_embeddings": 9}},
    "SigLIP's tokenizer and filter": {"tokenizer": "SiglipTokenizer", "resample": BICUBIC},
    "padding on the left": {"padding_side": "left"},
    "a pickle of tensors": {"as_bin": True},
}


@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES.keys())
def test_computes_what_the_original_does(options: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = siglip_checkpoint(tmp_path / "checkpoint", **options)
    convert_siglip_model(checkpoint, tmp_path / "out", dtype="float32")
    engine = SiglipEngine(tmp_path / "out", "cpu", "float32")
    for vectors in siglip.compare(Checkpoint(checkpoint, "test"), engine):
        assert mutual_cosine(vectors.reference) < 0.9, "inputs too alike for the comparison to mean anything"
        assert relative_error(vectors.ours, vectors.reference) < BOUND
        assert verify_vectors(vectors, "test").minimum > 0.99999


@pytest.mark.parametrize(
    ("tokenizer", "padding_side"), [*((tokenizer, "right") for tokenizer in TOKENIZERS), ("SiglipTokenizer", "left")]
)
def test_tokens_of_twenty_languages_are_those_of_the_class_of_each_model(
    tokenizer: str, padding_side: str, tmp_path: Path
) -> None:
    checkpoint = siglip_checkpoint(tmp_path / "checkpoint", tokenizer=tokenizer, padding_side=padding_side)
    convert_siglip_model(checkpoint, tmp_path / "out", verify=False)
    reference, ours = SiglipReference(checkpoint), SiglipEngine(tmp_path / "out").tokenizer
    assert type(reference.tokenizer).__name__ == tokenizer
    if tokenizer == "GemmaTokenizer":  # SigLIP 2 was trained on lower-cased texts, whatever its checkpoint names
        reference.tokenizer = gemma_tokenizer("Siglip2Tokenizer", padding_side)
    for text in [*TEXTS, *ODD]:
        assert ours([text]).ids.tolist() == reference.ids([text]).tolist(), text


def test_texts_are_cleaned_before_they_are_read(tmp_path: Path) -> None:
    def tokens(tokenizer: str, *texts: str) -> list[list[int]]:
        checkpoint = siglip_checkpoint(tmp_path / f"{tokenizer} checkpoint", tokenizer=tokenizer)
        convert_siglip_model(checkpoint, tmp_path / tokenizer, verify=False)
        return SiglipEngine(tmp_path / tokenizer).tokenizer(texts).ids.tolist()

    lower, capitals, question = tokens("SiglipTokenizer", "a black cat", "A Black CAT", "a black, cat?")
    assert lower == capitals == question
    lower, capitals, question = tokens("Siglip2Tokenizer", "a black cat", "A Black CAT", "a black cat?")
    assert lower == capitals != question
    lower, capitals, question = tokens("GemmaTokenizer", "a black cat", "A Black CAT", "a black cat?")
    assert lower == capitals != question


@pytest.mark.parametrize(
    ("tokenizer_class", "settings"),
    [("GemmaTokenizer", {}), ("GemmaTokenizerFast", {}), ("PreTrainedTokenizerFast", {"do_lower_case": True})],
)
def test_capitals_change_no_vector(tokenizer_class: str, settings: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = siglip_checkpoint(tmp_path / "checkpoint", tokenizer="GemmaTokenizer")
    path = checkpoint / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": tokenizer_class} | settings))
    report = convert_siglip_model(checkpoint, tmp_path / "out", dtype="float32")
    assert report.minimum is not None
    assert report.minimum > 0.9999, "the original sees the same texts"
    lower, capitals = SiglipEngine(tmp_path / "out", "cpu").encode_text(["a dog", "A Dog"])
    np.testing.assert_array_equal(lower, capitals)


def test_capitals_of_another_tokenizer_stay(tmp_path: Path) -> None:
    checkpoint = siglip_checkpoint(tmp_path / "checkpoint", tokenizer="GemmaTokenizer")
    path = checkpoint / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}))
    convert_siglip_model(checkpoint, tmp_path / "out", verify=False)
    lower, capitals = SiglipEngine(tmp_path / "out").tokenizer(["a dog", "A Dog"]).ids.tolist()
    assert lower != capitals


def test_every_text_has_64_tokens_and_a_long_one_ends_in_the_end_token(converted: Path) -> None:
    tokens = SiglipEngine(converted).tokenizer(["a cat", "a cat " * 100])
    assert tokens.ids.shape == (2, 64)
    assert tokens.mask.all()
    assert tokens.cut == (False, True)
    end = gemma_tokenizer().eos_token_id
    assert int(tokens.ids[1, -1]) == end
    assert (tokens.ids[1, :-1] != end).all()


def test_scale_and_bias_are_in_the_header(tiny: Path, converted: Path) -> None:
    tensors = {name: tensor.load() for name, tensor in Checkpoint(tiny, "test").tensors()}
    dimensions = model_info(converted).dimensions
    assert dimensions["logit_scale"] == float(tensors["logit_scale"])
    assert dimensions["logit_bias"] == float(tensors["logit_bias"])
    assert not {"logit_scale", "logit_bias"} & set(WeightLoader(converted).load_weights())


def test_similarities_are_the_logits_of_the_original(tiny: Path, converted: Path) -> None:
    engine, reference = SiglipEngine(converted, "cpu", "float32"), SiglipReference(tiny)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    texts = ["a cat", "two dogs on the sofa"]
    with torch.inference_mode():
        outputs = reference.model(input_ids=reference.ids(texts), pixel_values=reference.pixels(pictures))
    logits = engine.compute_similarity(engine.encode_text(texts), engine.encode_image(pictures))
    np.testing.assert_allclose(logits, outputs.logits_per_text.numpy(), atol=1e-4)
    assert engine.find_best_matches(texts, pictures, top_k=2) == np.argsort(-logits, axis=1)[:, :2].tolist()


def test_inputs_are_refused_as_those_of_clip(converted: Path) -> None:
    engine = SiglipEngine(converted)
    with pytest.raises(TextValidationError):
        engine.encode_text([])
    with pytest.raises(InputError, match="images must be 32x32"):
        engine.encode_image(np.zeros((1, 16, 16, 3), np.uint8))


@pytest.mark.parametrize(("dtype", "bound"), [("float16", 0.99999), ("bfloat16", 0.999)])
def test_report_of_each_type(tiny: Path, tmp_path: Path, dtype: str, bound: float) -> None:
    report = convert_siglip_model(tiny, tmp_path / "out", dtype=dtype)
    assert [(kind.kind, kind.count) for kind in report.verified] == [("pictures", 8), ("texts", 9)]
    assert report.minimum is not None
    assert bound < report.minimum
    assert report.original_bytes == sum(t.load().nbytes for _, t in Checkpoint(tiny, "test").tensors())


class TestMistakesShow:
    """The bound lets none of these pass."""

    @pytest.fixture
    def engine(self, converted: Path) -> SiglipEngine:
        return SiglipEngine(converted, "cpu", "float32")

    def test_none_at_all(self, tiny: Path, engine: SiglipEngine) -> None:
        assert max(errors(tiny, engine).values()) < BOUND

    def test_a_causal_mask(self, tiny: Path, engine: SiglipEngine) -> None:
        for layer in engine.text_tower.transformer.layers[:-1]:  # the last position sees all tokens anyway
            layer.attention.causal = True
        assert errors(tiny, engine)["texts"] > 0.1

    def test_padding_that_is_masked_out(
        self, tiny: Path, engine: SiglipEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tower, pad = engine.text_tower, engine.text_config.pad_token_id

        def forward(ids: torch.Tensor) -> torch.Tensor:
            hidden = tower.token_embedding(ids) + tower.position_embedding
            last = torch.full((len(ids),), ids.shape[1] - 1)
            return tower.final_layernorm(tower.transformer(hidden, mask=ids != pad, read=last))

        monkeypatch.setattr(tower, "forward", forward)
        assert errors(tiny, engine)["texts"] > 0.1

    def test_the_end_token_in_place_of_the_last_position(
        self, tiny: Path, engine: SiglipEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tower, end = engine.text_tower, gemma_tokenizer().eos_token_id

        def forward(ids: torch.Tensor) -> torch.Tensor:
            hidden = tower.token_embedding(ids) + tower.position_embedding
            return tower.final_layernorm(tower.transformer(hidden, read=(ids == end).int().argmax(-1)))

        monkeypatch.setattr(tower, "forward", forward)
        assert errors(tiny, engine)["texts"] > 0.1

    @pytest.mark.parametrize("changes", [{"resize_mode": SHORTEST_SIDE}, {"resample": "bicubic"}], ids=str)
    def test_other_preprocessing(self, tiny: Path, engine: SiglipEngine, changes: dict[str, str]) -> None:
        encoder = engine.vision_encoder
        encoder.image_processor = dataclasses.replace(encoder.image_processor, **changes)
        assert errors(tiny, engine)["pictures"] > 0.01

    @pytest.mark.parametrize(("part", "kind"), [("vision", "pictures"), ("text", "texts")])
    def test_exact_gelu_for_tanh(self, tiny: Path, tmp_path: Path, part: str, kind: str) -> None:
        wrong = edit_config(Path(shutil.copytree(tiny, tmp_path / "copy")), **{f"{part}_config__hidden_act": "gelu"})
        convert_siglip_model(wrong, tmp_path / "out", dtype="float32", verify=False)
        assert errors(tiny, SiglipEngine(tmp_path / "out", "cpu", "float32"))[kind] > 3 * BOUND


class TestRefused:
    @staticmethod
    def assert_refused(checkpoint: Path, out: Path, says: str) -> None:
        with pytest.raises(ConversionError, match=says) as caught:
            convert_siglip_model(checkpoint, out, verify=False)
        assert "\n" not in str(caught.value)
        assert not out.exists()

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"model_type": "siglip2"}, "a NaFlex model of SigLIP 2"),
            ({"model_type": "siglip_vision_model"}, "'siglip_vision_model', but a 'siglip' checkpoint is needed"),
            ({"vision_config__vision_use_head": False}, "vision_use_head is false"),
            ({"vision_config__num_channels": 1}, "pictures of 1 channels"),
            ({"vision_config__hidden_act": "gelu_new"}, "activation 'gelu_new' is not supported"),
            ({"text_config__projection_size": 16}, "projects texts to 16 dimensions, but pictures have 32"),
            ({"text_config__vocab_size": 300}, "the tokenizer has ids up to"),
            ({"vision_config__image_size": 64}, "resizes to .* supported is a square of 64"),
        ],
        ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
    )
    def test_a_config_that_does_not_fit(self, tiny: Path, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
        copy = Path(shutil.copytree(tiny, tmp_path / "copy"))
        self.assert_refused(edit_config(copy, **changes), tmp_path / "out", says)

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"do_center_crop": True, "crop_size": 32}, "resizes to"),
            ({"size": {"shortest_edge": 32}}, "without a crop, supported is a square of 32"),
            ({"size": {"height": 32, "width": 16}}, "supported is a square of 32"),
            ({"resample": 1}, "resamples with 1"),
            ({"do_rescale": False}, "turns do_rescale off"),
        ],
        ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
    )
    def test_preprocessing_that_is_not_ours(
        self, tiny: Path, tmp_path: Path, changes: dict[str, Any], says: str
    ) -> None:
        path = Path(shutil.copytree(tiny, tmp_path / "copy")) / "preprocessor_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        self.assert_refused(path.parent, tmp_path / "out", says)

    @pytest.mark.parametrize("name", ["logit_bias", "text_model.head.bias", "vision_model.head.probe"])
    def test_a_missing_tensor_is_named(self, tiny: Path, tmp_path: Path, name: str) -> None:
        checkpoint = mutated(tiny, tmp_path / "broken", lambda tensors: tensors.__delitem__(name))
        self.assert_refused(checkpoint, tmp_path / "out", f"tensor '{name}' is missing")

    def test_rows_that_are_not_three_in_one(self, tiny: Path, tmp_path: Path) -> None:
        def cut(tensors: dict[str, torch.Tensor]) -> None:
            tensors["vision_model.head.attention.in_proj_bias"] = torch.zeros(95)

        checkpoint = mutated(tiny, tmp_path / "broken", cut)
        self.assert_refused(checkpoint, tmp_path / "out", r"'\S+in_proj_bias' of shape \(95,\) is not 3 in one")

    def test_no_tokenizer(self, tiny: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(tiny, tmp_path / "copy"))
        (copy / "tokenizer.json").unlink()
        self.assert_refused(copy, tmp_path / "out", r"no tokenizer.json in it")

    def test_siglip_s_tokenizer_without_its_model(self, tmp_path: Path) -> None:
        checkpoint = siglip_checkpoint(tmp_path / "checkpoint", tokenizer="SiglipTokenizer")
        (checkpoint / "spiece.model").unlink()
        self.assert_refused(checkpoint, tmp_path / "out", "no spiece.model in it")

    @pytest.mark.parametrize(
        "damage",
        [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"\xff" * 40, lambda data: data[7:]],
        ids=["empty", "truncated", "other bytes", "shifted"],
    )
    def test_a_damaged_sentencepiece_model(self, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
        checkpoint = siglip_checkpoint(tmp_path / "checkpoint", tokenizer="SiglipTokenizer")
        path = checkpoint / "spiece.model"
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(ConversionError, match=r"spiece.model: not a"):
            siglip_tokenizer(path, "</s>", ("</s>",), lower_case=True)

    def test_a_clip_checkpoint(self, tmp_path: Path) -> None:
        checkpoint = clip_checkpoint(tmp_path / "checkpoint")
        self.assert_refused(checkpoint, tmp_path / "out", "model_type 'clip', but a 'siglip' checkpoint is needed")


@pytest.mark.parametrize(
    "changes",
    [
        {"logit_scale": None},
        {"logit_scale": 1e9},
        {"logit_bias": float("nan")},
        {"logit_bias": True},
        {"projection_dim": 16},
        {"text": {}},
    ],
    ids=str,
)
def test_a_header_that_does_not_fit_is_refused(converted: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    loader = WeightLoader(converted)
    files = {name: loader.read_file(name) for name in loader.info.files}
    dimensions = loader.info.dimensions | changes
    if "text" in changes:
        dimensions["text"] = loader.info.dimensions["text"] | {"padding_side": "top"}
    write_model(tmp_path, loader.load_weights(), family="siglip", dimensions=dimensions, source="x", files=files)
    with pytest.raises(ModelLoadError) as caught:
        SiglipEngine(tmp_path)
    assert "\n" not in str(caught.value)
