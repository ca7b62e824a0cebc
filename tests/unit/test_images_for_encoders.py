"""Encoders take arrays, PIL images and paths, and give the same vectors for the same picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arrowlens.encoders import CLIPEngine, MultimodalEmbeddingProvider, VisionEncoder
from arrowlens.errors import ImageValidationError
from arrowlens.models import DEMO

PICTURES = sorted((DEMO.parent / "samples" / "pictures").rglob("*.png"))[:2]


@pytest.fixture(scope="module")
def engine() -> CLIPEngine:
    return CLIPEngine(DEMO / "clip", device="cpu", precision="float32")


def test_paths_and_pil_images_are_prepared_as_arrays_are(engine: CLIPEngine) -> None:
    images = [Image.open(path) for path in PICTURES]
    expected = engine.encode_image(np.stack([engine.image_processor(image, normalize=False) for image in images]))
    for given in (PICTURES, [str(path) for path in PICTURES], images, (images[0], PICTURES[1])):
        np.testing.assert_array_equal(engine.encode_image(given), expected)
    for given in (PICTURES[0], str(PICTURES[0]), images[0]):
        one = engine.encode_image(given)
        assert one.shape == (1, engine.dimension)
        np.testing.assert_allclose(one, expected[:1], atol=1e-6)
    assert engine.find_best_matches(["a picture"], PICTURES, top_k=2)[0] in ([0, 1], [1, 0])


def test_the_vision_tower_and_a_provider_take_them_too(engine: CLIPEngine) -> None:
    tower = VisionEncoder(DEMO / "clip", device="cpu", precision="float32")
    assert tower.encode(PICTURES).shape == (2, tower.dimension)
    provider = MultimodalEmbeddingProvider(clip_model_path=DEMO / "clip", device="cpu", precision="float32")
    np.testing.assert_array_equal(provider.encode_image(PICTURES), engine.encode_image(PICTURES))
    assert provider.encode_multimodal(images=PICTURES)["image"].shape == (2, engine.dimension)


def test_a_file_is_turned_upright(engine: CLIPEngine, tmp_path: Path) -> None:
    rotated = Image.Exif()
    rotated[0x0112] = 6  # orientation: the camera was turned by 90 degrees
    picture = Image.open(PICTURES[0]).convert("RGB")
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=rotated)
    np.testing.assert_array_equal(engine.encode_image(tmp_path / "turned.png"), engine.encode_image(picture))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "PIL images or paths, got list"),
        (3, "PIL images or paths, got int"),
        ([3], "PIL images or paths, got int"),
        (b"bytes", "PIL images or paths, got (bytes|int)"),
        ("nothing.png", "nothing.png cannot be decoded .*leave it out"),
        (__file__, "cannot be decoded .*leave it out"),
    ],
)
def test_what_is_no_picture_is_said_in_a_line(engine: CLIPEngine, images: Any, words: str) -> None:
    with pytest.raises(ImageValidationError, match=words) as refused:
        engine.encode_image(images)
    assert "\n" not in str(refused.value)
