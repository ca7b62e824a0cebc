"""Recordings to measure the search for duplicates on: sources, copies of them, and what only sounds alike.

Everything is made from the bundled samples; the same call always gives the same sounds.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr

from tests.support.media_factory import encode_sound

SAMPLES = Path("arrowlens/demo/samples/sounds")
DIGITS = Path(__file__).parents[3] / "shared" / "data" / "digits"
RECODED, LOW_RATE, EDITED = "recoded", "at 8 kHz", "edited"  # the first and the last as of pictures
NEAR = "near"  # a part of a source, or with noise on top
N_TAKES = 100
PIECE = "piece"  # half of a source: of a steady sound, the other half is nearly the same
_N_LONG, _LONG_PARTS = 12, 6


@dataclass(frozen=True, eq=False)
class Sound:
    """One recording's file.

    Attributes:
        name: of the case. samples: (n, channels) float32. rate: Hz. data: its file.
        kind: of a copy: RECODED, LOW_RATE, EDITED; NEAR; else "source", PIECE or "look-alike".
    """

    name: str
    samples: np.ndarray
    rate: int
    data: bytes
    kind: str = "source"


def sources() -> Iterator[Sound]:
    """The bundled sounds, and some of them one after another, longer than a window."""
    sounds = []
    for path in sorted(SAMPLES.iterdir()):
        samples, rate = soundfile.read(path, always_2d=True, dtype="float32")
        sounds.append((np.clip(samples, -1, 1), rate))
        yield _sound(path.stem, *sounds[-1])
    rng = np.random.default_rng(0)
    for number in range(_N_LONG):
        chosen = rng.choice(len(sounds), _LONG_PARTS, replace=False)
        parts = [soxr.resample(sounds[at][0].mean(axis=1), sounds[at][1], 16_000) for at in chosen]
        yield _sound(f"medley-{number}", np.clip(np.concatenate(parts), -1, 1)[:, None], 16_000)


def takes(step: int = 1) -> Iterator[Sound]:
    """Recordings of the same kind of which none is another: rain after rain, and spoken digits where they are there.

    Args:
        step: divides the numbers of 100 rains and 300 digits; of a digit and a speaker all five takes come together.
    """
    for number in range(0, N_TAKES, step):
        yield _sound(f"rain take-{number}", _rain(number)[:, None], 16_000)
    paths = sorted(DIGITS.glob("*.wav"))
    for path in paths[: len(paths) // step]:
        samples, rate = soundfile.read(path, always_2d=True, dtype="float32")
        yield _sound(f"digit-{path.stem}", samples, rate)


def _rain(number: int) -> np.ndarray:
    """Five seconds of drops over a bed of noise: the same for the ear, another one sample by sample."""
    rng = np.random.default_rng((11, number))
    n = 5 * 16_000
    drops = (rng.random(n) < 0.006) * rng.exponential(1.0, n)
    kernel = rng.standard_normal(200) * np.exp(-np.arange(200) / 50)
    bed = np.convolve(rng.standard_normal(n), [0.5, -0.5], "same")
    wave = bed + 3 * np.convolve(drops, kernel)[:n]
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


def copies(source: Sound) -> Iterator[Sound]:
    """The same recording in other files, and parts of it."""
    samples, rate = source.samples, source.rate
    for file_format in ("flac", "ogg"):
        yield _copy(source, file_format, encode_sound(samples, rate, file_format))
    mono = np.ascontiguousarray(samples.mean(axis=1))
    for kbit in (64, 128, 320):
        yield _copy(source, f"mp3 {kbit}", encode_with_av(_at(mono, rate, 44_100), 44_100, "mp3", "libmp3lame", kbit))
    yield _copy(source, "opus 32", encode_with_av(_at(mono, rate, 48_000), 48_000, "webm", "libopus", 32))
    yield _copy(source, "aac 96", encode_with_av(_at(mono, rate, 44_100), 44_100, "mp4", "aac", 96))
    for other in (16_000, 22_050, 44_100):
        yield _copy(source, f"{other} Hz", encode_sound(_at(samples, rate, other), other, "wav"))
    yield _copy(source, "8000 Hz", encode_sound(_at(samples, rate, 8_000), 8_000, "wav"), LOW_RATE)
    yield _copy(source, "8000 Hz mp3", encode_sound(_at(samples, rate, 8_000), 8_000, "mp3"), LOW_RATE)
    for name, gain in (("+6 dB", 2.0), ("-6 dB", 0.5)):
        yield _copy(source, name, encode_sound(np.clip(samples * gain, -1, 1), rate, "wav"), EDITED)
    late = np.pad(samples, ((rate // 2, 0), (0, 0)))
    yield _copy(source, "half a second of silence before", encode_sound(late, rate, "wav"), EDITED)
    yield _copy(source, "stereo", encode_sound(np.repeat(samples[:, :1], 2, axis=1), rate, "wav"), EDITED)
    n = len(samples)
    parts = {"the last tenth cut": samples[: n * 9 // 10], "the last fifth cut": samples[: n * 4 // 5]}
    parts |= {"the first fifth cut": samples[n // 5 :], "a tenth cut at each end": samples[n // 10 : n * 9 // 10]}
    loudness = float(np.sqrt(np.mean(samples**2)))
    hiss = np.random.default_rng(5).standard_normal(samples.shape).astype(np.float32)
    parts["noise at 20 dB"] = np.clip(samples + 0.1 * loudness * hiss, -1, 1)
    for name, part in parts.items():
        yield _copy(source, name, encode_sound(part, rate, "wav"), NEAR)


def look_alikes(source: Sound) -> Iterator[Sound]:
    """Halves of a source, and the whole of it an eighth faster."""
    half = len(source.samples) // 2
    yield _other(source, "first half", source.samples[:half], PIECE)
    yield _other(source, "second half", source.samples[half:], PIECE)
    faster = _at(source.samples, source.rate, source.rate * 8 // 9)
    yield _other(source, "faster", faster, "look-alike")


def _sound(name: str, samples: np.ndarray, rate: int) -> Sound:
    return Sound(name, samples, rate, encode_sound(samples, rate, "wav"))


def _copy(source: Sound, change: str, data: bytes, kind: str = RECODED) -> Sound:
    return Sound(f"{source.name}: {change}", source.samples, source.rate, data, kind)


def _other(source: Sound, change: str, samples: np.ndarray, kind: str) -> Sound:
    return Sound(f"{source.name}: {change}", samples, source.rate, encode_sound(samples, source.rate, "wav"), kind)


def _at(samples: np.ndarray, rate: int, other: int) -> np.ndarray:
    """At another rate; clipped, since a filter overshoots."""
    return np.clip(soxr.resample(samples, rate, other), -1, 1)


def encode_with_av(mono: np.ndarray, rate: int, container: str, codec: str, kbit: int) -> bytes:
    """(n,) float32 samples as a file's bytes, by an encoder of ffmpeg at a bit rate."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.layout, stream.bit_rate = "mono", 1000 * kbit
        frame = av.AudioFrame.from_ndarray(mono[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        converted = av.AudioResampler(stream.codec_context.format, "mono", rate)
        for part in [*converted.resample(frame), *converted.resample(None)]:
            for packet in stream.encode(part):
                output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)
    return buffer.getvalue()
