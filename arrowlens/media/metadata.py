"""What a file says of itself beside its pixels or samples, in the same terms for pictures and recordings."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

MAX_TEXT_CHARS = 1000  # of a tag
_ISO_6709 = re.compile(r"([+-]\d+(?:\.\d+)?)([+-]\d+(?:\.\d+)?)")
_DAY = re.compile(r"(\d{4})[-:](\d\d)[-:](\d\d)(?:[T ](\d\d):(\d\d):(\d\d))?")
_MAKE, _MODEL = "com.apple.quicktime.make", "com.apple.quicktime.model"
_CREATED = ("com.apple.quicktime.creationdate", "creation_time", "date")
_PLACES = ("com.apple.quicktime.location.iso6709", "location")
_FURTHER = ("genre", "date")
_FIRST_YEAR = 1826  # of the first photograph


@dataclass(frozen=True)
class About:
    """Who, when, where and what; the fields are those of ``Decoded``."""

    captured_at: datetime | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    title: str | None = None
    artist: str | None = None
    album: str | None = None
    description: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)


def about_recording(tags: Mapping[str, str]) -> About:
    """What the tags of a recording or of its container say; names as libsndfile and ffmpeg give them, in any case."""
    texts = {name.lower(): text for name, value in tags.items() if (text := clean_text(value))}
    make, model = (texts.get(name, texts.get(name.rpartition(".")[2])) for name in (_MAKE, _MODEL))
    latitude, longitude = next((_iso_place(texts[name]) for name in _PLACES if name in texts), (None, None))
    further = {"make": make, "model": model} | {name: texts.get(name) for name in _FURTHER}
    return About(
        captured_at=next((day for name in _CREATED if (day := read_day(texts.get(name, "")))), None),
        camera=camera_name(make, model),
        latitude=latitude,
        longitude=longitude,
        title=texts.get("title"),
        artist=texts.get("artist") or texts.get("author") or texts.get("album_artist"),
        album=texts.get("album"),
        description=texts.get("description") or texts.get("comment") or texts.get("synopsis"),
        metadata={name: text for name, text in further.items() if text},
    )


def camera_name(make: str | None, model: str | None) -> str | None:
    """Make and model without repetition: "Canon" and "Canon EOS R5" are "Canon EOS R5"."""
    if not make or not model:
        return model or make or None
    words = make.split()
    if model.lower().startswith(words[0].lower()):
        return model
    return f"{make} {model}"


def place(latitude: float, longitude: float) -> tuple[float, float] | tuple[None, None]:
    """A place in degrees; none where there is no such place, or where a device without a fix wrote zeros."""
    if not (math.isfinite(latitude) and math.isfinite(longitude)) or (latitude, longitude) == (0, 0):
        return None, None
    if abs(latitude) > 90 or abs(longitude) > 180:
        return None, None
    return latitude, longitude


def read_day(text: str) -> datetime | None:
    """A date with or without a time, as EXIF ("2019:07:14 18:30:05") or ISO 8601 write it; a zone is dropped."""
    match = _DAY.match(text)
    if match is None:
        return None
    try:
        day = datetime(*(int(part) for part in match.groups() if part is not None))  # type: ignore[arg-type]
    except ValueError:
        return None
    return day if day.year >= _FIRST_YEAR else None


def _iso_place(text: str) -> tuple[float, float] | tuple[None, None]:
    """A place as films have it: "+52.5186+013.4081+034.000/"."""
    match = _ISO_6709.match(text)
    return place(float(match[1]), float(match[2])) if match else (None, None)


def clean_text(value: object) -> str:
    """Return a tag's value as one line of at most 1,000 characters; "" for anything that is not a text."""
    if isinstance(value, str):
        # Pillow reads EXIF texts as Latin-1, as the standard's ASCII allows; cameras and editors write UTF-8.
        with suppress(UnicodeError):
            value = value.encode("latin-1").decode("utf-8")
    elif isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    else:
        return ""
    return one_line(value.partition("\0")[0][: 4 * MAX_TEXT_CHARS])[:MAX_TEXT_CHARS].rstrip()


def one_line(text: str) -> str:
    """Return a text on one line, of printable characters only; unpaired surrogates become question marks."""
    text = text.encode("utf-8", errors="replace").decode("utf-8")
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
