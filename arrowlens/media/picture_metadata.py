"""What the camera wrote beside the pixels. Damaged metadata is as good as none: it never costs the picture."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from PIL import Image
from PIL.ExifTags import IFD, Base

from arrowlens.media.tags import clean_text

_TEXTS = {"make": Base.Make, "model": Base.Model, "description": Base.ImageDescription, "artist": Base.Artist}


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) when it is missing or no such number."""
    value = _exif(image).get(Base.Orientation, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def capture_time(image: Image.Image) -> datetime | None:
    """When the picture was taken (else digitised), by the camera's clock, without a time zone."""
    try:
        details: Mapping[int, object] = image.getexif().get_ifd(IFD.Exif)
    except Exception:  # as in _exif
        return None
    for tag in (Base.DateTimeOriginal, Base.DateTimeDigitized):
        try:
            return datetime.strptime(clean_text(details.get(tag)), "%Y:%m:%d %H:%M:%S")
        except ValueError:
            continue
    return None


def texts(image: Image.Image) -> dict[str, str]:
    """make, model, description and artist, where there are any."""
    exif = _exif(image)
    found = {name: clean_text(exif.get(tag)) for name, tag in _TEXTS.items()}
    return {name: text for name, text in found.items() if text}


def _exif(image: Image.Image) -> Mapping[int, object]:
    try:
        return image.getexif()
    except Exception:  # the reader of damaged EXIF raises anything; the picture itself is fine
        return {}
