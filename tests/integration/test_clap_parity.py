"""CLAP at clap-htsat-unfused's widths, from a checkpoint's bytes to vectors, against transformers.

Two layers in each stage and in the text tower, and 2,048 tokens; ``tests/soak/test_clap.py`` has the full size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from arrowlens.conversion import convert_clap_model
from arrowlens.encoders import ClapEncoder
from tests.support.checkpoints import HTSAT_TINY, ROBERTA_BASE, TWENTY_LANGUAGES, clap_checkpoint
from tests.support.reference import (
    HALF_COSINE,
    ClapReference,
    assert_agree,
    cosines,
    distinct_rows,
    sounds_at_48_khz,
)

SOUNDS = sounds_at_48_khz()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClapReference, Path]:
    folder = tmp_path_factory.mktemp("clap")
    audio = {**HTSAT_TINY, "depths": [2, 2, 2, 2]}
    text = {**ROBERTA_BASE, "num_hidden_layers": 2, "vocab_size": 2048}
    clap_checkpoint(folder / "checkpoint", audio, text, projection_dim=512)
    convert_clap_model(folder / "checkpoint", folder / "model", dtype="float32", verify=False)
    return ClapReference(transformers.ClapModel.from_pretrained(folder / "checkpoint")), folder / "model"


@pytest.fixture(scope="module")
def of_sounds(models: tuple[ClapReference, Path]) -> np.ndarray:
    return models[0].sounds(SOUNDS)


@pytest.fixture(scope="module")
def of_texts(models: tuple[ClapReference, Path]) -> np.ndarray:
    reference, directory = models
    tokens = ClapEncoder(directory, "cpu", "float32").tokenizer(TWENTY_LANGUAGES)
    return reference.texts(tokens.ids, tokens.mask)


def test_float32_is_the_reference_s(
    models: tuple[ClapReference, Path], of_sounds: np.ndarray, of_texts: np.ndarray
) -> None:
    distinct_rows(of_sounds)
    distinct_rows(of_texts)
    encoder = ClapEncoder(models[1], "cpu", "float32")
    assert_agree(encoder.encode(SOUNDS), of_sounds)
    assert_agree(encoder.encode_text(TWENTY_LANGUAGES), of_texts)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near_the_reference(
    models: tuple[ClapReference, Path], of_sounds: np.ndarray, of_texts: np.ndarray, precision: str
) -> None:
    n = 6 if precision == "bfloat16" else 2  # processors without float16 take seconds for each
    encoder = ClapEncoder(models[1], "cpu", precision)
    assert encoder.audio_tower.weight.dtype == getattr(torch, precision)
    assert cosines(encoder.encode(SOUNDS[:n]), of_sounds[:n]).min() > HALF_COSINE
    assert cosines(encoder.encode_text(TWENTY_LANGUAGES[:n]), of_texts[:n]).min() > HALF_COSINE
