"""CLAP checkpoints become model directories that compute what transformers computes, and others are refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from arrowlens.conversion import convert_clap_model
from arrowlens.encoders import AudioEncoder, ClapEncoder, TextEncoder, WeightLoader, model_info, swin, write_model
from arrowlens.encoders import clap as encoder_module
from arrowlens.errors import AudioValidationError, ConversionError, ModelLoadError, TextValidationError
from arrowlens.modalities import Windows
from tests.support.checkpoints import (
    TWENTY_LANGUAGES,
    clap_checkpoint,
    edit_config,
    mutated,
    relative_error,
)
from tests.support.reference import ClapReference, assert_agree, distinct_rows, sounds_at_48_khz

SOUNDS = sounds_at_48_khz()
SECOND = np.random.default_rng(0).normal(size=48_000).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # these models are so small that threads only wait for each other
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clap_checkpoint(tmp_path_factory.mktemp("checkpoints") / "clap")


@pytest.fixture(scope="module")
def directory(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("converted") / "clap"
    report = convert_clap_model(tiny, output, dtype="float32")
    assert [(kind.kind, kind.count) for kind in report.verified] == [("sounds", 6), ("texts", 9)]
    assert report.minimum is not None
    assert report.minimum > 0.99999
    assert report.notices == ()
    return output


@pytest.fixture(scope="module")
def reference(tiny: Path) -> ClapReference:
    return ClapReference(transformers.ClapModel.from_pretrained(tiny))


@pytest.fixture(scope="module")
def of_sounds(reference: ClapReference) -> np.ndarray:
    vectors = reference.sounds(SOUNDS)
    distinct_rows(vectors)
    return vectors


@pytest.fixture(scope="module")
def of_texts(reference: ClapReference, directory: Path) -> np.ndarray:
    tokens = ClapEncoder(directory, "cpu", "float32").tokenizer(TWENTY_LANGUAGES)
    vectors = reference.texts(tokens.ids, tokens.mask)
    distinct_rows(vectors)
    return vectors


@pytest.fixture
def encoder(directory: Path) -> ClapEncoder:
    return ClapEncoder(directory, "cpu", "float32")


class TestVectors:
    def test_of_sounds_are_the_reference_s(self, encoder: ClapEncoder, of_sounds: np.ndarray) -> None:
        assert_agree(encoder.encode(SOUNDS), of_sounds)

    def test_of_texts_are_the_reference_s(self, encoder: ClapEncoder, of_texts: np.ndarray) -> None:
        assert_agree(encoder.encode_text(TWENTY_LANGUAGES), of_texts)

    def test_do_not_depend_on_the_batch(self, encoder: ClapEncoder) -> None:
        many = [*SOUNDS, *SOUNDS[::-1]]  # more than are encoded together
        alone = np.concatenate([encoder.encode(sound) for sound in SOUNDS])
        np.testing.assert_allclose(encoder.encode(many), [*alone, *alone[::-1]], atol=1e-6)
        texts = np.concatenate([encoder.encode_text([text]) for text in TWENTY_LANGUAGES])
        np.testing.assert_allclose(encoder.encode_text(TWENTY_LANGUAGES), texts, atol=1e-6)

    def test_are_of_length_one_unless_told_otherwise(self, encoder: ClapEncoder) -> None:
        unit, raw = encoder.encode(SECOND), encoder.encode(SECOND, normalize=False)
        assert unit.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
        assert abs(np.linalg.norm(raw) - 1) > 0.01
        np.testing.assert_allclose(unit, raw / np.linalg.norm(raw), atol=1e-6)

    def test_of_a_padding_token_that_a_text_spells_out(self, encoder: ClapEncoder, reference: ClapReference) -> None:
        tokens = encoder.tokenizer(["rain <pad> on a roof"])
        assert encoder.text_config.pad_token_id in tokens.ids
        ours, theirs = encoder.encode_text(["rain <pad> on a roof"]), reference.texts(tokens.ids, tokens.mask)
        assert (ours * theirs).sum() > 0.99999

    @pytest.mark.parametrize("padding", ["repeat", "pad"])
    def test_with_another_padding(
        self, tiny: Path, tmp_path: Path, reference: ClapReference, of_sounds: np.ndarray, padding: str
    ) -> None:
        checkpoint = with_preprocessor(tiny, tmp_path / "c", padding=padding)
        convert_clap_model(checkpoint, tmp_path / "out", dtype="float32", verify=False)
        other = ClapReference(reference.model)
        other.extractor.padding = padding
        expected = other.sounds(SOUNDS)
        assert relative_error(expected, of_sounds) > 0.01
        assert_agree(ClapEncoder(tmp_path / "out", "cpu", "float32").encode(SOUNDS), expected)


def test_log_mel_is_the_feature_extractor_s(encoder: ClapEncoder, reference: ClapReference) -> None:
    processor = encoder.mel_processor
    filled = torch.stack([processor.filled(torch.from_numpy(sound)) for sound in SOUNDS])
    found, expected = processor.log_mel(filled).numpy(), reference.log_mel(SOUNDS)
    assert found.shape == (len(SOUNDS), 1001, 64)
    assert expected.min() == -100  # the floor is reached
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_tokens_are_the_original_tokenizer_s(encoder: ClapEncoder, tiny: Path) -> None:
    texts = [*TWENTY_LANGUAGES, "", " two  spaces ", "a\nnew line", "word " * 100]
    original = transformers.AutoTokenizer.from_pretrained(tiny)
    expected = original(texts, truncation=True, max_length=encoder.text_config.max_length)["input_ids"]
    tokens = encoder.tokenizer(texts)
    assert [row[mask].tolist() for row, mask in zip(tokens.ids, tokens.mask, strict=True)] == expected
    assert max(len(ids) for ids in expected) == encoder.text_config.max_length == 64
    assert len({len(ids) for ids in expected}) > 5


class TestMistakesShow:
    """Each mistake that is easy to make in a CLAP moves the vectors beyond the bound."""

    def moved(self, encoder: ClapEncoder, expected: np.ndarray) -> float:
        return relative_error(encoder.encode(SOUNDS), expected)

    def test_none_at_all(self, encoder: ClapEncoder, of_sounds: np.ndarray) -> None:
        assert self.moved(encoder, of_sounds) < 1e-4

    def test_no_relative_position_bias(self, tiny: Path, tmp_path: Path, of_sounds: np.ndarray) -> None:
        def change(tensors: dict[str, torch.Tensor]) -> None:
            for name, tensor in tensors.items():
                if name.endswith("relative_position_bias_table"):
                    tensor.zero_()

        broken = mutated(tiny, tmp_path / "broken", change)
        convert_clap_model(broken, tmp_path / "out", dtype="float32", verify=False)
        assert self.moved(ClapEncoder(tmp_path / "out", "cpu", "float32"), of_sounds) > 0.01

    def test_windows_that_do_not_shift(
        self, directory: Path, of_sounds: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = swin.WindowAttention

        def unshifted(*args: Any, shift: int, **options: Any) -> swin.WindowAttention:
            return original(*args, shift=0, **options)

        monkeypatch.setattr(swin, "WindowAttention", unshifted)
        assert self.moved(ClapEncoder(directory, "cpu", "float32"), of_sounds) > 0.01

    def test_edges_that_see_each_other(
        self, directory: Path, of_sounds: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(swin, "shifted_regions", lambda grid, *_: torch.zeros(grid, grid, dtype=torch.int64))
        assert self.moved(ClapEncoder(directory, "cpu", "float32"), of_sounds) > 0.01

    def test_filters_of_htk(self, encoder: ClapEncoder, reference: ClapReference, of_sounds: np.ndarray) -> None:
        encoder.mel_processor._filters = torch.from_numpy(reference.extractor.mel_filters.T.copy())
        assert self.moved(encoder, of_sounds) > 0.01

    def test_another_floor(self, encoder: ClapEncoder, of_sounds: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(encoder_module, "FLOOR", 1e-8)
        assert self.moved(encoder, of_sounds) > 0.01

    def test_silence_for_repetition(self, encoder: ClapEncoder, of_sounds: np.ndarray) -> None:
        encoder.mel_processor.config = dataclasses.replace(encoder.config, padding="pad")
        assert self.moved(encoder, of_sounds) > 0.01

    def test_padding_that_texts_attend_to(self, encoder: ClapEncoder, of_texts: np.ndarray) -> None:
        tower = encoder.text_tower.forward
        encoder.text_tower.forward = lambda ids, mask: tower(ids, torch.ones_like(mask))  # type: ignore[method-assign]
        assert relative_error(encoder.encode_text(TWENTY_LANGUAGES), of_texts) > 0.01

    def test_positions_from_zero(self, encoder: ClapEncoder, of_texts: np.ndarray) -> None:
        encoder.text_tower.pad_token_id = 0
        assert relative_error(encoder.encode_text(TWENTY_LANGUAGES), of_texts) > 0.01


class TestDirectory:
    def test_says_what_the_model_is(self, directory: Path) -> None:
        info = model_info(directory)
        assert (info.family, info.dimension, info.pooling_layer, info.space) == ("clap", 16, None, None)
        assert info.recipe.sample_rate == 48_000
        assert info.recipe.windows == Windows(10.0, 5.0, is_maximum=True)
        assert info.dimensions["audio"]["depths"] == [2, 2]

    @pytest.mark.parametrize(("dtype", "bound"), [("float16", 0.9999), ("bfloat16", 0.999)])
    def test_stored_in_half(self, tiny: Path, tmp_path: Path, dtype: str, bound: float) -> None:
        report = convert_clap_model(tiny, tmp_path / "out", dtype=dtype)
        assert report.minimum is not None
        assert report.minimum > bound
        tensors = WeightLoader(tmp_path / "out").load_weights()
        whole = {name for name, tensor in tensors.items() if tensor.dtype == torch.float32}
        assert whole == {"mel_filters", "mel_norm.weight", "mel_norm.bias"}

    def test_is_the_same_from_a_pickle_of_tensors(self, directory: Path, tmp_path: Path) -> None:
        checkpoint = clap_checkpoint(tmp_path / "c", as_bin=True)
        convert_clap_model(checkpoint, tmp_path / "out", dtype="float32", verify=False)
        assert model_info(tmp_path / "out").digest == model_info(directory).digest

    def test_is_refused_by_encoders_of_other_families(self, directory: Path) -> None:
        for other in (AudioEncoder, TextEncoder):
            with pytest.raises(ModelLoadError, match="holds a clap model, but"):
                other(directory)

    def test_an_htsat_base_is_converted_with_a_notice(self, tmp_path: Path) -> None:
        audio = {"patch_embeds_hidden_size": 128, "hidden_size": 256, "depths": [1, 1], "num_attention_heads": [4, 8]}
        report = convert_clap_model(clap_checkpoint(tmp_path / "c", audio), tmp_path / "out", verify=False)
        assert report.notices == (
            "an HTSAT-base model: by published figures words find less than with laion/clap-htsat-unfused",
        )
        assert f"Note: {report.notices[0]}" in report.lines()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"window_size": 7}, "window_size 7"),
        ({"image_size": 250}, "image_size 250 is no multiple of n_mels"),
        ({"patch_size": 3}, "patch_size 3 give a grid of"),
    ],
    ids=str,
)
def test_a_header_that_does_not_fit_is_refused(
    encoder: ClapEncoder, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    loader = encoder._loader
    files = {name: loader.read_file(name) for name in loader.info.files}
    dimensions = loader.info.dimensions | {"audio": loader.info.dimensions["audio"] | changes}
    write_model(tmp_path, loader.load_weights(), family="clap", dimensions=dimensions, source="x", files=files)
    with pytest.raises(
        ModelLoadError, match=rf"weights\.arrow: the header's dimensions do not fit \(.*{says}.*; "
    ) as caught:
        ClapEncoder(tmp_path)
    assert "\n" not in str(caught.value)


class TestInputs:
    @pytest.mark.parametrize(
        ("audio", "options", "says"),
        [
            (
                SECOND,
                {"sample_rate": 16_000},
                "audio must be at 48000 Hz, got 16000 Hz; use AudioProcessor.resample(audio, 16000, 48000)",
            ),
            (np.zeros(480_001, np.float32), {}, "audio is too long: 10.00002 s, at most 10 s; cut it"),
            (SECOND, {"layer": 2}, "layer 2 is not there; CLAP's vectors come from the last one: use None"),
            (SECOND, {"context": "whole"}, "context 'whole' is unknown; use one of padded, own"),
            ([], {}, "no audio given (an empty list)"),
            (SECOND.astype(np.float64), {}, "audio must be float32, got float64; scale to [-1, 1] and convert"),
        ],
    )
    def test_that_are_refused(self, encoder: ClapEncoder, audio: Any, options: dict[str, Any], says: str) -> None:
        with pytest.raises(AudioValidationError) as caught:
            encoder.encode(audio, **options)
        assert str(caught.value) == says

    def test_of_one_sample_and_of_ten_seconds(self, encoder: ClapEncoder) -> None:
        vectors = encoder.encode([np.full(1, 0.5, np.float32), np.tile(SECOND, 10)], sample_rate=48_000)
        assert vectors.shape == (2, 16)

    def test_no_texts(self, encoder: ClapEncoder) -> None:
        with pytest.raises(TextValidationError, match="want a list of one or more texts"):
            encoder.encode_text([])

    def test_whisper_refuses_another_rate_too(self, tmp_path: Path) -> None:
        from arrowlens.models import DEMO

        with pytest.raises(AudioValidationError, match="audio must be at 16000 Hz, got 48000 Hz"):
            AudioEncoder(DEMO / "audio").encode(SECOND, sample_rate=48_000)


def with_preprocessor(original: Path, copy: Path, **changes: Any) -> Path:
    path = Path(shutil.copytree(original, copy)) / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return copy


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"_name_or_path": "laion/larger_clap_music_and_speech"}, "nearly one vector for all texts"),
            ({"audio_config__enable_fusion": True}, "enable_fusion in config.json mixes parts of a long recording"),
            ({"audio_config__qkv_bias": False}, "qkv_bias False in config.json is not supported"),
            ({"audio_config__patch_stride": [8, 8]}, r"patch_stride \[8, 8\] in config.json is not supported"),
            ({"audio_config__num_attention_heads": [2, 2]}, r"num_attention_heads \[2, 2\] in config.json"),
            ({"audio_config__window_size": 6}, "window_size 6 in config.json is not supported"),
            ({"audio_config__mlp_ratio": 2.5}, "mlp_ratio 2.5 in config.json is not supported"),
            ({"projection_hidden_act": "gelu"}, "projection_hidden_act 'gelu' in config.json is not supported"),
            ({"audio_config__hidden_act": "silu"}, "activation 'silu' is not supported"),
            ({"text_config__vocab_size": 300}, "the tokenizer has ids up to"),
            (
                {"text_config__num_hidden_layers": 3},
                "tensor 'text.encoder.layer.2.attention.self.query.weight' is",
            ),
            ({"model_type": "whisper"}, "model_type 'whisper', but a 'clap' checkpoint is needed"),
        ],
        ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
    )
    def test_a_config(self, tiny: Path, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
        checkpoint = edit_config(Path(shutil.copytree(tiny, tmp_path / "copy")), **changes)
        with pytest.raises(ConversionError, match=says):
            convert_clap_model(checkpoint, tmp_path / "out", verify=False)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        "changes",
        [
            {"truncation": "fusion"},
            {"sampling_rate": 44_100},
            {"max_length_s": 5},
            {"padding": "mirror"},
            {"top_db": 80},
            {"hop_length": 320},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_other_spectra(self, tiny: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
        checkpoint = with_preprocessor(tiny, tmp_path / "copy", **changes)
        with pytest.raises(ConversionError, match=rf"{next(iter(changes))} .+ in preprocessor_config.json; it must be"):
            convert_clap_model(checkpoint, tmp_path / "out", verify=False)

    def test_a_folder_of_a_collapsed_model(self, tiny: Path, tmp_path: Path) -> None:
        checkpoint = Path(shutil.copytree(tiny, tmp_path / "larger_clap_music"))
        with pytest.raises(ConversionError, match="nearly one vector for all texts"):
            convert_clap_model(checkpoint, tmp_path / "out", verify=False)

    @pytest.mark.parametrize("name", ["preprocessor_config.json", "tokenizer.json"])
    def test_a_folder_without_a_file(self, tiny: Path, tmp_path: Path, name: str) -> None:
        checkpoint = Path(shutil.copytree(tiny, tmp_path / "copy"))
        (checkpoint / name).unlink()
        with pytest.raises(ConversionError, match=name):
            convert_clap_model(checkpoint, tmp_path / "out", verify=False)

    @pytest.mark.parametrize(
        "name", ["audio_model.audio_encoder.batch_norm.running_var", "text_model.pooler.dense.weight"]
    )
    def test_a_missing_tensor_is_named(self, tiny: Path, tmp_path: Path, name: str) -> None:
        checkpoint = mutated(tiny, tmp_path / "broken", lambda tensors: tensors.__delitem__(name))
        short = name.removeprefix("audio_model.audio_encoder.").removeprefix("text_model.")
        with pytest.raises(ConversionError, match=rf"tensor '\w+\.{short}' is missing"):
            convert_clap_model(checkpoint, tmp_path / "out", verify=False)
