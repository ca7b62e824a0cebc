"""HEIC and HEIF through libheif, without registering a plugin in Pillow, which would be for the whole process."""

from __future__ import annotations

from typing import Any, BinaryIO, cast

import pillow_heif
from PIL import Image

from arrowlens.errors import MediaError
from arrowlens.media.colour_codes import profile_for

_MODES = {"I;16L": "I;16", "L;16": "I;16"}


class HeifPicture:
    """The primary picture of a HEIF file, with what ``pictures`` and ``colours`` use of a Pillow image.

    libheif has turned it as the file demands, so its EXIF orientation must not be applied again. The pixels stay where
    libheif put them: as a Pillow image they would take another 4 bytes each.

    Attributes:
        mode: as Pillow names it, once loaded: RGB, RGBA, RGBa (premultiplied), L, LA or I;16.
        size: (width, height), known before anything of that size is allocated.
        info: exif and icc_profile, where the file has them.
    """

    def __init__(self, stream: BinaryIO) -> None:
        file = pillow_heif.open_heif(stream)
        if not len(file):
            raise SyntaxError("there is no picture in it")
        self._image = file[file.primary_index]
        self.size: tuple[int, int] = self._image.size
        self.width, self.height = self.size
        self.mode: str = _MODES.get(self._image.mode, self._image.mode)
        self.info = cast("dict[Any, Any]", self._image.info)
        if nclx := self.info.get("nclx_profile"):
            profile = profile_for(int(nclx["color_primaries"]), int(nclx["transfer_characteristics"]))
            self.info["icc_profile"] = self.info.get("icc_profile") or profile
        self._data = memoryview(b"")

    def getexif(self) -> Image.Exif:
        """As Pillow's."""
        exif = Image.Exif()
        exif.load(self.info.get("exif") or b"")
        return exif

    @property
    def has_transparency_data(self) -> bool:
        """Whether it has an alpha channel."""
        return self.mode[-1:] in ("A", "a")

    def load(self) -> None:
        """Decode it.

        Raises:
            MediaError: its pixels are not of the size that its header states.
            EOFError, OSError, RuntimeError, SyntaxError, ValueError: libheif's words on a damaged file.
        """
        self._data = memoryview(self._image.data)
        if self._image.size != self.size or len(self._data) < self._image.stride * self.height:
            raise MediaError("damaged: the picture is not of the size that its header states")

    def crop(self, box: tuple[int, int, int, int], /) -> Image.Image:
        """A band of rows as a Pillow image; left and right must be the picture's."""
        left, top, right, bottom = box
        assert (left, right) == (0, self.width)
        stride = self._image.stride
        band = self._data[top * stride : bottom * stride]
        return Image.frombytes(self.mode, (self.width, bottom - top), band, "raw", self.mode, stride)
