"""Films and AAC recordings for tests, made by ffmpeg. The same call always writes the same bytes."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain, cycle

import av
import numpy as np
from PIL import Image

from tests.support.signals import pixels, samples

# Format -> ffmpeg's container, codec of the sound, codec of the pictures (none for recordings).
_KINDS: dict[str, tuple[str, str, str | None]] = {
    "aac": ("adts", "aac", None),
    "m4a": ("ipod", "aac", None),
    "mp4": ("mp4", "aac", "mpeg4"),
    "mkv": ("matroska", "aac", "mpeg4"),
    "webm": ("webm", "libopus", "libvpx"),
    "avi": ("avi", "pcm_s16le", "mjpeg"),
}
FILM_FORMATS = list(_KINDS)
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
_N_PICTURES = 3


def film_bytes(
    file_format: str,
    seed: int = 0,
    seconds: float = 1.0,
    rate: int = 48_000,
    channels: int = 1,
    *,
    tags: dict[str, str] | None = None,
    n_sounds: int = 1,
    codec: str | None = None,
    container: str | None = None,
) -> bytes:
    """A film with its sound, or an AAC recording; with several sounds, each has its own seed.

    Args:
        file_format: one of ``FILM_FORMATS``.
        seed: of the sound and of the pictures.
        seconds: length of the sound.
        rate: Hz; Opus in WebM takes 48,000 and its whole fractions.
        channels: 1, 2 or 6.
        tags: of the container.
        n_sounds: streams of sound; 0 for a silent film.
        codec: of the sound, instead of the usual one.
        container: as ffmpeg calls it, instead of the usual one.
    """
    sounds = [samples(seed + number, seconds, rate, channels) for number in range(n_sounds)]
    return encode_film(sounds, rate, file_format, tags=tags, codec=codec, container=container)


def encode_film(
    sounds: list[np.ndarray],
    rate: int,
    file_format: str,
    *,
    tags: dict[str, str] | None = None,
    codec: str | None = None,
    container: str | None = None,
) -> bytes:
    """Sounds of (n, channels) samples each, as a film's bytes."""
    usual, sound_codec, picture_codec = _KINDS[file_format]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container or usual, container_options={"fflags": "+bitexact"}) as output:
        output.metadata.update(tags or {})
        video = None
        if picture_codec is not None:
            video = output.add_stream(picture_codec, rate=10, width=96, height=64)
            video.pix_fmt = "yuvj420p" if picture_codec == "mjpeg" else "yuv420p"
            video.thread_count = 1
        layouts = [_LAYOUTS[sound.shape[1]] for sound in sounds]
        streams = [output.add_stream(codec or sound_codec, rate=rate, layout=layout) for layout in layouts]
        for stream in streams:
            stream.codec_context.flags |= av.codec.context.Flags.bitexact.value
        if video is not None:
            frames = [av.VideoFrame.from_ndarray(pixels(seed), format="rgb24") for seed in range(_N_PICTURES)]
            for packet in chain.from_iterable(video.encode(frame) for frame in (*frames, None)):
                output.mux(packet)
        for stream, sound, layout in zip(streams, sounds, layouts, strict=True):
            _mux_sound(output, stream, sound, rate, layout)
    return buffer.getvalue()


def _mux_sound(output, stream, sound: np.ndarray, rate: int, layout: str) -> None:
    for packet in _sound_packets(stream, sound, rate, layout):
        output.mux(packet)


def _sound_packets(stream, sound: np.ndarray, rate: int, layout: str) -> Iterator[av.Packet]:
    context = stream.codec_context
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.T.astype(np.float32)), format="fltp", layout=layout)
    frame.sample_rate, frame.pts = rate, 0
    cutter = av.AudioResampler(context.format, layout, rate, context.frame_size or 1024)
    for part in (*cutter.resample(frame), *cutter.resample(None), None):
        yield from stream.encode(part)


@dataclasses.dataclass(frozen=True)
class Scene:
    """A part of a film.

    Attributes:
        picture: (H, W, 3) uint8 RGB, which drifts slowly to the right.
        seconds: how long it lasts.
        sound: (n,) float32 mono at 48 kHz, repeated or cut to that; None for silence.
    """

    picture: np.ndarray
    seconds: float
    sound: np.ndarray | None = None


def scene_film(
    scenes: Sequence[Scene],
    *,
    container: str = "mp4",
    codec: str = "libx264",
    size: tuple[int, int] = (320, 240),
    rate: int = 25,
    options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    has_sound: bool = True,
    rotation: int = 0,
    every: Sequence[int] = (1,),
) -> bytes:
    """A film of scenes with cuts between them, as bytes.

    Args:
        scenes: in order.
        container: as ffmpeg calls it.
        codec: of the pictures.
        size: width and height in pixels.
        rate: frames a second.
        options: of the codec.
        pix_fmt: of the pictures.
        has_sound: whether there is a stream of sound.
        rotation: degrees counter-clockwise by which a player turns the pictures.
        every: how many times 1 / ``rate`` s frames last, in turn: more than one make a variable frame rate.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, container_options={"fflags": "+bitexact"}) as output:
        video = output.add_stream(codec, rate=rate, width=size[0], height=size[1], options=options or {})
        video.pix_fmt, video.codec_context.thread_count = pix_fmt, 1
        video.codec_context.time_base = Fraction(1, rate)
        if rotation:
            video.set_display_rotation(rotation)
        audio = None
        if has_sound:
            audio = output.add_stream("libopus" if container == "webm" else "aac", rate=48_000, layout="mono")
        packets, at = [], 0
        for scene in scenes:
            end, first, turns = at + round(scene.seconds * rate), at, cycle(every)
            image = np.asarray(Image.fromarray(scene.picture).convert("RGB").resize(size))
            while at < end:
                frame = av.VideoFrame.from_ndarray(np.roll(image, (at - first) // 12, axis=1), format="rgb24")
                frame.pts, frame.time_base = at, Fraction(1, rate)
                packets += video.encode(frame)
                at += next(turns)
        packets += video.encode(None)
        if audio is not None:
            sound = np.concatenate([_as_long(scene.sound, round(scene.seconds * 48_000)) for scene in scenes])
            packets += _sound_packets(audio, sound[:, None], 48_000, "mono")
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)
    return buffer.getvalue()


def _as_long(sound: np.ndarray | None, n_samples: int) -> np.ndarray:
    return np.zeros(n_samples, np.float32) if sound is None else np.resize(sound, n_samples)
