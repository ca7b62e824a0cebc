"""A library in the shapes of ``base`` changes to SigLIP and CLAP while it is searched, and is calibrated then."""

from __future__ import annotations

import csv
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from arrowlens import Library, Results
from arrowlens.cli import main
from arrowlens.conversion import (
    convert_clap_model,
    convert_clip_model,
    convert_siglip_model,
    convert_whisper_model,
)
from arrowlens.encoders import SiglipEngine
from arrowlens.models import DEMO
from arrowlens.search.relevance.questions import questions
from tests.support.checkpoints import (
    TEXT_B,
    VIT_B16,
    WHISPER_BASE,
    clap_checkpoint,
    clip_checkpoint,
    whisper_checkpoint,
)
from tests.support.siglip import siglip_checkpoint

SAMPLES = DEMO.parent / "samples"
N_PICTURES, N_RECORDINGS = 32, 6
Found = list[tuple[Path, float]]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Sets of models with random weights: base's widths with one layer, and a tiny SigLIP and CLAP."""
    folder = tmp_path_factory.mktemp("models")
    vision, text = {**VIT_B16, "num_hidden_layers": 1}, {**TEXT_B, "num_hidden_layers": 1}
    whisper = whisper_checkpoint(folder / "whisper", **{**WHISPER_BASE, "encoder_layers": 2})
    for convert, checkpoint in (
        (convert_clip_model, clip_checkpoint(folder / "clip", vision, text, projection_dim=512)),
        (convert_whisper_model, whisper),
        (convert_siglip_model, siglip_checkpoint(folder / "siglip")),
        (convert_clap_model, clap_checkpoint(folder / "clap")),
    ):
        convert(checkpoint, folder / f"{checkpoint.name}-model", verify=False)
    return {
        "base": f"vision={folder / 'clip-model'},audio={folder / 'whisper-model'}",
        "new": f"vision={folder / 'siglip-model'},audio={folder / 'clap-model'}",
    }


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    pictures, sounds = (sorted((SAMPLES / name).rglob("*.*")) for name in ("pictures", "sounds"))
    for path in (*pictures[:: len(pictures) // N_PICTURES][:N_PICTURES], *sounds[:N_RECORDINGS]):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, sets: dict[str, str], media: Path) -> Iterator[Library]:
    with Library.open(tmp_path_factory.mktemp("library") / "a.lens", models=sets["base"]) as library:
        assert library.ingest(media).indexed == N_PICTURES + N_RECORDINGS
        yield library


def ways_to_ask(library: Library, media: Path) -> dict[str, Callable[[], Results]]:
    pictures, sounds = sorted(media.glob("*.png")), sorted(media.glob("*.ogg"))
    return {
        "text": lambda: library.search("a bell rings over the harbour", k=50, mode="vector"),
        "picture": lambda: library.similar(pictures[0], k=50),
        "recording": lambda: library.similar(sounds[0], k=50),
    }


def shown(results: Results) -> Found:
    return [(hit.path, round(hit.score, 3)) for hit in results]


def test_it_migrates_while_it_is_searched(library: Library, sets: dict[str, str], media: Path) -> None:
    assert not library.text_reaches_audio
    ways = ways_to_ask(library, media)
    before = {name: shown(ask()) for name, ask in ways.items()}
    assert {name: len(hits) for name, hits in before.items()} == {
        "text": N_PICTURES,
        "picture": N_PICTURES,
        "recording": N_RECORDINGS,
    }
    answers: list[tuple[str, Found]] = []
    failures: list[BaseException] = []
    begun, done = threading.Event(), threading.Event()

    def keep_asking() -> None:
        with Library.open(library.path) as reader:
            asking = ways_to_ask(reader, media)
            while not done.is_set():
                for name, ask in asking.items():
                    try:
                        answers.append((name, shown(ask())))
                    except BaseException as error:
                        failures.append(error)
                        return
                begun.set()

    thread = threading.Thread(target=keep_asking)
    thread.start()
    try:
        assert begun.wait(120)
        report = library.migrate(sets["new"])
        after = {name: shown(ask()) for name, ask in ways.items()}
        n_answers = len(answers)
        while len(answers) < n_answers + 2 * len(ways) and not failures:
            done.wait(0.05)
    finally:
        done.set()
        thread.join()
    assert failures == []
    assert (report.encoded, report.lost, report.switched) == (N_PICTURES + N_RECORDINGS, 0, True)
    assert library.text_reaches_audio  # CLAP's own space
    assert len(after["text"]) == N_PICTURES + N_RECORDINGS
    for name, hits in answers:  # of one set of models or the other, and whole
        assert hits in (before[name], after[name]), name
    assert {name for name, hits in answers if hits == before[name]} == ways.keys()
    assert {name for name, hits in answers[-len(ways) :] if hits == after[name]} == ways.keys()


def test_it_takes_a_calibration(
    library: Library, sets: dict[str, str], media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random weights mean nothing by themselves, so each picture is captioned with what they make of it."""
    if not library.text_reaches_audio:  # this test alone
        library.migrate(sets["new"])
    pictures = sorted(path for path in media.iterdir() if path.name in {p.name for p in SAMPLES.rglob("pictures/*/*")})
    engine, texts = SiglipEngine(Path(sets["new"].split(",")[0].removeprefix("vision="))), questions()
    vectors = np.concatenate([library.embed(path) for path in pictures])
    scores = engine.encode_text(list(texts)) @ vectors.T
    centred = scores - scores.mean(axis=0) - scores.mean(axis=1, keepdims=True)
    rows, columns = linear_sum_assignment(-centred)
    pairs = tmp_path / "pairs.csv"
    with pairs.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(
            [("path", "caption"), *((pictures[c].name, texts[r]) for r, c in zip(rows, columns, strict=True))]
        )
    command = ["eval", str(media), str(pairs), "--save-calibration", "--library", str(library.path)]
    assert main(command) == 0
    assert f"is calibrated with your {N_PICTURES} pairs" in capsys.readouterr().out
    calibrated = library.status().calibrations
    assert calibrated == {"text to image": N_PICTURES}
    right, wrong = texts[rows[0]], texts[rows[1]]
    relevance = {
        text: {hit.path.name: hit.relevance for hit in library.search(text, k=50, modality="image", mode="vector")}
        for text in (right, wrong)
    }
    name = pictures[columns[0]].name
    assert relevance[right][name] > relevance[wrong][name]
