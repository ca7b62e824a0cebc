"""Files, uploads, pictures and samples -> what a search compares with."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from arrowlens import media
from arrowlens.encoders import AudioProcessor, ImageProcessor, MultimodalEmbeddingProvider
from arrowlens.errors import AudioValidationError, InputError, MediaError
from arrowlens.search import Example, Hit
from arrowlens.store import MultimodalStorage
from arrowlens.workers.calling import Call, directly

SAMPLE_RATE = 16_000  # Hz, of everything that is encoded


class ExampleReader:
    """Makes examples as ingest would read them: pictures of the model's size, recordings in the library's windows.

    Args:
        storage: the library. provider: its models. call: how files are decoded.
    """

    def __init__(
        self, storage: MultimodalStorage, provider: MultimodalEmbeddingProvider, call: Call = directly
    ) -> None:
        self._storage = storage
        self._provider = provider
        self._call = call

    def file(self, path: str | os.PathLike[str]) -> Example:
        """A file, in the library or not; ``~`` is expanded.

        Raises:
            MediaError: it is missing or cannot be decoded; says why.
        """
        return self._decoded(Path(path).expanduser(), None, os.fspath(path))

    def upload(self, data: bytes, name: str) -> Example:
        """A file's bytes; nothing is stored.

        Raises:
            MediaError: they cannot be decoded; says why.
        """
        return self._decoded(name, data, name)

    def hit(self, hit: Hit) -> Example:
        """A file that was found, by its stored vectors.

        Raises:
            InputError: it carries no content hash.
        """
        if hit.content_hash is None:
            raise InputError(f"{hit.path} carries no content hash; use a hit that this library gave, or similar(path)")
        return Example(str(hit.path), hit.modality, hit.content_hash)

    def picture(self, image: Image.Image) -> Example:
        """A picture in memory, of any mode and size; turned upright, over white.

        Raises:
            InputError: no PIL image. MediaError: pixels that are not finite.
        """
        if not isinstance(image, Image.Image):
            raise InputError(f"search_by_image takes a PIL image, not {type(image).__name__}; similar() takes a path")
        from arrowlens.media.colours import to_rgb  # deferred: decoders, which a text needs none of

        upright, _ = to_rgb(ImageOps.exif_transpose(image))
        return Example("the picture", "image", pixels=np.asarray(upright))

    def samples(self, samples: np.ndarray, rate: int) -> Example:
        """A recording in memory: float32 (n,) mono, at ``rate`` Hz.

        Raises:
            AudioValidationError: unusable samples or rate.
        """
        if not isinstance(samples, np.ndarray):
            cure = "numpy.asarray(samples, dtype=numpy.float32) makes one"
            raise AudioValidationError(f"search_by_audio takes a numpy array, not {type(samples).__name__}; {cure}")
        resampled = AudioProcessor.resample(samples, rate, SAMPLE_RATE)
        return Example("the recording", "audio", windows=self._windows(resampled))

    def _decoded(self, path: str | Path, data: bytes | None, name: str) -> Example:
        try:
            decoded = self._call(media.decode, path, data=data, thumbnail=False, min_side=self._min_side())
        except MediaError as error:
            raise MediaError(f"{name}: {error}") from error
        if decoded.reason is not None:
            raise MediaError(f"{name}: {decoded.reason}")
        if decoded.pixels is not None:
            return Example(name, "image", decoded.content_hash, pixels=decoded.pixels, box=decoded.box)
        assert decoded.samples is not None  # what can be read has pixels or samples
        return Example(name, "audio", decoded.content_hash, windows=self._windows(decoded.samples))

    def _windows(self, samples: np.ndarray) -> list[np.ndarray]:
        settings = self._storage.settings
        parts = media.windows(len(samples), SAMPLE_RATE, settings.window_s, settings.hop_s)
        return [samples[part.slice(SAMPLE_RATE)] for part in parts]

    def _min_side(self) -> int | None:
        """What pictures are scaled to, so that a query is decoded as ingested pictures are."""
        if not self._provider.has("clip"):
            return None
        return ImageProcessor.from_pretrained(self._provider.path("clip")).image_size
