"""Recordings: every format to mono at 16 kHz, as librosa gives them, within limits."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from arrowlens.media import Limits, decode
from tests.support.media_factory import SOUND_FORMATS, encode_sound, samples, sound_bytes, wav_bytes

SUBTYPES = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM"]


def good(data: bytes, limits: Limits = Limits()):  # noqa: B008 - frozen
    decoded = decode("upload", limits, data=data)
    assert decoded.reason is None
    assert decoded.modality == "audio"
    assert decoded.samples.dtype == np.float32
    assert decoded.samples.flags.writeable
    assert np.isfinite(decoded.samples).all()
    return decoded


def assert_as_librosa(data: bytes) -> None:
    reference, _ = librosa.load(io.BytesIO(data), sr=16_000, mono=True)
    ours = good(data).samples
    assert ours.shape == reference.shape
    np.testing.assert_allclose(ours, reference, atol=1e-4)
    assert np.abs(reference).max() > 0.05


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("file_format", SOUND_FORMATS)
def test_every_format_is_what_librosa_loads(file_format: str, channels: int) -> None:
    rate = 48_000 if file_format == "opus" else 44_100
    data = sound_bytes(file_format, 1, 3.1, rate, channels)
    assert_as_librosa(data)
    decoded = good(data)
    assert (decoded.format, decoded.sample_rate, decoded.channels) == (file_format, rate, channels)
    assert decoded.duration == pytest.approx(3.1, abs=0.05)
    assert not decoded.trivial


@pytest.mark.parametrize("subtype", SUBTYPES)
def test_every_sample_format_of_wav(subtype: str) -> None:
    data = sound_bytes("wav", 2, 1.0, 22_050, 2, subtype)
    assert_as_librosa(data)
    mono = samples(2, 1.0, 22_050, 2).mean(axis=1)
    reference = librosa.resample(mono, orig_sr=22_050, target_sr=16_000, res_type="soxr_hq")
    assert np.corrcoef(good(data).samples[: len(reference)], reference[: len(good(data).samples)])[0, 1] > 0.98


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 32_000, 44_100, 96_000, 192_000])
def test_every_rate(rate: int) -> None:
    assert_as_librosa(sound_bytes("flac", 3, 0.7, rate))


@pytest.mark.parametrize("n_samples", [1, 2, 100, 159_999])
def test_every_length(n_samples: int) -> None:
    data = encode_sound(samples(4, n_samples / 44_100, 44_100), 44_100, "wav")
    assert len(good(data).samples) == -(-n_samples * 16_000 // 44_100)


@pytest.mark.parametrize("file_format", SOUND_FORMATS)
def test_many_blocks_join_without_a_seam(file_format: str) -> None:
    """14 s in 2 channels are three blocks."""
    assert_as_librosa(sound_bytes(file_format, 5, 14.0, 48_000, 2))


def test_at_another_rate_it_is_what_librosa_loads_and_its_fingerprint_stays() -> None:
    data = sound_bytes("wav", 3)
    common, finer = good(data), decode("upload", data=data, sample_rate=48_000)
    assert (common.decoded_rate, finer.decoded_rate) == (16_000, 48_000)
    expected, _ = librosa.load(io.BytesIO(data), sr=48_000, mono=True)
    assert finer.samples.shape == expected.shape
    np.testing.assert_allclose(finer.samples, expected, atol=1e-4)
    assert finer.fingerprint.parts == common.fingerprint.parts
    assert (finer.trivial, finer.duration, finer.sample_rate) == (common.trivial, common.duration, common.sample_rate)


def test_six_channels_are_mixed_with_equal_weights() -> None:
    assert_as_librosa(sound_bytes("flac", 5, 4.0, 44_100, 6))


def test_opposite_channels_cancel() -> None:
    mono = samples(6, 1.0)
    assert good(encode_sound(np.hstack([mono, -mono]), 16_000, "wav", "FLOAT")).trivial


def test_silence_is_trivial_and_a_whisper_is_not() -> None:
    for file_format in ("wav", "flac", "ogg", "opus"):
        assert good(encode_sound(np.zeros((16_000, 1)), 16_000, file_format)).trivial
    assert not good(encode_sound(samples(7, 1.0) * 0.01, 16_000, "wav")).trivial


@pytest.mark.parametrize("file_format", ["flac", "ogg", "mp3", "wav"])
def test_tags_are_read(file_format: str) -> None:
    data = sound_bytes(file_format, 8, tags={"title": "Der Möwe\nRuf", "artist": "Küste"})
    decoded = good(data)
    assert (decoded.title, decoded.artist, decoded.album, decoded.metadata) == ("Der Möwe Ruf", "Küste", None, {})


def test_the_limit_of_length_holds() -> None:
    for file_format in SOUND_FORMATS:
        data = sound_bytes(file_format, 9, 4.0)
        assert good(data, Limits(max_seconds=4.1)).reason is None
        reason = decode("x", Limits(max_seconds=3.5), data=data).reason
        assert reason is not None
        assert reason.endswith("is over the limit of 3.5 s")


def test_a_header_of_twelve_hours_on_a_kilobyte() -> None:
    wav = decode("x", data=wav_bytes(bytes(1000), 12 * 3600 * 32_000))
    assert wav.reason == "truncated: the header promises 12 hours, the file holds 0.0312 s"
    flac = bytearray(sound_bytes("flac", 10))
    n_samples = 12 * 3600 * 16_000  # 36 bits, the last five bytes of which the first half belongs to the sample size
    flac[21] = flac[21] & 0xF0 | n_samples >> 32
    flac[22:26] = struct.pack(">I", n_samples & 0xFFFFFFFF)
    assert decode("x", data=bytes(flac)).reason == "12 hours is over the limit of 2 hours"


def test_a_wav_of_unknown_length_is_read_to_its_end() -> None:
    data = np.arange(8_000, dtype=np.int16).tobytes()
    for promised in (0xFFFFFFFF, 0x7FFFFFFF):
        assert good(wav_bytes(data, promised)).duration == 0.5


def test_a_wav_that_miscounts_by_its_header_is_read() -> None:
    data = np.arange(8_000, dtype=np.int16).tobytes()
    assert good(wav_bytes(data, len(data) + 44)).duration == 0.5


def test_chunks_before_the_sound_are_skipped() -> None:
    data = sound_bytes("wav", 11)
    with_junk = data[:12] + b"JUNK" + struct.pack("<I", 3001) + bytes(3002) + data[12:]
    np.testing.assert_array_equal(good(with_junk).samples, good(data).samples)
    assert "truncated" in decode("x", data=with_junk[: len(with_junk) // 2]).reason


@pytest.mark.parametrize("file_format", ["wav", "flac", "mp3"])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_a_missing_part_is_told(file_format: str, share: float) -> None:
    data = sound_bytes(file_format, 12, 6.0)
    decoded = decode("x", data=data[: round(len(data) * share)])
    assert decoded.samples is None
    assert decoded.reason.startswith("truncated")


@pytest.mark.parametrize("file_format", ["ogg", "opus"])
def test_ogg_is_as_long_as_what_is_there(file_format: str) -> None:
    data = sound_bytes(file_format, 12, 20.0)
    assert 4 < good(data[: len(data) // 2]).duration < 16


def test_an_mp3_of_its_first_half_tells_so_without_noise(capfd: pytest.CaptureFixture[str]) -> None:
    data = sound_bytes("mp3", 13, 5.0)
    assert decode("x", data=data[: len(data) // 2]).reason.startswith("truncated")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.nan, "samples are not finite (NaN, first at 0.50 s)"),
        (np.inf, "samples are not finite (infinity, first at 0.50 s)"),
        (-1e30, "samples reach 1e+30 at 0.50 s, where full scale is 1: this is no sound"),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_impossible_samples_are_told_with_their_place(subtype: str, value: float, reason: str, channels: int) -> None:
    sound = samples(14, 1.0, channels=channels).astype(np.float64)
    sound[8_000, -1] = value
    reported = decode("x", data=encode_sound(sound, 16_000, "wav", subtype)).reason
    assert reported == reason.replace("1e+30", f"{1e30 / channels:.3g}")


def test_no_samples() -> None:
    assert decode("x", data=wav_bytes(b"")).reason == "the recording is empty (0 samples)"


def test_an_impossible_rate() -> None:
    assert "sample rate of 10 Hz" in decode("x", data=wav_bytes(bytes(1000), rate=10)).reason
    assert "sample rate of 2,000,000 Hz" in decode("x", data=wav_bytes(bytes(1000), rate=2_000_000)).reason


def test_a_file_is_decoded_as_its_bytes_are(tmp_path: Path) -> None:
    for file_format in SOUND_FORMATS:
        data = sound_bytes(file_format, 15, 2.0, 24_000, 2)
        path = tmp_path / f"x.{file_format}"
        path.write_bytes(data)
        np.testing.assert_array_equal(decode(path).samples, good(data).samples)
        assert soundfile.info(path).channels == 2
