"""Batches of pictures and recordings as Arrow arrays, and encoding in batches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from arrowlens.errors import AudioValidationError, ImageValidationError, InputError
from arrowlens.modalities import SAMPLE_RATE

Metadata = list[dict[str, Any]]
_SHAPE = pa.list_(pa.int32())


@dataclass(frozen=True)
class ImageBatch:
    """Pictures of one size.

    Attributes:
        images: (n, H, W, 3) uint8 RGB.
        metadata: None, or a JSON-like dict for each picture.

    Raises:
        ImageValidationError: another shape or dtype.
        InputError: another number of dicts than pictures.
    """

    images: np.ndarray
    metadata: Metadata | None = None

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[3] != 3 or self.images.dtype != np.uint8:
            raise ImageValidationError(f"want (n, H, W, 3) uint8, got {self.images.shape} {self.images.dtype}")
        _check_metadata(self.metadata, len(self.images))

    def __len__(self) -> int:
        return len(self.images)

    def to_arrow(self) -> pa.StructArray:
        """Return a struct for each picture: raw ``data``, ``shape`` and ``metadata`` (JSON or null). Lossless."""
        pixels = np.ascontiguousarray(self.images)
        size = pixels[0].nbytes if len(pixels) else 0
        data = _binary(pa.py_buffer(pixels), np.arange(len(pixels) + 1, dtype=np.int64) * size)
        shapes = pa.array([list(pixels.shape[1:])] * len(pixels), _SHAPE)
        return _struct({"data": data, "shape": shapes}, self.metadata)

    @classmethod
    def from_arrow(cls, arrow_array: pa.StructArray) -> ImageBatch:
        """Read what ``to_arrow`` gives; the pixels are a read-only view of the array's buffer.

        Raises:
            ImageValidationError: pictures of different sizes, or data that does not fit the shape.
        """
        shapes = {tuple(shape) for shape in arrow_array.field("shape").to_pylist()}
        if len(shapes) > 1:
            raise ImageValidationError(f"a batch holds pictures of one size, got {sorted(shapes)}")
        shape = (len(arrow_array), *(shapes.pop() if shapes else (0, 0, 3)))
        values, offsets = _values(arrow_array.field("data"), np.uint8)
        flat = values[offsets[0] : offsets[-1]]
        if flat.size != int(np.prod(shape)):
            raise ImageValidationError(f"{flat.size} bytes of pixels do not fit the shape {shape}")
        return cls(flat.reshape(shape), _read_metadata(arrow_array))


@dataclass(frozen=True)
class AudioBatch:
    """Recordings of any lengths.

    Attributes:
        waveforms: (n, n_samples) float32, or a list of (n_samples,) float32 arrays.
        sample_rate: in Hz, of all of them.
        metadata: None, or a JSON-like dict for each recording.

    Raises:
        AudioValidationError: another shape or dtype.
        InputError: another number of dicts than recordings.
    """

    waveforms: np.ndarray | Sequence[np.ndarray]
    sample_rate: int = SAMPLE_RATE
    metadata: Metadata | None = field(default=None)

    def __post_init__(self) -> None:
        for waveform in self.waveforms:
            if waveform.ndim != 1 or waveform.dtype != np.float32:
                raise AudioValidationError(f"want (n_samples,) float32, got {waveform.shape} {waveform.dtype}")
        _check_metadata(self.metadata, len(self.waveforms))

    def __len__(self) -> int:
        return len(self.waveforms)

    def to_arrow(self) -> pa.StructArray:
        """Return a struct for each recording: ``data`` (float32), ``sample_rate``, ``metadata`` (JSON or null)."""
        sizes = [0, *(waveform.nbytes for waveform in self.waveforms)]
        joined = np.concatenate([*self.waveforms]) if len(self.waveforms) else np.empty(0, np.float32)
        data = _binary(pa.py_buffer(joined), np.cumsum(sizes, dtype=np.int64))
        rates = pa.array([self.sample_rate] * len(self.waveforms), pa.int32())
        return _struct({"data": data, "sample_rate": rates}, self.metadata)

    @classmethod
    def from_arrow(cls, arrow_array: pa.StructArray, sample_rate: int = SAMPLE_RATE) -> AudioBatch:
        """Read what ``to_arrow`` gives; samples are read-only views of the array's buffer.

        Args:
            arrow_array: the structs.
            sample_rate: the expected rate in Hz.

        Raises:
            AudioValidationError: a recording of another rate.
        """
        rates = set(arrow_array.field("sample_rate").to_pylist()) - {sample_rate}
        if rates:
            raise AudioValidationError(f"want recordings at {sample_rate} Hz, got {sorted(rates)}; resample first")
        values, offsets = _values(arrow_array.field("data"), np.float32)
        waveforms = [values[start // 4 : end // 4] for start, end in pairwise(offsets)]
        return cls(waveforms, sample_rate, _read_metadata(arrow_array))


class BatchedEncoder(Protocol):
    """The interface that ``BatchEncoder`` needs.

    VisionEncoder, CLIPEngine, SiglipEngine, AudioEncoder, ClapEncoder and TextEncoder have it.
    """

    @property
    def dimension(self) -> int:
        """Length of the vectors."""

    def encode(self, inputs: Any, normalize: bool = True) -> np.ndarray:  # noqa: ANN401 - each encoder has its own input
        """Encode inputs: (n, ...) -> (n, dimension) float32."""


class BatchEncoder:
    """Encodes any number of inputs in batches, so that memory stays bounded.

    Args:
        encoder: encodes a batch.
        batch_size: inputs encoded at a time.

    Raises:
        InputError: ``batch_size`` is below one.
    """

    def __init__(self, encoder: BatchedEncoder, batch_size: int = 32) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        self.encoder = encoder
        self.batch_size = batch_size

    def encode_batch(self, inputs: Any, normalize: bool = True) -> np.ndarray:  # noqa: ANN401 - as the encoder's
        """Encode inputs in order.

        Args:
            inputs: a sequence of what the encoder takes; an empty one gives (0, dimension).
            normalize: scale vectors to length one.

        Returns:
            (n, dimension) float32.

        Raises:
            InputError: as the encoder's ``encode``.
        """
        starts = range(0, len(inputs), self.batch_size)
        parts = [self.encoder.encode(inputs[i : i + self.batch_size], normalize=normalize) for i in starts]
        return np.concatenate(parts) if parts else np.empty((0, self.encoder.dimension), np.float32)


def _check_metadata(metadata: Metadata | None, n_items: int) -> None:
    if metadata is not None and len(metadata) != n_items:
        raise InputError(f"{n_items} items but metadata for {len(metadata)}")


def _binary(values: pa.Buffer, offsets: np.ndarray) -> pa.Array:
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), values])


def _struct(columns: dict[str, pa.Array], metadata: Metadata | None) -> pa.StructArray:
    n_items = len(columns["data"])
    notes = [None] * n_items if metadata is None else [json.dumps(item, sort_keys=True) for item in metadata]
    columns = {**columns, "metadata": pa.array(notes, pa.utf8())}
    return pa.StructArray.from_arrays(list(columns.values()), list(columns))


def _values(data: pa.Array, dtype: type[np.generic]) -> tuple[np.ndarray, np.ndarray]:
    _, offsets, buffer = data.buffers()
    values = np.empty(0, dtype) if buffer is None else np.frombuffer(buffer, dtype)
    return values, np.frombuffer(offsets, np.int64)[data.offset : data.offset + len(data) + 1]


def _read_metadata(array: pa.StructArray) -> Metadata | None:
    notes = array.field("metadata").to_pylist()
    return None if any(note is None for note in notes) or not notes else [json.loads(note) for note in notes]
