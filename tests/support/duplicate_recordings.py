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
RECODED, LOW_RATE, EDITED = "recoded", "at 8 kHz", "edited"  # the first and the last as of pictures
PIECE = "piece"  # half of a source: of a steady sound, the other half is nearly the same
_N_LONG, _LONG_PARTS = 12, 6


@dataclass(frozen=True, eq=False)
class Sound:
    """One recording's file.

    Attributes:
        name: of the case. samples: (n, channels) float32. rate: Hz. data: its file.
        kind: of a copy: RECODED, LOW_RATE, EDITED; else "source", PIECE or "look-alike".
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


def copies(source: Sound) -> Iterator[Sound]:
    """The same recording in other files."""
    samples, rate = source.samples, source.rate
    for file_format in ("flac", "ogg", "mp3"):
        yield _copy(source, file_format, encode_sound(samples, rate, file_format))
    yield _copy(source, "opus", encode_sound(_at(samples, rate, 48_000), 48_000, "opus"))
    yield _copy(source, "aac", _aac(samples, rate))
    for other in (22_050, 44_100):
        yield _copy(source, f"{other} Hz", encode_sound(_at(samples, rate, other), other, "wav"))
    yield _copy(source, "8000 Hz", encode_sound(_at(samples, rate, 8_000), 8_000, "wav"), LOW_RATE)
    yield _copy(source, "8000 Hz mp3", encode_sound(_at(samples, rate, 8_000), 8_000, "mp3"), LOW_RATE)
    for gain in (0.5, 0.8):
        yield _copy(source, f"gain {gain}", encode_sound(samples * gain, rate, "wav"), EDITED)
    yield _copy(source, "stereo", encode_sound(np.repeat(samples[:, :1], 2, axis=1), rate, "wav"), EDITED)
    yield _copy(source, "0.1 s off", encode_sound(samples[rate // 10 :], rate, "wav"), EDITED)


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


def _aac(samples: np.ndarray, rate: int) -> bytes:
    buffer = io.BytesIO()
    mono = np.ascontiguousarray(samples.mean(axis=1)[None])
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=rate)
        stream.layout, stream.bit_rate = "mono", 64_000
        frame = av.AudioFrame.from_ndarray(mono, format="fltp", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return buffer.getvalue()
