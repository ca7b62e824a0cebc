"""The kinds of media that there are: one table says all that the rest of the program looks up by modality.

Models take pictures and sound. A film is both: its shots are pictures, its sound is cut as a recording is, and so it
has vectors of two roles.

A new format is an entry here and a signature in ``media/formats.py``. A new modality is an entry here, its name in
``Modality``, a decoder in ``media``, and its preparation and encoding in ``embedding.py``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

Modality = Literal["image", "audio", "video"]
Input = Literal["image", "audio"]
"""What models take: a picture or a shot of a film, and a window of a recording or of a film's sound."""
TextSource = Literal["speech", "ocr", "caption", "description", "title", "name"]
SOURCES: tuple[TextSource, ...] = get_args(TextSource)
"""Where texts about media come from: heard, read in a picture, written beside the file or in its tags, or its name."""
EXTRACTED: tuple[TextSource, ...] = ("speech", "ocr")
"""Those of texts that a program hears or reads, and that are stored by content."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Segments of equal length that overlap.

    Attributes:
        length_s: seconds that a window lasts.
        hop_s: seconds from the start of a window to the start of the next one.
        is_maximum: whether a model takes no more than ``length_s``. Else the last window may be a little longer.
    """

    length_s: float
    hop_s: float
    is_maximum: bool = False


@dataclass(frozen=True, slots=True)
class ModalityInfo:
    """What is the same for all media of a modality.

    Attributes:
        noun: what one is called in messages.
        plural: what several are called.
        inputs: what models take of them; a film has shots and may have sound.
        suffixes: of file names in lower case, by the name of the format.
        windows: how they are cut into segments by default; None where a medium is a single segment.
    """

    noun: str
    plural: str
    inputs: tuple[Input, ...]
    suffixes: Mapping[str, tuple[str, ...]]
    windows: Windows | None = None


AUDIO_WINDOWS = Windows(10.0, 5.0)
MAX_SHOT_S = 10.0  # of a film, between two cuts
SOUND_MISSING = "sound"  # key in the metadata of a film under which it says why its sound was left out
MAX_SHOTS = 200  # of a film that get a vector, by default
SAMPLE_RATE = 16_000  # Hz, of recordings for Whisper, for fingerprints and for waveforms
SAMPLE_RATES = (SAMPLE_RATE, 48_000)  # Hz, of all that models take; encoders/registry.py says which takes which
MAX_WINDOW_S = 30.0  # models take no more at once


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that vectors of recordings depend on, beside the model.

    Attributes:
        windows: how a recording is cut.
        sample_rate: of what the model takes, in Hz.
        layer: of the model, as ``AudioEncoder.encode`` takes it; None for the last one.
        skip_silence: whether silence at both ends of a recording is left out.
    """

    windows: Windows = AUDIO_WINDOWS
    sample_rate: int = SAMPLE_RATE
    layer: int | None = None
    skip_silence: bool = False

    def digest(self, model: str) -> str:
        """Return the identity of the vectors that a model makes by this recipe: 64 hex characters.

        Args:
            model: its digest, 64 hex characters. It is the identity as well where only the windows are not the default
                ones: earlier versions named tables of vectors by the model alone.
        """
        if replace(self, windows=AUDIO_WINDOWS) == FIRST_RECIPE:
            return model
        values = {"model": model, **asdict(self)}
        if not self.windows.is_maximum:
            del values["windows"]["is_maximum"]  # earlier versions had no other windows, and so no word for it
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


FIRST_RECIPE = Recipe()
"""How versions made vectors that remembered no recipe."""


MODALITIES: Mapping[Modality, ModalityInfo] = {
    "image": ModalityInfo(
        "picture",
        "pictures",
        inputs=("image",),
        suffixes={
            "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
            "png": (".png",),
            "webp": (".webp",),
            "gif": (".gif",),
            "bmp": (".bmp", ".dib"),
            "tiff": (".tif", ".tiff"),
            "jpeg2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
            "pnm": (".pnm", ".pbm", ".pgm", ".ppm", ".pfm"),
            "heic": (".heic", ".heif", ".hif"),
            "avif": (".avif", ".avifs"),
            "raw": (".arw", ".cr2", ".cr3", ".nef", ".dng", ".orf", ".raf", ".rw2"),
        },
    ),
    "audio": ModalityInfo(
        "recording",
        "recordings",
        inputs=("audio",),
        suffixes={
            "wav": (".wav", ".wave"),
            "aiff": (".aif", ".aiff", ".aifc"),
            "flac": (".flac",),
            "mp3": (".mp3",),
            "ogg": (".ogg", ".oga"),
            "opus": (".opus",),
            "m4a": (".m4a", ".m4b"),
            "aac": (".aac",),
            "mkv": (".mka",),
        },
        windows=AUDIO_WINDOWS,
    ),
    "video": ModalityInfo(  # a file of these formats without moving pictures is a recording
        "film",
        "films",
        inputs=("image", "audio"),
        suffixes={
            "mp4": (".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2"),
            "mkv": (".mkv",),
            "webm": (".webm",),
            "avi": (".avi",),
            "mpegts": (".mts", ".m2ts", ".m2t", ".tts", ".ts"),
        },
        windows=AUDIO_WINDOWS,
    ),
}

ROLE_OF: Mapping[Input, str] = {"image": "vision", "audio": "audio"}
"""The role of the model that encodes an input."""

ROLES_OF: Mapping[str, tuple[str, ...]] = {
    name: tuple(ROLE_OF[one] for one in info.inputs) for name, info in MODALITIES.items()
}
"""The roles of the models that encode a modality; a film without sound has no vectors of the audio model."""

MEDIA_ROLES = tuple(ROLE_OF.values())
"""The roles of the models that encode media."""


def roles_of(modality: str | None, *, has_sound: bool) -> tuple[str, ...]:
    """Return the roles that a medium has vectors of, as far as there are models; none for an unknown modality.

    Args:
        modality: of the medium.
        has_sound: whether it has sound; what is asked of films only.
    """
    roles = ROLES_OF.get(modality or "", ())
    return roles if modality != "video" or has_sound else (ROLE_OF["image"],)


TEXT_ROLE = ROLE_OF["image"]
"""The role whose model also encodes the texts that pictures, and whatever shares their space, are searched with."""

FORMAT_MODALITY: Mapping[str, Modality] = {
    media_format: name for name, info in MODALITIES.items() for media_format in info.suffixes
}
"""The modality of a format."""

MEDIA_SUFFIXES: Mapping[str, Modality] = {
    suffix: name for name, info in MODALITIES.items() for suffixes in info.suffixes.values() for suffix in suffixes
}
"""The modality that a file name's suffix promises; suffixes are in lower case, with their dot."""


RAW_PACKAGE, RAW_EXTRA = "rawpy", "raw"


def reads_raw() -> bool:
    """Return whether the package that reads raw photographs is installed."""
    return importlib.util.find_spec(RAW_PACKAGE) is not None


def is_raw(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> bool:
    """Return whether a file's name promises a raw photograph."""
    return os.fsdecode(path).lower().endswith(MODALITIES["image"].suffixes["raw"])


_TYPESCRIPT = (".ts", ".mts")
_LEAST_STREAM = 64 * 1024  # bytes; source code is smaller, but for rare files


def is_source_code(path: str | bytes | os.PathLike[str] | os.PathLike[bytes], size: int) -> bool:
    """Return whether a file is TypeScript rather than an MPEG transport stream, as far as name and size tell.

    Args:
        path: its name.
        size: bytes.
    """
    return size < _LEAST_STREAM and os.fsdecode(path).lower().endswith(_TYPESCRIPT)


def modality_of(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> Modality | None:
    """Return what a file's name promises, None for a suffix that is not known. Case does not matter."""
    suffix = os.path.splitext(os.fsdecode(path))[1]  # noqa: PTH122 - Path() rejects nothing here, but costs ten times more
    return MEDIA_SUFFIXES.get(suffix.lower())
