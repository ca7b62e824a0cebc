"""Any of Pillow's modes -> RGB in sRGB, over white."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

from arrowlens.errors import MediaError
from arrowlens.media.heif import HeifPicture
from arrowlens.media.pnm import ScaledPnm

_Image = Image.Image | HeifPicture | ScaledPnm
_PROFILE_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}


class ToRgb:
    """How one loaded picture becomes RGB; applied to the whole of it, or to parts cropped from it.

    Transparency is laid over white; 16 bits keep their upper 8, as Pillow does for colour; 32-bit integers and floats
    are stretched from the picture's lowest to its highest value; an embedded colour profile other than sRGB is applied.

    Attributes:
        profile_name: of the embedded profile; "damaged, ignored" where it cannot be used, None without one.
    """

    def __init__(self, image: _Image) -> None:
        self.profile_name: str | None = None
        self._transform: ImageCms.ImageCmsTransform | None = None
        self._range = (0.0, 0.0)
        if isinstance(image, Image.Image) and image.mode in ("I", "F"):
            low, high = image.getextrema()
            self._range = (float(low), float(high))  # type: ignore[arg-type]  # one channel
        if icc := image.info.get("icc_profile"):
            self._read_profile(icc, _working_mode(image))

    def __call__(self, part: Image.Image) -> Image.Image:
        """Convert the picture, or a part of it, to mode RGB.

        Raises:
            MediaError: floating-point values that are NaN or infinite.
        """
        if part.mode in ("I", "F"):
            part = self._stretch(part)
        elif part.mode.startswith("I;"):
            part = _upper_8_bits(part)
        elif part.has_transparency_data:
            part = _over_white(part)
        elif part.mode not in _PROFILE_SPACES:
            part = part.convert("RGB")
        if self._transform is None:
            return part.convert("RGB")
        converted = ImageCms.applyTransform(part, self._transform)
        assert converted is not None  # only in-place conversion returns None
        return converted

    def _stretch(self, part: Image.Image) -> Image.Image:
        values = np.asarray(part).astype(np.float64)
        if not np.isfinite(values).all():
            raise MediaError("pixels are not finite (NaN or infinity)")
        low, high = self._range
        scale = 255.0 / (high - low) if high > low else 0.0
        return Image.fromarray(np.rint((values - low) * scale).astype(np.uint8))

    def _read_profile(self, icc: bytes, mode: str) -> None:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            self.profile_name = " ".join(ImageCms.getProfileDescription(profile).split())[:100] or None
            if "sRGB" in (self.profile_name or "") or profile.profile.xcolor_space.strip() != _PROFILE_SPACES[mode]:
                return
            self._transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            self.profile_name = "damaged, ignored"  # as every viewer does: the pixels themselves are fine


def to_rgb(image: Image.Image) -> tuple[Image.Image, str | None]:
    """Convert a picture to mode RGB, as ``ToRgb`` describes; and the name of its colour profile.

    Raises:
        MediaError: floating-point values that are NaN or infinite.
    """
    image.load()
    converter = ToRgb(image)
    return converter(image), converter.profile_name


def _working_mode(image: _Image) -> str:
    """The mode that a profile would be applied to."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return "L"
    return image.mode if image.mode in _PROFILE_SPACES and not image.has_transparency_data else "RGB"


def _upper_8_bits(part: Image.Image) -> Image.Image:
    values = np.asarray(part)
    grey = (values >> 8).astype(np.uint8)
    transparent = part.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255  # over white
    return Image.fromarray(grey)


def _over_white(part: Image.Image) -> Image.Image:
    rgba = part.convert("RGBA")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white
