"""A Whisper folder in CTranslate2's format converts to the same model as the checkpoint that it was made from."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrowlens.conversion import convert_clip_model, convert_whisper_model, ctranslate2
from arrowlens.encoders import AudioEncoder, model_info
from arrowlens.errors import ConversionError
from tests.support.checkpoints import ctranslate2_folder, whisper_checkpoint

GENERATION = "WhisperForConditionalGeneration"
SPECIFICATION = b"\x0c\x00WhisperSpec\x00"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whisper_checkpoint(tmp_path_factory.mktemp("checkpoints") / "whisper", GENERATION, num_mel_bins=128)


@pytest.fixture(scope="module")
def folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ctranslate2_folder(checkpoint, tmp_path_factory.mktemp("ctranslate2") / "whisper", "float32")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARROWLENS_CACHE", str(tmp_path / "cache"))


def edited(folder: Path, copy: Path, change: Callable[[bytes], bytes]) -> Path:
    """A copy of a folder with another ``model.bin``."""
    copy.mkdir()
    data = (folder / "model.bin").read_bytes()
    changed = change(data)
    assert changed != data
    (copy / "model.bin").write_bytes(changed)
    return copy


def test_a_float32_folder_gives_the_model_of_its_checkpoint_to_the_last_bit(
    checkpoint: Path, folder: Path, tmp_path: Path
) -> None:
    convert_whisper_model(checkpoint, tmp_path / "from-checkpoint", dtype="float32")
    report = convert_whisper_model(folder, tmp_path / "from-folder", dtype="float32")
    assert report.minimum is not None
    assert report.minimum > 0.99999
    assert report.source == "whisper"
    assert report.digest == model_info(tmp_path / "from-checkpoint").digest


@pytest.mark.parametrize(("quantization", "bound"), [("float16", 0.9999), ("bfloat16", 0.999)])
def test_half_precision_is_read(
    checkpoint: Path, tmp_path: Path, quantization: str, bound: float, sounds: np.ndarray
) -> None:
    folder = ctranslate2_folder(checkpoint, tmp_path / "ctranslate2", quantization)
    convert_whisper_model(folder, tmp_path / "half", dtype=quantization)
    convert_whisper_model(checkpoint, tmp_path / "full", dtype="float32")
    half, full = (AudioEncoder(tmp_path / name, precision="float32").encode(sounds) for name in ("half", "full"))
    assert (half * full).sum(axis=1).min() > bound


@pytest.fixture(scope="module")
def sounds() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (3, 16_000)).astype(np.float32)


def test_nothing_is_left_in_the_cache_folder(folder: Path, tmp_path: Path) -> None:
    convert_whisper_model(folder, tmp_path / "out", verify=False)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("quantization", ["int8", "int8_float32", "int16"])
def test_integers_are_refused_with_the_reason(checkpoint: Path, tmp_path: Path, quantization: str) -> None:
    folder = ctranslate2_folder(checkpoint, tmp_path / "ctranslate2", quantization)
    with pytest.raises(ConversionError, match=r"quantised to integers .*; take the float16 or float32 model"):
        convert_whisper_model(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_beside_it_goes_first(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "model.bin").write_bytes(b"something else")
    try:
        assert not ctranslate2.is_ctranslate2(checkpoint)
        convert_whisper_model(checkpoint, tmp_path / "out", verify=False)
    finally:
        (checkpoint / "model.bin").unlink()


def test_another_family_says_what_the_folder_holds(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="model_type 'whisper', but a 'clip' checkpoint is needed"):
        convert_clip_model(folder, tmp_path / "out")


def _renamed(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    assert len(old) == len(new)
    return lambda data: data.replace(old, new)


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut off": (lambda data: data[:-2000], "damaged or truncated"),
    "cut off within the header": (lambda data: data[:9], "damaged or truncated"),
    "empty": (lambda _: b"", "cannot be converted"),
    "another model": (_renamed(SPECIFICATION, b"\x0c\x00Transformer\x00"), "holds a 'Transformer'"),
    "an early version": (lambda data: struct.pack("<I", 2) + data[4:], "version 2 of CTranslate2's format"),
    "a later version": (lambda data: struct.pack("<I", 7) + data[4:], "version 7 of CTranslate2's format"),
    "more variables than there are": (
        lambda data: (
            data.replace(SPECIFICATION, SPECIFICATION, 1)[: 4 + len(SPECIFICATION) + 4]
            + struct.pack("<I", 2**32 - 1)
            + data[4 + len(SPECIFICATION) + 8 :]
        ),
        "damaged or truncated",
    ),
    "no layer norm": (_renamed(b"encoder/layer_norm/gamma", b"encoder/layer_norm/other"), "'encoder/layer_norm/gamma'"),
    "no layers": (_renamed(b"encoder/layer_0", b"encoder/layers0"), "'encoder/layer_0"),
}


@pytest.mark.parametrize(("change", "words"), DAMAGE.values(), ids=DAMAGE.keys())
def test_what_cannot_be_read_is_an_error_of_one_line(
    folder: Path, tmp_path: Path, change: Callable[[bytes], bytes], words: str
) -> None:
    damaged = edited(folder, tmp_path / "damaged", change)
    with pytest.raises(ConversionError, match=words) as caught:
        convert_whisper_model(damaged, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@settings(max_examples=100, deadline=None)
@given(position=st.integers(0, 2000), value=st.integers(0, 255))
def test_any_byte_of_the_header_may_be_wrong(
    tmp_path_factory: pytest.TempPathFactory, folder: Path, position: int, value: int
) -> None:
    target = tmp_path_factory.mktemp("target")
    copy = tmp_path_factory.mktemp("copy")
    data = bytearray((folder / "model.bin").read_bytes())
    data[position] = value
    (copy / "model.bin").write_bytes(data)
    message = ""
    try:
        ctranslate2.write_checkpoint(copy, target)
    except ConversionError as error:
        message = str(error)
    assert "\n" not in message
