"""Properties 3, 4 and 9 of the specification: the audio encoder against transformers and librosa."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from arrowlens.encoders import AudioEncoder, MelSpectrogramProcessor, WeightLoader, write_model
from arrowlens.errors import AudioValidationError
from tests.property.conftest import make_whisper
from tests.support.checkpoints import WHISPER_BASE
from tests.support.reference import HALF_COSINE, WhisperReference, assert_agree, cosines, distinct_rows, sounds

LARGE_V3 = {
    "d_model": 1280,
    "encoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "num_mel_bins": 128,
    "encoder_layers": 2,
}


@st.composite
def recordings(draw: st.DrawFn, max_seconds: float = 3.0) -> np.ndarray:
    """Recordings of any length, pitch, loudness and noise; (n_samples,) float32 at 16 kHz."""
    n_samples = draw(st.integers(1, int(max_seconds * 16_000)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    time = np.arange(n_samples) / 16_000
    wave = draw(st.sampled_from([0, 0.01, 1])) * rng.normal(size=n_samples)
    for _ in range(draw(st.integers(0, 3))):
        wave += np.sin(2 * np.pi * draw(st.floats(30, 7900)) * time)
    return (draw(st.sampled_from([1e-4, 0.1, 1.0])) * wave).astype(np.float32)


@pytest.fixture(scope="module")
def small(small_whisper: tuple[Path, Path]) -> tuple[WhisperReference, AudioEncoder]:
    checkpoint, directory = small_whisper
    model = transformers.WhisperModel.from_pretrained(checkpoint)
    return WhisperReference(model), AudioEncoder(directory, precision="float32")


@pytest.fixture(scope="module")
def fixed(small: tuple[WhisperReference, AudioEncoder]) -> tuple[np.ndarray, np.ndarray]:
    """The reference's and our vectors of the fixed recordings, padded: what an example's error is measured against."""
    reference, encoder = small
    return reference.padded(sounds()), encoder.encode(sounds(), normalize=False)


@pytest.fixture(scope="module")
def base_shape(tmp_path_factory: pytest.TempPathFactory) -> AudioEncoder:
    """whisper-base in width, heads and mel bins, with one layer: the structure at a sixth of the price."""
    _, directory = make_whisper(tmp_path_factory.mktemp("base"), **{**WHISPER_BASE, "encoder_layers": 1})
    return AudioEncoder(directory, precision="float32")


# Feature: multimodal-encoder-system, Property 3: Audio Encoder Output Structure
@given(wave=recordings(max_seconds=2.0))
def test_any_recording_gives_512_numbers_and_80_mel_bins(base_shape: AudioEncoder, wave: np.ndarray) -> None:
    vector = base_shape.encode(wave, normalize=False, context="own")
    assert vector.shape == (1, 512)
    assert vector.dtype == np.float32
    assert np.isfinite(vector).all()
    if len(wave) > 200:
        assert base_shape.mel_processor.compute_mel_spectrogram(wave).shape == (80, len(wave) // 160)


# Feature: multimodal-encoder-system, Property 4: Audio Encoder Precision
@given(wave=recordings())
def test_any_recording_agrees_with_the_reference(
    small: tuple[WhisperReference, AudioEncoder], fixed: tuple[np.ndarray, np.ndarray], wave: np.ndarray
) -> None:
    reference, encoder = small
    expected, found = fixed
    ours, theirs = encoder.encode(wave, normalize=False), reference.padded([wave])
    assert_agree(np.concatenate([ours, found]), np.concatenate([theirs, expected]))


# Feature: multimodal-encoder-system, Property 4: Audio Encoder Precision
@given(wave=recordings().filter(lambda wave: len(wave) >= 400))
def test_any_clip_agrees_with_the_reference_cut_to_its_frames(
    small: tuple[WhisperReference, AudioEncoder], wave: np.ndarray
) -> None:
    reference, encoder = small
    waves = [wave, *sounds()[:3]]
    expected = np.concatenate([reference.clip(clip) for clip in waves])
    assert_agree(encoder.encode(waves, normalize=False, context="own"), expected)


# Feature: multimodal-encoder-system, Property 4: Audio Encoder Precision
@pytest.mark.parametrize(
    ("kind", "config"),
    [
        # make test compares whisper-base with its real weights (test_real_whisper).
        pytest.param("WhisperModel", WHISPER_BASE, id="whisper-base", marks=pytest.mark.soak),
        pytest.param("WhisperForConditionalGeneration", LARGE_V3, id="two layers of large-v3", marks=pytest.mark.soak),
        pytest.param("WhisperForAudioClassification", {"classifier_proj_size": 48}, id="with a projector"),
    ],
)
def test_every_configuration_agrees_with_the_reference(tmp_path: Path, kind: str, config: dict[str, int]) -> None:
    checkpoint, directory = make_whisper(tmp_path, kind, **config)
    reference = WhisperReference(getattr(transformers, kind).from_pretrained(checkpoint))
    encoder = AudioEncoder(directory, precision="float32")
    padded = sounds()[:3]
    assert_agree(encoder.encode(padded, normalize=False), reference.padded(padded))
    rows = distinct_rows(np.concatenate([reference.clip(wave) for wave in sounds()]))
    clips = np.concatenate([reference.clip(sounds()[row]) for row in rows])
    chosen = [sounds()[row] for row in rows]
    assert_agree(encoder.encode(chosen, normalize=False, context="own"), clips)
    # float16 has no fast kernels on most processors: only the small model is run in it.
    for precision in ("bfloat16",) if "d_model" in config else ("bfloat16", "float16"):
        half = AudioEncoder(directory, precision=precision).encode(chosen, normalize=False, context="own")
        assert cosines(half, clips).min() > HALF_COSINE


def test_the_same_recording_alone_or_in_any_batch(small: tuple[WhisperReference, AudioEncoder]) -> None:
    _, encoder = small
    for context in ("padded", "own"):
        together = encoder.encode(sounds(), context=context)
        alone = np.concatenate([encoder.encode(wave, context=context) for wave in sounds()])
        assert cosines(together, alone).min() > 0.99999
        equal = np.stack([wave[:8000] for wave in sounds()])
        np.testing.assert_allclose(
            encoder.encode(equal, context=context), encoder.encode(list(equal), context=context), atol=1e-5
        )


def test_the_old_name_of_a_context_still_works(small: tuple[WhisperReference, AudioEncoder]) -> None:
    _, encoder = small
    with pytest.warns(DeprecationWarning, match='use context="own"'):
        old = encoder.encode(sounds(), context="clip")
    np.testing.assert_array_equal(old, encoder.encode(sounds(), context="own"))


# Feature: multimodal-encoder-system, Property 4: Audio Encoder Precision
@given(wave=recordings().filter(lambda wave: len(wave) >= 400))
def test_any_layer_agrees_with_the_hidden_states_of_the_reference(
    small: tuple[WhisperReference, AudioEncoder], wave: np.ndarray
) -> None:
    reference, encoder = small
    waves = [wave, *sounds()[:2]]
    for layer in range(1, encoder.config.num_layers + 1):
        expected = np.concatenate([reference.clip(clip, layer) for clip in waves])
        assert_agree(encoder.encode(waves, normalize=False, context="own", layer=layer), expected)


def test_a_layer_of_padded_recordings_agrees_with_the_reference(small: tuple[WhisperReference, AudioEncoder]) -> None:
    reference, encoder = small
    padded = encoder.encode(sounds(), normalize=False, layer=1)
    assert_agree(padded, reference.padded(sounds(), layer=1))


def test_layers_after_the_one_that_is_read_are_not_computed(tmp_path: Path, small_whisper: tuple[Path, Path]) -> None:
    loader = WeightLoader(small_whisper[1])
    last = f"transformer.layers.{loader.info.dimensions['num_layers'] - 1}."
    weights = {
        name: torch.full_like(tensor, torch.nan) if name.startswith((last, "layer_norm.")) else tensor
        for name, tensor in loader.load_weights().items()
    }
    write_model(tmp_path, weights, family="whisper", dimensions=loader.info.dimensions, source="half of it")
    half, whole = (AudioEncoder(folder, precision="float32") for folder in (tmp_path, small_whisper[1]))
    np.testing.assert_array_equal(half.encode(sounds(), layer=1), whole.encode(sounds(), layer=1))
    with pytest.raises(AudioValidationError, match="no direction"):
        half.encode(sounds())


@pytest.mark.parametrize("layer", [0, -1, 3, 1.0, True, "last"])
def test_a_layer_that_is_not_there_is_named(small: tuple[WhisperReference, AudioEncoder], layer: int) -> None:
    with pytest.raises(AudioValidationError, match=rf"layer {layer!r} is not there; use 1 to 2, or None"):
        small[1].encode(sounds(), layer=layer)


@pytest.mark.parametrize("mutation", ["activation", "positions", "epsilon", "mel filters", "convolution"])
def test_the_bounds_catch_a_wrong_model(
    tmp_path: Path, small: tuple[WhisperReference, AudioEncoder], small_whisper: tuple[Path, Path], mutation: str
) -> None:
    reference, right = small
    loader = WeightLoader(small_whisper[1])
    weights, dimensions = loader.load_weights(), dict(loader.info.dimensions)
    if mutation == "activation":
        dimensions["activation"] = "quick_gelu"
    elif mutation == "epsilon":
        dimensions["layer_norm_eps"] = 1e-2
    else:
        name = {"positions": "position_embedding", "mel filters": "mel_filters", "convolution": "conv1.weight"}[
            mutation
        ]
        changed = torch.zeros_like(weights[name]) if mutation == "positions" else weights[name].flip(-1)
        weights[name] = changed.contiguous()
    write_model(tmp_path, weights, family="whisper", dimensions=dimensions, source="wrong")
    wrong = AudioEncoder(tmp_path, precision="float32")
    expected = np.concatenate([reference.clip(wave) for wave in sounds()])
    assert_agree(right.encode(sounds(), normalize=False, context="own"), expected)
    with pytest.raises(AssertionError, match=r"relative error|cosine"):
        assert_agree(wrong.encode(sounds(), normalize=False, context="own"), expected)


@pytest.fixture(scope="module")
def mel() -> MelSpectrogramProcessor:
    return MelSpectrogramProcessor()


# Feature: multimodal-encoder-system, Property 9: Mel-Spectrogram Correctness
@given(wave=recordings().filter(lambda wave: len(wave) >= 400))
def test_any_mel_spectrogram_is_that_of_librosa(mel: MelSpectrogramProcessor, wave: np.ndarray) -> None:
    power = mel.compute_mel_power(wave)
    expected = librosa.feature.melspectrogram(
        y=wave, sr=16_000, n_fft=400, hop_length=160, n_mels=80, pad_mode="reflect", power=2.0
    )
    assert power.shape == expected.shape == (80, 1 + len(wave) // 160)
    np.testing.assert_allclose(power, expected, rtol=1e-4, atol=1e-5 * max(1e-3, expected.max()))
