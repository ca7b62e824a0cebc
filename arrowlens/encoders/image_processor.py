"""Preprocessing for vision towers. It needs no torch, so that decoding workers can import it."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageOps

from arrowlens.encoders.model_directory import read_model_file
from arrowlens.errors import ImageValidationError, ModelLoadError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # RGB, of values in [0, 1]
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
PREPROCESSOR_NAME = "preprocessor.json"
ImageLike = Image.Image | str | os.PathLike[str]
Images = np.ndarray | ImageLike | Sequence[ImageLike]
"""Pictures as encoders take them: arrays that are prepared already, PIL images or paths."""

SHORTEST_SIDE, SQUARE = "shortest side", "square"
_RESIZE = (SHORTEST_SIDE, SQUARE)
_RESAMPLE = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_MAX_SIZE = 4_096  # pixels a side; the largest models take 1,024
_MAX_ASPECT = 16  # beyond this, only the part that the crop keeps is resized: memory stays bounded
_ROUNDING = 1e-9  # the ratio of fractions may fall just short of a whole number


@dataclass(frozen=True)
class ImageProcessor:
    """Resize to ``image_size`` (antialiased), scale to [0, 1], normalise per channel. Picklable and stateless.

    Matches transformers' CLIPImageProcessor and SiglipImageProcessor within 1e-5 on the same pixels.

    Attributes:
        image_size: of the square result, in pixels.
        mean, std: RGB, of values in [0, 1].
        resample: ``bicubic`` or ``bilinear``.
        resize_mode: ``shortest side`` (the shortest side becomes ``image_size``, then the centre is cropped; CLIP) or
            ``square`` (both sides do, whatever the ratio was, and nothing is cropped; SigLIP).
    """

    image_size: int = 224
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    resample: str = "bicubic"
    resize_mode: str = SHORTEST_SIDE

    @classmethod
    def from_pretrained(cls, model_path: str | Path) -> ImageProcessor:
        """Read the processor of a model directory.

        Raises:
            ModelLoadError: the directory or its ``preprocessor.json`` is missing, damaged or unknown.
        """
        return cls.from_json(read_model_file(model_path, PREPROCESSOR_NAME))

    @classmethod
    def from_json(cls, data: bytes) -> ImageProcessor:
        """Read the processor that a ``preprocessor.json`` describes.

        Raises:
            ModelLoadError: a setting is missing, or unknown.
        """
        try:
            settings = json.loads(data)
            processor = cls(
                image_size=_size(settings["image_size"]),
                mean=_triple(settings["mean"]),
                std=_triple(settings["std"]),
                resample=str(settings["resample"]),
                resize_mode=str(settings.get("resize", SHORTEST_SIDE)),
            )
            if min(processor.std) <= 0:
                raise ValueError(f"std {processor.std}")
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ModelLoadError(f"{PREPROCESSOR_NAME} lacks or garbles {error}; convert the model again") from error
        if processor.resample not in _RESAMPLE:
            raise ModelLoadError(
                f"{PREPROCESSOR_NAME}: resampling {processor.resample!r:.80} is unknown; know {list(_RESAMPLE)}; "
                "convert the model again"
            )
        if processor.resize_mode not in _RESIZE:
            raise ModelLoadError(
                f"{PREPROCESSOR_NAME}: resizing {processor.resize_mode!r:.80} is unknown; know {list(_RESIZE)}; "
                "convert the model again"
            )
        return processor

    def __call__(
        self,
        image: Image.Image | np.ndarray,
        *,
        normalize: bool = True,
        box: tuple[float, float, float, float] | None = None,
    ) -> np.ndarray:
        """Prepare one picture.

        Args:
            image: a PIL image of any mode and size, or (H, W, 3) uint8 RGB.
            normalize: False gives uint8, a quarter of the memory; the encoder then normalises.
            box: (left, top, right, bottom) in pixels: the part that the picture takes up in an image that was reduced
                while decoding, whose last row or column may be a fraction of one. None takes all of it.

        Returns:
            (image_size, image_size, 3), float32 normalised or uint8.

        Raises:
            ImageValidationError: no pixels, or an array that is not (H, W, 3) uint8.
        """
        pixels = self._crop(self.resize(_to_rgb(image), box))
        return self.normalize(pixels) if normalize else pixels

    def batch(self, images: Images) -> np.ndarray:
        """Return pictures as encoders take them.

        Args:
            images: an array, returned as it is; or one or more PIL images of any mode and size, or paths of files that
                Pillow reads, turned upright by their EXIF orientation.

        Returns:
            (n, image_size, image_size, 3) uint8, or the array.

        Raises:
            ImageValidationError: no pictures, a file that is missing or cannot be decoded, or something else.
        """
        if isinstance(images, np.ndarray):
            return images
        several = [images] if isinstance(images, Image.Image | str | os.PathLike) else images
        if not isinstance(several, Sequence) or not several:
            raise ImageValidationError(f"images must be an array, PIL images or paths, got {type(images).__name__}")
        return np.stack([self(_opened(image), normalize=False) for image in several])

    def resize(self, image: Image.Image, box: tuple[float, float, float, float] | None = None) -> Image.Image:
        """Resize the shortest side to ``image_size``; the other keeps the ratio, rounded down as the reference does.

        With ``resize_mode="square"`` both sides become ``image_size``.
        """
        box = (0, 0, *image.size) if box is None else box
        if self.resize_mode == SQUARE:
            return image.resize((self.image_size, self.image_size), _RESAMPLE[self.resample], box=box)
        width, height = box[2] - box[0], box[3] - box[1]
        size, short = self.image_size, min(width, height)
        target = (int(size * width / short + _ROUNDING), int(size * height / short + _ROUNDING))
        if max(target) <= _MAX_ASPECT * size:
            return image.resize(target, _RESAMPLE[self.resample], box=box)
        part = tuple(
            start + edge * extent / goal
            for edges in (0, 1)
            for start, extent, goal in zip(box, (width, height), target, strict=False)
            for edge in ((goal - size) // 2 + edges * size,)
        )
        return image.resize((size, size), _RESAMPLE[self.resample], box=part)  # type: ignore[arg-type]

    def normalize(self, pixels: np.ndarray) -> np.ndarray:
        """Scale (..., 3) uint8 to [0, 1], subtract the mean, divide by the deviation; float32."""
        scaled = pixels.astype(np.float32) * np.float32(1 / 255)
        scaled -= np.asarray(self.mean, np.float32)
        scaled /= np.asarray(self.std, np.float32)
        return scaled

    def preprocess_arrow(self, images: pa.Array, normalize: bool = True) -> np.ndarray:
        """Prepare the pictures of an Arrow array.

        Args:
            images: a binary array of encoded pictures (JPEG, PNG and what else Pillow reads), or what
                ``ImageBatch.to_arrow`` gives.
            normalize: as for a single picture.

        Returns:
            (n, image_size, image_size, 3), float32 or uint8.

        Raises:
            ImageValidationError: an element is null or cannot be decoded; the message names its row.
        """
        prepared = np.empty(
            (len(images), self.image_size, self.image_size, 3), dtype=np.float32 if normalize else np.uint8
        )
        for row, value in enumerate(images):
            try:
                with _open_value(value) as image:
                    prepared[row] = self(image, normalize=normalize)
            except (OSError, TypeError, ValueError, Image.DecompressionBombError) as error:
                raise ImageValidationError(f"image in row {row} cannot be decoded ({error}); leave it out") from error
        return prepared

    def _crop(self, image: Image.Image) -> np.ndarray:
        width, height = image.size
        left, top = (width - self.image_size) // 2, (height - self.image_size) // 2
        return np.asarray(image.crop((left, top, left + self.image_size, top + self.image_size)))


def _opened(image: object) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if not isinstance(image, str | os.PathLike):
        raise ImageValidationError(f"images must be an array, PIL images or paths, got {type(image).__name__}")
    try:
        with Image.open(image) as file:
            return ImageOps.exif_transpose(file)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageValidationError(f"{os.fspath(image)} cannot be decoded ({error}); leave it out") from error


def _open_value(value: pa.Scalar) -> Image.Image:
    """Open the picture in an Arrow value: raw pixels with their shape, or an encoded file."""
    if isinstance(value, pa.StructScalar):
        pixels = np.frombuffer(value["data"].as_buffer(), np.uint8)
        return Image.fromarray(pixels.reshape(value["shape"].as_py()))
    return Image.open(io.BytesIO(value.as_buffer()))


def _to_rgb(image: Image.Image | np.ndarray) -> Image.Image:
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise ImageValidationError(f"pixels must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
        return Image.fromarray(image)
    if min(image.size) == 0:
        raise ImageValidationError(f"the picture has no pixels: {image.size[0]}x{image.size[1]}")
    return image if image.mode == "RGB" else image.convert("RGB")


def _triple(values: Any) -> tuple[float, float, float]:  # noqa: ANN401 - from JSON
    red, green, blue = (float(value) for value in values)
    if not all(map(math.isfinite, (red, green, blue))):
        raise ValueError(f"three numbers {values!r:.80}")
    return red, green, blue


def _size(value: object) -> int:
    if type(value) is not int or not 1 <= value <= _MAX_SIZE:
        raise ValueError(f"image_size {value!r:.80}")
    return value
