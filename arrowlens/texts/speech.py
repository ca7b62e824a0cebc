"""Speech in recordings and films, by faster-whisper: Whisper in CTranslate2's format, in int8 on the processor."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from arrowlens.errors import ModelLoadError
from arrowlens.media import Decoded
from arrowlens.memory import keep_memory
from arrowlens.modalities import SAMPLE_RATE, Input, TextSource
from arrowlens.store import MediaText
from arrowlens.texts import installed_version
from arrowlens.workers.resources import n_cores

WEIGHTS = "model.bin"
_PART_S = 600  # of a recording at once, for the memory that its spectrogram takes
_SEARCHED_S = 15  # before the end of a part, for a quiet place to cut at
_FRAME = SAMPLE_RATE // 10  # samples of which the loudness is compared
_WORKER_BYTES = 1_500_000_000  # beside the model
_DECODE_S, _SLOWEST = 300.0, 20.0  # seconds a second of sound

# Of a segment; Whisper repeats itself where nobody speaks (docs/performance.md).
LEAST_LOG_PROBABILITY = -1.0
MOST_NO_SPEECH = 0.6
MOST_REPETITION = 2.4  # bytes of its text for one of the compressed text


@dataclasses.dataclass(frozen=True, slots=True)
class SpeechReader:
    """Writes down what is said in recordings and films, with the times. ``SpeechReader.of(directory)`` makes one.

    Attributes:
        engine: the program with its version, and the digest of the model.
        directory: the model, in CTranslate2's format.
        model_bytes: of its weights.
    """

    source: ClassVar[TextSource] = "speech"
    reads: ClassVar[Input] = "audio"
    min_side: ClassVar[int | None] = None
    engine: str
    directory: Path
    model_bytes: int

    @classmethod
    def of(cls, directory: Path) -> Self:
        """Return a reader with the model in a directory.

        Raises:
            InputError: the extra speech is not installed.
            ModelLoadError: there is no such model.
        """
        name = f"faster-whisper {installed_version('faster-whisper', 'speech')}"
        weights = directory / WEIGHTS
        try:
            with weights.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            return cls(f"{name} {digest[:16]}", directory, weights.stat().st_size)
        except OSError as error:
            raise ModelLoadError(
                f"{weights} cannot be read ({error.strerror}); a speech model is a folder in CTranslate2's format"
            ) from error

    @property
    def max_bytes(self) -> int:
        """The model in the type of its file and in int8, and what a part of a recording takes."""
        return _WORKER_BYTES + 2 * self.model_bytes

    @property
    def n_processes(self) -> int:
        """One, which takes all cores."""
        return 1

    def limit_s(self, duration: float | None) -> float:
        """Return the seconds that a recording of a length may take."""
        return _DECODE_S + _SLOWEST * (duration or 0.0)

    def extract(self, decoded: Decoded) -> list[MediaText]:
        """Return what is said, a text for each segment; none where nobody speaks."""
        texts = []
        for start, samples in _parts(decoded.samples) if decoded.samples is not None else ():  # a film may be silent
            segments, about = _model(self.directory).transcribe(
                samples,
                vad_filter=True,
                condition_on_previous_text=False,  # what was misheard is not carried on
                temperature=0.0,  # the same recording gives the same text
                log_prob_threshold=LEAST_LOG_PROBABILITY,
                no_speech_threshold=MOST_NO_SPEECH,
            )
            for segment in segments:
                if _is_speech(segment):
                    text, confidence = segment.text.strip(), round(math.exp(min(0.0, segment.avg_logprob)), 4)
                    times = round(start + segment.start, 3), round(start + segment.end, 3)
                    texts.append(MediaText("speech", text, *times, about.language, confidence))
        return texts


@functools.cache
def _model(directory: Path) -> Any:  # noqa: ANN401 - faster-whisper is not typed
    """The model, loaded once for a process."""
    from faster_whisper import WhisperModel

    keep_memory()
    return WhisperModel(str(directory), device="cpu", compute_type="int8", cpu_threads=n_cores(), local_files_only=True)


def _is_speech(segment: Any) -> bool:  # noqa: ANN401 - of faster-whisper
    """Whether a segment is said by somebody in all likelihood."""
    has_letters = any(character.isalnum() for character in segment.text)
    is_likely = segment.avg_logprob >= LEAST_LOG_PROBABILITY and segment.no_speech_prob <= MOST_NO_SPEECH
    return has_letters and is_likely and segment.compression_ratio <= MOST_REPETITION


def _parts(samples: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """Cut (n,) samples at quiet places into parts of at most ten minutes, with the seconds where each begins."""
    start, most, searched = 0, _PART_S * SAMPLE_RATE, _SEARCHED_S * SAMPLE_RATE
    while len(samples) - start > most:
        tail = samples[start + most - searched : start + most].reshape(-1, _FRAME)
        quietest = int((tail * tail).sum(axis=1).argmin())
        stop = start + most - searched + quietest * _FRAME + _FRAME // 2
        yield start / SAMPLE_RATE, samples[start:stop]
        start = stop
    yield start / SAMPLE_RATE, samples[start:]
