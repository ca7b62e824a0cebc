"""Fit the numbers of relevance on one half of the meanings, and measure them on the other.

    python training/fit_relevance.py --npm FOLDER            fit, write arrowlens/search/relevance/weights.py, measure
    python training/fit_relevance.py --npm FOLDER --measure  measure what is there
    python training/fit_relevance.py --npm FOLDER --shares   compare values of OWN_SHARE on the half to fit on

To be run whenever a demo model, the ordinary questions or the bundled files change. The first run draws some 4,500
pictures (minutes); later ones take them from the work folder.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from catalogue import HERE, add_folders
from evaluate import DEMO
from numpy.typing import NDArray
from pictures import Sources
from relevance_data import Items, Vectors, World, world
from relevance_trials import ROUTES, Found, Size, Trial, Trials

from arrowlens.embedding import ExampleReader
from arrowlens.encoders import MultimodalEmbeddingProvider
from arrowlens.search import relevance
from arrowlens.search.relevance import MATCHING, Kind, ScoreCalibration, Weights
from arrowlens.search.relevance import weights as relevance_weights
from arrowlens.search.relevance.background import Bank

WRITTEN = HERE.parent / "arrowlens/search/relevance/weights.py"
TEXT_ROUTES, LIKE_ROUTES = tuple(ROUTES)[:2], tuple(ROUTES)[2:]
SIZES = (
    Size(5, 80, 20), Size(20, 25, 30), Size(50, 15, 40), Size(150, 6, 120), Size(300, 5, 120), Size(1000, 3, 120),
    Size(3300, 2, 120), Size(14, 25, 20, 1), Size(40, 15, 30, 4),
)  # fmt: skip
FITTED_WITH, MEASURED_WITH = 1, 2  # seeds
KINDS: tuple[Kind, ...] = ("text", "image", "audio")
_LEANS = 0.1  # standard deviation
Score = Callable[[str, Found], NDArray[np.float64]]
Numbers = NDArray[np.float64]


def area(scores: Sequence[float] | Numbers, right: Sequence[bool] | NDArray[np.bool_]) -> float:
    """The area under the ROC curve: how often something right scores above something wrong, ties counting half."""
    values, labels = np.asarray(scores, np.float64), np.asarray(right, bool)
    if labels.all() or not labels.any():
        return float("nan")
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    n_right = labels.sum()
    return float((ranks[labels].sum() - n_right * (n_right + 1) / 2) / (n_right * (len(labels) - n_right)))


def logistic(features: Numbers, right: Numbers) -> tuple[float, ...]:
    """Weights and, last, the constant of a logistic regression, by Newton's method."""
    middle, spread = features.mean(0), features.std(0) + 1e-9
    design = np.column_stack([(features - middle) / spread, np.ones(len(features))])
    weights = np.zeros(design.shape[1])
    weights[-1] = np.log(right.mean() / (1 - right.mean()))
    for _ in range(60):
        chance = 1 / (1 + np.exp(-design @ weights))
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + 1e-6 * len(right) * np.eye(len(weights))
        step = np.clip(np.linalg.solve(curvature, design.T @ (chance - right)), -1, 1)
        weights -= step
        if np.abs(step).max() < 1e-6:
            break
    slopes = weights[:-1] / spread
    return (*slopes.tolist(), float(weights[-1] - slopes @ middle))


def fit(trials: Sequence[Trial], route: str) -> Weights:
    """Over all hits of a route."""
    of = [trial.found[route] for trial in trials if route in trial.found]
    numbers = np.concatenate([np.full(len(found.scores), np.log(found.n_compared)) for found in of])
    features = np.stack([np.concatenate([found.standing for found in of]), numbers], axis=1)
    right = np.concatenate([found.right for found in of])
    slope, by_number, constant = (round(weight, 3) for weight in logistic(features, right.astype(np.float64)))
    if slope <= 0:
        raise SystemExit(f"{route}: relevance would fall with the score ({slope}); the models cannot be right")
    return slope, by_number, constant


def write(provider: MultimodalEmbeddingProvider) -> None:
    """Put the numbers, and the models that they were fitted with, into the package."""
    weights, digests = relevance_weights.WEIGHTS, {role: provider.digest(role) for role in ("vision", "audio")}
    lines = [WRITTEN.read_text(encoding="utf-8").partition("FITTED_WITH = ")[0] + "FITTED_WITH = {"]
    lines += [f'    "{role}": "{digest}",' for role, digest in digests.items()]
    lines += ["}", "WEIGHTS = {", *(f'    "{route}": {numbers},' for route, numbers in weights.items()), "}"]
    WRITTEN.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines[-6:]))


def by_relevance(route: str, found: Found) -> Numbers:
    """Relevance of the hits of a route."""
    return relevance.relevance(found.standing, found.n_compared, relevance_weights.WEIGHTS[route])


def by_cosine(_: str, found: Found) -> Numbers:
    """Cosines of the hits of a route."""
    return found.scores


def best(trial: Trial, score: Score) -> float:
    """The best hit's value over all routes of a question."""
    return max(float(score(route, found).max()) for route, found in trial.found.items())


def matches(title: str, trials: Iterable[Trial]) -> None:
    """Print by size how well the best hit tells whether there is a match."""
    of = list(trials)
    print(f"\n{title}: is there a match? area under the ROC curve, and right answers at relevance {MATCHING:g}")
    print(f"{'files':>18} {'questions':>9} {'relevance':>9} {'cosine':>7} {'right':>6} {'false matches':>13}")
    plain = [trial for trial in of if trial.size.meanings is None]
    groups = [(size.name, [t for t in of if t.size == size]) for size in SIZES]
    for name, chosen in [*groups, ("all but few things", plain), ("all", of)]:
        if not chosen:
            continue
        matched = np.array([trial.matched for trial in chosen])
        ours = np.array([best(trial, by_relevance) for trial in chosen])
        flat = area([best(trial, by_cosine) for trial in chosen], matched)
        right = ((ours >= MATCHING) == matched).mean()
        false = (ours[~matched] >= MATCHING).mean() if (~matched).any() else float("nan")
        print(f"{name:>18} {len(chosen):9} {area(ours, matched):9.3f} {flat:7.3f} {right:6.2f} {false:13.2f}")


def reliability(trials: Sequence[Trial]) -> None:
    """Print the share of right hits by relevance."""
    print("\nreliability: the share of right hits (and their number), by relevance")
    edges = np.linspace(0, 1, 11)
    print(f"{'':20}" + "".join(f"{low:>7.1f}-{low + 0.1:.1f}" for low in edges[:-1]))
    for route in ROUTES:
        of = [trial.found[route] for trial in trials if route in trial.found]
        chances = np.concatenate([by_relevance(route, found) for found in of])
        right = np.concatenate([found.right for found in of])
        cells = []
        for bin_ in range(10):
            inside = np.clip((chances * 10).astype(int), 0, 9) == bin_
            cells.append(f"{right[inside].mean():.2f} ({inside.sum()})" if inside.any() else "-")
        print(f"{route:20}" + "".join(f"{cell:>11}" for cell in cells))


def mixed(trials: Sequence[Trial], concepts: int) -> None:
    """Print where the first right hit stands in one list of pictures and sounds."""
    print("\none list of pictures and sounds: mean reciprocal place of the first right hit, and how often it is first")
    of = [t for t in trials if t.matched and set(t.found) == set(TEXT_ROUTES) and t.size.meanings is None]
    groups = {"words for things": lambda t: t.meaning < concepts, "words for sounds": lambda t: t.meaning >= concepts}
    for name, chosen in groups.items():
        for title, score in (("cosine", by_cosine), ("relevance", by_relevance)):
            places = [_place(trial, score) for trial in of if chosen(trial)]
            inverse = np.array([1 / place if place else 0.0 for place in places])
            print(f"{name:18} by {title:10} {inverse.mean():.3f} {(inverse == 1).mean():.3f} ({len(places)} questions)")


def _place(trial: Trial, score: Score) -> int | None:
    values = np.concatenate([score(route, found) for route, found in trial.found.items()])
    right = np.concatenate([found.right for found in trial.found.values()])
    places = np.nonzero(right[np.argsort(-values, kind="stable")])[0]
    return int(places[0]) + 1 if len(places) else None


def report(trials: Sequence[Trial], world: World) -> None:
    """Print everything."""
    matches("texts over pictures and sounds", (trial for trial in trials if set(trial.found) & set(TEXT_ROUTES)))
    for route in LIKE_ROUTES:
        matches(route, (trial for trial in trials if route in trial.found))
    reliability(trials)
    mixed(trials, int(world.clips.shown[:, 0].min()))


def yardsticks(vectors: Mapping[Kind, Vectors]) -> dict[str, ScoreCalibration]:
    """By route; `vectors` are the bank's."""
    return {
        name: ScoreCalibration.measured(vectors[asked], vectors[found], same=asked == found)
        for name, (asked, found) in ROUTES.items()
    }


def shares(bank: Bank, known: World) -> None:
    """Print how well the half to fit on is told apart with other values of OWN_SHARE.

    Once with the models as they are, and once as if texts (and the ordinary questions) had different amounts of a
    direction that all files share: what the demo models were trained not to do, and others do.
    """
    rng = np.random.default_rng(0)
    vectors = {kind: bank.vectors(kind) for kind in KINDS}
    leaning = {kind: _leaning(rows, rng, _LEANS if kind == "text" else 0.0) for kind, rows in vectors.items()}
    items = {
        name: Items(_leaning(getattr(known, name).vectors, rng, 0.0), getattr(known, name).shown)
        for name in ("pictures", "asking_pictures", "clips", "asking_clips")
    }
    other = dataclasses.replace(known, texts=_leaning(known.texts, rng, _LEANS), **items)
    for title, by_kind, there in (("as they are", vectors, known), ("texts that lean", leaning, other)):
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            relevance.OWN_SHARE = share
            print(f"{title}, OWN_SHARE {share:4}: {_told_apart(yardsticks(by_kind), there)}", flush=True)


def _told_apart(by_route: dict[str, ScoreCalibration], known: World) -> str:
    trials = list(Trials(known, by_route, 0, FITTED_WITH).run(SIZES))
    relevance_weights.WEIGHTS.update({route: fit(trials, route) for route in ROUTES})
    areas = []
    for routes in (TEXT_ROUTES, *((route,) for route in LIKE_ROUTES)):
        of = [trial for trial in trials if set(trial.found) & set(routes)]
        told = area([best(trial, by_relevance) for trial in of], [trial.matched for trial in of])
        areas.append(f"{' and '.join(routes)} {told:.4f}")
    return ", ".join(areas)


def _leaning(rows: Vectors, rng: np.random.Generator, deviation: float) -> Vectors:
    """With one more dimension of about 0.5, and of length one again."""
    amounts = 0.5 + deviation * rng.standard_normal((len(rows), 1))
    longer = np.concatenate([rows, amounts], axis=1)
    return (longer / np.linalg.norm(longer, axis=1, keepdims=True)).astype(np.float32)


def main() -> None:
    """Fit and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_folders(parser, work=True)
    parser.add_argument("--models", type=Path, default=DEMO / "models", help="folder with clip/ and audio/")
    parser.add_argument("--measure", action="store_true", help="fit nothing")
    parser.add_argument("--shares", action="store_true", help="compare values of OWN_SHARE, and write nothing")
    options = parser.parse_args()
    models = {f"{name}_model_path": options.models / name for name in ("clip", "audio")}
    provider = MultimodalEmbeddingProvider(**models)
    known = world(provider.clip_engine, provider.audio_encoder, Sources(options.npm, options.font), options.work)
    bank = Bank(provider, ExampleReader(provider).file, options.work / "relevance")
    if options.shares:
        return shares(bank, known)
    by_route = yardsticks({kind: bank.vectors(kind) for kind in KINDS})
    if not options.measure:
        trials = list(Trials(known, by_route, 0, FITTED_WITH).run(SIZES))
        relevance_weights.WEIGHTS.update({route: fit(trials, route) for route in ROUTES})
        write(provider)
    report(list(Trials(known, by_route, 1, MEASURED_WITH).run(SIZES)), known)
    return None


if __name__ == "__main__":
    main()
