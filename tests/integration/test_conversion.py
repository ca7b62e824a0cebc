"""Conversions of full-size models and real weights, as users run them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from transformers.utils import logging as transformers_logging

from arrowlens.conversion import convert_clip_model, convert_text_model, convert_whisper_model
from arrowlens.conversion.samples import pictures
from arrowlens.encoders import AudioEncoder, CLIPEngine, TextEncoder, VisionEncoder
from arrowlens.errors import ModelLoadError
from tests.support.checkpoints import TEXT_B, VIT_B16, WHISPER_BASE, clip_checkpoint, whisper_checkpoint
from tests.support.real_weights import minilm_directory


@pytest.fixture(scope="module")
def full_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_checkpoint(
        tmp_path_factory.mktemp("full") / "clip",
        VIT_B16,
        {**TEXT_B, "vocab_size": 49408, "max_position_embeddings": 77},
        projection_dim=512,
        legacy_eos=True,
    )


def test_minilm_s_real_weights(tmp_path: Path) -> None:
    report = convert_text_model(minilm_directory(), tmp_path / "text")
    assert report.minimum is not None
    assert report.minimum > 0.99999
    encoder = TextEncoder(tmp_path / "text")
    assert encoder.dimension == 384
    assert encoder.config.max_length == 256
    near, same, far = encoder.encode(["a cat on a sofa", "a kitten on the couch", "stock prices fell sharply"])
    assert near @ same > 0.5 > near @ far + 0.2


@pytest.mark.soak
def test_a_full_size_clip(full_clip: Path, tmp_path: Path) -> None:
    report = convert_clip_model(full_clip, tmp_path / "clip")
    assert report.minimum is not None
    assert report.average is not None
    assert report.average > 0.9999
    assert report.minimum > 0.999
    assert report.parameters == 149_620_737  # openai/clip-vit-base-patch16's
    assert report.ratio == pytest.approx(2.0, abs=0.01)
    engine = CLIPEngine(tmp_path / "clip", device="cpu")
    images = np.stack([engine.image_processor(picture) for picture in pictures()[:2]])
    assert engine.encode_image(images).shape == (2, 512)
    assert VisionEncoder(tmp_path / "clip", device="cpu").encode(images).shape == (2, 768)
    assert engine.encode_text(["a dog"]).shape == (1, 512)


@pytest.mark.soak
def test_a_full_size_whisper(tmp_path: Path) -> None:
    checkpoint = whisper_checkpoint(tmp_path / "checkpoint", "WhisperForConditionalGeneration", **WHISPER_BASE)
    report = convert_whisper_model(checkpoint, tmp_path / "audio")
    assert report.average is not None
    assert report.average > 0.9999
    assert AudioEncoder(tmp_path / "audio", device="cpu").dimension == 512


def test_conversion_leaves_the_process_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """No bars or reports of the reference library, and its settings are put back."""
    checkpoint = clip_checkpoint(tmp_path / "checkpoint")
    capsys.readouterr()
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    with caplog.at_level(logging.WARNING):
        convert_clip_model(checkpoint, tmp_path / "clip")
    assert capsys.readouterr() == ("", "")
    assert caplog.records == []
    assert (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()) == (verbosity, bars)


def test_a_change_after_installing_is_noticed(tmp_path: Path) -> None:
    convert_text_model(minilm_directory(), tmp_path / "text", verify=False)
    path = tmp_path / "text" / "tokenizer.json"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ModelLoadError, match=r"tokenizer.json: not the file the model was converted with"):
        TextEncoder(tmp_path / "text").encode("a text")
