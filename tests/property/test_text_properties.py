"""The text encoder against transformers, on MiniLM's real weights and on a small perturbed model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from arrowlens.conversion import convert_text_model
from arrowlens.encoders import TextEncoder, WeightLoader, write_model
from tests.support.checkpoints import bert_checkpoint
from tests.support.real_weights import minilm_directory
from tests.support.reference import HALF_COSINE, assert_agree, cosines, distinct_rows

TEXTS = [
    "a cat on a sofa",
    "rain",
    "stock prices fell sharply after the announcement, which nobody had expected",
    "the red circle and the blue square",
    "how do I bake bread?",
    "a dog chasing a bird " * 30,  # cut at the model's length
    "music",
]


def reference(checkpoint: Path, max_length: int) -> np.ndarray:
    """The mean over real tokens of transformers' BertModel, text by text."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = transformers.BertModel.from_pretrained(checkpoint).float().eval()
    with torch.inference_mode():
        states = [
            model(**tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")).last_hidden_state
            for text in TEXTS
        ]
    return np.concatenate([state.mean(dim=1).numpy() for state in states])


@pytest.fixture(scope="module", params=["MiniLM", "small"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, Path]:
    """The reference's vectors, and our model directory in float32."""
    folder = tmp_path_factory.mktemp("text")
    checkpoint = minilm_directory() if request.param == "MiniLM" else bert_checkpoint(folder / "checkpoint")
    convert_text_model(checkpoint, folder / "model", dtype="float32", verify=False)
    return reference(checkpoint, TextEncoder(folder / "model").config.max_length), folder / "model"


def test_vectors_agree_with_the_reference(pair: tuple[np.ndarray, Path]) -> None:
    expected, directory = pair
    distinct_rows(expected)
    assert_agree(TextEncoder(directory, precision="float32").encode(TEXTS, normalize=False), expected)
    for precision in ("bfloat16", "float16"):
        half = TextEncoder(directory, precision=precision).encode(TEXTS, normalize=False)
        assert cosines(half, expected).min() > HALF_COSINE


def test_the_same_text_alone_or_in_any_batch(pair: tuple[np.ndarray, Path]) -> None:
    encoder = TextEncoder(pair[1], precision="float32")
    alone = np.concatenate([encoder.encode(text) for text in TEXTS])
    many = encoder.encode(TEXTS * 20)  # several chunks, sorted by length inside
    assert cosines(many, np.tile(alone, (20, 1))).min() > 0.99999
    assert cosines(encoder.encode(TEXTS[::-1])[::-1], alone).min() > 0.99999


@pytest.mark.parametrize("mutation", ["activation", "epsilon", "positions", "token types"])
def test_the_bounds_catch_a_wrong_model(pair: tuple[np.ndarray, Path], tmp_path: Path, mutation: str) -> None:
    expected, directory = pair
    loader = WeightLoader(directory)
    weights, dimensions = loader.load_weights(), dict(loader.info.dimensions)
    if mutation == "activation":
        dimensions["activation"] = "quick_gelu"
    elif mutation == "epsilon":
        dimensions["layer_norm_eps"] = 1e-2
    else:
        name = {"positions": "position_embedding", "token types": "token_type_embedding"}[mutation]
        weights[name] = torch.zeros_like(weights[name])
    files = {name: loader.read_file(name) for name in loader.info.files}
    write_model(tmp_path, weights, family="bert", dimensions=dimensions, source="wrong", files=files)
    with pytest.raises(AssertionError, match=r"relative error|cosine"):
        assert_agree(TextEncoder(tmp_path, precision="float32").encode(TEXTS, normalize=False), expected)
