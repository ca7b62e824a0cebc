"""The table of model families: each row leads to code that exists, and reading it needs no torch."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from arrowlens.conversion import ConversionOptions, convert_model
from arrowlens.encoders import AudioEncoder, ClapEncoder, CLIPEngine, SiglipEngine, TextEncoder, VisionEncoder
from arrowlens.encoders.registry import ENCODER_ROLES, FAMILIES, ROLES, ModelFamily, family_for
from arrowlens.errors import ConversionError, ModelLoadError
from arrowlens.modalities import SAMPLE_RATES


def test_roles_of_model_sets_and_of_encoders() -> None:
    assert ROLES == ("vision", "audio", "text")
    assert ENCODER_ROLES == ("vision", "audio", "text", "pooled_vision")


def test_each_role_has_its_encoder() -> None:
    encoders = {(family.name, role): family.encoder(role) for family in FAMILIES for role in family.encoders}
    assert encoders == {
        ("clip", "vision"): CLIPEngine,
        ("clip", "pooled_vision"): VisionEncoder,
        ("siglip", "vision"): SiglipEngine,
        ("whisper", "audio"): AudioEncoder,
        ("clap", "audio"): ClapEncoder,
        ("bert", "text"): TextEncoder,
    }
    assert [family.encoder() for family in FAMILIES] == [
        CLIPEngine,
        SiglipEngine,
        AudioEncoder,
        ClapEncoder,
        TextEncoder,
    ]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_each_family_says_what_was_verified(family: ModelFamily) -> None:
    assert "against transformers'" in family.verified


def test_sample_rates_and_what_takes_texts() -> None:
    assert {family.name: family.sample_rate for family in FAMILIES if "audio" in family.inputs} == {
        "whisper": 16_000,
        "clap": 48_000,
    }
    assert {family.sample_rate for family in FAMILIES} <= {None, *SAMPLE_RATES}
    assert all(family.sample_rate is None for family in FAMILIES if "audio" not in family.inputs)
    assert [family.name for family in FAMILIES if family.takes_text] == ["clip", "siglip", "clap", "bert"]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_each_family_has_its_converter(family: ModelFamily) -> None:
    converter = import_module(family.converter)
    assert callable(converter.prepare)
    assert callable(converter.compare)


def test_a_model_that_cannot_take_a_role_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ModelLoadError,
        match=r"holds a whisper model; vision needs one made by 'arrowlens convert clip' or 'arrowlens convert siglip'",
    ):
        family_for("vision", "whisper", tmp_path)


def test_an_unknown_family_is_not_converted(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="'moon' is unknown; use one of clip, siglip, whisper, clap, text"):
        convert_model("moon", tmp_path, tmp_path / "out", ConversionOptions())


def test_listing_the_families_imports_no_torch() -> None:
    code = (
        "import sys; from arrowlens.conversion import FAMILIES; print(*FAMILIES)\n"
        "assert not {'torch', 'transformers', 'huggingface_hub', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, stdout=subprocess.DEVNULL)
