"""How well a model set finds the user's own pictures and recordings: recall over pairs of a file and its caption."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from arrowlens import media
from arrowlens.embedding import EmbeddingPlan, embed, encode, prepare, question_encoder
from arrowlens.encoders import MultimodalEmbeddingProvider
from arrowlens.errors import InputError, ModelLoadError
from arrowlens.modalities import MODALITIES, TEXT_ROLE, Modality
from arrowlens.models import resolve
from arrowlens.query_engine import provider_of

if TYPE_CHECKING:
    from arrowlens.conversion import OnProgress

RANKS = (1, 5, 10)
BATCH_SIZE = 32
COLUMNS = ("path", "caption")


@dataclasses.dataclass(frozen=True, slots=True)
class Recall:
    """Shares of questions, in [0, 1], with a right answer among the first k; and what blind guessing gets.

    Attributes:
        question, answer: "text", "image" or "audio".
        n_questions, n_answers: how many there are to ask and to choose from.
        at: recall by k. chance: the same for answers in random order.
    """

    question: str
    answer: str
    n_questions: int
    n_answers: int
    at: Mapping[int, float]
    chance: Mapping[int, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Evaluation:
    """Recalls in both directions, for each kind of file, and the files that could not take part, with reasons."""

    recalls: tuple[Recall, ...]
    skipped: tuple[tuple[Path, str], ...]


def evaluate(
    folder: str | os.PathLike[str],
    pairs: str | os.PathLike[str],
    models: str = "base",
    device: str | None = None,
    precision: str = "auto",
    *,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Measure text→file and file→text recall of a model set on captioned files.

    Files are decoded and cut into windows as in a library; a recording scores as its best window, as in a search. A
    caption may belong to several files and a file may have several captions: any right one counts. Among equal
    scores the wrong ones come first, so that a model that cannot tell files apart gains nothing.

    Args:
        folder: paths in ``pairs`` are relative to it.
        pairs: a CSV file with the columns ``path`` and ``caption``, UTF-8.
        models: ``demo``, ``base`` or ``vision=DIR,audio=DIR``.
        device, precision: as for a library.

    Raises:
        InputError: the CSV is missing, lacks a column, or none of its files can be used.
        ModelError: the models cannot be had.
    """
    captions = read_pairs(Path(pairs).expanduser())
    provider = provider_of(resolve(models, on_progress), device, precision, {})  # as a new library has them
    if not provider.has(TEXT_ROLE):
        raise ModelLoadError(f"the models {models!r} have none for texts; name one with vision=DIR")
    encoder = _Encoder(provider)
    encoder.run(Path(folder).expanduser(), captions)
    found = [recall for kind in MODALITIES for recall in _recalls(encoder, kind, captions)]
    if not found:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in encoder.skipped[:1])
        raise InputError(f"none of the {len(captions)} files in {pairs} can be used ({reasons or 'the list is empty'})")
    return Evaluation(tuple(found), tuple(encoder.skipped))


def read_pairs(path: Path) -> dict[str, list[str]]:
    """Captions by relative path, in the order of the file.

    Raises:
        InputError: the file is missing, not a CSV in UTF-8, or lacks a column.
    """
    captions: dict[str, list[str]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"{path} has no column {missing[0]!r}; its first line must name path and caption")
            for row in reader:
                if row["path"] and (row["caption"] or "").strip():
                    captions.setdefault(row["path"], []).append(row["caption"].strip())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV in UTF-8 ({error})") from error
    return captions


def recall(
    scores: np.ndarray, right: np.ndarray, ranks: Sequence[int] = RANKS
) -> tuple[dict[int, float], dict[int, float]]:
    """Recall and chance by k.

    Args:
        scores: (n_questions, n_answers).
        right: boolean of the same shape, at least one True in each row.
        ranks: values of k.
    """
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    n_before = ((scores >= best) & ~right).sum(axis=1)
    n_right, n_answers = right.sum(axis=1), scores.shape[1]
    chances = {}
    for k in ranks:
        draws = np.arange(min(k, n_answers))  # without replacement: all of the first k wrong
        wrong = np.clip(n_answers - n_right[:, None] - draws, 0, None) / (n_answers - draws)
        chances[k] = float(1 - wrong.prod(axis=1).mean())
    return {k: float((n_before < k).mean()) for k in ranks}, chances


class _Encoder:
    """Vectors of the files, by kind, in batches; files that cannot be used are noted."""

    def __init__(self, provider: MultimodalEmbeddingProvider) -> None:
        self.provider = provider
        self.paths: dict[str, list[str]] = {kind: [] for kind in MODALITIES}
        # (n_windows, d) each; a picture has one
        self.vectors: dict[str, list[np.ndarray]] = {kind: [] for kind in MODALITIES}
        self.skipped: list[tuple[Path, str]] = []

    def run(self, folder: Path, captions: Mapping[str, list[str]]) -> None:
        plan = EmbeddingPlan.of(self.provider)
        for batch in _batches(list(captions), BATCH_SIZE):
            pictures: dict[str, np.ndarray] = {}
            for name in batch:
                decoded = media.decode(
                    folder / name, thumbnail=False, min_side=plan.min_side, sample_rate=plan.recipe.sample_rate
                )
                if decoded.reason is not None:
                    self.skipped.append((folder / name, decoded.reason))
                elif decoded.pixels is not None:
                    pictures[name] = prepare(decoded, plan).segments[0]
                elif self.provider.text_reaches_audio:
                    self._add("audio", [name], [embed(prepare(decoded, plan), self.provider)])
                else:
                    self.skipped.append((folder / name, "texts do not reach recordings with these models"))
            if pictures:
                vectors = encode("image", [*pictures.values()], self.provider)
                self._add("image", list(pictures), list(vectors[:, None]))

    def _add(self, kind: str, names: list[str], vectors: list[np.ndarray]) -> None:
        self.paths[kind] += names
        self.vectors[kind] += vectors


def _recalls(encoder: _Encoder, kind: str, captions: Mapping[str, list[str]]) -> Iterator[Recall]:
    paths = encoder.paths[kind]
    if not paths:
        return
    texts = list(dict.fromkeys(text for path in paths for text in captions[path]))
    right = np.array([[text in captions[path] for path in paths] for text in texts])
    role = encoder.provider.text_role(cast(Modality, kind)) or TEXT_ROLE
    asked_for = question_encoder(role, encoder.provider).encode_text(texts)
    scores = np.stack([(asked_for @ vectors.T).max(axis=1) for vectors in encoder.vectors[kind]], axis=1)
    for question, answer, asked, truth in (("text", kind, scores, right), (kind, "text", scores.T, right.T)):
        at, chance = recall(asked, truth)
        yield Recall(question, answer, truth.shape[0], truth.shape[1], at, chance)


def _batches(items: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
