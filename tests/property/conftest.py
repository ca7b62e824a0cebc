"""Models for the property tests, built and converted once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from safetensors.torch import load_file, save_file

from arrowlens.conversion import convert_clip_model, convert_whisper_model
from tests.support.checkpoints import clip_checkpoint, whisper_checkpoint

# Examples share fixtures, and the machine may be busy: no deadline, no complaint about slow models.
settings.register_profile("models", deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
settings.load_profile("models")


@pytest.fixture(scope="session", params=["float32", "float16"])
def stored(request: pytest.FixtureRequest) -> str:
    """The type that models are stored in: computed with in float32, the first stay mapped, the others are packed."""
    kind: str = request.param
    return kind


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory: pytest.TempPathFactory, stored: str) -> tuple[Path, Path]:
    """(checkpoint, model directory) of a small CLIP whose first layer norm sees little variance; the same numbers."""
    return make_clip(tmp_path_factory.mktemp("small-clip"), stored)


@pytest.fixture(scope="session")
def small_whisper(tmp_path_factory: pytest.TempPathFactory, stored: str) -> tuple[Path, Path]:
    """(checkpoint, model directory) of a small Whisper; the same numbers."""
    return make_whisper(tmp_path_factory.mktemp("small-whisper"), dtype=stored)


def in_half_precision(checkpoint: Path) -> None:
    """Round weights to what float16 holds, so that a model stored so loses nothing."""
    file = checkpoint / "model.safetensors"
    save_file({name: tensor.half().float() for name, tensor in load_file(file).items()}, file, {"format": "pt"})


def make_clip(directory: Path, dtype: str = "float32", **options: object) -> tuple[Path, Path]:
    """Build and convert a CLIP; options are ``clip_checkpoint``'s."""
    checkpoint = clip_checkpoint(directory / "checkpoint", **options)  # type: ignore[arg-type]
    if dtype == "float16":
        in_half_precision(checkpoint)
    convert_clip_model(checkpoint, directory / "model", dtype=dtype, verify=False)
    return checkpoint, directory / "model"


def make_whisper(
    directory: Path, kind: str = "WhisperModel", dtype: str = "float32", **config: object
) -> tuple[Path, Path]:
    """Build and convert a Whisper; options are ``whisper_checkpoint``'s."""
    checkpoint = whisper_checkpoint(directory / "checkpoint", kind, **config)  # type: ignore[arg-type]
    if dtype == "float16":
        in_half_precision(checkpoint)
    convert_whisper_model(checkpoint, directory / "model", dtype=dtype, verify=False)
    return checkpoint, directory / "model"
