"""CLIP checkpoints of every shape become model directories that compute what transformers computes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from arrowlens.conversion import ConversionReport, clip, convert_clip_model
from arrowlens.conversion.checkpoint import Checkpoint
from arrowlens.conversion.convert import verify_vectors
from arrowlens.encoders import CLIPEngine, ImageProcessor, WeightLoader, model_info
from arrowlens.errors import ConversionError, QualityError
from tests.support.checkpoints import clip_checkpoint, clip_model, edit_config, mutated, mutual_cosine, relative_error

Tensors = dict[str, torch.Tensor]
ATTENTION = "{tower}_model.encoder.layers.{layer}.self_attn.{part}_proj.{p}"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # these models are so small that threads only wait for each other
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_checkpoint(tmp_path_factory.mktemp("checkpoints") / "clip")


def assert_same_as_original(checkpoint: Path, directory: Path) -> None:
    """The bounds of float32: the same numbers, not just the same direction."""
    for vectors in clip.compare(Checkpoint(checkpoint, "test"), CLIPEngine(directory, "cpu", "float32")):
        verified = verify_vectors(vectors, "test")
        assert mutual_cosine(vectors.reference) < 0.9, "inputs too alike for the comparison to mean anything"
        assert relative_error(vectors.ours, vectors.reference) < 1e-3
        assert verified.minimum > 0.99999


SHAPES: dict[str, dict[str, Any]] = {
    "a 14-pixel patch": {"vision": {"image_size": 56, "patch_size": 14}},
    "a picture that patches do not fill": {"vision": {"image_size": 50, "patch_size": 16}},
    "one patch": {"vision": {"image_size": 32, "patch_size": 32}},
    "depth and width of their own": {
        "vision": {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 80},
        "text": {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 40},
    },
    "a text tower 384 wide": {"text": {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 512}},
    "plain gelu": {"vision": {"hidden_act": "gelu"}, "text": {"hidden_act": "gelu"}},
    "one of each activation": {"vision": {"hidden_act": "quick_gelu"}, "text": {"hidden_act": "relu"}},
    "an epsilon of its own": {"vision": {"layer_norm_eps": 1e-3}, "text": {"layer_norm_eps": 1e-2}},
    "a short context": {"text": {"max_position_embeddings": 9}},
    "a wide projection": {"projection_dim": 96},
    "pooling at the largest id": {"legacy_eos": True},
    "no tokenizer.json": {"tokenizer": "vocabulary"},
    "CLIP's own vocabulary": {"tokenizer": "real", "legacy_eos": True},
    "shards": {"shard_bytes": 60_000},
    "a pickle of tensors": {"as_bin": True},
}


def test_a_seed_makes_one_checkpoint() -> None:
    one, other = (clip_model(seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES.keys())
def test_computes_what_the_original_does(options: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = clip_checkpoint(tmp_path / "checkpoint", **options)
    convert_clip_model(checkpoint, tmp_path / "out", dtype="float32")
    assert_same_as_original(checkpoint, tmp_path / "out")


@pytest.mark.parametrize("prefix", ["", "clip."])
def test_names_inside_another_model(tiny: Path, tmp_path: Path, prefix: str) -> None:
    def inside(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[prefix + name] = tensors.pop(name)
        tensors[prefix + "vision_model.embeddings.position_ids"] = torch.arange(17)  # old checkpoints hold them

    checkpoint = mutated(tiny, tmp_path / "inside", inside)
    plain = convert_clip_model(tiny, tmp_path / "plain", verify=False)
    assert convert_clip_model(checkpoint, tmp_path / "out").digest == plain.digest


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 0.999999), ("float16", 0.99999), ("bfloat16", 0.999)])
def test_report_of_each_type(tiny: Path, tmp_path: Path, dtype: str, bound: float) -> None:
    report = convert_clip_model(tiny, tmp_path / "out", dtype=dtype)
    assert [(kind.kind, kind.count) for kind in report.verified] == [("pictures", 8), ("texts", 9)]
    assert report.average is not None
    assert report.minimum is not None
    assert bound < report.minimum <= report.average <= 1.0 + 1e-9
    assert report.original_bytes == sum(t.nbytes for t in _tensors(tiny).values())
    assert report.converted_bytes == (tmp_path / "out" / "weights.arrow").stat().st_size
    assert report.ratio == pytest.approx(report.original_bytes / report.converted_bytes)
    lines = "\n".join(report.lines())
    assert f"Compression ratio: {report.ratio:.2f}x" in lines
    assert f"{report.minimum:.6f} at least" in lines
    assert report.digest == model_info(tmp_path / "out").digest
    assert report.parameters == sum(t.numel() for t in _tensors(tiny).values())


def test_stored_types_and_the_logit_scale(tiny: Path, tmp_path: Path) -> None:
    convert_clip_model(tiny, tmp_path / "out", verify=False)
    tensors = WeightLoader(tmp_path / "out").load_weights()
    assert tensors.pop("logit_scale").dtype == torch.float32
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    scale = float(_tensors(tiny)["logit_scale"].exp())
    assert CLIPEngine(tmp_path / "out").logit_scale == pytest.approx(scale, rel=1e-6)


def test_queries_keys_and_values_are_packed_in_that_order(tiny: Path, tmp_path: Path) -> None:
    convert_clip_model(tiny, tmp_path / "out", dtype="float32", verify=False)
    packed = WeightLoader(tmp_path / "out").tensor("text.transformer.layers.1.attention.qkv.weight")
    original = _tensors(tiny)
    for part, rows in zip("qkv", packed.split(32), strict=True):
        assert torch.equal(rows, original[ATTENTION.format(tower="text", layer=1, part=part, p="weight")])


def test_parquet_for_exchange(tiny: Path, tmp_path: Path) -> None:
    as_arrow = convert_clip_model(tiny, tmp_path / "arrow", verify=False)
    as_parquet = convert_clip_model(tiny, tmp_path / "parquet", format="parquet")
    assert as_parquet.digest == as_arrow.digest
    assert sorted(path.name for path in (tmp_path / "parquet").iterdir()) == [
        "config.json",
        "preprocessor.json",
        "tokenizer.json",
        "weights.parquet",
    ]


def test_the_seed_s_defaults() -> None:
    defaults = convert_clip_model.__defaults__
    assert defaults == ("openai/clip-vit-base-patch16", "./models/clip")


def test_a_shared_space_is_kept(tiny: Path, tmp_path: Path) -> None:
    named = edit_config(_copy(tiny, tmp_path), arrowlens_space="pairs")
    convert_clip_model(named, tmp_path / "out", verify=False)
    assert model_info(tmp_path / "out").space == "pairs"
    convert_clip_model(tiny, tmp_path / "plain", verify=False)
    assert model_info(tmp_path / "plain").space is None
    assert model_info(tmp_path / "plain").digest != model_info(tmp_path / "out").digest


def test_source_says_nothing_about_this_machine(tiny: Path, tmp_path: Path) -> None:
    convert_clip_model(tiny, tmp_path / "out", verify=False)
    assert model_info(tmp_path / "out").source == "clip"
    for name in ("config.json", "preprocessor.json"):
        assert str(tiny.parent) not in (tmp_path / "out" / name).read_text()
    assert str(tiny.parent).encode() not in (tmp_path / "out" / "weights.arrow").read_bytes()


class TestMistakesShow:
    """What would go wrong in a conversion is put into a copy of the checkpoint; the original does not agree with it."""

    @staticmethod
    def convert(broken: Path, original: Path, out: Path) -> list[float]:
        """The largest relative errors for pictures and texts, after verification has let them pass."""
        convert_clip_model(broken, out, dtype="float32", verify=False)
        errors = []
        for vectors in clip.compare(Checkpoint(original, "original"), CLIPEngine(out, "cpu", "float32")):
            verify_vectors(vectors, "original")
            errors.append(relative_error(vectors.ours, vectors.reference))
        return errors

    def test_none_at_all(self, tiny: Path, tmp_path: Path) -> None:
        assert max(self.convert(tiny, tiny, tmp_path / "out")) < 1e-3

    @pytest.mark.parametrize(
        "changes",
        [
            {"vision_config__hidden_act": "gelu"},
            {"text_config__hidden_act": "gelu"},
            {"vision_config__layer_norm_eps": 1e-3},
            {"text_config__layer_norm_eps": 1e-3},
        ],
        ids=["activation of pictures", "activation of texts", "epsilon of pictures", "epsilon of texts"],
    )
    def test_subtle_ones_exceed_the_bound(self, tiny: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
        assert max(self.convert(edit_config(_copy(tiny, tmp_path), **changes), tiny, tmp_path / "out")) > 3e-3

    @pytest.mark.parametrize("tower", ["vision", "text"])
    def test_queries_for_keys(self, tiny: Path, tmp_path: Path, tower: str) -> None:
        def swap(tensors: Tensors) -> None:
            for p in ("weight", "bias"):
                q, k = (ATTENTION.format(tower=tower, layer=0, part=part, p=p) for part in "qk")
                tensors[q], tensors[k] = tensors[k], tensors[q]

        self.assert_refused(swap, tiny, tmp_path)

    @pytest.mark.parametrize("tower", ["vision", "text"])
    def test_no_positions(self, tiny: Path, tmp_path: Path, tower: str) -> None:
        def drop(tensors: Tensors) -> None:
            tensors[f"{tower}_model.embeddings.position_embedding.weight"].zero_()

        self.assert_refused(drop, tiny, tmp_path)

    def test_blue_for_red(self, tiny: Path, tmp_path: Path) -> None:
        def swap(tensors: Tensors) -> None:
            name = "vision_model.embeddings.patch_embedding.weight"
            tensors[name] = tensors[name].flip(1)

        self.assert_refused(swap, tiny, tmp_path)

    def test_other_heads(self, tiny: Path, tmp_path: Path) -> None:
        broken = edit_config(_copy(tiny, tmp_path), vision_config__num_attention_heads=4)
        with pytest.raises(QualityError, match=r"average cosine 0\.\d{4} against the reference is not above 0.95"):
            self.convert(broken, tiny, tmp_path / "out")

    def assert_refused(self, change: Callable[[Tensors], None], tiny: Path, tmp_path: Path) -> None:
        broken = mutated(tiny, tmp_path / "broken", change)
        with pytest.raises(QualityError, match=r"average cosine -?0\.\d{4} against the reference is not above 0.95"):
            self.convert(broken, tiny, tmp_path / "out")


class TestRefused:
    @staticmethod
    def convert(checkpoint: Path, out: Path) -> ConversionReport:
        try:
            return convert_clip_model(checkpoint, out, verify=False)
        finally:
            assert not out.exists()

    @pytest.mark.parametrize(
        "name",
        [
            "logit_scale",
            "visual_projection.weight",
            "text_model.embeddings.position_embedding.weight",
            "vision_model.encoder.layers.1.self_attn.k_proj.bias",
        ],
    )
    def test_a_missing_tensor_is_named(self, tiny: Path, tmp_path: Path, name: str) -> None:
        checkpoint = mutated(tiny, tmp_path / "broken", lambda tensors: tensors.__delitem__(name))
        with pytest.raises(ConversionError, match=f"tensor '{name}' is missing"):
            self.convert(checkpoint, tmp_path / "out")

    def test_an_unknown_tensor_is_named(self, tiny: Path, tmp_path: Path) -> None:
        checkpoint = mutated(tiny, tmp_path / "broken", lambda tensors: tensors.update(adapter=torch.ones(2)))
        with pytest.raises(ConversionError, match="tensor 'adapter' has no place"):
            self.convert(checkpoint, tmp_path / "out")

    def test_more_layers_than_config_says(self, tiny: Path, tmp_path: Path) -> None:
        checkpoint = edit_config(_copy(tiny, tmp_path), text_config__num_hidden_layers=1)
        with pytest.raises(ConversionError, match=r"tensor 'text_model.encoder.layers.1.\S+' and 15 more"):
            self.convert(checkpoint, tmp_path / "out")

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"text_config__max_position_embeddings": 77}, r"'text.position_embedding' has shape \(24, 32\)"),
            ({"text_config__intermediate_size": 65}, r"mlp.fc1.weight' has shape \(64, 32\).*\(65, 32\)"),
            ({"vision_config__image_size": 64}, "preprocessor_config.json resizes to"),
            ({"vision_config__patch_size": 16}, r"'vision.position_embedding' has shape \(17, 32\).*\(5, 32\)"),
            ({"projection_dim": 512}, r"'visual_projection.weight' has shape \(16, 32\)"),
            ({"vision_config__hidden_act": "gelu_new"}, "activation 'gelu_new' is not supported"),
            ({"vision_config__num_channels": 1}, "pictures of 1 channels"),
            ({"vision_config__image_size": [32, 64]}, r"size \[32, 64\] is not square"),
            ({"vision_config__num_attention_heads": 3}, "heads"),
            ({"vision_config__hidden_size": "wide"}, "config.json cannot be read"),
            ({"text_config__vocab_size": 300}, "the tokenizer has ids up to 5[0-9]{2}, but vocab_size .* is 300"),
            ({"text_config__eos_token_id": 7}, "config.json pools at token 7, but the tokenizer ends texts with"),
            ({"model_type": "siglip"}, "model_type 'siglip', but a 'clip' checkpoint is needed"),
            ({"arrowlens_space": 3}, "arrowlens_space 3"),
        ],
        ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
    )
    def test_a_config_that_does_not_fit(self, tiny: Path, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
        with pytest.raises(ConversionError, match=says) as caught:
            self.convert(edit_config(_copy(tiny, tmp_path), **changes), tmp_path / "out")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"do_center_crop": False}, "turns do_center_crop off"),
            ({"resample": 1}, "resamples with 1"),
            ({"rescale_factor": 1.0}, "scales by 1.0"),
            ({"size": {"height": 32, "width": 32}}, "resizes to"),  # squeezes the picture instead of cropping it
            ({"size": {"shortest_edge": 40}}, "resizes to"),
            ({"crop_size": {"height": 32, "width": 16}}, "crops to"),
        ],
        ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
    )
    def test_preprocessing_that_is_not_ours(
        self, tiny: Path, tmp_path: Path, changes: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(ConversionError, match=says):
            self.convert(_preprocessing(tiny, tmp_path, **changes), tmp_path / "out")

    def test_no_tokenizer(self, tiny: Path, tmp_path: Path) -> None:
        checkpoint = _copy(tiny, tmp_path)
        (checkpoint / "tokenizer.json").unlink()
        with pytest.raises(ConversionError, match=r"neither tokenizer.json nor vocab.json"):
            self.convert(checkpoint, tmp_path / "out")

    def test_a_garbled_tokenizer(self, tiny: Path, tmp_path: Path) -> None:
        checkpoint = _copy(tiny, tmp_path)
        (checkpoint / "tokenizer.json").write_text('{"version": "1.0"}')
        with pytest.raises(ConversionError, match=r"tokenizer.json cannot be read"):
            self.convert(checkpoint, tmp_path / "out")

    @pytest.mark.parametrize(("value", "says"), [(1e5, "too large for float16.*bfloat16"), (float("nan"), "NaN")])
    def test_numbers_that_do_not_fit(self, tiny: Path, tmp_path: Path, value: float, says: str) -> None:
        def spoil(tensors: Tensors) -> None:
            tensors["vision_model.post_layernorm.bias"][3] = value

        with pytest.raises(ConversionError, match=f"tensor 'vision_model.post_layernorm.bias' .*{says}"):
            self.convert(mutated(tiny, tmp_path / "broken", spoil), tmp_path / "out")

    @pytest.mark.parametrize("options", [{"dtype": "int8"}, {"format": "pickle"}])
    def test_unknown_options(self, tiny: Path, tmp_path: Path, options: dict[str, Any]) -> None:
        with pytest.raises(ConversionError, match="must be one of float16, bfloat16, float32"):
            convert_clip_model(tiny, tmp_path / "out", **options)


class TestPreprocessing:
    def test_its_own_mean_and_filter(self, tiny: Path, tmp_path: Path) -> None:
        mean, std = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
        checkpoint = _preprocessing(tiny, tmp_path, image_mean=mean, image_std=std, resample=2)
        convert_clip_model(checkpoint, tmp_path / "out", dtype="float32")
        processor = ImageProcessor.from_pretrained(tmp_path / "out")
        assert (list(processor.mean), list(processor.std), processor.resample) == (mean, std, "bilinear")
        assert_same_as_original(checkpoint, tmp_path / "out")

    @pytest.mark.parametrize("changes", [{"size": 32, "crop_size": 32}, None], ids=["old numbers", "no file"])
    def test_old_and_missing_files(self, tiny: Path, tmp_path: Path, changes: dict[str, Any] | None) -> None:
        checkpoint = _preprocessing(tiny, tmp_path, **(changes or {}))
        if changes is None:
            (checkpoint / "preprocessor_config.json").unlink()
        convert_clip_model(checkpoint, tmp_path / "out", dtype="float32")
        assert_same_as_original(checkpoint, tmp_path / "out")


def _copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def _preprocessing(checkpoint: Path, tmp_path: Path, **changes: Any) -> Path:
    copy = _copy(checkpoint, tmp_path)
    path = copy / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return copy


def _tensors(checkpoint: Path) -> Tensors:
    return {name: tensor.load() for name, tensor in Checkpoint(checkpoint, "test").tensors()}
