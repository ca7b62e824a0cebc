"""Binary PGM and PPM pictures of other than 256 values: Pillow takes them one value at a time, in Python."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image
from PIL.PpmImagePlugin import PpmImageFile


def open_pnm(stream: io.BytesIO) -> PpmImageFile | ScaledPnm:
    """Open a PNM picture by its header alone.

    Raises:
        SyntaxError, ValueError: the header is damaged.
    """
    image = PpmImageFile(stream)
    (tile,) = image.tile
    if tile.codec_name == "ppm" and isinstance(tile.args, tuple):
        return ScaledPnm(image, stream, tile.offset, int(tile.args[1]))
    if tile.codec_name == "raw" and tile.args == "I;16B":
        return ScaledPnm(image, stream, tile.offset, 65535)
    return image


class ScaledPnm:
    """A binary PGM or PPM whose highest value is not 255, with what ``pictures`` uses of a Pillow image.

    Attributes:
        mode: L or RGB.
        size: (width, height), known before anything of that size is allocated.
    """

    has_transparency_data = False

    def __init__(self, header: PpmImageFile, stream: io.BytesIO, offset: int, highest: int) -> None:
        self.size: tuple[int, int] = header.size
        self.width, self.height = header.size
        self.mode = "RGB" if header.mode == "RGB" else "L"
        self.info: dict[Any, Any] = {}
        self._data, self._offset, self._highest = stream.getbuffer(), offset, highest
        self._values: np.ndarray = np.empty(0, np.uint8)

    def getexif(self) -> Image.Exif:
        """There is none."""
        return Image.Exif()

    def load(self) -> None:
        """Look whether it is all there; the values stay where they are in the file.

        Raises:
            OSError: it is truncated.
        """
        kind = np.dtype(np.uint8 if self._highest < 256 else ">u2")
        shape = (self.height, self.width, 3) if self.mode == "RGB" else (self.height, self.width)
        n_values = int(np.prod(shape, dtype=np.int64))
        if len(self._data) - self._offset < n_values * kind.itemsize:
            raise OSError("image file is truncated")
        self._values = np.frombuffer(self._data, kind, n_values, self._offset).reshape(shape)

    def crop(self, box: tuple[int, int, int, int], /) -> Image.Image:
        """A band of rows in 256 values; left and right must be the picture's."""
        _, top, _, bottom = box
        values = np.minimum(self._values[top:bottom], self._highest).astype(np.uint32)
        return Image.fromarray(((values * 255 + self._highest // 2) // self._highest).astype(np.uint8))
