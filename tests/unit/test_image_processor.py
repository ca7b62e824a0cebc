"""Pictures are prepared as transformers' CLIPImageProcessor prepares them, from the pixels on."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from arrowlens.encoders import ImageProcessor, write_model
from arrowlens.encoders.image_processor import CLIP_MEAN, CLIP_STD
from arrowlens.errors import ImageValidationError, ModelLoadError

SIZES = [(224, 224), (640, 427), (427, 641), (225, 224), (31, 57), (1, 1), (1, 9), (3000, 401), (223, 1000)]


def noise(size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(size[0]).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def reference(image: Image.Image, size: int = 224) -> np.ndarray:
    processor = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    return processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)


@pytest.mark.parametrize("size", SIZES)
def test_values_match_the_reference(size: tuple[int, int]) -> None:
    image = noise(size)
    np.testing.assert_allclose(ImageProcessor()(image), reference(image), atol=1e-5)
    np.testing.assert_allclose(ImageProcessor(image_size=56)(image), reference(image, 56), atol=1e-5)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "1", "LA"])
def test_other_modes_match_the_reference(mode: str) -> None:
    image = noise((300, 260)).convert(mode)
    np.testing.assert_allclose(ImageProcessor()(image), reference(image), atol=1e-5)


def test_arrays_and_uint8_are_the_same_picture() -> None:
    image, processor = noise((400, 300)), ImageProcessor()
    raw = processor(np.asarray(image), normalize=False)
    assert raw.dtype == np.uint8
    np.testing.assert_array_equal(processor.normalize(raw), processor(image))


def test_a_very_long_picture_stays_within_memory_and_on_centre() -> None:
    long = Image.new("RGB", (20_000, 2), (255, 0, 0))
    long.paste((0, 0, 255), (9_990, 0, 10_010, 2))
    prepared = ImageProcessor()(long, normalize=False)
    assert prepared.shape == (224, 224, 3)
    assert prepared[:, 112].mean(axis=0) == pytest.approx([0, 0, 255], abs=3)


def test_the_crop_of_a_long_picture_is_the_crop_of_its_full_resize() -> None:
    image = noise((33 * 17, 33))
    wide = image.resize((17 * 56, 56), Image.Resampling.BICUBIC)
    expected = np.asarray(wide.crop(((17 * 56 - 56) // 2, 0, (17 * 56 + 56) // 2, 56))).astype(int)
    ours = ImageProcessor(image_size=56)(image, normalize=False).astype(int)
    assert np.abs(ours - expected).max() <= 1


def test_encoded_pictures_come_straight_from_arrow() -> None:
    images = [noise((300, 200)), noise((90, 95))]
    files = []
    for image in images:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        files.append(buffer.getvalue())
    prepared = ImageProcessor().preprocess_arrow(pa.array(files, pa.binary()))
    np.testing.assert_allclose(prepared, np.stack([reference(image) for image in images]), atol=1e-5)
    with pytest.raises(ImageValidationError, match="row 1 cannot be decoded"):
        ImageProcessor().preprocess_arrow(pa.array([files[0], b"no picture"]))
    with pytest.raises(ImageValidationError, match="row 0"):
        ImageProcessor().preprocess_arrow(pa.array([None], pa.binary()))


def test_it_is_read_from_the_model_directory(tmp_path: Path) -> None:
    settings = {"image_size": 56, "mean": list(CLIP_MEAN), "std": list(CLIP_STD), "resample": "bicubic"}
    for name, content in {"good": settings, "bad": {"image_size": 56}, "odd": {**settings, "resample": "x"}}.items():
        (tmp_path / name).mkdir()
        files = {"preprocessor.json": json.dumps(content).encode()}
        write_model(
            tmp_path / name,
            {"a": torch.ones(1)},
            family="clip",
            dimensions={"hidden_size": 8},
            source="a test",
            files=files,
        )
    assert ImageProcessor.from_pretrained(tmp_path / "good") == ImageProcessor(image_size=56)
    for name, message in {"bad": "lacks or garbles 'mean'", "odd": "'x' is unknown"}.items():
        with pytest.raises(ModelLoadError, match=message):
            ImageProcessor.from_pretrained(tmp_path / name)


def test_workers_can_use_it_without_torch() -> None:
    processor = pickle.loads(pickle.dumps(ImageProcessor(image_size=56)))
    assert processor == ImageProcessor(image_size=56)
    code = "import sys, arrowlens.encoders.image_processor; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize("pixels", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3)), np.zeros((0, 5, 3), np.uint8)])
def test_unusable_arrays_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ImageValidationError, match="must be"):
        ImageProcessor()(pixels)
