"""Files to vectors: the same bytes give the same vectors, whichever way they come in and whatever the batch."""

from __future__ import annotations

import pickle
from pathlib import Path

import librosa
import numpy as np
import pytest
from PIL import Image

from arrowlens.conversion import convert_clip_model
from arrowlens.embedding import (
    MAX_QUERY_WINDOWS,
    EmbeddingPlan,
    ExampleReader,
    embed,
    embed_example,
    embed_questions,
    encode,
    evenly_spaced,
    prepare,
    windows_for,
)
from arrowlens.encoders import MultimodalEmbeddingProvider
from arrowlens.errors import AudioValidationError
from arrowlens.media import decode
from arrowlens.modalities import Recipe, Windows
from arrowlens.models import resolve
from tests.support.checkpoints import clip_checkpoint
from tests.support.media_factory import image_bytes, wav_bytes
from tests.support.silence import assert_silence_changes_nothing, silent_around, sound
from tests.support.small_models import SmallProvider


@pytest.fixture(scope="module")
def models():
    demo = resolve("demo")
    return MultimodalEmbeddingProvider(clip_model_path=demo.vision, audio_model_path=demo.audio)


@pytest.fixture
def reader(tmp_path, models):
    return ExampleReader(models)


def test_a_file_an_upload_and_a_decoded_picture_have_equal_vectors(tmp_path, models, reader):
    data = image_bytes("png", 3)
    (tmp_path / "x.png").write_bytes(data)
    plan = EmbeddingPlan.of(models)
    expected = embed(prepare(decode("x.png", data=data, min_side=plan.min_side), plan), models)
    examples = [reader.file(tmp_path / "x.png"), reader.upload(data, "x.png")]
    examples.append(reader.picture(Image.open(tmp_path / "x.png")))  # smaller than the model's size: not reduced
    for example in examples:
        np.testing.assert_array_equal(embed_example(example, models), expected)


def test_samples_and_their_windows_have_equal_vectors(models, reader):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 23 * 16_000).astype(np.float32)
    example = reader.samples(samples, 16_000)
    assert [len(window) for window in example.windows] == [160_000, 160_000, 160_000, 128_000]
    np.testing.assert_array_equal(embed_example(example, models), encode("audio", example.windows, models))


def test_a_recording_at_another_rate_than_the_plan_s_is_refused():
    data = wav_bytes(bytes(32_000))
    plan = EmbeddingPlan(None, Recipe(sample_rate=48_000))
    with pytest.raises(AudioValidationError, match="the recording is at 16000 Hz; decode it at 48000 Hz"):
        prepare(decode("x.wav", data=data), plan)
    inputs = prepare(decode("x.wav", data=data, sample_rate=48_000), plan)
    assert [len(segment) for segment in inputs.segments] == [48_000]


def test_a_model_is_told_the_rate_of_its_recipe(models):
    other = MultimodalEmbeddingProvider(audio_model_path=models.path("audio"), recipe=Recipe(sample_rate=48_000))
    with pytest.raises(AudioValidationError, match="audio must be at 16000 Hz, got 48000 Hz"):
        encode("audio", [np.ones(48_000, np.float32)], other)


def test_windows_of_other_models_are_resampled_and_cut():
    cut = [np.ones(11 * 16_000, np.float32), np.ones(8_000, np.float32)]
    assert [len(part) for part in windows_for(Recipe(), cut, 16_000)] == [176_000, 8_000]
    recipe = Recipe(Windows(10.0, 5.0, is_maximum=True), 48_000)
    assert [len(part) for part in windows_for(recipe, cut, 16_000)] == [480_000, 24_000]


def test_the_layer_that_the_provider_names_is_read(models):
    reading = Recipe(layer=2)
    middle = MultimodalEmbeddingProvider(audio_model_path=models.path("audio"), recipe=reading)
    noise = [np.random.default_rng(seed).uniform(-0.5, 0.5, 8_000).astype(np.float32) for seed in range(2)]
    expected = models.audio_encoder.encode(noise, context="own", layer=2)
    np.testing.assert_array_equal(encode("audio", noise, middle), expected)
    assert expected.shape != encode("audio", noise, models).shape  # the last layer is projected


SOUNDS = Path(__file__).parents[2] / "arrowlens" / "demo" / "samples" / "sounds"


def test_silence_at_both_ends_changes_neither_a_vector_nor_its_neighbours(models):
    reading = Recipe(skip_silence=True)
    own = MultimodalEmbeddingProvider(audio_model_path=models.path("audio"), recipe=reading)
    recordings = [librosa.load(path, sr=16_000)[0] for path in sorted(SOUNDS.iterdir())[::4]]
    assert_silence_changes_nothing(recordings, own)
    longest = max(recordings, key=len)
    padded = embed(prepare(sound(silent_around(longest)), EmbeddingPlan.of(models)), models)
    assert (padded[0] @ embed(prepare(sound(longest), EmbeddingPlan.of(models)), models)[0]) < 0.99  # it does otherwise


def test_windows_without_silence_at_the_ends_keep_their_times(models):
    samples = np.zeros(16 * 16_000, np.float32)
    samples[2 * 16_000 : 13 * 16_000] = 0.5
    skipping, reading_all = EmbeddingPlan(None, Recipe(skip_silence=True)), EmbeddingPlan(None)
    assert prepare(sound(samples), skipping).windows == ((2.0, 12.0), (7.0, 13.0))
    assert prepare(sound(samples), reading_all).windows == ((0.0, 10.0), (5.0, 15.0), (10.0, 16.0))
    assert prepare(sound(np.zeros(16_000, np.float32)), skipping).windows == ((0.0, 1.0),)


def test_vectors_do_not_depend_on_the_batch(models):
    plan = EmbeddingPlan.of(models)
    inputs = [prepare(decode("x.png", data=image_bytes("png", seed)), plan) for seed in range(5)]
    together = encode("image", [segment for one in inputs for segment in one.segments], models)
    apart = np.concatenate([embed(one, models) for one in inputs])
    np.testing.assert_allclose(together, apart, atol=1e-6)


def test_a_plan_is_picklable_and_says_how_much_of_a_picture_is_needed():
    models = SmallProvider()
    assert pickle.loads(pickle.dumps(EmbeddingPlan.of(models))) == EmbeddingPlan.of(models)
    assert EmbeddingPlan.of(models).min_side == 32
    assert EmbeddingPlan.of(models, exact=True).min_side is None
    assert EmbeddingPlan.of(SmallProvider(["audio"])).min_side is None


@pytest.mark.parametrize("n", [0, 1, MAX_QUERY_WINDOWS, MAX_QUERY_WINDOWS + 1, 1440])
def test_evenly_spaced_positions_hold_the_first_and_the_last(n):
    positions = evenly_spaced(n)
    assert len(positions) == len(set(positions)) == min(n, MAX_QUERY_WINDOWS)
    assert positions[:1] == [0][:n]
    assert positions[-1:] == [n - 1][:n]


class Templated(MultimodalEmbeddingProvider):
    """Models that are asked in two templates."""

    def templates(self, role: str) -> tuple[str, ...]:
        return ("a photo of {}.", "art of the {}.")


def test_names_of_things_are_asked_for_in_the_templates_of_the_model():
    models = Templated(clip_model_path=resolve("demo").vision, precision="float32")
    texts = ["a red bicycle", "The  dog", "a red bicycle leans on a wall", "{} in braces", "   "]
    vectors = embed_questions(texts, "vision", models)
    assert (vectors.dtype, len(vectors)) == (np.float32, len(texts))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    for row, name in ((0, "red bicycle"), (1, "dog"), (3, "{} in braces")):
        mean = models.clip_engine.encode_text([f"a photo of {name}.", f"art of the {name}."]).mean(axis=0)
        np.testing.assert_allclose(vectors[row], mean / np.linalg.norm(mean), atol=1e-6)
    for row in (2, 4):
        np.testing.assert_allclose(vectors[row], models.clip_engine.encode_text([texts[row]])[0], atol=1e-6)


def test_only_models_with_a_space_of_their_own_have_templates(models, tmp_path):
    assert models.templates("vision") == models.templates("audio") == ()  # the bundled ones share theirs
    folder = tmp_path / "clip"
    convert_clip_model(clip_checkpoint(tmp_path / "checkpoint"), folder, verify=False)
    for use, n_templates in ((True, 7), (False, 0)):
        clip = MultimodalEmbeddingProvider(clip_model_path=folder, use_templates=use)
        assert len(clip.templates("vision")) == n_templates
    bare, templated = (
        embed_questions(["dog"], "vision", MultimodalEmbeddingProvider(clip_model_path=folder, use_templates=use))
        for use in (False, True)
    )
    assert float((bare @ templated.T)[0, 0]) < 0.999
