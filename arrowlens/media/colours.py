"""Any of Pillow's modes -> RGB in sRGB, over white."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

from arrowlens.errors import MediaError

_PROFILE_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}


def to_rgb(image: Image.Image) -> tuple[Image.Image, str | None]:
    """Convert a loaded picture to mode RGB.

    Transparency is laid over white; 16 bits keep their upper 8, as Pillow does for colour; 32-bit integers and floats
    are stretched from their lowest to their highest value; an embedded colour profile other than sRGB is applied.

    Returns:
        The RGB image, and the profile's name ("damaged, ignored" if it could not be used), None without one.

    Raises:
        MediaError: a floating-point picture with NaN or infinite values.
    """
    icc = image.info.get("icc_profile")
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = _to_8_bits(image)
    elif image.has_transparency_data:
        image = _over_white(image)
    elif image.mode not in _PROFILE_SPACES:
        image = image.convert("RGB")
    if not icc:
        return image.convert("RGB"), None
    return _through_profile(image, icc)


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def _to_8_bits(image: Image.Image) -> Image.Image:
    """One channel of more than 8 bits -> mode L."""
    values = np.asarray(image)
    if image.mode.startswith("I;"):
        grey = (values >> 8).astype(np.uint8)
        transparent = image.info.get("transparency")
        if isinstance(transparent, int):
            grey[values == transparent] = 255  # over white
        return Image.fromarray(grey)
    if not np.isfinite(values).all():
        raise MediaError("pixels are not finite (NaN or infinity)")
    low, high = float(values.min()), float(values.max())
    scale = 255.0 / (high - low) if high > low else 0.0
    return Image.fromarray(np.rint((values.astype(np.float64) - low) * scale).astype(np.uint8))


def _through_profile(image: Image.Image, icc: bytes) -> tuple[Image.Image, str | None]:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        name = " ".join(ImageCms.getProfileDescription(profile).split())[:100]
        if "sRGB" in name or profile.profile.xcolor_space.strip() != _PROFILE_SPACES[image.mode]:
            return image.convert("RGB"), name or None
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image.convert("RGB"), "damaged, ignored"  # as every viewer does: the pixels themselves are fine
    assert converted is not None  # only in-place conversion returns None
    return converted, name or None
