"""Properties 1, 2 and 8 of the specification: the vision tower against transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from arrowlens.encoders import CLIPEngine, ImageProcessor, VisionEncoder, WeightLoader, write_model
from tests.property.conftest import make_clip
from tests.support.checkpoints import VIT_B16
from tests.support.reference import HALF_COSINE, ClipReference, assert_agree, cosines, distinct_rows, pictures

VIT_B32 = {**VIT_B16, "patch_size": 32}
CONFIGURATIONS = {
    "patch 14": {"image_size": 70, "patch_size": 14},
    "patches that do not fill the picture": {"image_size": 50, "patch_size": 16},
    "gelu": {"hidden_act": "gelu"},
    "deep and narrow": {"num_hidden_layers": 6, "hidden_size": 48, "num_attention_heads": 3},
}


@st.composite
def images(draw: st.DrawFn, size: int) -> np.ndarray:
    """Pictures of every kind: flat, noisy, striped, with a block; (size, size, 3) uint8."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    colours = draw(st.lists(st.integers(0, 255), min_size=6, max_size=6))
    picture = np.full((size, size, 3), colours[:3], np.float64)
    x, y, side = (draw(st.integers(0, size - 1)) for _ in range(3))
    picture[y : y + side, x : x + side] = colours[3:]
    picture += draw(st.sampled_from([0, 5, 60])) * rng.normal(size=picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def wide_encoder(tmp_path_factory: pytest.TempPathFactory) -> VisionEncoder:
    """ViT-B/16 in width, heads and patches, with one layer: the structure at a twelfth of the price."""
    _, directory = make_clip(tmp_path_factory.mktemp("wide"), vision={**VIT_B16, "num_hidden_layers": 1})
    return VisionEncoder(directory, precision="float32")


@given(picture=images(224))
def test_bytes_and_what_the_processor_makes_of_them_are_one_picture(
    wide_encoder: VisionEncoder, picture: np.ndarray
) -> None:
    """Bytes are normalised where the model runs; to the last bit as in decoding processes."""
    prepared = wide_encoder.image_processor.normalize(picture)
    np.testing.assert_array_equal(wide_encoder.encode(picture), wide_encoder.encode(prepared))


# Feature: multimodal-encoder-system, Property 1: Vision Encoder Output Structure
@given(picture=images(224))
def test_any_picture_gives_196_patches_and_768_numbers(wide_encoder: VisionEncoder, picture: np.ndarray) -> None:
    vector = wide_encoder.encode(picture[None], normalize=False)
    assert vector.shape == (1, 768)
    assert vector.dtype == np.float32
    assert np.isfinite(vector).all()
    pixels = torch.from_numpy(wide_encoder.image_processor.normalize(picture)).permute(2, 0, 1)[None]
    patches = wide_encoder.patch_embedding(pixels)
    assert patches.shape == (1, 196, 768)
    # The grid is 14 x 14, row by row: each patch depends on its own 16 x 16 pixels and on no others.
    changed = pixels.clone()
    changed[..., 3 * 16 : 4 * 16, 5 * 16 : 6 * 16] += 1
    moved = (wide_encoder.patch_embedding(changed) - patches).abs().amax(dim=-1)[0].nonzero().ravel().tolist()
    assert moved == [3 * 14 + 5]


@pytest.fixture(scope="module")
def small(small_clip: tuple[Path, Path]) -> tuple[ClipReference, VisionEncoder]:
    checkpoint, directory = small_clip
    model = transformers.CLIPModel.from_pretrained(checkpoint)
    return ClipReference(model), VisionEncoder(directory, precision="float32")


# Feature: multimodal-encoder-system, Property 2: Vision Encoder Precision
@given(picture=images(32))
def test_any_picture_agrees_with_the_reference(small: tuple[ClipReference, VisionEncoder], picture: np.ndarray) -> None:
    reference, encoder = small
    batch = np.concatenate([picture[None], pictures(32)])
    assert_agree(encoder.encode(batch, normalize=False), reference.pooled(batch))


# Feature: multimodal-encoder-system, Property 2: Vision Encoder Precision
@pytest.mark.parametrize("vision", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def test_every_configuration_agrees_with_the_reference(tmp_path: Path, vision: dict[str, object]) -> None:
    checkpoint, directory = make_clip(tmp_path, vision=vision)
    reference = ClipReference(transformers.CLIPModel.from_pretrained(checkpoint))
    encoder = VisionEncoder(directory, precision="float32")
    batch = pictures(encoder.config.image_size)
    batch = batch[distinct_rows(reference.pooled(batch))]
    expected = reference.pooled(batch)
    assert_agree(encoder.encode(batch, normalize=False), expected)
    assert_agree(encoder.encode(encoder.image_processor.normalize(batch), normalize=False), expected)
    for precision in ("bfloat16", "float16"):
        half = VisionEncoder(directory, precision=precision).encode(batch, normalize=False)
        assert cosines(half, expected).min() > HALF_COSINE
    unit = encoder.encode(batch)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-5)


# Feature: multimodal-encoder-system, Property 2: Vision Encoder Precision
@pytest.mark.parametrize(
    "n_layers", [pytest.param(2, id="two layers"), pytest.param(12, id="all layers", marks=pytest.mark.soak)]
)
@pytest.mark.parametrize("vision", [VIT_B16, VIT_B32], ids=["ViT-B/16", "ViT-B/32"])
def test_full_width_agrees_with_the_reference(tmp_path: Path, vision: dict[str, int], n_layers: int) -> None:
    vision = {**vision, "num_hidden_layers": n_layers}
    checkpoint, directory = make_clip(tmp_path, vision=vision, projection_dim=512)
    reference = ClipReference(transformers.CLIPModel.from_pretrained(checkpoint))
    batch = pictures(224)
    batch = batch[distinct_rows(reference.pooled(batch))]
    expected = reference.pooled(batch)
    assert_agree(VisionEncoder(directory, precision="float32").encode(batch, normalize=False), expected)
    half = VisionEncoder(directory, precision="bfloat16").encode(batch, normalize=False)
    assert cosines(half, expected).min() > HALF_COSINE
    projected = CLIPEngine(directory, precision="float32").encode_image(batch, normalize=False)
    assert projected.shape == (len(batch), 512)
    assert_agree(projected, reference.images(batch))


def test_the_same_picture_alone_or_in_any_batch(small: tuple[ClipReference, VisionEncoder]) -> None:
    _, encoder = small
    batch = pictures(32)
    together = encoder.encode(batch)
    alone = np.concatenate([encoder.encode(picture) for picture in batch])
    backwards = encoder.encode(batch[::-1].copy())[::-1]
    assert cosines(together, alone).min() > 0.9999
    assert cosines(together, backwards).min() > 0.9999


@pytest.mark.parametrize("mutation", ["activation", "positions", "epsilon", "channels", "layer norm", "qkv"])
def test_the_bounds_catch_a_wrong_model(
    tmp_path: Path, small: tuple[ClipReference, VisionEncoder], small_clip: tuple[Path, Path], mutation: str
) -> None:
    reference, right = small
    loader = WeightLoader(small_clip[1])
    weights, dimensions = loader.load_weights(), loader.info.dimensions
    vision = dict(dimensions["vision"])
    batch = pictures(32)[distinct_rows(reference.pooled(pictures(32)))]
    if mutation == "activation":
        vision["activation"] = "gelu"
    elif mutation == "epsilon":
        vision["layer_norm_eps"] = 1e-3
    elif mutation == "positions":
        weights["vision.position_embedding"] = torch.zeros_like(weights["vision.position_embedding"])
    elif mutation == "layer norm":
        weights["vision.pre_layernorm.weight"] = torch.ones_like(weights["vision.pre_layernorm.weight"])
    elif mutation == "qkv":
        name = "vision.transformer.layers.0.attention.qkv.weight"
        weights[name] = torch.cat(weights[name].chunk(3)[::-1])
    files = {name: loader.read_file(name) for name in loader.info.files}
    write_model(
        tmp_path, weights, family="clip", dimensions={**dimensions, "vision": vision}, source="wrong", files=files
    )
    wrong = VisionEncoder(tmp_path, precision="float32")
    shown = batch[..., ::-1].copy() if mutation == "channels" else batch
    expected = reference.pooled(batch)
    assert_agree(right.encode(batch, normalize=False), expected)
    with pytest.raises(AssertionError, match=r"relative error|cosine"):
        assert_agree(wrong.encode(shown, normalize=False), expected)


@st.composite
def odd_pictures(draw: st.DrawFn) -> Image.Image:
    """Pictures of any size, ratio and mode."""
    width, height = draw(st.integers(1, 500)), draw(st.integers(1, 500))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    low, high = sorted(draw(st.tuples(st.integers(0, 255), st.integers(0, 255))))
    pixels = rng.integers(low, high + 1, (height, width, 3)).astype(np.uint8)
    return Image.fromarray(pixels).convert(draw(st.sampled_from(["RGB", "L", "P", "CMYK", "RGBA"])))


# Feature: multimodal-encoder-system, Property 8: Image Preprocessing Correctness
@given(image=odd_pictures(), size=st.sampled_from([224, 56]))
def test_any_picture_is_prepared_as_the_reference_does(image: Image.Image, size: int) -> None:
    if max(image.size) > 16 * min(image.size):
        image = image.crop((0, 0, min(image.size), min(image.size)))
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    )
    expected = processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    np.testing.assert_allclose(ImageProcessor(image_size=size)(image), expected, atol=1e-5)
