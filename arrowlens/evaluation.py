"""How well a model set finds the user's own pictures and recordings, and how true it is what relevance says of them.

Both are measured over pairs of a file and its caption. A library can be calibrated by such pairs.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from arrowlens import media
from arrowlens.embedding import EmbeddingPlan, ExampleReader, embed, embed_questions, encode, prepare, prepare_each
from arrowlens.encoders import MultimodalEmbeddingProvider
from arrowlens.encoders.model_directory import cache_directory
from arrowlens.errors import InputError, MediaError, ModelLoadError
from arrowlens.media import Limits
from arrowlens.media.decoded import large_bytes
from arrowlens.modalities import MODALITIES, ROLE_OF, TEXT_ROLE, Input
from arrowlens.models import resolve
from arrowlens.query_engine import QueryEngine, provider_of
from arrowlens.search.relevance.background import Bank
from arrowlens.search.relevance.calibration import Calibration
from arrowlens.store import MultimodalStorage, RouteCalibration
from arrowlens.workers.isolated import Call, Isolated

if TYPE_CHECKING:
    from arrowlens.conversion import OnProgress

RANKS = (1, 5, 10)
NEAREST = 10  # files of each text whose relevance is compared with the truth
LEAST_PAIRS = 30  # different captions, and different files, that a route is calibrated by
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
class Tenth:
    """How true relevance was of the pairs for which it was between ``least`` and a tenth more.

    Attributes:
        n_pairs: of a text and one of the files nearest to it.
        claimed: mean relevance. true: the share of right pairs.
    """

    least: float
    n_pairs: int
    claimed: float
    true: float


@dataclasses.dataclass(frozen=True, slots=True)
class Reliability:
    """How true the relevance of texts and files of one kind is, by tenths from the highest; empty ones are left out.

    Attributes:
        question: "text". answer: "image" or "audio".
    """

    question: str
    answer: Input
    tenths: tuple[Tenth, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured.

    Attributes:
        recalls: in both directions, for each kind of file.
        skipped: files that could not take part, with reasons.
        reliability: for each kind of file of which the models' relevance is known.
        calibrated: routes, such as "text to image", that a library was calibrated for -> number of pairs.
        templates: what names of things were asked for in, by kind of file; kinds without are left out.
        not_calibrated: "pictures" or "recordings", of which there are enough pairs, but of which the models do not tell
            right ones from wrong ones.
    """

    recalls: tuple[Recall, ...]
    skipped: tuple[tuple[Path, str], ...]
    reliability: tuple[Reliability, ...] = ()
    calibrated: Mapping[str, int] = dataclasses.field(default_factory=dict)
    not_calibrated: tuple[str, ...] = ()
    templates: Mapping[Input, tuple[str, ...]] = dataclasses.field(default_factory=dict)


def evaluate(
    folder: str | os.PathLike[str],
    pairs: str | os.PathLike[str],
    models: str = "base",
    device: str | None = None,
    precision: str = "auto",
    *,
    use_templates: bool = True,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Measure text→file and file→text recall of a model set on captioned files.

    Files are decoded and cut into windows as in a library; a recording scores as its best window, as in a search. A
    caption may belong to several files and a file may have several captions: any right one counts. Among equal
    scores the wrong ones come first, so that a model that cannot tell files apart gains nothing.

    Args:
        folder: paths in ``pairs`` are relative to it.
        pairs: a CSV file with the columns ``path`` and ``caption``, UTF-8.
        models: as for an ingest.
        device, precision, use_templates: as for a library.

    Raises:
        InputError: the CSV is missing, lacks a column, or none of its files can be used.
        ModelError: the models cannot be had.
    """
    read_pairs(Path(pairs).expanduser())  # before models are downloaded
    # As a new library has them.
    provider = provider_of(resolve(models, on_progress), device, precision, {}, use_templates=use_templates)
    bank = Bank(provider, ExampleReader(provider).file, cache_directory() / "relevance")
    answers, skipped = _answers(folder, pairs, provider)
    return _evaluation(answers, skipped, bank)


def calibrate(
    storage: MultimodalStorage,
    engine: QueryEngine,
    folder: str | os.PathLike[str],
    pairs: str | os.PathLike[str],
) -> Evaluation:
    """Measure a library's models as ``evaluate`` does, and have it make relevance by these pairs from now on.

    A kind of file keeps its calibration where there are too few pairs, or the models do not tell right ones from wrong
    ones.

    Args:
        storage: the library. engine: its models.
        folder: paths in ``pairs`` are relative to it.
        pairs: a CSV file with the columns ``path`` and ``caption``, UTF-8.

    Returns:
        What relevance was like before.

    Raises:
        InputError: as ``evaluate``; there are too few pairs of every kind, or of none do the models tell right ones
            from wrong ones.
        ModelError: the models cannot be had.
        LibraryBusyError, StorageError: another process writes.
    """
    answers, skipped = _answers(folder, pairs, engine.provider)
    evaluation = _evaluation(answers, skipped, engine.bank)
    enough = [of_kind for of_kind in answers if of_kind.n_pairs >= LEAST_PAIRS]
    if not enough:
        n_pairs = max(of_kind.n_pairs for of_kind in answers)
        raise InputError(
            f"{pairs} has {n_pairs} pairs of one kind that can be used, too few to calibrate by; "
            f"give {LEAST_PAIRS} or more different captions of as many different files"
        )
    calibrations, not_told = {}, []
    for of_kind in enough:
        calibration = Calibration.of_scores(
            engine.bank.mean(of_kind.kind), of_kind.asked, of_kind.scores, of_kind.right, ~of_kind.right
        )
        if calibration is None:
            not_told.append(MODALITIES[of_kind.kind].plural)
            continue
        digests = engine.bank.digests("text", of_kind.kind)
        calibrations[f"text to {of_kind.kind}"] = RouteCalibration(calibration.weights, of_kind.n_pairs, digests)
    if not calibrations:
        nouns = " and ".join(not_told)
        raise InputError(f"the models do not tell right {nouns} from wrong ones in {pairs}; check its captions")
    storage.save_calibrations(calibrations)
    by_route = {route: each.n_pairs for route, each in calibrations.items()}
    return dataclasses.replace(evaluation, calibrated=by_route, not_calibrated=tuple(not_told))


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

    def __init__(self, provider: MultimodalEmbeddingProvider, call: Call) -> None:
        self.provider, self._call = provider, call
        self.paths: dict[Input, list[str]] = {kind: [] for kind in ROLE_OF}
        # (n_windows, d) each; a picture has one
        self.vectors: dict[Input, list[np.ndarray]] = {kind: [] for kind in ROLE_OF}
        self.skipped: list[tuple[Path, str]] = []

    def run(self, folder: Path, captions: Mapping[str, list[str]]) -> None:
        plan = EmbeddingPlan.of(self.provider)
        for batch in _batches(list(captions), BATCH_SIZE):
            pictures: dict[str, np.ndarray] = {}
            for name in batch:
                try:
                    decoded = self._call(
                        media.decode,
                        folder / name,
                        thumbnail=False,
                        min_side=plan.min_side,
                        sample_rate=plan.recipe.sample_rate,
                    )
                except MediaError as error:
                    self.skipped.append((folder / name, str(error)))
                    continue
                if decoded.reason is not None:
                    self.skipped.append((folder / name, decoded.reason))
                elif decoded.modality != "audio" and not self.provider.has(ROLE_OF["image"]):
                    self.skipped.append((folder / name, "these models have none for pictures"))
                elif decoded.modality == "video":  # a text is about what is seen
                    shots = prepare_each(decoded, plan)[0]
                    self._add("image", [name], [embed(shots, self.provider)])
                elif decoded.pixels is not None:
                    pictures[name] = prepare(decoded, plan).segments[0]
                elif self.provider.text_reaches_audio:
                    self._add("audio", [name], [embed(prepare(decoded, plan), self.provider)])
                else:
                    self.skipped.append((folder / name, "texts do not reach recordings with these models"))
            if pictures:
                vectors = encode("image", [*pictures.values()], self.provider)
                self._add("image", list(pictures), list(vectors[:, None]))

    def _add(self, kind: Input, names: list[str], vectors: list[np.ndarray]) -> None:
        self.paths[kind] += names
        self.vectors[kind] += vectors


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """What files of one kind answer to the captions of all of them.

    Attributes:
        asked: (n_texts, d). vectors: (n_windows, d) of each file.
        scores: (n_texts, n_files), of the best windows. right: the same shape, boolean.
        templates: what names of things were asked for in.
    """

    kind: Input
    asked: np.ndarray
    vectors: list[np.ndarray]
    scores: np.ndarray
    right: np.ndarray
    templates: tuple[str, ...]

    @property
    def n_pairs(self) -> int:
        """Of different texts and different files."""
        return min(len(self.right), len(self.vectors))


def _answers(
    folder: str | os.PathLike[str], pairs: str | os.PathLike[str], provider: MultimodalEmbeddingProvider
) -> tuple[list[_Answers], list[tuple[Path, str]]]:
    """By kind of file, those of which there are any; and what had to be left out, with reasons."""
    captions = read_pairs(Path(pairs).expanduser())
    if not (provider.has(TEXT_ROLE) or provider.text_reaches_audio):
        raise ModelLoadError("the models take no texts; name one that does with vision=DIR or audio=DIR")
    limits = Limits()
    max_bytes = large_bytes(limits, sample_rate=provider.recipe.sample_rate)
    with closing(Isolated(limits.max_decode_s, max_bytes)) as call:  # a file can crash or hang its decoder
        encoder = _Encoder(provider, call)
        encoder.run(Path(folder).expanduser(), captions)
    answers = []
    for kind, paths in encoder.paths.items():
        if not paths:
            continue
        texts = list(dict.fromkeys(text for path in paths for text in captions[path]))
        right = np.array([[text in captions[path] for path in paths] for text in texts])
        role = provider.text_role(kind) or TEXT_ROLE
        asked = embed_questions(texts, role, provider)
        scores = np.stack([(asked @ vectors.T).max(axis=1) for vectors in encoder.vectors[kind]], axis=1)
        answers.append(_Answers(kind, asked, encoder.vectors[kind], scores, right, provider.templates(role)))
    if not answers:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in encoder.skipped[:1])
        raise InputError(f"none of the {len(captions)} files in {pairs} can be used ({reasons or 'the list is empty'})")
    return answers, encoder.skipped


def _evaluation(answers: Sequence[_Answers], skipped: Sequence[tuple[Path, str]], bank: Bank) -> Evaluation:
    recalls = [each for of_kind in answers for each in _recalls(of_kind)]
    reliabilities = [_reliability(of_kind, bank) for of_kind in answers]
    templates = {of_kind.kind: of_kind.templates for of_kind in answers if of_kind.templates}
    known = tuple(each for each in reliabilities if each is not None)
    return Evaluation(tuple(recalls), tuple(skipped), known, templates=templates)


def _recalls(answers: _Answers) -> Iterator[Recall]:
    asked, truth = answers.scores, answers.right
    for question, answer, scores, right in (
        ("text", answers.kind, asked, truth),
        (answers.kind, "text", asked.T, truth.T),
    ):
        at, chance = recall(scores, right)
        yield Recall(question, answer, right.shape[0], right.shape[1], at, chance)


def _reliability(answers: _Answers, bank: Bank) -> Reliability | None:
    """Of each text with the files nearest to it; None where nothing is claimed."""
    route = bank.route("text", answers.kind)
    if route is None:
        return None
    n_compared = sum(map(len, answers.vectors))
    claimed, true = [], []
    for text, scores, right in zip(answers.asked, answers.scores, answers.right, strict=True):
        nearest = np.argsort(-scores, kind="stable")[:NEAREST]
        values = route.relevance(text[None], scores[nearest], n_compared)
        if route.familiarity is not None:
            windows = [answers.vectors[file] for file in nearest]
            values = route.familiarity.limit(values, np.stack([each[(each @ text).argmax()] for each in windows]))
        claimed.append(values)
        true.append(right[nearest])
    return Reliability("text", answers.kind, _tenths(np.concatenate(claimed), np.concatenate(true)))


def _tenths(claimed: np.ndarray, true: np.ndarray) -> tuple[Tenth, ...]:
    """From the highest; (n,) relevance and whether it is right."""
    which = np.minimum((claimed * 10).astype(int), 9)
    return tuple(
        Tenth(n / 10, int((which == n).sum()), float(claimed[which == n].mean()), float(true[which == n].mean()))
        for n in range(9, -1, -1)
        if (which == n).any()
    )


def _batches(items: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
