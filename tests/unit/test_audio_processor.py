"""Spectrograms and resampling against the references."""

from __future__ import annotations

import subprocess
import sys

import librosa
import numpy as np
import pyarrow as pa
import pytest
from transformers import WhisperFeatureExtractor

from arrowlens.encoders import AudioConfig, AudioProcessor, MelSpectrogramProcessor
from arrowlens.errors import AudioValidationError


def sound(n_samples: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(n_samples) / 16_000
    tone = np.sin(2 * np.pi * rng.uniform(80, 4000) * time) * np.exp(-time * rng.uniform(0, 3))
    return (0.5 * tone + 0.05 * rng.normal(size=n_samples)).astype(np.float32)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_log_mel_matches_the_reference(n_mels: int) -> None:
    extractor = WhisperFeatureExtractor(feature_size=n_mels)
    ours = MelSpectrogramProcessor(AudioConfig(n_mels=n_mels))
    for seconds in (1, 4.7, 30):
        wave = sound(int(seconds * 16_000))
        expected = extractor(wave, sampling_rate=16_000, return_tensors="np", padding="do_not_pad")["input_features"][0]
        np.testing.assert_allclose(ours.compute_mel_spectrogram(wave), expected, atol=1e-5)


def test_padded_spectrograms_match_the_reference() -> None:
    waves = [sound(n, n) for n in (16_000, 777, 300_000)]
    expected = WhisperFeatureExtractor()(waves, sampling_rate=16_000, return_tensors="np")["input_features"]
    found = AudioProcessor().preprocess_arrow(pa.array([wave.tobytes() for wave in waves], pa.binary()))
    assert found.shape == (3, 80, 3000)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_spectrograms_of_a_batch_are_those_of_its_rows() -> None:
    batch = np.stack([sound(20_000, seed) for seed in range(3)])
    batch[1] *= 1e-3
    ours = MelSpectrogramProcessor()
    rows = np.stack([ours.compute_mel_spectrogram(row) for row in batch])
    np.testing.assert_allclose(ours.compute_mel_spectrogram(batch), rows, atol=1e-5)


def test_unusable_arrays_are_refused() -> None:
    processor = AudioProcessor()
    for array in (pa.array([b"abc"]), pa.array([None], pa.binary())):
        with pytest.raises(AudioValidationError, match="row 0"):
            processor.preprocess_arrow(array)
    with pytest.raises(AudioValidationError, match="16000 Hz"):
        processor.preprocess_arrow(pa.array([sound(500).tobytes()]), 8000)
    with pytest.raises(AudioValidationError, match="too short"):
        processor.mel_processor.compute_mel_power(sound(200))
    assert processor.preprocess_arrow(pa.array([], pa.binary())).shape == (0, 80, 3000)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_matches_librosa(rate: int) -> None:
    wave = sound(rate)
    expected = librosa.resample(wave, orig_sr=rate, target_sr=16_000, res_type="soxr_hq")
    found = AudioProcessor.resample(wave, rate)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert AudioProcessor.resample(wave, rate, rate) is wave
    with pytest.raises(AudioValidationError, match="positive rates"):
        AudioProcessor.resample(wave, 0)


def test_stored_filters_spare_the_import_of_librosa() -> None:
    code = (
        "import sys, numpy as np\n"
        "from arrowlens.encoders import AudioConfig, MelSpectrogramProcessor\n"
        "p = MelSpectrogramProcessor(AudioConfig(), np.zeros((80, 201), np.float32))\n"
        "p.compute_mel_spectrogram(np.zeros(500, np.float32))\n"
        "print(sorted({'librosa', 'numba'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
