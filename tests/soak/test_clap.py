"""A CLAP of clap-htsat-unfused's full size, converted as users convert it and verified against transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from arrowlens.conversion import convert_clap_model
from arrowlens.encoders import ClapEncoder
from tests.support.checkpoints import HTSAT_TINY, ROBERTA_BASE, TWENTY_LANGUAGES, clap_checkpoint
from tests.support.reference import ClapReference, assert_agree, distinct_rows, sounds_at_48_khz


@pytest.mark.soak
def test_the_full_size(tmp_path: Path) -> None:
    checkpoint = clap_checkpoint(tmp_path / "checkpoint", HTSAT_TINY, ROBERTA_BASE, projection_dim=512)
    report = convert_clap_model(checkpoint, tmp_path / "clap", dtype="float32")
    assert report.minimum is not None
    assert report.minimum > 0.99999
    encoder = ClapEncoder(tmp_path / "clap", "cpu", "float32")
    reference = ClapReference(transformers.ClapModel.from_pretrained(checkpoint))
    of_sounds = reference.sounds(sounds_at_48_khz())
    distinct_rows(of_sounds)
    assert_agree(encoder.encode(sounds_at_48_khz()), of_sounds)
    tokens = encoder.tokenizer(TWENTY_LANGUAGES)
    of_texts = reference.texts(tokens.ids, tokens.mask)
    distinct_rows(of_texts)
    assert_agree(encoder.encode_text(TWENTY_LANGUAGES), of_texts)
