"""What encoders accept and what they say to the rest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from arrowlens.encoders import (
    choose_runtime,
    runtime,
    validate_audio_input,
    validate_embedding_precision,
    validate_image_input,
)
from arrowlens.encoders.runtime import _cpu_format, to_vectors
from arrowlens.errors import (
    ArrowlensError,
    AudioValidationError,
    ImageValidationError,
    InputError,
    ModelLoadError,
    QualityError,
)

IMAGE = np.zeros((2, 224, 224, 3), np.uint8)
SECOND = np.zeros(16_000, np.float32)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((224, 224), np.uint8), "must be"),
        ([[1, 2]], "must be"),
        (np.zeros((1, 2, 224, 224, 3), np.uint8), "must be"),
        (np.zeros((224, 224, 4), np.uint8), "3 channels"),
        (np.zeros((3, 224, 224), np.uint8), "3 channels"),
        (np.zeros((1, 225, 224, 3), np.uint8), "224x224, got 225x224"),
        (IMAGE.astype(np.float64), "uint8 or float32, got float64"),
        (IMAGE[:0], "no image"),
        (np.full((224, 224, 3), np.nan, np.float32), "NaN"),
    ],
)
def test_unusable_pictures(images: np.ndarray, message: str) -> None:
    with pytest.raises(ImageValidationError, match=message) as caught:
        validate_image_input(images)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, ArrowlensError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (np.zeros((1, 1, 5), np.float32), 16_000, "must be"),
        ("sound.wav", 16_000, "must be"),
        (SECOND, 44_100, "16000 Hz, got 44100"),
        (SECOND.astype(np.int16), 16_000, "float32, got int16"),
        (SECOND[:0], 16_000, "0 samples"),
        (np.zeros(30 * 16_000 + 1, np.float32), 16_000, "30.0001 s, at most 30 s"),
        (SECOND + np.nan, 16_000, "NaN"),
        (SECOND + np.inf, 16_000, "NaN or infinite"),
    ],
)
def test_unusable_audio(audio: np.ndarray, rate: int, message: str) -> None:
    with pytest.raises(AudioValidationError, match=message) as caught:
        validate_audio_input(audio, rate)
    assert isinstance(caught.value, ValueError)


def test_usable_input_passes() -> None:
    validate_image_input(IMAGE)
    validate_image_input(IMAGE[0].astype(np.float32))
    validate_image_input(np.zeros((1, 56, 56, 3), np.uint8), 56)
    validate_audio_input(SECOND)
    validate_audio_input(np.zeros((3, 30 * 16_000), np.float32))


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_vector_without_direction_is_an_error(value: float) -> None:
    rows = torch.ones(3, 4)
    rows[1] = value
    with pytest.raises(ImageValidationError, match="input 1 encodes"):
        to_vectors(rows, normalize=True, error=ImageValidationError)


def test_vectors_have_length_one_only_when_asked() -> None:
    rows = torch.tensor([[3.0, 4.0]])
    np.testing.assert_allclose(to_vectors(rows, normalize=True), [[0.6, 0.8]], rtol=1e-6)
    np.testing.assert_array_equal(to_vectors(rows, normalize=False), [[3, 4]])


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ({"amx_tile", "amx_bf16", "amx_fp16"}, torch.float16),
        ({"amx_tile", "amx_bf16", "amx_int8", "avx512_bf16", "avx512_fp16"}, torch.bfloat16),  # Sapphire Rapids
        ({"avx512f", "avx512_bf16"}, torch.bfloat16),
        ({"avx512f", "avx2"}, torch.float32),
        (set(), torch.float32),
    ],
)
def test_half_precision_only_where_the_processor_is_fast_at_it(flags: set[str], dtype: torch.dtype) -> None:
    chosen, reason = _cpu_format(frozenset(flags))
    assert chosen == dtype
    assert "this processor" in reason


def test_a_missing_device_is_no_silent_fall_back() -> None:
    with pytest.raises(ModelLoadError, match=r"'cuda:7' cannot be used.*--device cpu"):
        choose_runtime("cuda:7")
    with pytest.raises(ModelLoadError, match="cannot be used"):
        choose_runtime("abacus")
    with pytest.raises(ModelLoadError, match="float8"):
        choose_runtime("cpu", "float8")
    assert choose_runtime("cpu", "float32").precision == "float32"


@pytest.fixture
def seen_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The system says that there is a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    runtime._best_device.cache_clear()
    yield
    runtime._best_device.cache_clear()


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch may really use a GPU")
def test_a_gpu_that_cannot_be_used_is_named_and_the_cpu_runs(seen_gpu: None, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        chosen = choose_runtime()
        assert chosen.device.type == "cpu"
        assert "device 'cuda' cannot be used" in chosen.reason
        assert "--device" not in chosen.reason
    assert [record.message.startswith("encoding on the CPU, since device 'cuda'") for record in caplog.records] == [
        True
    ]


def test_a_full_gpu_is_named_and_the_cpu_runs(
    seen_gpu: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runtime, "_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100 * 2**20, 8 * 2**30))
    chosen = choose_runtime(precision="float32")
    assert (chosen.device.type, chosen.precision) == ("cpu", "float32")
    assert chosen.reason == "float32 was asked for; the GPU is full: 100 MiB are free, 1024 are needed"
    assert "100 MiB are free" in caplog.text


def test_agreement_measures_and_refuses() -> None:
    rng = np.random.default_rng(0)
    ours = rng.normal(size=(10, 64))
    found = validate_embedding_precision(ours, ours * rng.uniform(0.1, 9, (10, 1)))
    assert found.average == pytest.approx(1)
    assert found.minimum == pytest.approx(1)
    with pytest.raises(QualityError, match=r"my model: average cosine -?0\.\d+ .* not above 0\.95"):
        validate_embedding_precision(ours, rng.normal(size=(10, 64)), model_name="my model")
    with pytest.raises(QualityError, match="zero"):
        validate_embedding_precision(ours * 0, ours)
    with pytest.raises(InputError, match="one shape"):
        validate_embedding_precision(ours, ours[:5])
