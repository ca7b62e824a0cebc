"""Text in pictures and films, by RapidOCR: PP-OCRv6's small models, which come in its wheel."""

from __future__ import annotations

import dataclasses
import functools
import unicodedata
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from arrowlens.media import Decoded
from arrowlens.memory import keep_memory
from arrowlens.modalities import Input, TextSource
from arrowlens.store import MediaText
from arrowlens.texts import MOST_SHOTS, installed_version
from arrowlens.workers.resources import n_cores

_SIDE = 2_000  # pixels that the models look at at once, in each direction
_OVERLAP = 120  # pixels of neighbouring parts, so that each line is whole in one of them
_MOST_PIXELS = 12_000_000  # of a picture with text; a larger one is reduced
_THREADS = {"intra_op_num_threads": 1, "inter_op_num_threads": 1}
_DECODE_S, _READ_S = 30.0, 90.0
_SHOT_S = 15.0  # for a shot of a film; a dense slide takes 4 s on an idle core
_WORKER_BYTES = 1_500_000_000

# Patterns and edges are read as single characters, at times with confidence, and rarely as several
# (docs/performance.md). A picture has text when one line of it is sure; then the others need be less so.
SURE, LIKELY = 0.85, 0.5
_LEAST_WIDTH = 3  # of a sure line, in Latin letters; an ideograph counts as two


@dataclasses.dataclass(frozen=True, slots=True)
class OcrReader:
    """Reads what is written in pictures: Latin and Chinese scripts, of any direction.

    Attributes:
        engine: the program with its version.

    Raises:
        InputError: the extra ocr is not installed.
    """

    source: ClassVar[TextSource] = "ocr"
    reads: ClassVar[Input] = "image"
    min_side: ClassVar[int | None] = _SIDE // 2
    max_bytes: ClassVar[int] = _WORKER_BYTES
    engine: str = dataclasses.field(default="")

    def __post_init__(self) -> None:
        if not self.engine:
            installed_version("onnxruntime", "ocr")
            name = f"rapidocr {installed_version('rapidocr', 'ocr')} PP-OCRv6 small"
            object.__setattr__(self, "engine", name)

    @property
    def n_processes(self) -> int:
        """Two at most, of one thread each: reading may not take a machine over."""
        return min(2, n_cores())

    def limit_s(self, duration: float | None) -> float:
        """Return the seconds that a picture may take, or the shots of a film, which has a ``duration``."""
        return _DECODE_S + (_READ_S if duration is None else MOST_SHOTS * _SHOT_S)

    def extract(self, decoded: Decoded) -> list[MediaText]:
        """Return the text of a picture, its lines from top to bottom; none where there is no text.

        Of a film, the text of each shot with the times of the shot; what stands there for several shots counts once.
        """
        if decoded.modality != "video":
            assert decoded.pixels is not None
            return _read(decoded.pixels)
        texts: dict[str, MediaText] = {}
        seen = set()  # moments: one picture may stand for several parts of a long shot
        for shot, frame in zip(decoded.shots, decoded.frames, strict=True):
            if shot.at_s in seen:
                continue
            seen.add(shot.at_s)
            for text in _read(frame):
                texts.setdefault(text.text, dataclasses.replace(text, start=shot.start_s, end=shot.end_s))
        return list(texts.values())


def _read(pixels: np.ndarray) -> list[MediaText]:
    """Return the text of a picture (H, W, 3), none or one.

    The picture is searched for text at a size of 2,000 pixels. Only one that has some is read, part by part.
    """
    whole = pixels[:, :, ::-1]  # BGR, as the models were trained
    engine, is_large = _engine(), max(whole.shape[:2]) > _SIDE
    if is_large:
        detected = engine(whole, use_det=True, use_cls=False, use_rec=False)
        if detected.boxes is None or not len(detected.boxes):
            return []
    lines: dict[str, list[float]] = {}
    for part in _parts(whole) if is_large else [whole]:
        for line, scores in _lines(engine(np.ascontiguousarray(part), use_det=True, use_cls=True, use_rec=True)):
            lines.setdefault(line, scores)  # one that lies in two parts counts once
    if not any(_is_sure(line, scores) for line, scores in lines.items()):
        return []
    scores = [score for each in lines.values() for score in each]
    return [MediaText("ocr", "\n".join(lines), confidence=round(float(np.mean(scores)), 4))]


@functools.cache
def _engine() -> Any:  # noqa: ANN401 - rapidocr is not typed
    """The models, loaded once for a process."""
    from rapidocr import RapidOCR

    keep_memory()
    threads = {f"EngineConfig.onnxruntime.{name}": n for name, n in _THREADS.items()}
    return RapidOCR(params={"Global.log_level": "critical", "Global.text_score": 0.0, **threads})


def _parts(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Cut (H, W, 3) into overlapping parts of at most ``_SIDE`` pixels in each direction."""
    height, width = pixels.shape[:2]
    if height * width > _MOST_PIXELS:
        scale = (_MOST_PIXELS / (height * width)) ** 0.5
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.LANCZOS))
        height, width = pixels.shape[:2]
    for top in range(0, max(1, height - _OVERLAP), _SIDE - _OVERLAP):
        for left in range(0, max(1, width - _OVERLAP), _SIDE - _OVERLAP):
            yield pixels[top : top + _SIDE, left : left + _SIDE]


def _lines(result: Any) -> Iterator[tuple[str, list[float]]]:  # noqa: ANN401 - of rapidocr
    """Join what stands side by side, and leave out what is unlikely to be text; with the confidence of each part."""
    if result.txts is None:
        return
    line: list[str] = []
    scores: list[float] = []
    bottom = 0.0
    for text, score, box in zip(result.txts, result.scores, result.boxes, strict=True):
        if score < LIKELY or not any(map(str.isalnum, text)):
            continue
        top, height = float(box[:, 1].min()), float(np.ptp(box[:, 1]))
        if line and top + height / 2 > bottom:
            yield " ".join(line), scores
            line, scores = [], []
        line.append(" ".join(text.split()))
        scores.append(float(score))
        bottom = top + height
    if line:
        yield " ".join(line), scores


def _is_sure(line: str, scores: list[float]) -> bool:
    letters = [character for character in line if character.isalnum()]
    width = sum(2 if unicodedata.east_asian_width(letter) == "W" else 1 for letter in letters)
    return max(scores) >= SURE and width >= _LEAST_WIDTH
