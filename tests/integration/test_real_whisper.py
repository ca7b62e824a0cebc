"""The real whisper-base: its vectors are those of transformers and of CTranslate2, and they find the same recording."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import ctranslate2
import librosa
import numpy as np
import pytest
import soundfile
import torch
import transformers

from arrowlens import Library
from arrowlens.conversion import convert_whisper_model
from arrowlens.conversion.ctranslate2 import write_checkpoint
from arrowlens.embedding import EmbeddingPlan, ExampleReader, embed, embed_example, prepare
from arrowlens.encoders import AudioEncoder, MultimodalEmbeddingProvider, model_info
from arrowlens.search.relevance import MATCHING
from arrowlens.search.relevance.background import Bank, bundled
from tests.support.measures import area
from tests.support.real_weights import SPEECH, spoken_digits, spoken_sentence, whisper_base_folder
from tests.support.reference import HALF_COSINE, WhisperReference, assert_agree, cosines, distinct_rows
from tests.support.silence import assert_silence_changes_nothing, sound


class Digits(NamedTuple):
    """Vectors (n, d) of spoken digits, and what is said in them, (n,)."""

    held: np.ndarray
    held_said: np.ndarray
    asked: np.ndarray
    asked_said: np.ndarray


SAMPLES = Path(__file__).parents[2] / "arrowlens" / "demo" / "samples" / "sounds"
KINDS = ("dog", "rain", "church-bell", "speech", "typing", "owl", "drums", "wind")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # recordings of half a second: beside other work, threads mostly wait for each other
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whisper_base_folder(tmp_path_factory.mktemp("real") / "whisper-base")


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory in float16, as ``arrowlens convert whisper`` makes it by default."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARROWLENS_CACHE", str(cache))
        report = convert_whisper_model(folder, tmp_path_factory.mktemp("models") / "whisper-base")
    assert report.minimum is not None
    assert report.minimum > HALF_COSINE
    return report.directory


@pytest.fixture(scope="module")
def recordings() -> list[np.ndarray]:
    """Eight bundled sounds, float32 (n,) at 16 kHz, none longer than 30 s; real speech where it is there."""
    paths = [next(SAMPLES.glob(f"{kind}-01.*")) for kind in KINDS]
    return [librosa.load(path, sr=16_000)[0][:480_000] for path in (*paths, *([SPEECH] if SPEECH.is_file() else []))]


@pytest.fixture(scope="module")
def ours(model: Path, recordings: list[np.ndarray]) -> np.ndarray:
    """The recordings' vectors in float32, (n, 512), of length as they come."""
    return AudioEncoder(model, precision="float32").encode(recordings, normalize=False, context="padded")


@pytest.fixture(scope="module")
def transformers_vectors(
    folder: Path, recordings: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> np.ndarray:
    checkpoint = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder, checkpoint)
    return WhisperReference(transformers.WhisperModel.from_pretrained(checkpoint)).padded(recordings)


@pytest.fixture(scope="module")
def ctranslate2_vectors(folder: Path, recordings: list[np.ndarray]) -> np.ndarray:
    """Means over the encoder's states, computed by CTranslate2 itself in float32; (n, 512)."""
    whisper = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="float32")
    extractor = transformers.WhisperFeatureExtractor(feature_size=80)
    vectors = []
    for recording in recordings:
        features = extractor(recording, sampling_rate=16_000, return_tensors="np")["input_features"]
        states = whisper.encode(ctranslate2.StorageView.from_array(np.ascontiguousarray(features)), to_cpu=True)
        vectors.append(np.asarray(states)[0].mean(axis=0))
    return np.stack(vectors)


def test_float32_agrees_with_transformers(ours: np.ndarray, transformers_vectors: np.ndarray) -> None:
    assert_agree(ours, transformers_vectors)


def test_float32_agrees_with_ctranslate2(ours: np.ndarray, ctranslate2_vectors: np.ndarray) -> None:
    assert_agree(ours, ctranslate2_vectors)


def test_half_precision_agrees_with_transformers(
    model: Path, recordings: list[np.ndarray], transformers_vectors: np.ndarray
) -> None:
    ours = AudioEncoder(model, precision="bfloat16").encode(recordings, context="padded")
    assert cosines(ours, transformers_vectors).min() > HALF_COSINE


def test_libraries_read_the_third_of_six_layers(
    model: Path, folder: Path, recordings: list[np.ndarray], tmp_path: Path
) -> None:
    layer = model_info(model).pooling_layer
    assert layer == 3
    write_checkpoint(folder, tmp_path)
    reference = WhisperReference(transformers.WhisperModel.from_pretrained(tmp_path))
    ours = AudioEncoder(model, precision="float32").encode(recordings[:4], normalize=False, layer=layer)
    assert_agree(ours, reference.padded(recordings[:4], layer))


def test_silence_at_both_ends_changes_neither_a_vector_nor_its_neighbours(
    model: Path, recordings: list[np.ndarray]
) -> None:
    reading = model_info(model).recipe
    assert reading.skip_silence
    models = MultimodalEmbeddingProvider(audio_model_path=model, precision="float32", recipe=reading)
    assert_silence_changes_nothing(recordings, models)


def test_spoken_digits_find_the_same_digit_of_another_speaker(model: Path) -> None:
    digits = spoken_digits()
    vectors = AudioEncoder(model, precision="float32").encode(list(digits.values()), context="own")
    said, speakers = np.array([name.split("_")[:2] for name in digits]).T
    cosine = vectors @ vectors.T
    cosine[speakers[:, None] == speakers] = -1
    assert (said[cosine.argmax(axis=1)] == said).mean() > 0.75  # one in ten by chance


def test_a_recording_cut_by_more_than_a_second_finds_itself_first(model: Path, tmp_path: Path) -> None:
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    samples = sorted(SAMPLES.iterdir())
    for number in range(12):  # 12 s and more of three kinds of sounds each
        parts = [librosa.load(path, sr=16_000)[0] for path in samples[number::12][:4]]
        soundfile.write(sounds / f"{number}.wav", np.tile(np.concatenate(parts), 3)[: 16_000 * (12 + number)], 16_000)
    with Library.open(tmp_path / "library", models=f"audio={model}", create=True) as library:
        assert library.ingest(sounds).indexed == 12
        for path in sorted(sounds.iterdir()):
            recording, rate = soundfile.read(path, dtype="float32")
            cut = tmp_path / f"cut-{path.stem}.wav"
            soundfile.write(cut, recording[int(1.2 * rate) :], rate)
            assert library.similar(cut, k=3)[0].path == path


@pytest.fixture(scope="module")
def models(model: Path) -> MultimodalEmbeddingProvider:
    """As a new library uses them."""
    reading = model_info(model).recipe
    return MultimodalEmbeddingProvider(audio_model_path=model, precision="float32", recipe=reading)


@pytest.fixture(scope="module")
def bank(models: MultimodalEmbeddingProvider, tmp_path_factory: pytest.TempPathFactory) -> Bank:
    folder = tmp_path_factory.mktemp("bank")
    return Bank(models, ExampleReader(models).file, folder)


@pytest.fixture(scope="module")
def digits(models: MultimodalEmbeddingProvider) -> Digits:
    """Of four speakers in a library, and of two others to ask it with."""
    recordings = spoken_digits()
    plan = EmbeddingPlan.of(models)
    vectors = np.concatenate([embed(prepare(sound(samples), plan), models) for samples in recordings.values()])
    said, speakers = np.array([name.split("_")[:2] for name in recordings]).T
    is_held_out = np.isin(speakers, ("theo", "yweweler"))
    return Digits(vectors[~is_held_out], said[~is_held_out], vectors[is_held_out], said[is_held_out])


def best_relevance(bank: Bank, asked: np.ndarray, held: list[np.ndarray]) -> np.ndarray:
    """Of the nearest recording for each vector that is asked with, (n,); each has a library of its own, (m, d)."""
    route = bank.route("audio", "audio")
    assert route is not None
    pairs = zip(asked, held, strict=True)
    return np.array(
        [route.relevance(row[None], (library @ row).max()[None], len(library))[0] for row, library in pairs]
    )


def test_right_answers_are_called_matches(bank: Bank, digits: Digits) -> None:
    nearest = digits.held_said[(digits.asked @ digits.held.T).argmax(axis=1)]
    is_right = nearest == digits.asked_said
    relevance = best_relevance(bank, digits.asked, [digits.held] * len(digits.asked))
    assert is_right.mean() > 0.7
    assert (relevance[is_right] < MATCHING).mean() <= 0.15


def test_relevance_tells_whether_the_digit_is_there(bank: Bank, digits: Digits) -> None:
    there = best_relevance(bank, digits.asked, [digits.held] * len(digits.asked))
    gone = best_relevance(bank, digits.asked, [digits.held[digits.held_said != said] for said in digits.asked_said])
    assert area(there, gone) >= 0.75


def test_relevance_tells_another_world(bank: Bank, digits: Digits) -> None:
    noises = bank.vectors("audio")[["speech" not in path.name for path in bundled("audio")]]
    inside = best_relevance(bank, digits.asked, [digits.held] * len(digits.asked))
    speech_in_noises = best_relevance(bank, digits.asked, [noises] * len(digits.asked))
    noises_in_speech = best_relevance(bank, noises, [digits.held] * len(noises))
    assert area(inside, speech_in_noises) >= 0.95
    assert area(inside, noises_in_speech) >= 0.95
    assert (np.concatenate([speech_in_noises, noises_in_speech]) >= MATCHING).mean() <= 0.05


SENTENCES = ("The train leaves at nine.", "We had soup for lunch.", "It will rain tomorrow.", "Where is the library?")


def test_voices_of_a_synthesizer_match_each_other_and_no_noises(
    bank: Bank, models: MultimodalEmbeddingProvider
) -> None:
    plan = EmbeddingPlan.of(models)
    held, asked = (
        np.concatenate([embed(prepare(sound(spoken_sentence(text, voice)), plan), models) for text in SENTENCES])
        for voice in ("en+m2", "de+f3")
    )
    noises = bank.vectors("audio")[["speech" not in path.name for path in bundled("audio")]]
    in_noises = best_relevance(bank, asked, [noises] * len(asked))
    in_speech = best_relevance(bank, asked, [np.concatenate([held, noises])] * len(asked))
    assert (in_noises < MATCHING).all()
    assert (in_speech > in_noises).all()


def test_a_copy_in_another_format_is_surely_a_match(
    bank: Bank, models: MultimodalEmbeddingProvider, tmp_path: Path
) -> None:
    held, route = bank.vectors("audio"), bank.route("audio", "audio")
    reader = ExampleReader(models)
    for row, path in [*enumerate(bundled("audio"))][::6]:
        samples, rate = soundfile.read(path, dtype="float32")
        soundfile.write(tmp_path / f"{row}.mp3", samples, rate)
        copy = embed_example(reader.file(tmp_path / f"{row}.mp3"), models)[:1]
        assert route.relevance(copy, held[row] @ copy.T, 10_000)[0] > 0.9, path.name


def test_a_copy_of_what_the_model_knows_little_of_is_surely_a_match_in_a_library(model: Path, tmp_path: Path) -> None:
    """By relevance alone applause and noises as MP3 have less than 0.9 here."""
    media = tmp_path / "media"
    media.mkdir()
    paths = [path for path in bundled("audio") if path.name.split("-")[0] in ("applause", "rain", "wind", "waves")]
    assert len(paths) >= 3
    for path in paths:
        (media / path.name).write_bytes(path.read_bytes())
    with Library.open(tmp_path / "a.lens", models=f"audio={model}", create=True) as library:
        library.ingest(media)
        for path in paths:
            samples, rate = soundfile.read(path, dtype="float32")
            soundfile.write(tmp_path / "copy.mp3", samples, rate)
            best = library.similar(tmp_path / "copy.mp3")[0]
            assert (best.path.name, best.relevance >= 0.98, best.reason) == (path.name, True, "a copy")


def test_vectors_are_distinct_enough_to_compare(transformers_vectors: np.ndarray) -> None:
    centred = transformers_vectors - transformers_vectors.mean(axis=0)
    distinct_rows(centred)


def test_duplicates_of_recordings_are_those_that_the_demo_model_has(model: Path, tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    digits = list(spoken_digits().items())[:20]  # five takes of a digit by each of four speakers
    for name, samples in digits:
        soundfile.write(media / name, samples, 16_000)
        soundfile.write(media / f"{name}.flac", np.concatenate([np.zeros(8_000), 0.5 * samples]), 16_000)
        soundfile.write(media / f"{name}.ogg", samples[: round(0.8 * len(samples))], 16_000)
    groups = {}
    for models in ("demo", f"audio={model}"):
        with Library.open(tmp_path / f"{models[:5]}.lens", models=models, create=True) as library:
            assert library.ingest(media).indexed == 3 * len(digits)
            groups[models] = library.duplicates()
    demo, real = groups.values()
    assert real == demo
    copies = [{path.path.name.split(".wav")[0] for path in group.files} for group in real if group.kind == "copy"]
    assert len(copies) >= 0.9 * len(digits)
    assert all(len(takes) == 1 for takes in copies)
    near = [group for group in real if group.kind == "near"]
    assert all(len({member.path.name.split(".wav")[0] for member in group.files}) == 1 for group in near)
