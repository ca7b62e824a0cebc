"""How true the relevance of recordings is with an audio model that is not bundled; exits with 1 below a bar.

Libraries hold noises of half of the kinds that `make_sounds` knows, or digits spoken by four people; they are asked
with recordings of all kinds, and of two other people. Nothing of it is used to calibrate the model.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import librosa
import numpy as np
from catalogue import sounds
from make_sounds import clip
from numpy.typing import NDArray

from arrowlens.embedding import EmbeddingPlan, ExampleReader, embed, prepare
from arrowlens.encoders import MultimodalEmbeddingProvider, model_info
from arrowlens.media import Decoded
from arrowlens.search.relevance import MATCHING
from arrowlens.search.relevance.background import Bank, Route

SEED, HELD, ASKING = 424_000_000, 4, 2  # recordings of each kind that a library holds, and that it is asked with
DIGITS = Path(__file__).resolve().parents[2] / "shared" / "data" / "digits"
HELD_OUT = ("theo", "yweweler")
MOST_MISSED, OTHER_WORLD, KIND_LEFT_OUT = 0.15, 0.95, 0.75

Vectors = NDArray[np.float32]
Names = NDArray[np.str_]


class Best:
    """The best hits of questions to one library: what they are, and their relevance; (n,) each."""

    def __init__(self, route: Route, asked: Vectors, held: Vectors, names: Names) -> None:
        scores = asked @ held.T
        self.names = names[scores.argmax(axis=1)]
        best = [(row[None], of_row.max()[None], len(held)) for row, of_row in zip(asked, scores, strict=True)]
        self.relevance = np.array([route.relevance(*one)[0] for one in best])


def area(right: NDArray[np.float64], wrong: NDArray[np.float64]) -> float:
    """Under the ROC curve."""
    return float((np.sign(right[:, None] - wrong[None]).mean() + 1) / 2)


def noises() -> tuple[list[NDArray[np.float32]], Names]:
    """Of each kind those that a library holds, then those that it is asked with."""
    made = [(kind, SEED + 1000 * n + i) for n, kind in enumerate(sounds()) for i in range(HELD + ASKING)]
    return [clip(kind, seed, unseen=True) for kind, seed in made], np.array([kind for kind, _ in made])


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a model directory made by 'arrowlens convert whisper'")
    parser.add_argument("--digits", type=Path, default=DIGITS, help="folder of recordings, DIGIT_SPEAKER_NUMBER.wav")
    options = parser.parse_args()
    recipe = model_info(options.model).recipe
    models = MultimodalEmbeddingProvider(audio_model_path=options.model, recipe=recipe)
    plan = EmbeddingPlan.of(models)

    def encoded(waves: list[NDArray[np.float32]]) -> Vectors:
        return np.concatenate([embed(prepare(Decoded("audio", None, samples=w), plan), models)[:1] for w in waves])

    with TemporaryDirectory() as folder:
        route = Bank(models, ExampleReader(models).file, Path(folder)).route("audio", "audio")
    if route is None:
        raise SystemExit(f"{options.model} cannot be calibrated: it does not tell halves of sounds from other sounds")
    waves, kinds = noises()
    noise, is_held = encoded(waves), np.arange(len(kinds)) % (HELD + ASKING) < HELD
    is_in = np.isin(kinds, np.random.default_rng(0).permutation(np.unique(kinds))[: len(sounds()) // 2])
    paths = sorted(options.digits.glob("*.wav"))
    digit = encoded([librosa.load(path, sr=16_000)[0] for path in paths])
    said, speakers = np.array([path.stem.split("_")[:2] for path in paths]).T
    is_out = np.isin(speakers, HELD_OUT)

    held, held_kinds = noise[is_held & is_in], kinds[is_held & is_in]
    present = Best(route, noise[~is_held & is_in], held, held_kinds)
    absent = Best(route, noise[~is_held & ~is_in], held, held_kinds)
    spoken = Best(route, digit[is_out], digit[~is_out], said[~is_out])
    without = [
        Best(route, digit[is_out & (said == one)], digit[~is_out & (said != one)], said[~is_out & (said != one)])
        for one in np.unique(said)
    ]
    unspoken = np.concatenate([best.relevance for best in without])
    speechless = held_kinds != "speech"
    strangers = [
        Best(route, digit[is_out], held[speechless], held_kinds[speechless]).relevance,
        Best(route, noise[~is_held & (kinds != "speech")], digit[~is_out], said[~is_out]).relevance,
    ]
    right = np.concatenate(
        [
            present.relevance[present.names == kinds[~is_held & is_in]],
            spoken.relevance[spoken.names == said[is_out]],
        ]
    )
    inside = np.concatenate([present.relevance, spoken.relevance])
    outside = np.concatenate([absent.relevance, unspoken])
    missed = float((right < MATCHING).mean())
    world, kind = area(inside, np.concatenate(strangers)), area(inside, outside)
    print(f"right answers called no match: {missed:.3f} of {len(right)} (at most {MOST_MISSED})")
    print(f"another world: area {world:.3f} (at least {OTHER_WORLD})")
    print(f"a kind left out: area {kind:.3f} (at least {KIND_LEFT_OUT})")
    print(f"claimed to match: kind left out {(outside >= MATCHING).mean():.3f}")
    if missed > MOST_MISSED or world < OTHER_WORLD or kind < KIND_LEFT_OUT:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
