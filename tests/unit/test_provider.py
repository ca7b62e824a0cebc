"""One door to all encoders: loaded late, once, and clear about what is not there."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from arrowlens.conversion import convert_clip_model, convert_text_model, convert_whisper_model
from arrowlens.encoders import EmbeddingProvider, MultimodalEmbeddingProvider
from arrowlens.errors import AudioValidationError, InputError, ModelLoadError
from tests.support.checkpoints import bert_checkpoint, clip_checkpoint, edit_config, whisper_checkpoint
from tests.support.reference import cosines, pictures, sounds


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny models of every role; CLIP and audio share a space."""
    folder = tmp_path_factory.mktemp("models")
    clip = edit_config(clip_checkpoint(folder / "a"), arrowlens_space="ours")
    audio = whisper_checkpoint(folder / "b", "WhisperForAudioClassification", classifier_proj_size=16)
    convert_clip_model(clip, folder / "clip", verify=False)
    convert_whisper_model(edit_config(audio, arrowlens_space="ours"), folder / "audio", verify=False)
    convert_text_model(bert_checkpoint(folder / "c"), folder / "text", verify=False)
    return {role: folder / role for role in ("clip", "audio", "text")}


@pytest.fixture
def provider(directories: dict[str, Path]) -> MultimodalEmbeddingProvider:
    return MultimodalEmbeddingProvider(
        directories["text"], directories["clip"], directories["audio"], directories["clip"], precision="float32"
    )


def test_every_modality_has_its_vectors(provider: MultimodalEmbeddingProvider) -> None:
    assert isinstance(provider, EmbeddingProvider)
    found = provider.encode_multimodal(["rain", "the cat"], pictures(32), sounds()[0])
    assert {name: vectors.shape for name, vectors in found.items()} == {
        "text": (2, 32),
        "image": (8, 32),
        "audio": (1, 16),
    }
    assert provider.encode("rain").shape == (1, 32)
    assert provider.compute_cross_modal_similarity(["rain", "the cat"], pictures(32)).shape == (2, 8)
    with pytest.raises(InputError, match="nothing to encode"):
        provider.encode_multimodal()


def test_another_sample_rate_than_the_audio_model_s_is_refused(provider: MultimodalEmbeddingProvider) -> None:
    audio = sounds()[0]
    for encode in (provider.encode_audio, partial(provider.encode_multimodal, None, None)):
        with pytest.raises(AudioValidationError, match=r"use AudioProcessor\.resample\(audio, 48000, 16000\)"):
            encode(audio, sample_rate=48_000)
    np.testing.assert_array_equal(provider.encode_audio(audio, sample_rate=16_000), provider.encode_audio(audio))


def test_headers_tell_what_models_are_without_loading_them(provider: MultimodalEmbeddingProvider) -> None:
    assert provider.roles == ("vision", "audio", "text", "pooled_vision")
    assert (provider.dimension("vision"), provider.dimension("pooled_vision"), provider.dimension("audio")) == (
        16,
        32,
        16,
    )
    assert provider.digest("vision") == provider.digest("pooled_vision") == provider.clip_engine.digest
    assert provider.text_reaches_audio


def test_a_pickled_provider_gives_the_same_vectors(provider: MultimodalEmbeddingProvider) -> None:
    images, audio = pictures(32), sounds()[0]
    expected = provider.encode_multimodal(["rain"], images, audio)
    data = pickle.dumps(provider)
    assert len(data) < 20_000, "models do not travel"
    copy = pickle.loads(data)
    assert (copy.roles, copy.digest("vision")) == (provider.roles, provider.digest("vision"))
    for name, vectors in copy.encode_multimodal(["rain"], images, audio).items():
        np.testing.assert_array_equal(vectors, expected[name])


def test_spaces_that_are_not_shared_are_not_mixed(directories: dict[str, Path], tmp_path: Path) -> None:
    other = edit_config(clip_checkpoint(tmp_path / "checkpoint"), arrowlens_space="another")
    convert_clip_model(other, tmp_path / "model", verify=False)
    for clip in (tmp_path / "model", None):
        provider = MultimodalEmbeddingProvider(clip_model_path=clip, audio_model_path=directories["audio"])
        assert not provider.text_reaches_audio


def test_a_missing_role_is_named(directories: dict[str, Path]) -> None:
    provider = MultimodalEmbeddingProvider(audio_model_path=directories["audio"])
    for ask in (lambda: provider.clip_engine, lambda: provider.encode("x"), lambda: provider.digest("pooled_vision")):
        with pytest.raises(ModelLoadError, match=r"has no (vision|text|pooled_vision) model \(it has audio\)"):
            ask()
    with pytest.raises(ModelLoadError, match="no such directory"):
        MultimodalEmbeddingProvider(clip_model_path=directories["clip"] / "nowhere")


def test_threads_share_one_model_and_get_the_same_vectors(provider: MultimodalEmbeddingProvider) -> None:
    batches = [pictures(32)[[row]] for row in range(8)] * 4

    def work(batch: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
        engine = provider.clip_engine
        return id(engine), engine.encode_image(batch), engine.encode_text(["a red circle", "the dog"])

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(work, batches))
    assert len({identity for identity, _, _ in found}) == 1
    together = provider.clip_engine.encode_image(pictures(32))
    assert cosines(np.concatenate([image for _, image, _ in found]), np.tile(together, (4, 1))).min() > 0.99999
    assert all(np.array_equal(texts, found[0][2]) for _, _, texts in found)
