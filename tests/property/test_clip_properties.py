"""Properties 5 and 6 of the specification: both towers of CLIP and their projections against transformers."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr

from arrowlens.encoders import CLIPEngine, WeightLoader, write_model
from arrowlens.errors import InputError
from tests.property.conftest import make_clip
from tests.support.checkpoints import TEXT_B, VIT_B16
from tests.support.reference import HALF_COSINE, ClipReference, assert_agree, cosines, distinct_rows, pictures

TEXTS = [
    "a photo of two cats",
    "rain on a window",
    "the",
    "",
    "red and blue circles, one of them 3 metres wide!",
    "Ünïcode ☃ and 日本",
    "a dog chasing a bird " * 20,  # cut at the model's length
]
TEXT_384 = {"hidden_size": 384, "intermediate_size": 768, "num_attention_heads": 6}


def reference_texts(reference: ClipReference, engine: CLIPEngine, texts: list[str]) -> np.ndarray:
    """The reference's text vectors, over ids from the checkpoint's own tokenizer padded to the model's full length."""
    length = engine.text_config.context_length
    tokens = reference_tokenizer(reference)(
        texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    return reference.texts(tokens["input_ids"], tokens["attention_mask"])


def reference_tokenizer(reference: ClipReference) -> transformers.PreTrainedTokenizerBase:
    return transformers.CLIPTokenizer.from_pretrained(reference.model.name_or_path)


def load(checkpoint: Path, directory: Path, precision: str = "float32") -> tuple[ClipReference, CLIPEngine]:
    model = transformers.CLIPModel.from_pretrained(checkpoint)
    return ClipReference(model), CLIPEngine(directory, precision=precision)


@pytest.fixture(scope="module")
def small(small_clip: tuple[Path, Path]) -> tuple[ClipReference, CLIPEngine]:
    return load(*small_clip)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClipReference, CLIPEngine]:
    """A 768-wide vision tower and a 384-wide text tower, projected to 512."""
    return load(
        *make_clip(
            tmp_path_factory.mktemp("wide"),
            vision={**VIT_B16, "num_hidden_layers": 1, "image_size": 64},
            text=TEXT_384,
            projection_dim=512,
        )
    )


@st.composite
def pairs(draw: st.DrawFn) -> tuple[list[str], np.ndarray]:
    """2 to 5 texts and as many pictures of 32 x 32."""
    texts = draw(st.lists(st.text(max_size=60), min_size=2, max_size=5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = rng.integers(0, 256, (len(texts), 32, 32, 3))
    colours = rng.integers(0, 256, (len(texts), 1, 1, 3))
    weight = draw(st.floats(0, 1))
    return texts, (weight * noise + (1 - weight) * colours).astype(np.uint8)


# Feature: multimodal-encoder-system, Property 5: CLIP Projection Dimensions
@given(text=st.text(max_size=200), seed=st.integers(0, 2**32 - 1))
def test_any_text_and_picture_is_projected_to_512(wide: tuple[ClipReference, CLIPEngine], text: str, seed: int) -> None:
    _, engine = wide
    assert engine.text_projection.shape == (512, 384)
    assert engine.vision_projection.shape == (512, 768)
    picture = np.random.default_rng(seed).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    for vector in (engine.encode_text([text]), engine.encode_image(picture)):
        assert vector.shape == (1, 512)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


# Feature: multimodal-encoder-system, Property 5: CLIP Projection Dimensions
def test_projections_agree_with_the_reference(wide: tuple[ClipReference, CLIPEngine]) -> None:
    reference, engine = wide
    expected = reference_texts(reference, engine, TEXTS)
    distinct_rows(expected)
    assert_agree(engine.encode_text(TEXTS, normalize=False), expected)
    batch = pictures(64)
    assert_agree(engine.encode_image(batch, normalize=False), reference.images(batch))


# Feature: multimodal-encoder-system, Property 6: CLIP Similarity Correlation
@given(pair=pairs())
def test_any_similarities_agree_with_the_reference(
    small: tuple[ClipReference, CLIPEngine], pair: tuple[list[str], np.ndarray]
) -> None:
    reference, engine = small
    texts, images = pair
    texts, images = [*texts, *TEXTS], np.concatenate([images, pictures(32)])
    tokens = reference_tokenizer(reference)(
        texts, padding=True, max_length=engine.text_config.context_length, truncation=True, return_tensors="pt"
    )
    with torch.inference_mode():
        logits = reference.model(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            pixel_values=reference.pixels(images),
        ).logits_per_text.numpy()
    ours = engine.compute_similarity(engine.encode_text(texts), engine.encode_image(images))
    assert ours.shape == logits.shape
    assert pearsonr(ours.ravel(), logits.ravel()).statistic > 0.9999
    np.testing.assert_allclose(ours, logits, atol=1e-3 * engine.logit_scale)
    row = [0.5] * engine.dimension
    np.testing.assert_array_equal(
        engine.compute_similarity([row], [row]), engine.compute_similarity(np.float32([row]), np.float32([row]))
    )
    with pytest.raises(InputError, match="rows of numbers of one length"):
        engine.compute_similarity([row, row[1:]], [row])


# Feature: multimodal-encoder-system, Property 6: CLIP Similarity Correlation
@pytest.mark.parametrize(
    "options",
    [
        {"legacy_eos": True},
        {"text": {"hidden_act": "gelu"}},
        {"tokenizer": "vocabulary"},
        {"tokenizer": "real", "text": {"max_position_embeddings": 77}},
    ],
    ids=["pooled at the largest id", "gelu", "vocab.json and merges.txt", "the real vocabulary"],
)
def test_every_text_tower_agrees_with_the_reference(tmp_path: Path, options: dict[str, object]) -> None:
    reference, engine = load(*make_clip(tmp_path, **options))
    expected = reference_texts(reference, engine, TEXTS)
    distinct_rows(expected)
    assert_agree(engine.encode_text(TEXTS, normalize=False), expected)


# Feature: multimodal-encoder-system, Property 6: CLIP Similarity Correlation
def test_a_full_size_text_tower_agrees_with_the_reference(tmp_path: Path) -> None:
    checkpoint, directory = make_clip(
        tmp_path, text={**TEXT_B, "vocab_size": 49408, "max_position_embeddings": 77}, projection_dim=512
    )
    reference, engine = load(checkpoint, directory)
    expected = reference_texts(reference, engine, TEXTS)
    rows = distinct_rows(expected)
    assert_agree(engine.encode_text(TEXTS, normalize=False), expected)
    half = CLIPEngine(directory, precision="bfloat16").encode_text(TEXTS, normalize=False)
    assert cosines(half, expected).min() > HALF_COSINE
    assert len(rows) >= 5


@pytest.mark.parametrize("mutation", ["causality", "positions", "pooling", "projection"])
def test_the_bounds_catch_a_wrong_text_tower(
    tmp_path: Path, small: tuple[ClipReference, CLIPEngine], small_clip: tuple[Path, Path], mutation: str
) -> None:
    reference, right = small
    loader = WeightLoader(small_clip[1])
    weights, text = loader.load_weights(), dict(loader.info.dimensions["text"])
    if mutation == "pooling":
        text |= {"pooling": "eos", "eos_token_id": text["bos_token_id"]}
    elif mutation == "positions":
        weights["text.position_embedding"] = weights["text.position_embedding"].roll(1, dims=0)
    elif mutation == "projection":
        weights["text_projection.weight"] = weights["text_projection.weight"].flip(0)
    files = {name: loader.read_file(name) for name in loader.info.files}
    dimensions = {**loader.info.dimensions, "text": text}
    write_model(tmp_path, weights, family="clip", dimensions=dimensions, source="wrong", files=files)
    wrong = CLIPEngine(tmp_path, precision="float32")
    if mutation == "causality":
        for layer in wrong.text_tower.transformer.layers:
            layer.attention.causal = False
    expected = reference_texts(reference, right, TEXTS)
    assert_agree(right.encode_text(TEXTS, normalize=False), expected)
    with pytest.raises(AssertionError, match=r"relative error|cosine"):
        assert_agree(wrong.encode_text(TEXTS, normalize=False), expected)


def test_best_matches_are_in_order_and_ties_in_the_order_of_rows(small: tuple[ClipReference, CLIPEngine]) -> None:
    _, engine = small
    images = np.concatenate([pictures(32), pictures(32)[:2]])
    matches = engine.find_best_matches(TEXTS[:2], images, top_k=4)
    scores = engine.compute_similarity(engine.encode_text(TEXTS[:2]), engine.encode_image(images))
    for row, match in zip(scores, matches, strict=True):
        assert len(match) == 4
        assert row[match[0]] == row.max()
        assert all(row[a] >= row[b] for a, b in itertools.pairwise(match))
    assert len(engine.find_best_matches(["the"], images, top_k=50)[0]) == len(images)
