"""The one step from a file to what can be indexed: runs in a thread or a process, and never raises for bad media."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, fields, replace
from typing import Any, BinaryIO

from arrowlens.errors import MEMORY_REASON, FileChangedError, MediaError, MissingExtraError, UnreachableError
from arrowlens.media.acoustic_fingerprint import AcousticFingerprint
from arrowlens.media.decoded import (
    AnyPath,
    Decoded,
    Limits,
    TooLargeError,
    is_out_of_memory,
)
from arrowlens.media.files import hash_bytes, hash_stream, open_regular, read_all, require_unchanged
from arrowlens.media.films import Film, read_film
from arrowlens.media.formats import SNIFF_BYTES, describe_content, sniff
from arrowlens.media.pictures import STREAMED_FORMATS, Picture, read_picture
from arrowlens.media.raw import read_raw
from arrowlens.media.recordings import Recording, read_recording
from arrowlens.media.tiff_directories import is_raw_tiff
from arrowlens.modalities import FORMAT_MODALITY, SAMPLE_RATE, Modality, modality_of

_DEFAULT_LIMITS = Limits()
_NO_MEMORY = f"{MEMORY_REASON}; store it smaller or in another format"


@dataclass
class _Found:
    """What is known of a file so far; a refusal reports it too."""

    modality: Modality | None
    content_hash: str | None = None
    size: int = 0
    format: str | None = None


def decode(
    path: AnyPath,
    limits: Limits = _DEFAULT_LIMITS,
    *,
    data: bytes | None = None,
    opened: Callable[[], AbstractContextManager[BinaryIO]] | None = None,
    name: str | None = None,
    thumbnail: bool = True,
    min_side: int | None = None,
    sample_rate: int = SAMPLE_RATE,
    sound: bool = True,
    frames: bool = True,
) -> Decoded:
    """Decode a picture, a recording or a film, or say why not.

    The content decides the format: a PNG called ``.jpg`` is decoded as what it is. Files that are empty, truncated,
    damaged, over a limit, not media, not regular files, gone or forbidden give a ``Decoded`` with a ``reason``. Only a
    caller's mistake raises.

    Args:
        path: the file; with ``data`` or ``opened`` it is not opened and serves as a name only.
        limits: how large a file may be.
        data: the bytes of an upload, decoded under the same limits.
        opened: opens a file that does not lie on this machine, always in the same version; seekable.
        name: what to go by instead of ``path`` when the content is not recognised.
        thumbnail: whether to make one of a picture, and an acoustic fingerprint of a recording.
        min_side: what a picture's shorter side is needed for, in pixels: it may be reduced by a whole factor to no
            less than twice that. None keeps every pixel. Frames of films are reduced to that, or to ``films.SIDE``.
        sample_rate: what a recording is resampled to, in Hz. Its fingerprint, and whether it is silence, do not depend
            on it.
        sound: whether to read that of a film.
        frames: whether to look for the shots of a film.
    """
    label = path if name is None else name
    found = _Found(modality_of(label))
    try:
        with ExitStack() as stack:
            if data is not None:
                file: BinaryIO = io.BytesIO(data)
                found.size = len(data)
            elif opened is not None:
                file = stack.enter_context(opened())
                found.size = file.seek(0, os.SEEK_END)
                file.seek(0)
            else:
                file = stack.enter_context(open_regular(path))
                before = os.fstat(file.fileno())
                found.size = before.st_size
            contents = _decode(file, found, limits, thumbnail, min_side, sample_rate, sound, frames)
            if data is None and opened is None:
                require_unchanged(file, before)
    except Exception as error:  # decoders of damaged files raise anything, and one bad file must cost only itself
        if is_out_of_memory(error):
            return replace(_refused(found, _NO_MEMORY), too_large=True)
        # These say nothing of the content that was hashed: the next run tries again.
        if isinstance(error, UnreachableError | FileChangedError | MissingExtraError):
            found.content_hash = None
        if isinstance(error, MediaError):
            return replace(_refused(found, str(error)), too_large=isinstance(error, TooLargeError))
        return _refused(found, f"damaged: it cannot be decoded ({error or type(error).__name__})")
    return Decoded(found.modality, None, found.content_hash, found.size, found.format, **contents)


def decode_fingerprint(
    path: AnyPath, content_hash: str, limits: Limits = _DEFAULT_LIMITS
) -> AcousticFingerprint | None:
    """The acoustic fingerprint of a recording's file; None of another content, of what cannot be decoded, of silence.

    Args:
        path: the file.
        content_hash: what it holds, as of ``Decoded``.
        limits: as for ``decode``.
    """
    decoded = decode(path, limits, frames=False)
    return decoded.fingerprint if decoded.content_hash == content_hash else None


def _decode(
    file: BinaryIO,
    found: _Found,
    limits: Limits,
    thumbnail: bool,
    min_side: int | None,
    sample_rate: int,
    sound: bool,
    frames: bool,
) -> dict[str, Any]:
    if found.size == 0:
        found.content_hash = hash_bytes(b"")  # known in full, unlike that of a file that could not be read
        raise MediaError("the file is empty (0 bytes)")
    head = file.read(SNIFF_BYTES)
    found.format = sniff(head)
    if found.format == "tiff" and is_raw_tiff(file):
        found.format = "raw"
    if found.format is not None:
        found.modality = FORMAT_MODALITY[found.format]
    _check_bytes(found.size, limits.max_bytes_of(found.modality))
    if found.modality == "image" and found.format not in STREAMED_FORMATS:
        file = io.BytesIO(read_all(file, found.size))  # what is decoded is what was hashed, to the byte
    found.content_hash = hash_stream(file, found.size)
    if found.format is None:
        raise MediaError(f"not a picture, recording or film in a known format: the content is {describe_content(head)}")
    if found.format == "raw":
        return _contents(read_raw(file, limits, thumbnail=thumbnail, min_side=min_side))
    if found.modality == "image":
        return _contents(read_picture(file, found.format, limits, thumbnail=thumbnail, min_side=min_side))
    if found.modality == "video":
        film = read_film(
            file, found.size, found.format, limits, side=min_side, sample_rate=sample_rate, sound=sound, pictures=frames
        )
        if film is not None:
            return _contents(film)
        found.modality = "audio"
        _check_bytes(found.size, limits.max_bytes_of(found.modality))
    recording = read_recording(file, found.size, found.format, limits, fingerprint=thumbnail, sample_rate=sample_rate)
    return _contents(recording)


def _contents(part: Picture | Recording | Film) -> dict[str, Any]:
    """The fields without a deep copy of arrays, which ``dataclasses.asdict`` would make."""
    found = {field.name: getattr(part, field.name) for field in fields(part)}
    about = found.pop("about")
    return found | {field.name: getattr(about, field.name) for field in fields(about)}


def _check_bytes(size: int, limit: int) -> None:
    if size > limit:
        raise MediaError(f"{size:,} bytes is over the limit of {limit:,} bytes")


def _refused(found: _Found, reason: str) -> Decoded:
    one_line = " ".join(reason.split()) or "cannot be decoded"
    return Decoded(found.modality, one_line, found.content_hash, found.size, found.format)
