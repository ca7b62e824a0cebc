"""Preprocessing is read from both files that transformers writes: the flat one, and transformers 5's nested one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from arrowlens.conversion import (
    convert_clap_model,
    convert_clip_model,
    convert_siglip_model,
    convert_whisper_model,
)
from arrowlens.conversion.checkpoint import Checkpoint
from arrowlens.conversion.hub import SMALL_FILES
from arrowlens.conversion.preprocessing import preprocessing_config
from arrowlens.encoders import ImageProcessor, model_info
from arrowlens.errors import ConversionError
from tests.support.checkpoints import clap_checkpoint, clip_checkpoint, whisper_checkpoint
from tests.support.siglip import siglip_checkpoint

FLAT, NESTED = "preprocessor_config.json", "processor_config.json"
MEAN, BILINEAR = [0.1, 0.2, 0.3], 2


def nest(checkpoint: Path, part: str, **changes: Any) -> None:
    """Put the settings where transformers 5 writes them with a whole processor."""
    settings = json.loads((checkpoint / FLAT).read_text()) | changes
    (checkpoint / NESTED).write_text(json.dumps({part: settings, "processor_class": "AProcessor"}))
    (checkpoint / FLAT).unlink()


@pytest.mark.parametrize(
    ("make", "convert"), [(clip_checkpoint, convert_clip_model), (siglip_checkpoint, convert_siglip_model)]
)
def test_nested_settings_of_pictures_are_read(
    make: Callable[..., Path], convert: Callable[..., Any], tmp_path: Path
) -> None:
    checkpoint = make(tmp_path / "checkpoint")
    nest(checkpoint, "image_processor", image_mean=MEAN, resample=BILINEAR)
    report = convert(checkpoint, tmp_path / "out", dtype="float32")
    processor = ImageProcessor.from_pretrained(tmp_path / "out")
    assert (list(processor.mean), processor.resample) == (MEAN, "bilinear")
    assert report.minimum > 0.9999


def test_nested_settings_of_recordings_are_read(tmp_path: Path) -> None:
    clap = clap_checkpoint(tmp_path / "clap")
    nest(clap, "feature_extractor", padding="pad")
    assert convert_clap_model(clap, tmp_path / "out", dtype="float32").minimum > 0.9999  # type: ignore[operator]
    assert model_info(tmp_path / "out").dimensions["audio"]["padding"] == "pad"
    whisper = whisper_checkpoint(tmp_path / "whisper")
    nest(whisper, "feature_extractor", hop_length=320)
    with pytest.raises(ConversionError, match=f"hop_length 320 in {NESTED}; it must be 160"):
        convert_whisper_model(whisper, tmp_path / "whisper-out")


def test_a_processor_that_transformers_saves_is_read(tmp_path: Path) -> None:
    checkpoint = clap_checkpoint(tmp_path / "checkpoint")
    extractor = transformers.ClapFeatureExtractor.from_pretrained(checkpoint)
    whole = transformers.ClapProcessor(extractor, transformers.AutoTokenizer.from_pretrained(checkpoint))
    (checkpoint / FLAT).unlink()
    whole.save_pretrained(checkpoint)
    values = preprocessing_config(Checkpoint(checkpoint, "test")).values
    assert values is not None
    assert values["sampling_rate"] == 48_000
    convert_clap_model(checkpoint, tmp_path / "out", verify=False)


def test_where_both_are_there_it_is_what_transformers_reads(tmp_path: Path) -> None:
    checkpoint = clip_checkpoint(tmp_path / "checkpoint")
    flat = (checkpoint / FLAT).read_bytes()
    nest(checkpoint, "image_processor", image_mean=MEAN)
    (checkpoint / FLAT).write_bytes(flat)
    values = preprocessing_config(Checkpoint(checkpoint, "test")).values
    assert values is not None
    original = transformers.CLIPImageProcessorPil.from_pretrained(checkpoint)
    assert values["image_mean"] == list(original.image_mean) == MEAN
    (checkpoint / NESTED).write_text('{"processor_class": "CLIPProcessor"}')  # as transformers 4 wrote it
    assert preprocessing_config(Checkpoint(checkpoint, "test")) == (FLAT, json.loads(flat))


def test_siglip_without_either_is_refused_with_the_cure(tmp_path: Path) -> None:
    checkpoint = siglip_checkpoint(tmp_path / "checkpoint")
    (checkpoint / FLAT).unlink()
    with pytest.raises(ConversionError, match=f"neither {FLAT} nor {NESTED} .*; save the image processor there"):
        convert_siglip_model(checkpoint, tmp_path / "out", verify=False)


def test_it_is_downloaded() -> None:
    assert NESTED in SMALL_FILES
