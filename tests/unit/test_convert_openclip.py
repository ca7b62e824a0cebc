"""OpenCLIP's folders become model directories that compute what transformers computes with the same weights."""

from __future__ import annotations

import json
import shutil
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from arrowlens.conversion import convert_clip_model, convert_siglip_model
from arrowlens.conversion.samples import TEXTS as SAMPLES
from arrowlens.conversion.samples import pictures
from arrowlens.encoders import CLIPEngine, ImageProcessor, SiglipEngine
from arrowlens.encoders.image_processor import SHORTEST_SIDE, SQUARE
from arrowlens.errors import ConversionError
from tests.support.checkpoints import clip_checkpoint, clip_model, real_vocabulary, relative_error, tiny_vocabulary
from tests.support.languages import ODD, TEXTS
from tests.support.openclip import openclip_folder
from tests.support.siglip import gemma_tokenizer, siglip_model

BOUND = 1e-4  # of relative errors, as for SigLIP
EXACT = {"vision": {"hidden_act": "gelu"}, "text": {"hidden_act": "gelu", "eos_token_id": 2}}
QUICK = {"vision": {"hidden_act": "quick_gelu"}, "text": {"hidden_act": "quick_gelu", "eos_token_id": 2}}


def clip_folder(directory: Path, options: dict[str, Any] | None = None, **settings: Any) -> Path:
    """An OpenCLIP folder of a tiny CLIP with a tiny tokenizer."""
    openclip_folder(clip_model(**(options or EXACT)), directory, **settings)
    transformers.CLIPTokenizer(*tiny_vocabulary()).save_pretrained(directory)
    return directory


def siglip_folder(directory: Path, model: transformers.SiglipModel | None = None, **settings: Any) -> Path:
    """An OpenCLIP folder of a tiny SigLIP with a tiny tokenizer. timm knows it as a B model, so it has 12 heads."""
    openclip_folder(model or tiny_siglip("gelu"), directory, **settings)
    gemma_tokenizer("GemmaTokenizer").save_pretrained(directory)
    return directory


def tiny_siglip(activation: str) -> transformers.SiglipModel:
    sizes = {"hidden_size": 48, "num_attention_heads": 12, "patch_size": 16}
    return siglip_model({**sizes, "hidden_act": activation}, {"hidden_size": 48, "hidden_act": "gelu_pytorch_tanh"})


def pixels(processor: ImageProcessor) -> np.ndarray:
    return np.stack([processor(image) for image in pictures()])


@torch.inference_mode()
def errors(engine: CLIPEngine | SiglipEngine, model: Any) -> list[float]:
    """The largest relative error of pictures and of texts, against the same weights under transformers' names."""
    images = pixels(engine.image_processor)
    ids = engine.tokenizer(list(SAMPLES)).ids
    reference = (
        model.get_image_features(pixel_values=torch.from_numpy(images).permute(0, 3, 1, 2)).pooler_output,
        model.get_text_features(input_ids=ids).pooler_output,
    )
    ours = engine.encode_image(images), engine.encode_text(list(SAMPLES))
    return [relative_error(a, b.numpy()) for a, b in zip(ours, reference, strict=True)]


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (EXACT, {}),
        (QUICK, {"custom_text": False}),
        (EXACT, {"as_bin": True}),
        ({**EXACT, "vision": {"hidden_act": "gelu", "image_size": 50, "patch_size": 16}, "projection_dim": 24}, {}),
    ],
    ids=["exact gelu", "quick_gelu, names without a prefix", "a pickle of tensors", "another size"],
)
def test_clip_computes_what_the_original_does(
    options: dict[str, Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    folder = clip_folder(tmp_path / "openclip", options, **settings)
    report = convert_clip_model(folder, tmp_path / "out", dtype="float32")
    assert report.source == "openclip"
    assert report.minimum is not None
    assert report.minimum > 0.99999
    assert max(errors(CLIPEngine(tmp_path / "out", "cpu", "float32"), clip_model(**options))) < BOUND


@pytest.mark.parametrize(
    ("timm_name", "activation"),
    [("vit_base_patch16_siglip_224", "gelu"), ("vit_base_patch32_siglip_256", "gelu_pytorch_tanh")],
)
def test_siglip_computes_what_the_original_does(timm_name: str, activation: str, tmp_path: Path) -> None:
    model = tiny_siglip(activation)
    folder = siglip_folder(tmp_path / "openclip", model, timm_name=timm_name)
    report = convert_siglip_model(folder, tmp_path / "out", dtype="float32")
    assert report.minimum is not None
    assert report.minimum > 0.99999
    engine = SiglipEngine(tmp_path / "out", "cpu", "float32")
    assert max(errors(engine, model)) < BOUND
    assert engine.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))
    assert engine.logit_bias == pytest.approx(float(model.logit_bias.detach()))


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_a_square_size_may_be_a_pair_and_another_is_refused(family: str, tmp_path: Path) -> None:
    convert = convert_clip_model if family == "clip" else convert_siglip_model
    folder = (clip_folder if family == "clip" else siglip_folder)(tmp_path / "openclip")
    plain = convert(folder, tmp_path / "plain", verify=False)
    path = folder / "open_clip_config.json"
    configuration = json.loads(path.read_text())
    side = configuration["model_cfg"]["vision_cfg"]["image_size"]
    configuration["model_cfg"]["vision_cfg"]["image_size"] = [side, side]
    path.write_text(json.dumps(configuration))
    assert convert(folder, tmp_path / "pair", verify=False).digest == plain.digest
    for size in ([side, 2 * side], [side], "large", None):
        configuration["model_cfg"]["vision_cfg"]["image_size"] = size
        path.write_text(json.dumps(configuration))
        with pytest.raises(ConversionError, match=r"vision_cfg sets image_size to .*; only square") as caught:
            convert(folder, tmp_path / "out", verify=False)
        assert "\n" not in str(caught.value)


def test_timm_s_exact_gelu_is_not_the_approximation(tmp_path: Path) -> None:
    folder = siglip_folder(tmp_path / "openclip", timm_name="vit_base_patch32_siglip_256")
    convert_siglip_model(folder, tmp_path / "out", dtype="float32", verify=False)
    wrong, right = tiny_siglip("gelu"), tiny_siglip("gelu_pytorch_tanh")
    engine = SiglipEngine(tmp_path / "out", "cpu", "float32")
    assert errors(engine, wrong)[0] > BOUND > errors(engine, right)[0]


@pytest.mark.parametrize("cleaning", ["canonicalize", "lower", "whitespace"])
def test_texts_are_cleaned_as_the_configuration_says(cleaning: str, tmp_path: Path) -> None:
    def cleaned(text: str) -> str:
        if cleaning == "canonicalize":
            text = text.replace("_", " ").translate(str.maketrans("", "", string.punctuation))
        text = " ".join(text.split())
        return text if cleaning == "whitespace" else text.lower()

    settings = {"text_cfg": {"tokenizer_kwargs": {"clean": cleaning}}}
    convert_siglip_model(siglip_folder(tmp_path / "openclip", **settings), tmp_path / "out", verify=False)
    ours, original = SiglipEngine(tmp_path / "out").tokenizer, gemma_tokenizer("GemmaTokenizer")
    for text in [*TEXTS, *ODD]:
        reference = original(cleaned(text), padding="max_length", truncation=True, max_length=64)["input_ids"]
        assert ours([text]).ids[0].tolist() == reference, text


@pytest.mark.parametrize(
    ("preprocessing", "expected"),
    [
        ({}, (SHORTEST_SIDE, "bicubic")),
        ({"resize_mode": "squash", "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3, "size": 32}, None),
        ({"resize_mode": "shortest", "size": [32, 32]}, (SHORTEST_SIDE, "bicubic")),
    ],
    ids=["defaults", "squash", "size"],
)
def test_preprocessing_is_the_configuration_s(
    preprocessing: dict[str, Any], expected: tuple[str, str] | None, tmp_path: Path
) -> None:
    folder = clip_folder(tmp_path / "openclip", preprocessing={"mean": None, **preprocessing})
    convert_clip_model(folder, tmp_path / "out")  # compared with transformers' processor
    processor = ImageProcessor.from_pretrained(tmp_path / "out")
    assert (processor.resize_mode, processor.resample) == (expected or (SQUARE, "bilinear"))
    assert list(processor.mean) == preprocessing.get("mean", [0.48145466, 0.4578275, 0.40821073])


def test_clip_s_own_tokenizer_is_bundled(tmp_path: Path) -> None:
    options = {**EXACT, "text": {**EXACT["text"], "vocab_size": 49408}}
    openclip_folder(clip_model(**options), tmp_path / "openclip")
    convert_clip_model(tmp_path / "openclip", tmp_path / "out")
    ours, original = CLIPEngine(tmp_path / "out").tokenizer, transformers.CLIPTokenizer(*real_vocabulary())
    for text in [*TEXTS, *ODD]:
        assert ours([text]).ids[0].tolist() == original(text, truncation=True, max_length=24)["input_ids"], text


class TestRefused:
    @staticmethod
    def assert_refused(folder: Path, out: Path, says: str, convert: Any = convert_clip_model) -> None:
        with pytest.raises(ConversionError, match=says) as caught:
            convert(folder, out, verify=False)
        assert "\n" not in str(caught.value)
        assert not out.exists()

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"vision_cfg": {"timm_model_name": "convnext_base"}}, "the image tower 'convnext_base' of timm"),
            ({"vision_cfg": {"timm_model_name": "vit_base_patch16_siglip_gap_224"}}, "'vit_base_patch16_siglip_gap"),
            ({"vision_cfg": {"timm_model_name": "naflexvit_base_patch16_siglip"}}, "the image tower 'naflexvit_base"),
            ({"vision_cfg": {"layers": [3, 4, 6, 3]}}, "a ResNet as image tower"),
            ({"text_cfg": {"hf_model_name": "roberta-base"}}, "the text tower 'roberta-base' of Hugging Face"),
            ({"model_cfg": {"multimodal_cfg": {"width": 512}}}, "model_cfg sets multimodal_cfg to"),
            ({"vision_cfg": {"attentional_pool": True}}, "vision_cfg sets attentional_pool to True"),
            ({"vision_cfg": {"pool_type": "avg"}}, "vision_cfg sets pool_type to 'avg'"),
            ({"text_cfg": {"no_causal_mask": True}}, "text_cfg sets no_causal_mask to True"),
            ({"text_cfg": {"tokenizer_kwargs": {"strip_sep_token": True}}}, "tokenizer_kwargs to {'strip_sep_token'"),
            ({"preprocessing": {"resize_mode": "longest"}}, "preprocess_cfg resizes 'longest'"),
            ({"preprocessing": {"interpolation": "random"}}, "with 'random'"),
            ({"preprocessing": {"size": 64}}, "preprocess_cfg gives 64, the model takes 32"),
            ({"vision_cfg": {"head_width": 0}}, "lacks or garbles"),
            ({"model_cfg": {"text_cfg": None, "vision_cfg": {}}}, "no text_cfg in it"),
        ],
        ids=lambda value: "" if isinstance(value, str) else str(next(iter(value.values())))[:40],
    )
    def test_what_is_not_supported_is_named(self, settings: dict[str, Any], says: str, tmp_path: Path) -> None:
        folder = clip_folder(tmp_path / "openclip", **{k: v for k, v in settings.items() if k != "model_cfg"})
        path = folder / "open_clip_config.json"
        configuration = json.loads(path.read_text())
        configuration["model_cfg"] |= settings.get("model_cfg", {})
        path.write_text(json.dumps(configuration))
        self.assert_refused(folder, tmp_path / "out", says)

    def test_siglip_with_a_causal_mask(self, tmp_path: Path) -> None:
        folder = siglip_folder(tmp_path / "openclip", text_cfg={"no_causal_mask": False})
        self.assert_refused(folder, tmp_path / "out", "text_cfg does not set no_causal_mask", convert_siglip_model)

    def test_the_other_family(self, tmp_path: Path) -> None:
        folder = siglip_folder(tmp_path / "openclip")
        self.assert_refused(folder, tmp_path / "out", "'siglip', but a 'clip' checkpoint is needed")

    def test_no_tokenizer(self, tmp_path: Path) -> None:
        openclip_folder(tiny_siglip("gelu"), tmp_path / "siglip")
        says = "no tokenizer in it, and open_clip_config.json says 'timm/of-this-test', not CLIP's; save it there"
        self.assert_refused(tmp_path / "siglip", tmp_path / "out", says, convert_siglip_model)
        openclip_folder(clip_model(**EXACT), tmp_path / "clip", text_cfg={"hf_tokenizer_name": "bert-base-uncased"})
        self.assert_refused(tmp_path / "clip", tmp_path / "out", "no tokenizer in it.*'bert-base-uncased'")

    def test_a_missing_tensor(self, tmp_path: Path) -> None:
        folder = clip_folder(tmp_path / "openclip", as_bin=True)
        tensors = torch.load(folder / "open_clip_pytorch_model.bin")
        del tensors["visual.proj"]
        torch.save(tensors, folder / "open_clip_pytorch_model.bin")
        self.assert_refused(folder, tmp_path / "out", "tensor 'visual.proj' is missing")

    def test_a_pickle_with_code(self, tmp_path: Path) -> None:
        folder = clip_folder(tmp_path / "openclip")
        (folder / "open_clip_model.safetensors").unlink()
        torch.save({"model": Path("x")}, folder / "open_clip_pytorch_model.bin")
        self.assert_refused(folder, tmp_path / "out", "which could run code")


def test_a_hugging_face_checkpoint_beside_it_is_taken(tmp_path: Path) -> None:
    checkpoint = clip_checkpoint(tmp_path / "checkpoint")
    plain = convert_clip_model(checkpoint, tmp_path / "plain", verify=False)
    shutil.copy(clip_folder(tmp_path / "openclip") / "open_clip_config.json", checkpoint)
    assert convert_clip_model(checkpoint, tmp_path / "out", verify=False).digest == plain.digest
