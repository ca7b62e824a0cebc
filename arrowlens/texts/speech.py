"""Speech in recordings and films, by faster-whisper: Whisper in CTranslate2's format, in int8 on the processor."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

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

# A recording of a word or two gives Whisper little to go by: it is heard as it is, and twice in a row.
_SHORT_S, _PAUSE_S = 2.0, 0.25
_BEAM = 10  # of such a recording; what more candidates cost, few words save
_MOST_TOKENS = 60  # of such a recording, twice; Whisper goes on for ever at times
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_REPEATED = re.compile(r"(.+?)\1+")  # what may be one word or several: "77"

# Of a segment; Whisper repeats itself where nobody speaks (docs/performance.md).
LEAST_LOG_PROBABILITY = -1.0
LEAST_OF_A_WORD = -1.25  # of a short recording, where the uncertain first word is a larger part
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
        if decoded.samples is None:  # a film may be silent
            return []
        model = _model(self.directory)
        if len(decoded.samples) < _SHORT_S * SAMPLE_RATE:
            return _short(model, decoded.samples)
        texts = []
        for start, samples in _parts(decoded.samples):
            segments, about = _transcribe(model, samples, LEAST_LOG_PROBABILITY)
            for segment in segments:
                times = round(start + segment.start, 3), round(start + segment.end, 3)
                texts.append(
                    MediaText("speech", segment.text.strip(), *times, about.language, _confidence(segment.avg_logprob))
                )
        return texts


@functools.cache
def _model(directory: Path) -> Any:  # noqa: ANN401 - faster-whisper is not typed
    """The model, loaded once for a process."""
    from faster_whisper import WhisperModel

    keep_memory()
    return WhisperModel(str(directory), device="cpu", compute_type="int8", cpu_threads=n_cores(), local_files_only=True)


def _transcribe(
    model: Any,  # noqa: ANN401 - faster-whisper is not typed
    samples: np.ndarray,
    least_log_probability: float,
    **options: Any,  # noqa: ANN401 - of faster-whisper
) -> tuple[list[Any], Any]:
    """Return the segments that are said by somebody in all likelihood, and what faster-whisper says of the whole."""
    segments, about = model.transcribe(
        samples,
        vad_filter=True,
        condition_on_previous_text=False,  # what was misheard is not carried on
        temperature=0.0,  # the same recording gives the same text
        log_prob_threshold=least_log_probability,
        no_speech_threshold=MOST_NO_SPEECH,
        **options,
    )
    return [segment for segment in segments if _is_speech(segment, least_log_probability)], about


def _is_speech(segment: Any, least_log_probability: float) -> bool:  # noqa: ANN401 - of faster-whisper
    has_letters = any(character.isalnum() for character in segment.text)
    is_likely = segment.avg_logprob >= least_log_probability and segment.no_speech_prob <= MOST_NO_SPEECH
    return has_letters and is_likely and segment.compression_ratio <= MOST_REPETITION


def _confidence(log_probability: float) -> float:
    return round(math.exp(min(0.0, log_probability)), 4)


class _Hearing(NamedTuple):
    """What is said in a short recording."""

    text: str
    log_probability: float
    language: str


def _short(model: Any, samples: np.ndarray) -> list[MediaText]:  # noqa: ANN401 - faster-whisper is not typed
    """Return the surer of two hearings of a short recording (n,): as it is, and twice in a row."""
    pause = np.zeros(int(_PAUSE_S * SAMPLE_RATE), np.float32)
    hearings = [_heard(model, samples), _said_once(_heard(model, np.concatenate([samples, pause, samples])))]
    best = max((hearing for hearing in hearings if hearing), key=lambda hearing: hearing.log_probability, default=None)
    if best is None:
        return []
    end = round(len(samples) / SAMPLE_RATE, 3)
    return [MediaText("speech", best.text, 0.0, end, best.language, _confidence(best.log_probability))]


def _heard(model: Any, samples: np.ndarray) -> _Hearing | None:  # noqa: ANN401 - faster-whisper is not typed
    # Timestamps would take the first tokens, and Whisper errs in them.
    options = {"beam_size": _BEAM, "without_timestamps": True, "max_new_tokens": _MOST_TOKENS}
    segments, about = _transcribe(model, samples, LEAST_OF_A_WORD, **options)
    if not segments:
        return None
    text = " ".join(segment.text.strip() for segment in segments)
    return _Hearing(text, float(np.mean([segment.avg_logprob for segment in segments])), about.language)


def _said_once(hearing: _Hearing | None) -> _Hearing | None:
    """Half of what was heard in a recording that was played twice; None where the halves differ: it is misheard."""
    words = _WORD.findall(hearing.text) if hearing else []
    half = len(words) // 2
    if hearing is None or (len(words) == 1 and _REPEATED.fullmatch(words[0])):
        return None
    if len(words) == 1:  # Whisper leaves repetitions out at times
        return hearing
    if [word.casefold() for word in words[:half]] != [word.casefold() for word in words[half:]]:
        return None
    return hearing._replace(text=" ".join(words[:half]))


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
