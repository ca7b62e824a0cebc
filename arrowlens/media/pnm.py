"""Binary PGM and PPM pictures of other than 256 values: Pillow takes them one value at a time, in Python."""

from __future__ import annotations

import math
import os
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.PpmImagePlugin import PpmImageFile


def open_pnm(file: BinaryIO) -> PpmImageFile | ScaledPnm:
    """Open a PNM picture by its header alone.

    Raises:
        SyntaxError, ValueError: the header is damaged.
    """
    image = PpmImageFile(file)
    (tile,) = image.tile
    if tile.codec_name == "ppm" and isinstance(tile.args, tuple):
        return ScaledPnm(image, file, tile.offset, int(tile.args[1]))
    if tile.codec_name == "raw" and tile.args == "I;16B":
        return ScaledPnm(image, file, tile.offset, 65535)
    return image


class ScaledPnm:
    """A binary PGM or PPM whose highest value is not 255, with what ``pictures`` uses of a Pillow image.

    Attributes:
        mode: L or RGB.
        size: (width, height), known before anything of that size is allocated.
    """

    has_transparency_data = False

    def __init__(self, header: PpmImageFile, file: BinaryIO, offset: int, highest: int) -> None:
        self.size: tuple[int, int] = header.size
        self.width, self.height = header.size
        self.mode = "RGB" if header.mode == "RGB" else "L"
        self.info: dict[Any, Any] = {}
        self._file, self._offset, self._highest = file, offset, highest
        self._kind = np.dtype(np.uint8 if highest < 256 else ">u2")
        self._row_shape = (self.width, 3) if self.mode == "RGB" else (self.width,)
        self._row_bytes = math.prod(self._row_shape) * self._kind.itemsize

    def getexif(self) -> Image.Exif:
        """There is none."""
        return Image.Exif()

    def load(self) -> None:
        """Look whether it is all there; the values stay where they are in the file.

        Raises:
            OSError: it is truncated.
        """
        if self._file.seek(0, os.SEEK_END) < self._offset + self.height * self._row_bytes:
            raise OSError("image file is truncated")

    def crop(self, box: tuple[int, int, int, int], /) -> Image.Image:
        """A band of rows in 256 values; left and right must be the picture's."""
        _, top, _, bottom = box
        self._file.seek(self._offset + top * self._row_bytes)
        data = self._file.read((bottom - top) * self._row_bytes)
        values = np.frombuffer(data, self._kind).reshape(bottom - top, *self._row_shape)
        values = np.minimum(values, self._highest).astype(np.uint32)
        return Image.fromarray(((values * 255 + self._highest // 2) // self._highest).astype(np.uint8))
