"""What the camera wrote beside the pixels. Damaged metadata is as good as none: it never costs the picture."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from arrowlens.media.heif import HeifPicture
from arrowlens.media.metadata import About, camera_name, clean_text, place, read_day
from arrowlens.media.picture_headers import is_plausible_tiff
from arrowlens.media.pnm import ScaledPnm

# What cameras write into every description; as a description it would say something of the picture.
_BOILERPLATE = re.compile(r"(\w+ )?(digital (still )?camera|dsc|camera pictures)", re.IGNORECASE)
_CHARSETS = {b"ASCII\0\0\0": "utf-8", b"UNICODE\0": "utf-16", b"JIS\0\0\0\0\0": "euc_jp", bytes(8): "utf-8"}
_Tags = Mapping[int, object]


def read_exif(image: Image.Image | HeifPicture | ScaledPnm) -> Image.Exif:
    """A picture's EXIF; an empty one where it is damaged, or claims more than it could hold."""
    raw = image.info.get("exif")
    if isinstance(raw, bytes) and not is_plausible_tiff(io.BytesIO(raw.removeprefix(b"Exif\0\0"))):
        return Image.Exif()
    try:
        return image.getexif()
    except Exception:  # the reader of damaged EXIF raises anything; the picture itself is fine
        return Image.Exif()


def orientation(exif: Image.Exif) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) when it is missing or no such number."""
    value = _directory(exif).get(Base.Orientation, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def about_picture(exif: Image.Exif, texts: Mapping[Any, object]) -> About:
    """When, where, with what camera, and what of; ``texts`` are those of a PNG, by their standard names."""
    tags, details = _directory(exif), _directory(exif, IFD.Exif)
    make, model = clean_text(tags.get(Base.Make)), clean_text(tags.get(Base.Model))
    latitude, longitude = _place(_directory(exif, IFD.GPSInfo))
    further = {
        "make": make,
        "model": model,
        "lens": clean_text(details.get(Base.LensModel)),
        "keywords": _wide_text(tags.get(Base.XPKeywords)),
    }
    descriptions = (
        clean_text(tags.get(Base.ImageDescription)),
        clean_text(texts.get("Description")),
        _comment(details.get(Base.UserComment)),
        _wide_text(tags.get(Base.XPComment)),
        _wide_text(tags.get(Base.XPSubject)),
    )
    return About(
        captured_at=_capture_time(tags, details),
        camera=camera_name(make, model),
        latitude=latitude,
        longitude=longitude,
        title=_wide_text(tags.get(Base.XPTitle)) or clean_text(texts.get("Title")) or None,
        artist=clean_text(tags.get(Base.Artist))
        or _wide_text(tags.get(Base.XPAuthor))
        or clean_text(texts.get("Author"))
        or None,
        description=next((text for text in descriptions if text and not _BOILERPLATE.fullmatch(text)), None),
        metadata={name: text for name, text in further.items() if text},
    )


def _capture_time(tags: _Tags, details: _Tags) -> datetime | None:
    """When it was taken, else digitised, else written."""
    values = details.get(Base.DateTimeOriginal), details.get(Base.DateTimeDigitized), tags.get(Base.DateTime)
    return next((day for value in values if (day := read_day(clean_text(value)))), None)


def _place(gps: _Tags) -> tuple[float, float] | tuple[None, None]:
    try:
        latitude, longitude = _degrees(gps[GPS.GPSLatitude]), _degrees(gps[GPS.GPSLongitude])
        south = clean_text(gps.get(GPS.GPSLatitudeRef, "N")).upper().startswith("S")
        west = clean_text(gps.get(GPS.GPSLongitudeRef, "E")).upper().startswith("W")
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None, None
    return place(-latitude if south else latitude, -longitude if west else longitude)


def _degrees(value: object) -> float:
    """Degrees, minutes and seconds as one number.

    Raises:
        TypeError, ValueError: it is no such triple.
    """
    if not isinstance(value, tuple) or not 1 <= len(value) <= 3:
        raise ValueError("no angle")
    parts = [float(part) for part in value]
    if any(part < 0 for part in parts) or any(part > 60 for part in parts[1:]):
        raise ValueError("no angle")
    return math.fsum(part / 60.0**power for power, part in enumerate(parts))


def _comment(value: object) -> str:
    """A UserComment, whose first 8 bytes name its character set."""
    if not isinstance(value, bytes):
        return clean_text(value)
    charset, body = _CHARSETS.get(value[:8]), value[8:]
    if charset is None:
        charset, body = "utf-8", value
    if charset == "utf-16":
        return _wide(body)
    return clean_text(body.decode(charset, errors="replace")) if body.strip(b"\0 ") else ""


def _wide_text(value: object) -> str:
    """A text of Windows: UTF-16, little-endian, as bytes."""
    if isinstance(value, tuple):
        value = bytes(part & 0xFF for part in value if isinstance(part, int))
    return clean_text(value.decode("utf-16-le", errors="replace")) if isinstance(value, bytes) else ""


def _wide(body: bytes) -> str:
    """UTF-16 of either order: without a mark, the one whose high bytes are the zeros."""
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return clean_text(body.decode("utf-16", errors="replace"))
    big = body[::2].count(0) > body[1::2].count(0)
    return clean_text(body.decode("utf-16-be" if big else "utf-16-le", errors="replace"))


def _directory(exif: Image.Exif, inner: IFD | None = None) -> _Tags:
    try:
        tags: _Tags = dict(exif if inner is None else exif.get_ifd(inner))
    except Exception:  # as in read_exif
        return {}
    return tags
