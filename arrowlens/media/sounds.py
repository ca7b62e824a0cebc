"""Two decoders of sound behind one face: libsndfile, and ffmpeg for what it does not read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Protocol

import av
import numpy as np
import soundfile

from arrowlens.errors import MediaError
from arrowlens.media.ffmpeg import DEMUXERS, open_container, packets
from arrowlens.media.files import NativeFileAdapter
from arrowlens.media.truncation import TRUNCATION_TOLERANCE, say_length

_VALUES_AT_ONCE = 1 << 19  # frames times channels of a block, 2 MB
_UNKNOWN_FRAMES = 1 << 62
# Of a recording nothing but its sound is ever decoded.
SOUND_CODECS = {
    *("aac", "aac_latm", "ac3", "alac", "amrnb", "amrwb", "dca", "eac3", "flac", "libopus", "mp2", "mp2float", "mp3"),
    *("mp3float", "opus", "truehd", "vorbis", "wmav1", "wmav2", "wmapro", "adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt"),
    *(f"pcm_{kind}" for kind in ("u8", "s8", "s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be")),
    *(f"pcm_{kind}" for kind in ("f64le", "f64be", "alaw", "mulaw", "bluray", "dvd")),
}
_FILM_TOLERANCE = 1.0  # s; containers round, and leave out what an edit cut away
_BAD_SHARE = 0.01  # of a film's sound may be undecodable: a scratch, not a loss


class NoSoundError(MediaError):
    """A container without sound, or with sound in a form that is not read."""


class Sound(Protocol):
    """An opened recording."""

    rate: int
    """Hz."""
    channels: int
    promised: float | None
    """Seconds that the file states; None when it does not say."""
    slack: float
    """Seconds that may be missing of them."""
    tags: Mapping[str, str]

    def blocks(self) -> Iterator[np.ndarray]:
        """Blocks of (n, channels) float32, which may lie in the same memory each time."""

    def close(self) -> None:
        """Let go of the decoder."""


def open_sound(tape: NativeFileAdapter, file_format: str) -> Sound:
    """Open a recording with the decoder that reads its format.

    Raises:
        MediaError: damaged, or without sound; one line for a user.
    """
    return AVReader(tape, file_format) if file_format in DEMUXERS else PlainSound(tape, file_format)


class PlainSound:
    """A recording that libsndfile reads: WAV, FLAC, MP3, OGG, Opus."""

    def __init__(self, tape: NativeFileAdapter, file_format: str) -> None:
        try:
            self._sound = soundfile.SoundFile(tape)
        except soundfile.LibsndfileError as error:
            tape.check()
            # The library's words are about its own insides, and wrong for MP3 ("file does not exist").
            raise MediaError(f"damaged or truncated: the {file_format.upper()} header cannot be read") from error
        self._tape = tape
        self.rate: int = self._sound.samplerate
        self.channels: int = self._sound.channels
        known = self._sound.frames < _UNKNOWN_FRAMES and self.rate > 0
        self.promised = self._sound.frames / self.rate if known else None
        self.slack = TRUNCATION_TOLERANCE
        self.tags: Mapping[str, str] = self._sound.copy_metadata()

    def blocks(self) -> Iterator[np.ndarray]:
        """Blocks of (n, channels) float32, the same memory each time.

        Raises:
            MediaError: damaged, with how much of it could be read.
        """
        memory = np.empty((max(1, _VALUES_AT_ONCE // self.channels), self.channels), np.float32)
        n_frames = 0
        while True:
            try:
                block = self._sound.read(out=memory)
            except soundfile.LibsndfileError as error:
                self._tape.check()
                words = str(error.error_string).removeprefix("Error : ").rstrip(".")
                raise _broken_off(n_frames / self.rate, self.promised, words) from error
            self._tape.check()
            if len(block) == 0:
                return
            n_frames += len(block)
            yield block

    def close(self) -> None:
        """Let go of the decoder."""
        self._sound.close()


class AVReader:
    """The sound of a container that ffmpeg reads: of several, the one that ffmpeg holds for the main one.

    Encoder delay is left out as the container states it. Sound is taken as one piece: gaps between its parts, and a
    start later than the picture's, are not filled.
    """

    def __init__(self, tape: NativeFileAdapter, file_format: str) -> None:
        self._container = open_container(tape, file_format, SOUND_CODECS)
        self._tape = tape
        self._stream = self._main_stream(file_format)
        self._stream.codec_context.thread_count = 1
        self._frames = self._decode()
        first = next(self._frames, None)
        if first is None:
            raise NoSoundError("the recording is empty (0 samples)")
        self._first = first
        self.rate: int = first.sample_rate
        self.channels: int = first.layout.nb_channels
        self.promised = self._promised(file_format)
        self.slack = _FILM_TOLERANCE + _BAD_SHARE * (self.promised or 0.0)
        self.tags: Mapping[str, str] = {**self._stream.metadata, **self._container.metadata}

    def blocks(self) -> Iterator[np.ndarray]:
        """Blocks of (n, channels) float32.

        Raises:
            MediaError: damaged, or its sample rate changes.
        """
        packer, kind = None, None
        for frame in chain([self._first], self._frames):
            if frame.sample_rate != self.rate:
                raise MediaError(f"the sample rate changes from {self.rate:,} to {frame.sample_rate:,} Hz")
            if kind != (kind := (frame.format.name, frame.layout.name)):
                yield from self._pack(packer, None)
                # Packed samples: PyAV reads past the planes of a frame with eight or more.
                packer = av.AudioResampler(format="flt", frame_size=_VALUES_AT_ONCE // frame.layout.nb_channels)
            yield from self._pack(packer, frame)
        yield from self._pack(packer, None)

    def close(self) -> None:
        """Let go of the decoder."""
        self._container.close()

    def _main_stream(self, file_format: str) -> av.AudioStream:
        stream = self._container.streams.best("audio")
        if stream is None and file_format == "aac":
            raise MediaError("damaged or truncated: there is no whole frame of sound")
        if stream is None:
            raise NoSoundError(f"the {'recording' if file_format == 'm4a' else 'film'} has no sound")
        assert isinstance(stream, av.AudioStream)
        name = stream.codec_context.name if stream.codec_context is not None else "unknown"
        if name not in SOUND_CODECS:
            raise NoSoundError(f"its sound is in a form that is not read ({name})")
        return stream

    def _promised(self, file_format: str) -> float | None:
        if file_format == "aac":
            return None  # ffmpeg guesses
        if self._stream.duration is not None and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        duration = self._container.duration
        return None if duration is None else duration / av.time_base

    def _decode(self) -> Iterator[av.AudioFrame]:
        """Its frames; a few packets may be damaged.

        Raises:
            MediaError: too many of them.
        """
        n_packets, n_bad, error = 0, 0, None
        for packet in packets(self._container, self._stream, self._tape):
            n_packets += 1
            try:
                yield from self._stream.decode(packet)
            except (av.FFmpegError, ValueError) as caught:
                n_bad, error = n_bad + 1, caught
        if n_bad > 1 + _BAD_SHARE * n_packets:  # one is cut off at the end of many
            raise MediaError(f"damaged: {n_bad:,} of {n_packets:,} parts of the sound cannot be decoded") from error

    @staticmethod
    def _pack(packer: av.AudioResampler | None, frame: av.AudioFrame | None) -> Iterator[np.ndarray]:
        """What is complete of the packed blocks, after one more frame; all of it after None."""
        for packed in packer.resample(frame) if packer is not None else ():
            n_channels = packed.layout.nb_channels
            values = np.frombuffer(memoryview(packed.planes[0]), np.float32, packed.samples * n_channels)
            yield values.reshape(-1, n_channels)


def _broken_off(there: float, promised: float | None, words: str) -> MediaError:
    of = f" of {say_length(promised)}" if promised else ""
    return MediaError(f"truncated or damaged after {say_length(there)}{of} ({words})")
