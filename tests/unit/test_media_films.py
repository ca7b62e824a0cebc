"""The sound of films, and AAC: what ffmpeg reads, held to the same as what libsndfile reads."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import av
import numpy as np
import pytest

from arrowlens.media import Decoded, Limits, decode
from tests.support.film_factory import FILM_FORMATS, encode_film, film_bytes
from tests.support.media_factory import encode_sound, image_bytes, samples, sound_bytes


def good(data: bytes, limits: Limits = Limits()) -> Decoded:  # noqa: B008 - frozen
    decoded = decode("upload", limits, data=data)
    assert decoded.reason is None
    assert decoded.modality == ("video" if decoded.shots else "audio")
    assert decoded.samples is not None
    assert decoded.samples.dtype == np.float32
    assert decoded.samples.flags.writeable
    return decoded


def remux(data: bytes, read_as: str, write_as: str) -> bytes:
    """The same packets of sound in another container."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(data), format=read_as) as source, av.open(buffer, "w", format=write_as) as output:
        stream = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    return buffer.getvalue()


def lag(found: np.ndarray, original: np.ndarray) -> tuple[int, float]:
    """By how many samples one lies behind the other, up to 3,000, and how alike they are then."""
    n = min(len(found), len(original))
    spectrum = np.fft.rfft(found[:n], 2 * n) * np.conj(np.fft.rfft(original[:n], 2 * n))
    likeness = np.fft.irfft(spectrum) / (np.linalg.norm(found[:n]) * np.linalg.norm(original[:n]))
    likeness = np.concatenate([likeness[-3000:], likeness[:3000]])
    return int(likeness.argmax()) - 3000, float(likeness.max())


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("file_format", FILM_FORMATS)
def test_every_container_gives_the_sound_from_its_start(file_format: str, channels: int) -> None:
    if (file_format, channels) == ("avi", 6):
        return  # ffmpeg writes no such file
    decoded = good(film_bytes(file_format, 1, 3.1, 48_000, channels))
    assert (decoded.format, decoded.sample_rate, decoded.channels) == (file_format, 48_000, channels)
    assert decoded.duration == pytest.approx(3.1, abs=0.07)
    assert len(decoded.samples) == pytest.approx(decoded.duration * 16_000, abs=1 if not decoded.shots else 800)
    original = good(encode_sound(samples(1, 3.1, 48_000, channels), 48_000, "wav", "FLOAT")).samples
    behind, alike = lag(decoded.samples, original)
    assert alike > (0.9 if channels == 6 else 0.98)  # AAC keeps the low tones alone of the sixth
    # Raw AAC does not say how many samples its encoder put before the first.
    assert behind == (341 if file_format == "aac" else 0)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
def test_every_rate(rate: int) -> None:
    decoded = good(film_bytes("m4a", 2, 2.0, rate, 2))
    assert decoded.sample_rate == rate
    original = good(encode_sound(samples(2, 2.0, rate, 2), rate, "wav", "FLOAT")).samples
    behind, alike = lag(decoded.samples, original)
    assert (behind, alike > 0.98) == (0, True)


@pytest.mark.parametrize(("file_format", "container"), [("flac", "flac"), ("opus", "ogg"), ("ogg", "ogg")])
def test_both_decoders_agree(file_format: str, container: str) -> None:
    """The same packets, once alone for libsndfile, once in Matroska for ffmpeg."""
    data = sound_bytes(file_format, 3, 4.0, 48_000, 2)
    one, other = good(data), good(remux(data, container, "matroska"))
    assert (one.format, other.format) == (file_format, "mkv")
    n = min(len(one.samples), len(other.samples))
    assert abs(len(one.samples) - len(other.samples)) <= 1000
    np.testing.assert_allclose(one.samples[: n - 500], other.samples[: n - 500], atol=1e-3)


def test_pcm_in_a_film_is_exact() -> None:
    sound = samples(4, 2.0, 48_000, 2)
    wav = good(encode_sound(sound, 48_000, "wav", "FLOAT"))
    film = good(encode_film([sound], 48_000, "mp4", codec="pcm_f32le", container="mov"))
    np.testing.assert_array_equal(film.samples, wav.samples)
    assert film.duration == pytest.approx(wav.duration, abs=1e-3)


def test_of_several_sounds_the_main_one_is_taken() -> None:
    alone = good(film_bytes("mkv", 5, 2.0))
    several = good(film_bytes("mkv", 5, 2.0, n_sounds=3))
    np.testing.assert_array_equal(several.samples, alone.samples)


def test_what_has_no_sound_is_told() -> None:
    for file_format in ("mp4", "mkv", "webm", "avi"):
        silent = decode("x", data=film_bytes(file_format, n_sounds=0))
        assert (silent.reason, silent.modality, silent.samples, silent.sample_rate) == (None, "video", None, None)
        assert len(silent.frames) == len(silent.shots) > 0
        assert silent.sound_missing is None
    assert decode("x", data=remux(film_bytes("mp4"), "mp4", "mp4")).modality == "audio", "there are no pictures in it"


def test_a_sound_of_an_unknown_form_is_told() -> None:
    data = film_bytes("mkv", 6).replace(b"A_AAC", b"A_XYZ")
    decoded = decode("x", data=data)
    assert (decoded.reason, decoded.modality, decoded.samples) == (None, "video", None)
    assert decoded.sound_missing == "its sound is in a form that is not read (unknown)"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.98])
@pytest.mark.parametrize("file_format", ["m4a", "mp4", "mkv", "webm", "avi"])
def test_a_missing_part_is_told(file_format: str, share: float) -> None:
    data = film_bytes(file_format, 7, 3.0)
    reason = decode("x", data=data[: round(share * len(data))]).reason
    assert re.fullmatch(r"truncated: [\d,]+ of [\d,]+ bytes are there", reason)


def test_aac_is_as_long_as_what_is_there() -> None:
    data = film_bytes("aac", 8, 20.0)
    assert 9 < good(data[: len(data) // 2]).duration < 11


def test_a_film_without_its_table_of_contents() -> None:
    data = film_bytes("mp4", 9)
    reason = decode("x", data=data[: data.index(b"moov") - 4]).reason
    assert reason == "truncated or damaged: the table of contents (moov) is missing"


def test_what_a_phone_appends_is_no_damage() -> None:
    tail = b"\xff\xff\xff\xffSEFT" + bytes(100)
    film = film_bytes("mp4", 10)
    np.testing.assert_array_equal(good(film + tail).samples, good(film).samples)
    picture = image_bytes("heic", 10)
    np.testing.assert_array_equal(decode("x", data=picture + tail).pixels, decode("x", data=picture).pixels)


def test_the_limit_of_length_holds_for_the_header_and_for_what_comes() -> None:
    for file_format in FILM_FORMATS:
        data = film_bytes(file_format, 11, 4.0)
        assert good(data, Limits(max_seconds=4.1)).reason is None
        refused = decode("x", Limits(max_seconds=3.5), data=data)
        assert refused.reason.endswith("is over the limit of 3.5 s")
        assert refused.too_large
    data = film_bytes("mkv", 11, 4.0)
    at = data.index(b"\x44\x89\x88") + 3  # the duration, in ms
    claimed = data[:at] + struct.pack(">d", 12 * 3600 * 1000) + data[at + 8 :]
    assert decode("x", data=claimed).reason == "12 hours is over the limit of 2 hours"


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_impossible_samples_are_told_with_their_place(value: float) -> None:
    sound = samples(12, 1.0, 48_000)
    sound[24_000] = value
    reason = decode("x", data=encode_film([sound], 48_000, "mp4", codec="pcm_f32le", container="mov")).reason
    assert "at 0.50 s" in reason


def test_a_scratch_is_no_loss_but_more_is() -> None:
    data = film_bytes("m4a", 13, 20.0)
    start, end = data.index(b"mdat") + 400, len(data) - 20_000
    places = np.random.default_rng(1).permutation(np.arange(start, end, 200))

    def damaged(n_places: int) -> bytes:
        copy = bytearray(data)
        for place in places[:n_places]:
            copy[place : place + 20] = bytes([0xFF] * 20)
        return bytes(copy)

    whole, scratched = good(data), good(damaged(2))
    assert 0 <= whole.duration - scratched.duration < 0.2
    reason = decode("x", data=damaged(300)).reason
    assert re.fullmatch(r"damaged: \d+ of [\d,]+ parts of the sound cannot be decoded", reason)


def test_damage_to_one_picture_is_no_loss() -> None:
    data = film_bytes("avi", 14, 1.0)
    at = data.index(b"00dc") + 8
    damaged = good(data[:at] + bytes([0xFF] * 200) + data[at + 200 :])
    np.testing.assert_array_equal(damaged.samples, good(data).samples)
    assert damaged.shots


def test_tags_of_a_film() -> None:
    tags = {
        "title": "Der Möwe\nRuf",
        "artist": "Küste",
        "album": "Nord",
        "comment": "am Kai",
        "genre": "Field recording",
        "creation_time": "2019-07-14T18:30:05Z",
        "location": "-33.8568+151.2153/",
    }
    decoded = good(film_bytes("mp4", 15, tags=tags))
    assert (decoded.title, decoded.artist, decoded.album) == ("Der Möwe Ruf", "Küste", "Nord")
    assert (decoded.description, decoded.metadata) == ("am Kai", {"genre": "Field recording"})
    assert decoded.captured_at == datetime(2019, 7, 14, 18, 30, 5)
    assert (decoded.latitude, decoded.longitude) == (-33.8568, 151.2153)
    for file_format in ("m4a", "mkv", "webm"):
        decoded = good(film_bytes(file_format, 15, tags=tags))
        assert (decoded.title, decoded.artist, decoded.description) == ("Der Möwe Ruf", "Küste", "am Kai")
    assert good(film_bytes("m4a", 15)).title is None


def test_sixteen_channels() -> None:
    sound = samples(16, 1.0, 16_000, 16)
    wav = good(encode_sound(sound, 16_000, "wav", "FLOAT"))
    film = good(remux(encode_sound(sound, 16_000, "wav", "FLOAT"), "wav", "mov"))
    assert film.channels == 16
    np.testing.assert_allclose(film.samples, wav.samples, atol=1e-6)


def test_a_file_is_decoded_as_its_bytes_are(tmp_path) -> None:
    for file_format in FILM_FORMATS:
        data = film_bytes(file_format, 17, 2.0, 24_000, 2)
        path = tmp_path / f"x.{file_format}"
        path.write_bytes(data)
        np.testing.assert_array_equal(decode(path).samples, good(data).samples)


def test_no_noise(capfd: pytest.CaptureFixture[str]) -> None:
    for file_format in FILM_FORMATS:
        data = film_bytes(file_format, 18, 2.0)
        decode("x", data=data[: len(data) // 2])
        decode("x", data=data[:200] + bytes(300) + data[500:])
    assert capfd.readouterr() == ("", "")


def test_memory_of_a_long_recording(tmp_path: Path) -> None:
    """Its samples, a part of them, and what the decoders themselves take."""
    program = """
import sys
from arrowlens.media import decode

def most_megabytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))

assert decode(sys.argv[1]).reason is None
before = most_megabytes()
samples = decode(sys.argv[2]).samples
print(most_megabytes() - before - samples.nbytes / 2**20)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("the system does not say how much memory a process took")
    clicks = np.zeros((16_000 * 40 * 60, 1), np.float32)
    clicks[::16_000] = 0.5
    for name, sound in (("short", clicks[:16_000]), ("long", clicks)):
        (tmp_path / name).write_bytes(encode_film([sound], 16_000, "m4a"))
    paths = [str(tmp_path / name) for name in ("short", "long")]
    run = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 64  # of samples alone there are 146
