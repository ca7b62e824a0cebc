"""Malformed headers and configurations of models are model errors, of one line that says what to do."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest

from arrowlens.encoders import AudioEncoder, CLIPEngine, WeightLoader, model_info, write_model
from arrowlens.errors import ModelLoadError
from arrowlens.modalities import Recipe
from arrowlens.models import DEMO
from tests.property.test_identifier_properties import write_header

WRONG = [None, True, -1, 0, 10**30, 2**31, 1.5, math.nan, math.inf, "x", "", [], {}, [1, 2], "../x"]
FILES = ("tokenizer.json", "preprocessor.json")


class Model:
    """A demo model that is written again with something changed; the hashes are right, so only sense is checked."""

    def __init__(self, role: str) -> None:
        self.loader = WeightLoader(DEMO / role)
        self.tensors, self.info = self.loader.load_weights(), self.loader.info
        self.files = {name: self.loader.read_file(name) for name in self.info.files}

    def used(self, folder: Path, dimensions: dict | None = None, files: dict | None = None) -> None:
        """Write it, load it and encode with it."""
        dimensions = self.info.dimensions if dimensions is None else dimensions
        files = self.files if files is None else files
        write_model(folder, self.tensors, family=self.info.family, dimensions=dimensions, source="x", files=files)
        info = model_info(folder)
        assert info.dimension > 0
        if info.family == "clip":
            engine = CLIPEngine(folder, "cpu")
            engine.encode_text(["a dog", "a longer text"])
            size = engine.image_processor.image_size
            engine.encode_image(engine.image_processor(np.full((9, 9, 3), 7, np.uint8))[None])
            assert size < 5000
        else:
            AudioEncoder(folder, "cpu").encode(np.ones(16_000, np.float32), context="own")


@pytest.fixture(scope="module", params=["clip", "audio"])
def model(request):
    return Model(request.param)


def refused_or_used(model: Model, folder: Path, **changed) -> bool:
    """Whether it was refused, in one line; else it works as it is."""
    try:
        model.used(folder, **changed)
    except ModelLoadError as error:
        message = str(error)
    else:
        return False
    assert len(message.splitlines()) == 1
    assert "convert" in message
    return True


def test_the_unchanged_model_is_used(model, tmp_path):
    assert not refused_or_used(model, tmp_path)


def test_a_dimension_of_a_wrong_type_or_size_is_a_model_error(model, tmp_path):
    n_refused = 0
    for number, path in enumerate(_paths(model.info.dimensions)):
        for value in WRONG[number % 3 :: 3]:
            n_refused += refused_or_used(model, tmp_path, dimensions=_changed(model.info.dimensions, path, value))
    assert n_refused > 30


def test_a_dimension_that_is_missing_is_a_model_error_or_has_a_default(model, tmp_path):
    for path in _paths(model.info.dimensions):
        refused_or_used(model, tmp_path, dimensions=_changed(model.info.dimensions, path, ...))
    assert refused_or_used(model, tmp_path, dimensions={})


def test_a_preprocessing_file_of_wrong_values_is_a_model_error(model, tmp_path):
    for name in FILES:
        if name not in model.files:
            continue
        values = json.loads(model.files[name])
        for raw in (b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000, b'{"image_size": 1e999}'):
            assert refused_or_used(model, tmp_path, files={**model.files, name: raw})
        for number, path in enumerate(path for path in _paths(values) if len(path) == 1):
            for value in WRONG[number % 3 :: 3]:
                data = json.dumps(_changed(values, path, value)).encode()
                refused_or_used(model, tmp_path, files={**model.files, name: data})


@pytest.mark.parametrize(
    "key", ["format_version", "family", "dimensions", "source", "space", "files", "sha256", "pooling_layer"]
)
@pytest.mark.parametrize("value", [*map(json.dumps, WRONG), "\x00", "[" * 100_000, "1" * 5000])
def test_a_header_of_wrong_values_is_a_model_error(tmp_path, key, value):
    write_header(tmp_path, **{key: value})
    try:
        assert model_info(tmp_path).dimension > 0
    except ModelLoadError as error:
        message = str(error)
    else:
        return
    assert len(message.splitlines()) == 1
    assert "weights.arrow" in message


WHISPER = json.dumps({"hidden_size": 8, "num_layers": 6})


def test_a_header_names_the_layer_that_libraries_read(tmp_path):
    write_header(tmp_path, family="whisper", dimensions=WHISPER, pooling_layer="4")
    assert model_info(tmp_path).pooling_layer == 4
    assert model_info(tmp_path).recipe == Recipe(layer=4, skip_silence=True)
    for layer in ("0", "7", "true", "3.0"):
        write_header(tmp_path, family="whisper", dimensions=WHISPER, pooling_layer=layer)
        with pytest.raises(ModelLoadError, match="pooling_layer is"):
            model_info(tmp_path)
    assert model_info(DEMO / "audio").pooling_layer is None  # projected: the projector was trained on the last layer


def test_a_space_shared_with_other_models_is_never_read_in_the_middle(tmp_path):
    """Its last layer was trained to lie where the texts of that space are."""
    write_header(tmp_path, family="whisper", dimensions=WHISPER)
    assert model_info(tmp_path).pooling_layer == 3
    write_header(tmp_path, family="whisper", dimensions=WHISPER, space="shared")
    assert model_info(tmp_path).pooling_layer is None
    assert model_info(tmp_path).recipe.layer is None


def test_a_header_of_an_earlier_version_has_the_layer_of_its_family(tmp_path):
    write_header(tmp_path, family="whisper", dimensions=WHISPER)
    assert model_info(tmp_path).pooling_layer == 3
    write_header(tmp_path, family="whisper", dimensions=json.dumps({"hidden_size": 8, "num_layers": 1}))
    assert model_info(tmp_path).pooling_layer == 1
    projected = json.dumps({"hidden_size": 8, "num_layers": 6, "projection_dim": 4})
    write_header(tmp_path, family="whisper", dimensions=projected)
    assert model_info(tmp_path).pooling_layer is None
    write_header(tmp_path, family="whisper", dimensions=projected, pooling_layer="3")
    with pytest.raises(ModelLoadError, match="projected from the last layer"):
        model_info(tmp_path)
    write_header(tmp_path, family="bert", dimensions=WHISPER)
    assert model_info(tmp_path).pooling_layer is None


def _paths(values: dict, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Where values lie in nested dictionaries, each also as a whole."""
    found = []
    for key, value in values.items():
        found.append((*above, key))
        if isinstance(value, dict) and len(value) < 50:
            found += _paths(value, (*above, key))
    return found


def _changed(values: dict, path: tuple[str, ...], value: object) -> dict:
    """A copy with one value replaced, or left out where it is ``...``."""
    changed = copy.deepcopy(values)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return changed
