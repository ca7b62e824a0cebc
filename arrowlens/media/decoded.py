"""What decoding gives, and how much it may take."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from arrowlens.errors import MediaError
from arrowlens.modalities import MAX_SHOTS, SAMPLE_RATE, Modality

if TYPE_CHECKING:
    from arrowlens.media.acoustic_fingerprint import AcousticFingerprint
    from arrowlens.media.films import Shot

AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]


_OUT_OF_MEMORY = re.compile(r"out of memory|cannot allocate|memory allocation|malloc failed", re.IGNORECASE)
# What decoding takes: bytes for a pixel of a picture that is reduced while it is decoded, or kept in full.
PIXEL_BYTES, EXACT_PIXEL_BYTES = 4.5, 8.0
_BESIDE_A_LARGE_FILE = 180_000_000  # bytes: an idle process, the file itself, and working memory


class TooLargeError(MediaError):
    """A picture of more pixels, a recording of more seconds, or a file that needs more memory than is allowed."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one that it came from, says that there was no more memory.

    Decoders have no common error for that: some raise ``MemoryError``, others say it in their own words.
    """
    while error is not None:
        if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
            return True
        error = error.__cause__
    return False


@dataclass(frozen=True)
class Limits:
    """How large a file may be. All of them hold before pixels or samples are allocated.

    A picture takes 4.5 bytes a pixel when it is reduced, else up to 8 (Pillow's 4, the array's 3, and bands of both),
    beside its file unless that is a BMP, a PNM or an uncompressed TIFF; a second of sound takes 64 kB for models of
    16 kHz, or 256 kB for 48 kHz: at the default limits 540 or 960 MB of pixels, or 460 MB or 1.8 GB of samples.
    """

    max_pixels: int = 120_000_000
    """Width times height of a picture; a 100-megapixel camera's pass. Formats whose decoders take more memory get less
    of it: WebP 1/2.5, AVIF 1/1.5, and JPEG 2000, where it cannot be reduced while decoding, 1/3."""
    max_file_bytes: int = 2 * 1024**3
    """Size of a file that is no film; recordings are streamed."""
    max_image_bytes: int = 512 * 1024**2
    """Size of a picture's file, which is read into memory whole unless it is a BMP, a PNM or a plain TIFF."""
    max_seconds: float = 7200.0
    """Length of a recording. Of a longer film the shots are read, and not the sound."""
    max_decode_s: float = 120.0
    """Seconds that one file may take in a decode worker, a large film up to ten times as many; ``decode`` itself does
    not watch the clock."""
    max_film_bytes: int = 128 * 1024**3
    """Size of a film's file, which is streamed."""
    max_shots: int = MAX_SHOTS
    """Shots of a film; of more, so many are kept, evenly spaced. Fewer where pictures over 1280 x 720 are asked for."""

    def max_bytes_of(self, modality: Modality | None) -> int:
        """Return the size of a file of a modality, or of one that is none, at most."""
        if modality == "video":
            return self.max_film_bytes
        return min(self.max_image_bytes, self.max_file_bytes) if modality == "image" else self.max_file_bytes


def second_bytes(sample_rate: int) -> int:
    """Return the bytes that decoding takes for a second of sound.

    Args:
        sample_rate: of what is decoded for a model, in Hz; at another rate than 16 kHz, fingerprints take that beside.
    """
    return 4 * sum({sample_rate, SAMPLE_RATE})


def large_bytes(limits: Limits, *, exact: bool = False, sample_rate: int = SAMPLE_RATE) -> int:
    """Return the bytes that a process may hold in memory while it decodes a large file, one at a time.

    Args:
        limits: the largest picture and the longest recording that are allowed decide.
        exact: pictures are decoded in full.
        sample_rate: of what is decoded for a model, in Hz.
    """
    pixels = limits.max_pixels * (EXACT_PIXEL_BYTES if exact else PIXEL_BYTES)
    return _BESIDE_A_LARGE_FILE + int(max(pixels, limits.max_seconds * second_bytes(sample_rate)))


@dataclass(frozen=True, eq=False)
class Decoded:
    """One file's contents, or the reason why it has none. Pickles; compares by identity (it holds arrays).

    ``reason`` is None for a readable file; then ``pixels`` or ``samples`` is there, or
    ``frames`` and perhaps ``samples``, as ``modality`` says. For an
    unreadable one ``reason`` is one line for a user, and ``modality`` is what its content, else its name, promised.
    """

    modality: Modality | None
    reason: str | None
    content_hash: str | None = None
    """First 32 hex characters of the SHA-256 over the file's bytes; None when they were not read."""
    size: int = 0
    """Bytes."""
    format: str | None = None
    """Decided by the content, not by the name: jpeg png webp gif bmp tiff jpeg2000 pnm heic avif; wav flac mp3 ogg opus
    aac m4a; mp4 mkv webm avi mpegts of films, and of recordings in such a container."""
    pixels: np.ndarray | None = field(default=None, repr=False)
    """(H, W, 3) uint8 RGB, upright; smaller than (height, width) where it was reduced while decoding."""
    box: tuple[float, float, float, float] | None = None
    """(left, top, right, bottom): where the picture lies within reduced ``pixels``, the outermost of which may stand
    for less than others do; None for all of them."""
    shots: tuple[Shot, ...] = ()
    """Of a film, in order of time."""
    frames: tuple[np.ndarray, ...] = field(default=(), repr=False)
    """(H, W, 3) uint8 RGB, upright and reduced, for each of ``shots``."""
    sound_missing: str | None = None
    """Why the sound of a film is not there, in one line; None for a film with its sound, or that never had any."""
    width: int | None = None
    """Of the upright original, in pixels."""
    height: int | None = None
    samples: np.ndarray | None = field(default=None, repr=False)
    """(n,) float32 mono at ``decoded_rate``, finite; full scale is 1."""
    decoded_rate: int = SAMPLE_RATE
    """Of ``samples``, in Hz."""
    duration: float | None = None
    """Seconds."""
    sample_rate: int | None = None
    """Of the original, in Hz."""
    channels: int | None = None
    """Of the original."""
    thumbnail: bytes | None = field(default=None, repr=False)
    """A JPEG with a longer side of at most 320 pixels; pictures and films only."""
    strip: bytes | None = field(default=None, repr=False)
    """A JPEG of some of a film's shots, side by side."""
    fingerprint: AcousticFingerprint | None = field(default=None, repr=False)
    """Of the sound; recordings only, and none of silence."""
    captured_at: datetime | None = None
    """When it was taken or recorded, by the device's clock, without a time zone; None when the file does not say."""
    camera: str | None = None
    """Make and model in one: "Canon EOS R5"."""
    latitude: float | None = None
    """Where it was taken, in degrees north (WGS 84); None together with ``longitude``."""
    longitude: float | None = None
    """Degrees east."""
    title: str | None = None
    artist: str | None = None
    album: str | None = None
    description: str | None = None
    """What the file's own tags say of its contents: EXIF description or comment, a container's comment."""
    metadata: dict[str, str] = field(default_factory=dict)
    """What else is there: make, model, lens, colour_profile of pictures; genre, date of recordings."""
    trivial: bool = False
    """A picture of one colour or smaller than 8 x 8, or silence: valid, but alike to every other one."""
    too_large: bool = False
    """Refused for its pixels, seconds or memory alone: with higher limits there may be no ``reason``."""
