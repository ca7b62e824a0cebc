"""What a package says it offers is what it offers; importing it is quick."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import arrowlens

PACKAGES = [
    "arrowlens",
    "arrowlens.cli",
    "arrowlens.conversion",
    "arrowlens.encoders",
    "arrowlens.ingest",
    "arrowlens.library",
    "arrowlens.media",
    "arrowlens.search",
    "arrowlens.store",
]
PROMISED = {
    "arrowlens": ["Library", "Results", "Hit"],
    "arrowlens.encoders": [
        "VisionEncoder",
        "AudioEncoder",
        "TextEncoder",
        "CLIPEngine",
        "InferenceCore",
        "WeightLoader",
        "ImageProcessor",
        "AudioProcessor",
        "MelSpectrogramProcessor",
        "ImageBatch",
        "AudioBatch",
        "BatchEncoder",
        "MultimodalEmbeddingProvider",
        "VisionConfig",
        "AudioConfig",
        "PatchEmbedding",
        "validate_image_input",
        "validate_audio_input",
        "validate_embedding_precision",
        "load_model_with_validation",
        "EmbeddingProvider",
    ],
    "arrowlens.store": ["MultimodalStorage"],
    "arrowlens.conversion": ["convert_clip_model", "convert_whisper_model", "convert_text_model"],
}


@pytest.mark.parametrize("name", PACKAGES)
def test_all_names_are_there_sorted_and_once(name):
    package = importlib.import_module(name)
    assert all(getattr(package, public) is not None for public in package.__all__)
    assert len(set(package.__all__)) == len(package.__all__)
    assert set(PROMISED.get(name, [])) <= set(package.__all__)


def test_the_front_door_shows_its_names_and_no_others():
    assert dir(arrowlens) == sorted(arrowlens.__all__)
    with pytest.raises(AttributeError, match=r"attribute '?nonsense"):
        arrowlens.nonsense  # noqa: B018 - the access is the test


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import arrowlens", ["torch", "lancedb", "streamlit", "librosa", "transformers", "numpy"]),
        ("import arrowlens.cli", ["torch", "lancedb", "streamlit", "librosa", "transformers"]),
        ("import arrowlens.media", ["torch", "lancedb", "streamlit", "librosa", "transformers"]),
        ("import arrowlens.search", ["torch", "lancedb", "streamlit", "librosa", "transformers"]),
        ("import arrowlens.library", ["lancedb", "streamlit", "librosa", "transformers"]),
    ],
)
def test_importing_stays_light(code, absent):
    check = f"{code}, sys; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("package", "old", "new"),
    [
        ("arrowlens.ingest", "Event", "IngestEvent"),
        ("arrowlens.search", "Atlas", "EmbeddingMap"),
        ("arrowlens.search", "listed", "as_tuple"),
    ],
)
def test_a_renamed_name_keeps_its_old_one_for_a_release(package, old, new):
    module = importlib.import_module(package)
    with pytest.warns(DeprecationWarning, match=f"{package}.{old} is deprecated; use {new}"):
        assert getattr(module, old) is getattr(module, new)
    with pytest.raises(AttributeError):
        module.nonsense  # noqa: B018 - the access is the test


def test_renamed_attributes_of_results_and_hits_keep_their_old_ones_for_a_release():
    hit = arrowlens.Hit(Path("/a.jpg"), "1", "image", 0.5, cluster_size=3)
    with pytest.warns(DeprecationWarning, match="Hit.n_alike is deprecated; use cluster_size"):
        assert hit.n_alike == 3
    with pytest.warns(DeprecationWarning, match="Results.matches is deprecated; use has_match"):
        assert arrowlens.Results([hit], has_match=True).matches is True
