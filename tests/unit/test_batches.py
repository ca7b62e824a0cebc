"""Batches as Arrow arrays, and encoding in batches."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from arrowlens.encoders import (
    AudioBatch,
    AudioProcessor,
    BatchEncoder,
    ImageBatch,
    ImageProcessor,
    MelSpectrogramProcessor,
)
from arrowlens.errors import AudioValidationError, ImageValidationError, InputError


def pictures(n: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 5, 7, 3), dtype=np.uint8)


def test_pictures_keep_every_pixel_and_their_metadata() -> None:
    batch = ImageBatch(pictures(), [{"path": f"{i}.png", "tags": ["a", "ü"]} for i in range(3)])
    back = ImageBatch.from_arrow(batch.to_arrow())
    np.testing.assert_array_equal(back.images, batch.images)
    assert back.metadata == batch.metadata


def test_pictures_come_back_without_a_copy() -> None:
    array = ImageBatch(pictures()).to_arrow()
    view = ImageBatch.from_arrow(array).images
    assert view.__array_interface__["data"][0] == array.field("data").buffers()[2].address


def test_a_slice_of_an_array_is_that_slice() -> None:
    back = ImageBatch.from_arrow(ImageBatch(pictures()).to_arrow()[1:])
    np.testing.assert_array_equal(back.images, pictures()[1:])
    waves = [np.arange(n, dtype=np.float32) for n in (3, 0, 5)]
    sliced = AudioBatch.from_arrow(AudioBatch(waves).to_arrow()[2:])
    np.testing.assert_array_equal(sliced.waveforms[0], waves[2])


def test_empty_batches() -> None:
    assert len(ImageBatch.from_arrow(ImageBatch(pictures(0)).to_arrow())) == 0
    assert len(AudioBatch.from_arrow(AudioBatch([]).to_arrow())) == 0


def test_ragged_recordings_keep_rate_and_metadata() -> None:
    waves = [np.random.default_rng(i).normal(size=n).astype(np.float32) for i, n in enumerate((16000, 1, 777))]
    batch = AudioBatch(waves, 16_000, [{"n": i} for i in range(3)])
    back = AudioBatch.from_arrow(batch.to_arrow(), 16_000)
    assert back.sample_rate == 16_000
    assert back.metadata == batch.metadata
    for ours, wave in zip(back.waveforms, waves, strict=True):
        np.testing.assert_array_equal(ours, wave)


def test_unusable_batches_are_refused() -> None:
    with pytest.raises(ImageValidationError, match="uint8"):
        ImageBatch(pictures().astype(np.float32))
    with pytest.raises(InputError, match="3 items but metadata for 1"):
        ImageBatch(pictures(), [{}])
    with pytest.raises(AudioValidationError, match="float32"):
        AudioBatch([np.zeros(3)])
    with pytest.raises(AudioValidationError, match="want recordings at 16000 Hz"):
        AudioBatch.from_arrow(AudioBatch([np.zeros(3, np.float32)], 8000).to_arrow(), 16_000)


def test_batches_feed_the_processors() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), dtype=np.uint8)
    processor = ImageProcessor(image_size=32)
    prepared = processor.preprocess_arrow(ImageBatch(images).to_arrow())
    np.testing.assert_array_equal(prepared, np.stack([processor(image) for image in images]))
    waves = [np.random.default_rng(i).normal(size=n).astype(np.float32) for i, n in enumerate((16000, 700))]
    audio = AudioProcessor(MelSpectrogramProcessor(mel_filters=np.eye(80, 201, dtype=np.float32)))
    mel = audio.preprocess_arrow(AudioBatch(waves).to_arrow())
    np.testing.assert_array_equal(mel, audio.preprocess_arrow(pa.array([wave.tobytes() for wave in waves])))
    with pytest.raises(AudioValidationError, match="16000 Hz"):
        audio.preprocess_arrow(AudioBatch(waves, 8000).to_arrow())


class Mean:
    """An encoder small enough to check by eye: the mean colour of each picture."""

    dimension = 3

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def encode(self, inputs: np.ndarray, normalize: bool = True) -> np.ndarray:
        self.sizes.append(len(inputs))
        return inputs.mean(axis=(1, 2), dtype=np.float32)


def test_batches_are_bounded_and_in_order() -> None:
    encoder = Mean()
    vectors = BatchEncoder(encoder, 4).encode_batch(pictures(10))
    np.testing.assert_allclose(vectors, pictures(10).mean(axis=(1, 2)), rtol=1e-6)
    assert encoder.sizes == [4, 4, 2]
    assert BatchEncoder(encoder, 4).encode_batch(pictures(0)).shape == (0, 3)
    with pytest.raises(InputError, match="at least 1"):
        BatchEncoder(encoder, 0)
