"""Waveforms and spectrograms of recordings."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from arrowlens.errors import MediaError
from arrowlens.media import Limits, waveform
from arrowlens.ui.waveform_routes import spectrogram_png, waveform_png

RATE = 44_100


@pytest.fixture
def two_tones(tmp_path):
    """Two seconds of 1 kHz at a tenth of full scale, then two of 4 kHz at eight; in stereo."""
    time = np.arange(4 * RATE) / RATE
    samples = np.where(time < 2, 0.1, 0.8) * np.sin(2 * np.pi * np.where(time < 2, 1000, 4000) * time)
    soundfile.write(tmp_path / "tones.wav", np.stack([samples, samples], axis=1), RATE)
    return tmp_path / "tones.wav"


def test_a_waveform_is_the_largest_amplitude_of_each_part(two_tones):
    peaks = waveform.waveform(two_tones, 4.0, n_columns=8)
    np.testing.assert_allclose(peaks[:3], 0.1, atol=0.005)
    np.testing.assert_allclose(peaks[5:7], 0.8, atol=0.005)


def test_a_spectrogram_shows_where_the_tones_are(two_tones):
    decibels = waveform.spectrogram(two_tones, 4.0, n_columns=8)
    assert decibels.shape == (waveform.N_BANDS, 8)
    band = 8000 / waveform.N_BANDS
    assert (decibels.argmax(axis=0) * band).tolist() == [1000.0] * 4 + [4000.0] * 4
    assert decibels.max() == 0
    assert decibels.min() >= -waveform.RANGE_DB


@pytest.mark.parametrize("n_samples", [1, 100, 16_000])
@pytest.mark.parametrize("seconds", [0.0, 0.5, 100.0])
def test_any_length_gives_all_columns_whatever_was_known_of_it(tmp_path, n_samples, seconds):
    soundfile.write(tmp_path / "a.wav", np.full(n_samples, 0.5, np.float32), 16_000)
    assert waveform.waveform(tmp_path / "a.wav", seconds, 50).shape == (50,)
    assert waveform.waveform(tmp_path / "a.wav", seconds, 50).max() > 0.4
    assert np.isfinite(waveform.spectrogram(tmp_path / "a.wav", seconds, 50)).all()


def test_silence_is_as_quiet_as_can_be(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000, np.float32), 16_000)
    assert waveform.waveform(tmp_path / "a.wav", 1.0, 10).max() == 0
    assert (waveform.spectrogram(tmp_path / "a.wav", 1.0, 10) == -waveform.RANGE_DB).all()


def test_memory_does_not_grow_with_the_length(tmp_path):
    """Of ten minutes no more frames are kept than of one."""
    for seconds in (60, 600):
        soundfile.write(tmp_path / "a.wav", np.zeros(16_000 * seconds, np.int16), 16_000)
        hop = max(waveform.FRAME // 4, seconds * 16_000 // (10 * 4))
        assert len(list(waveform._frames(tmp_path / "a.wav", hop, Limits()))) <= 41


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not a sound", "not a recording"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "damaged|header"),
        (b"", "not a recording"),
    ],
)
def test_what_cannot_be_decoded_is_said_in_one_line(tmp_path, content, reason):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(MediaError, match=reason) as raised:
        waveform.waveform(tmp_path / "a.wav", 1.0)
    assert "\n" not in str(raised.value)


def test_the_limits_of_ingest_hold(two_tones):
    for limits, reason in ((Limits(max_seconds=1), "too long"), (Limits(max_file_bytes=10), "over the limit")):
        with pytest.raises(MediaError, match=reason):
            waveform.waveform(two_tones, 4.0, limits=limits)


def test_a_waveform_is_drawn_on_nothing():
    drawn = np.asarray(Image.open(io.BytesIO(waveform_png(np.array([0.0, 0.5, 1.0], np.float32)))))
    opaque = (drawn[..., 3] > 0).mean(axis=0)
    assert drawn.shape == (64, 3, 4)
    assert opaque[0] < opaque[1] < opaque[2] == 1


def test_a_spectrogram_has_low_bands_at_the_bottom():
    decibels = np.full((waveform.N_BANDS, 5), -80, np.float32)
    decibels[0] = 0
    drawn = np.asarray(Image.open(io.BytesIO(spectrogram_png(decibels))))
    assert drawn[-1].min(axis=0).tolist() == [252, 255, 164]
    assert drawn[0].max(axis=0).tolist() == [0, 0, 4]
