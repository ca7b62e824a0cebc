"""A film's bytes -> its shots, a picture of each, and its sound.

A first pass decodes key frames alone, which stand at cuts or every few seconds, and a coarse copy of each says where
the picture changes. Between two key frames that differ, some of the other frames tell when. A second pass decodes the
one picture of each shot that a model sees. So a film takes a small part of its length, and never more than a few frames
are in memory at full size.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple

import av
import numpy as np
from av.codec.context import Flags
from av.stream import Disposition
from av.video.reformatter import Colorspace, VideoReformatter
from PIL import Image

from arrowlens.errors import MEMORY_REASON, MediaError
from arrowlens.media.decoded import Limits, TooLargeError, is_out_of_memory
from arrowlens.media.downscale import ONE_COLOUR_SPREAD, THUMBNAIL_QUALITY, THUMBNAIL_SIDE, make_thumbnail
from arrowlens.media.ffmpeg import open_container, packets
from arrowlens.media.files import NativeFileAdapter
from arrowlens.media.formats import SNIFF_BYTES, describe_content, sniff
from arrowlens.media.hdr import is_hdr, to_sdr
from arrowlens.media.metadata import About, about_recording
from arrowlens.media.recordings import Recording, read_recording
from arrowlens.media.sounds import SOUND_CODECS, NoSoundError
from arrowlens.media.truncation import check_length, say_length
from arrowlens.memory import trim_memory
from arrowlens.modalities import FORMAT_MODALITY, MAX_SHOT_S, SAMPLE_RATE

SIDE = 448  # pixels of a picture's shorter side where no model says what it takes
STRIP_TILES, STRIP_HEIGHT = 12, 90  # pictures of a strip at most, and its height in pixels
_CODECS = {
    *("h264", "hevc", "libdav1d", "av1", "vp8", "vp9", "libvpx", "libvpx-vp9", "mpeg4", "mpeg1video", "mpeg2video"),
    *("h261", "h263", "h263i", "h263p", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "wmv3", "vc1", "flv"),
    *("mjpeg", "mjpegb", "prores", "dnxhd", "dvvideo", "cinepak", "svq1", "svq3", "theora", "ffv1", "huffyuv"),
    *("ffvhuff", "utvideo", "rawvideo", "qtrle", "rpza", "indeo3", "indeo5", "vp6", "vp6f", "cfhd", "png", "hap"),
}
_N_FRAMES_IN_MEMORY = 3  # of 4.5 bytes a pixel: what a decoder holds of a film, as pixels of a picture
_MOST_KEY_FRAMES = 4_000  # looked at in a film: more than one a second counts in films of an hour only
_SPACING_S = 0.5  # between two frames that are compared, at least
_MOST_SCANS = 100  # stretches between key frames that are looked into
_MOST_KEPT = 200  # pictures between key frames that are kept, and a few more: 60 MB
_ORDINARY_PIXELS = 1280 * 720  # of a shot's picture at most: of larger ones, in the same memory, fewer are taken
_GRID = (16, 16)  # cells of the coarse copy: columns, rows
_CHANGED_CELLS = 0.25  # of the cells: those that change most are compared
_CUT = 24.0  # of 255: mean change of those cells from which it is another shot
_BAD_SHARE = 0.1  # of the key frames may be damaged
_UNSTATED, _HD_ROWS = 2, 720  # colours of large frames that do not say theirs are those of HD
_UNSEEN_S = MAX_SHOT_S + 0.5  # between key frames that are alike; what happens meanwhile is not seen
_DEFAULT_LIMITS = Limits()
_LATE_S = 0.05  # a frame this much before the one that is asked for is the same one


class Shot(NamedTuple):
    """A part of a film in seconds from its start, and the moment that stands for it."""

    start_s: float
    end_s: float
    at_s: float


@dataclass(frozen=True)
class Film:
    """What a film's file holds; the fields are those of ``Decoded``."""

    shots: tuple[Shot, ...]
    frames: tuple[np.ndarray, ...]
    """(H, W, 3) uint8 RGB, upright, for each shot."""
    width: int
    height: int
    duration: float
    trivial: bool
    about: About
    thumbnail: bytes | None = None
    strip: bytes | None = None
    samples: np.ndarray | None = None
    decoded_rate: int = SAMPLE_RATE
    sample_rate: int | None = None
    channels: int | None = None
    sound_missing: str | None = None


def read_film(
    file: BinaryIO,
    size: int,
    file_format: str,
    limits: Limits,
    *,
    side: int | None = None,
    sample_rate: int = SAMPLE_RATE,
    sound: bool = True,
    pictures: bool = True,
) -> Film | None:
    """Decode a picture of each shot, and the sound.

    Args:
        file: its bytes, seekable.
        size: how many.
        file_format: as ``formats.sniff`` gives it.
        limits: of pixels, of seconds of sound, and of shots.
        side: pixels of the pictures' shorter side; None for ``SIDE``. They are never enlarged.
        sample_rate: of the sound, in Hz.
        sound: whether to read it.
        pictures: whether to look for shots.

    Returns:
        None for a file without moving pictures: it is a recording, perhaps with a cover.

    Raises:
        TooLargeError: frames of too many pixels, or sound that is too long.
        MediaError: truncated or damaged; one line for a user.
    """
    check_length(file, size, file_format)
    file.seek(0)
    reader = FilmReader.opened(NativeFileAdapter(file), file_format)
    if reader is None:
        return None
    with closing(reader):
        _check_frames(reader, limits)
        hears = sound and reader.has_sound
        if hears and (reader.duration or 0.0) > limits.max_seconds:  # before pictures are decoded in vain
            raise TooLargeError(
                f"{say_length(reader.duration or 0.0)} is over the limit of {say_length(limits.max_seconds)}"
            )
        film = _seen(reader, side or SIDE, limits) if pictures else _unseen(reader)
    if not hears:
        return film
    del reader  # its decoder would keep its frames beside the sound: 200 MB in 4K
    trim_memory()  # and the allocator 50 MB
    return _with_sound(film, file, size, file_format, limits, sample_rate)


def read_moment(
    opened: Callable[[], AbstractContextManager[BinaryIO]],
    start_s: float,
    end_s: float,
    limits: Limits = _DEFAULT_LIMITS,
) -> bytes:
    """Return the thumbnail of a moment of a film, a JPEG of at most ``THUMBNAIL_SIDE`` pixels.

    Args:
        opened: opens the film, seekable.
        start_s: of the moment, in seconds.
        end_s: likewise.
        limits: of pixels.

    Raises:
        MediaError: it is no film, or cannot be decoded; one line for a user.
    """
    try:
        with opened() as file:
            head = file.read(SNIFF_BYTES)
            file.seek(0)
            file_format = sniff(head)
            if file_format is None or FORMAT_MODALITY[file_format] != "video":
                raise MediaError(f"not a film: the content is {describe_content(head)}")
            reader = FilmReader.opened(NativeFileAdapter(file), file_format)
            if reader is None:
                raise MediaError("not a film: there are no moving pictures in it")
            with closing(reader):
                _check_frames(reader, limits)
                return make_thumbnail(reader.picture_between(start_s, end_s, THUMBNAIL_SIDE))
    except MediaError:
        raise
    except Exception as error:  # decoders of damaged files raise anything
        reason = f"damaged: it cannot be decoded ({error or type(error).__name__})"
        raise MediaError(MEMORY_REASON if is_out_of_memory(error) else reason) from error


def _check_frames(reader: FilmReader, limits: Limits) -> None:
    if reader.n_pixels * _N_FRAMES_IN_MEMORY > limits.max_pixels:
        most = limits.max_pixels // _N_FRAMES_IN_MEMORY
        raise TooLargeError(f"frames of {reader.n_pixels:,} pixels are over the limit of {most:,} for films")


def _unseen(reader: FilmReader) -> Film:
    about = about_recording(reader.tags)
    return Film((), (), reader.width, reader.height, reader.length_s, trivial=True, about=about)


def _seen(reader: FilmReader, side: int, limits: Limits) -> Film:
    """The film with its shots."""
    shots = reader.shots(limits.max_shots, side)
    reader.keep_only({shot.at_s for shot in shots})
    frames = reader.pictures([shot.at_s for shot in shots], side)
    pictures = [(shot, frame) for shot, frame in zip(shots, frames, strict=True) if frame is not None]
    if not pictures:
        raise MediaError("damaged: none of its pictures can be decoded")
    colourful = [pair for pair in pictures if np.ptp(pair[1], axis=(0, 1)).max() > ONE_COLOUR_SPREAD]
    kept = colourful or pictures[:1]  # a film is not found by the black between two scenes
    return replace(
        _unseen(reader),
        shots=tuple(shot for shot, _ in kept),
        frames=tuple(frame for _, frame in kept),
        trivial=not colourful,
        thumbnail=_thumbnail([frame for _, frame in kept]),
        strip=make_strip([frame for _, frame in kept]),
    )


def _with_sound(film: Film, file: BinaryIO, size: int, file_format: str, limits: Limits, sample_rate: int) -> Film:
    try:
        heard: Recording = read_recording(file, size, file_format, limits, fingerprint=False, sample_rate=sample_rate)
    except NoSoundError as error:
        return replace(film, sound_missing=str(error))
    return replace(
        film,
        duration=max(film.duration, heard.duration),
        trivial=film.trivial and heard.trivial,
        samples=heard.samples,
        decoded_rate=heard.decoded_rate,
        sample_rate=heard.sample_rate,
        channels=heard.channels,
    )


class FilmReader:
    """The pictures of an opened film.

    Attributes:
        width: of the upright picture as it is shown, in pixels.
        height: likewise.
        n_pixels: of a frame as it is stored.
        duration: seconds that the container states; None when it does not say.
        has_sound: whether there is a stream of sound.
        tags: of the container.
    """

    def __init__(self, file: NativeFileAdapter, container: Any, stream: Any) -> None:  # noqa: ANN401 - PyAV's
        self._file, self._container, self._stream = file, container, stream
        context = stream.codec_context
        context.thread_type, context.thread_count = "AUTO", 2
        context.flags |= Flags.copy_opaque.value
        self.n_pixels = context.width * context.height
        self.has_sound = len(container.streams.audio) > 0
        self.tags: dict[str, str] = {**stream.metadata, **container.metadata}
        self.duration = self._stated_duration()
        self._start_s = (container.start_time or 0) / av.time_base
        self._aspect = float(stream.sample_aspect_ratio or Fraction(1)) or 1.0
        self._last_s = 0.0
        # One scaler for each purpose: each frame would make its own.
        self._reduce, self._draw = VideoReformatter(), VideoReformatter()
        self._kept: dict[float, np.ndarray] = {}  # pictures of frames that were decoded by the way
        self.width, self.height = context.width, context.height

    @classmethod
    def opened(cls, file: NativeFileAdapter, file_format: str) -> FilmReader | None:
        """Open a film; None for a file without moving pictures.

        Raises:
            MediaError: damaged, or of a form that is not read.
        """
        container = open_container(file, file_format, _CODECS | SOUND_CODECS)
        still = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
        streams = [stream for stream in container.streams.video if not stream.disposition & still]
        if not streams:
            container.close()
            return None
        best = container.streams.best("video")
        stream = best if best in streams else streams[0]
        name = stream.codec_context.name if stream.codec_context is not None else "unknown"
        if name not in _CODECS or not stream.codec_context.width:
            container.close()
            raise MediaError(f"its pictures are in a form that is not read ({name})")
        return cls(file, container, stream)

    @property
    def length_s(self) -> float:
        """Seconds of the film: what is stated, or else what was seen."""
        return self.duration if self.duration else self._last_s

    def close(self) -> None:
        """Let go of the decoder."""
        self._container.close()

    def shots(self, most: int, side: int) -> list[Shot]:
        """Return the shots in order of time: none longer than ``MAX_SHOT_S``, at most ``most``, evenly thinned.

        Args:
            most: how many, of pictures with no more pixels than 1280 x 720; of larger ones, as many as have the pixels
                of those.
            side: of the pictures that ``pictures`` will be asked for.

        Raises:
            MediaError: damaged.
        """
        looks = list(self._key_frames())
        if not looks:
            raise MediaError("damaged: none of its pictures can be decoded")
        width, height = _reduced(self.width, self.height, side)
        share = min(1.0, _ORDINARY_PIXELS / (width * height))
        most = max(1, int(most * share))
        looks = self._with_others(looks, side, max(1, int(_MOST_KEPT * share)))
        shots = _shots(looks, max(self.length_s, looks[-1].time_s))
        if len(shots) <= most:
            return shots
        return [shots[int(place)] for place in np.linspace(0, len(shots) - 1, most)]

    def pictures(self, times: Iterable[float], side: int) -> Iterator[np.ndarray | None]:
        """Decode the frames at some times, rising, in seconds.

        Args:
            times: those of shots, ``Shot.at_s``, or of other key frames.
            side: pixels of the shorter side at most.

        Yields:
            (H, W, 3) uint8 RGB, upright, with square pixels and an ordinary range of brightness; None for a frame that
            is damaged.
        """
        for time_s in times:
            if time_s in self._kept:
                yield self._kept[time_s]
            else:
                frame = self._key_frame_at(time_s)
                yield None if frame is None else self._picture(frame, side)

    def picture_between(self, start_s: float, end_s: float, side: int) -> np.ndarray:
        """Decode the key frame that is nearest the middle of a part of the film, or else the frame at its middle.

        Args:
            start_s: of the part. end_s: likewise.
            side: as of ``pictures``.

        Returns:
            (H, W, 3) uint8 RGB, as ``pictures`` gives them.

        Raises:
            MediaError: no frame is there, or it cannot be decoded.
        """
        middle_s = (start_s + end_s) / 2
        keys = list(self._key_times(start_s, end_s))
        frame = self._key_frame_at(_nearest(keys, middle_s)) if keys else None
        frame = self._frame_at(middle_s) if frame is None else frame
        if frame is None:
            raise MediaError(f"damaged: there is no picture at {middle_s:.1f} s")
        return self._picture(frame, side)

    def keep_only(self, times: Set[float]) -> None:
        """Let go of the pictures that were decoded by the way, but for those at some times."""
        self._kept = {time_s: picture for time_s, picture in self._kept.items() if time_s in times}

    # -- what is looked at ----------------------------------------------------------------------------------------

    def _key_frames(self) -> Iterator[_Look]:
        """Look at key frames that are some time apart.

        Raises:
            MediaError: too many are damaged.
        """
        spacing, last_s = max(_SPACING_S, (self.duration or 0.0) / _MOST_KEY_FRAMES), -math.inf
        n_packets = n_bad = 0
        self._stream.codec_context.skip_frame = "NONKEY"
        for packet in self._packets():
            time_s = self._seconds(packet)
            self._last_s = max(self._last_s, time_s or 0.0)
            is_wanted = packet.is_keyframe and (time_s is None or time_s - last_s >= spacing)
            if packet.size and not is_wanted:
                continue
            n_packets += 1
            packet.opaque = time_s  # of frames among which others are missing, decoders give wrong times
            frames = self._decode(packet)
            if frames is None:
                n_bad += 1
                continue
            last_s = last_s if time_s is None else time_s
            yield from (self._look(frame, has_picture=True) for frame in frames)
        if n_bad > 1 + _BAD_SHARE * n_packets:
            raise MediaError(f"damaged: {n_bad:,} of {n_packets:,} pictures cannot be decoded")

    def _with_others(self, looks: list[_Look], side: int, most: int) -> list[_Look]:
        """Look between key frames that are far apart, where the picture has changed, or may have meanwhile.

        Args:
            looks: at key frames.
            side: of pictures that are kept.
            most: pictures that are kept, and a few more.
        """
        gaps = []
        for one, other in pairwise([*looks, replace(looks[-1], time_s=self.length_s)]):
            gap_s = other.time_s - one.time_s
            is_unseen = gap_s > _UNSEEN_S or one is looks[-1]
            if gap_s > 2 * _SPACING_S and (is_unseen or _change(one, other) >= _CUT):
                gaps.append((_change(one, other), one, other.time_s))
        others: list[_Look] = []
        for _, key, end_s in sorted(gaps, key=lambda gap: -gap[0])[:_MOST_SCANS]:
            if len(self._kept) < most:
                others += self._between(key, end_s, side, most)
        return sorted([*looks, *others], key=lambda look: look.time_s)

    def _between(self, key: _Look, end_s: float, side: int, most: int) -> Iterator[_Look]:
        """Look at frames that others depend on, between a key frame and the next one."""
        self._stream.codec_context.skip_frame = "NONREF"
        self._seek(key.time_s)
        spacing_s = max(_SPACING_S, (end_s - key.time_s) / most)
        last, kept_s = key, key.time_s
        for packet in self._packets():
            for frame in self._decode(packet) or ():
                time_s = self._time(frame)
                if time_s >= end_s - _LATE_S:
                    return
                if time_s - last.time_s >= spacing_s:
                    look = self._look(frame, has_picture=False)
                    if _change(last, look) >= _CUT or time_s - kept_s >= MAX_SHOT_S:
                        # To come here again would take as long as to come here now.
                        self._kept[time_s], kept_s = self._picture(frame, side), time_s
                        look = replace(look, has_picture=True)
                    yield (last := look)

    def _look(self, frame: Any, *, has_picture: bool) -> _Look:  # noqa: ANN401 - PyAV's
        columns, rows = _GRID
        small = self._reduce.reformat(frame, 4 * columns, 4 * rows, "rgb24", interpolation="AREA").to_ndarray()
        cells = small.reshape(rows, 4, columns, 4, 3).mean(axis=(1, 3), dtype=np.float32)
        self._last_s = max(self._last_s, self._time(frame))
        shown = round(frame.width * self._aspect), frame.height
        self.width, self.height = shown[::-1] if frame.rotation % 180 else shown
        return _Look(self._time(frame), has_picture, cells)

    # -- single frames --------------------------------------------------------------------------------------------

    def _key_frame_at(self, time_s: float) -> Any:  # noqa: ANN401 - PyAV's, or None
        """The key frame at a time; None where it cannot be decoded."""
        self._stream.codec_context.skip_frame = "NONKEY"
        for back_s in (0.0, MAX_SHOT_S, 4 * MAX_SHOT_S):  # some containers have a poor index
            self._seek(max(0.0, time_s - back_s))
            for packet in self._packets():
                at_s = self._seconds(packet)
                if packet.size and (not packet.is_keyframe or (at_s is not None and at_s < time_s - _LATE_S)):
                    continue
                if at_s is not None and at_s > time_s + _LATE_S:
                    break  # it began too late
                packet.opaque = at_s
                frames = [*(self._decode(packet) or ()), *(self._decode(None) or ())]
                return frames[0] if frames else None
        return None

    def _key_times(self, start_s: float, end_s: float) -> Iterator[float]:
        """Seconds of the key frames in a part of the film; none are decoded."""
        self._seek(start_s)
        for packet in self._packets():
            at_s = self._seconds(packet)
            if at_s is not None and at_s >= end_s:
                return
            if packet.is_keyframe and at_s is not None and at_s >= start_s - _LATE_S:
                yield at_s

    def _frame_at(self, time_s: float) -> Any:  # noqa: ANN401 - PyAV's, or None
        """The first frame from a time on, or the last one where the film ends before; None where none is decoded."""
        self._stream.codec_context.skip_frame = "NONREF"
        self._seek(time_s)
        last = None
        for packet in self._packets():
            for last in self._decode(packet) or ():
                if self._time(last) >= time_s - _LATE_S:
                    return last
        return last

    def _picture(self, frame: Any, side: int) -> np.ndarray:  # noqa: ANN401 - PyAV's
        """(H, W, 3) uint8 RGB."""
        width, height = _reduced(round(frame.width * self._aspect), frame.height, side)
        space = Colorspace.ITU709 if frame.colorspace == _UNSTATED and frame.height >= _HD_ROWS else None
        if frame.interlaced_frame:  # two moments: the first one's rows
            rows = self._draw.reformat(frame, format="rgb24", src_colorspace=space).to_ndarray()[::2]
            pixels = np.asarray(Image.fromarray(rows).resize((width, height), Image.Resampling.BICUBIC))
        else:
            drawn = self._draw.reformat(frame, width, height, "rgb24", src_colorspace=space, interpolation="BICUBIC")
            pixels = drawn.to_ndarray()
        if is_hdr(frame.color_trc):
            pixels = to_sdr(pixels, frame.color_trc)
        return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))

    # -- the container --------------------------------------------------------------------------------------------

    def _stated_duration(self) -> float | None:
        if self._container.duration is not None:
            return float(self._container.duration / av.time_base)
        if self._stream.duration is not None and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        return None

    def _seek(self, time_s: float) -> None:
        with suppress(av.FFmpegError):  # read on from where it is; _frame_at sees whether that leads there
            self._container.seek(round((time_s + self._start_s) / self._stream.time_base), stream=self._stream)

    def _packets(self) -> Iterator[Any]:
        return packets(self._container, self._stream, self._file)

    def _decode(self, packet: Any) -> list[Any] | None:  # noqa: ANN401 - PyAV's
        """The frames that a packet completes, or the last ones for None; None where it is damaged."""
        try:
            return list(self._stream.decode(packet))
        except EOFError:
            return []
        except (av.FFmpegError, ValueError):
            return None

    def _seconds(self, packet: Any) -> float | None:  # noqa: ANN401 - PyAV's
        stamp = packet.pts if packet.pts is not None else packet.dts
        return None if stamp is None else float(stamp * self._stream.time_base) - self._start_s

    def _time(self, frame: Any) -> float:  # noqa: ANN401 - PyAV's
        if frame.opaque is not None:
            return float(frame.opaque)
        stamp = frame.pts if frame.pts is not None else frame.dts
        return 0.0 if stamp is None else float(stamp * self._stream.time_base) - self._start_s


@dataclass(frozen=True, eq=False, slots=True)
class _Look:
    """A frame.

    Attributes:
        time_s: seconds from the start.
        has_picture: its picture is quick to have: it is a key frame, or its picture was kept.
        cells: (rows, columns, 3) float32, the mean colours of its parts.
    """

    time_s: float
    has_picture: bool
    cells: np.ndarray


def _reduced(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height when the shorter of them is ``side`` at most."""
    scale = min(1.0, side / min(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _change(one: _Look, other: _Look) -> float:
    """How much a picture differs from another: the mean change of the quarter of its cells that changes most."""
    change = np.abs(one.cells - other.cells).mean(axis=2).ravel()
    n = round(_CHANGED_CELLS * len(change))
    return float(np.partition(change, -n)[-n:].mean())


def _shots(looks: Sequence[_Look], length_s: float) -> list[Shot]:
    """Cut a film where the picture changes, and what is longer than ``MAX_SHOT_S`` into equal parts."""
    starts = [0, *(place for place in range(1, len(looks)) if _change(looks[place - 1], looks[place]) >= _CUT)]
    times = [look.time_s for look in looks]
    shots = []
    for first, stop in zip(starts, [*starts[1:], len(looks)], strict=True):
        start_s = times[first] if first else 0.0
        end_s = max(times[stop] if stop < len(looks) else length_s, start_s)
        n_parts = max(1, math.ceil((end_s - start_s) / MAX_SHOT_S - 1e-6))
        edges = np.linspace(start_s, end_s, n_parts + 1).tolist()
        keys = [look.time_s for look in looks[first:stop] if look.has_picture] or [times[first]]
        shots += [Shot(*edge, _nearest(keys, sum(edge) / 2)) for edge in pairwise(edges)]
    return shots


def _nearest(times: Sequence[float], wanted_s: float) -> float:
    return min(times, key=lambda time_s: abs(time_s - wanted_s))


def _thumbnail(frames: Sequence[np.ndarray]) -> bytes:
    """A JPEG of the picture with the most contrast."""
    return make_thumbnail(max(frames, key=lambda frame: float(frame[::4, ::4].std())))


def make_strip(frames: Sequence[np.ndarray]) -> bytes:
    """A JPEG of pictures side by side, ``STRIP_HEIGHT`` high: at most ``STRIP_TILES``, evenly spaced."""
    places = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), STRIP_TILES)).round().astype(int))
    tiles = [Image.fromarray(frames[place]) for place in places]
    tiles = [tile.resize((max(1, round(tile.width * STRIP_HEIGHT / tile.height)), STRIP_HEIGHT)) for tile in tiles]
    strip = Image.new("RGB", (sum(tile.width for tile in tiles), STRIP_HEIGHT))
    left = 0
    for tile in tiles:
        strip.paste(tile, (left, 0))
        left += tile.width
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
    return buffer.getvalue()
