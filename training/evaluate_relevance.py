"""How true the relevance of recordings is with an audio model; exits with 1 below a bar.

Libraries hold noises of half of the kinds that `make_sounds` knows, or digits spoken by four people; they are asked
with recordings of all kinds, of two other people, and with what espeak-ng says in voices that training never hears.
Nothing of it is used to calibrate a model that is not bundled. `make eval-sounds` prints the same figures.
"""

from __future__ import annotations

import argparse
import io
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import librosa
import numpy as np
import soundfile
from catalogue import sounds
from make_sounds import clip
from numpy.typing import NDArray

from arrowlens.embedding import EmbeddingPlan, ExampleReader, embed, prepare
from arrowlens.encoders import MultimodalEmbeddingProvider, model_info
from arrowlens.media import Decoded
from arrowlens.modalities import SAMPLE_RATE
from arrowlens.search.relevance import MATCHING
from arrowlens.search.relevance.background import Bank, Route

SEED, HELD, ASKING = 424_000_000, 4, 2  # recordings of each kind that a library holds, and that it is asked with
DIGITS = Path(__file__).resolve().parents[2] / "shared" / "data" / "digits"
HELD_OUT = ("theo", "yweweler")
SPOKEN = 24  # sentences of espeak-ng
COPIED = 3  # every so-many-th of the held noises is asked for by copies of it
MOST_MISSED, OTHER_WORLD, KIND_LEFT_OUT = 0.15, 0.95, 0.75
COPY, SURE_COPIES = 0.9, 0.9  # relevance of a copy, and how many have it

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


@dataclass(frozen=True)
class Figures:
    """What was measured; shares and areas under ROC curves, in [0, 1].

    Attributes:
        n_right: questions whose best answer is right.
        missed: the share of these that is called no match.
        other_world: digits and espeak-ng asked of noises, and noises of digits, against questions with an answer.
        kind_left_out: the kind left out of the library, against held in it.
        claimed_digits, claimed_noises: the kind left out, called a match.
        sure_copies: the share of MP3 and Vorbis files of held noises whose original has a relevance above 0.9 by the
            model alone; a library knows copies by their waveforms, too.
    """

    n_right: int
    missed: float
    other_world: float
    kind_left_out: float
    claimed_digits: float
    claimed_noises: float
    sure_copies: float


def noises() -> tuple[list[NDArray[np.float32]], Names]:
    """Of each kind those that a library holds, then those that it is asked with."""
    made = [(kind, SEED + 1000 * n + i) for n, kind in enumerate(sounds()) for i in range(HELD + ASKING)]
    return [clip(kind, seed, unseen=True) for kind, seed in made], np.array([kind for kind, _ in made])


def in_library(kinds: Names) -> NDArray[np.bool_]:
    """Which noises a library holds, (n,): the first ``HELD`` of half of the kinds."""
    half = np.random.default_rng(0).permutation(np.unique(kinds))[: len(sounds()) // 2]
    mask: NDArray[np.bool_] = np.isin(kinds, half) & _is_held(kinds)
    return mask


def _is_held(kinds: Names) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = np.arange(len(kinds)) % (HELD + ASKING) < HELD
    return mask


def copies(wave: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """A recording at 16 kHz, (n,), as an MP3 and as a Vorbis file give it back."""
    found = []
    for form in ("MP3", "OGG"):
        file = io.BytesIO()
        soundfile.write(file, wave, SAMPLE_RATE, format=form)
        file.seek(0)
        found.append(soundfile.read(file, dtype="float32")[0])
    return found


def figures(models: MultimodalEmbeddingProvider, digits: Path) -> Figures:
    """Measure a set's audio model.

    Args:
        models: as a new library has them.
        digits: a folder of recordings, DIGIT_SPEAKER_NUMBER.wav.

    Raises:
        SystemExit: the model cannot be calibrated.
    """
    plan = EmbeddingPlan.of(models)

    def encoded(waves: list[NDArray[np.float32]]) -> Vectors:
        return np.concatenate([embed(prepare(Decoded("audio", None, samples=w), plan), models)[:1] for w in waves])

    with TemporaryDirectory() as folder:
        route = Bank(models, ExampleReader(models).file, Path(folder)).route("audio", "audio")
    if route is None:
        raise SystemExit("the model cannot be calibrated: it does not tell halves of sounds from other sounds")
    waves, kinds = noises()
    noise, is_held = encoded(waves), _is_held(kinds)
    is_in = np.isin(kinds, kinds[in_library(kinds)])
    paths = sorted(digits.glob("*.wav"))
    digit = encoded([librosa.load(path, sr=SAMPLE_RATE)[0] for path in paths])
    said, speakers = np.array([path.stem.split("_")[:2] for path in paths]).T
    is_out = np.isin(speakers, HELD_OUT)
    sentences = encoded([clip("speech", SEED + 900_000 + n, unseen=True) for n in range(SPOKEN)])

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
        Best(route, sentences, held[speechless], held_kinds[speechless]).relevance,
        Best(route, noise[~is_held & (kinds != "speech")], digit[~is_out], said[~is_out]).relevance,
    ]
    right = np.concatenate(
        [
            present.relevance[present.names == kinds[~is_held & is_in]],
            spoken.relevance[spoken.names == said[is_out]],
        ]
    )
    sure = [
        route.relevance(copy[None], np.array([copy @ noise[row]]), len(held))[0] > COPY
        for row in np.nonzero(is_held & is_in)[0][::COPIED]
        for copy in encoded(copies(waves[row]))
    ]
    inside = np.concatenate([present.relevance, spoken.relevance])
    return Figures(
        n_right=len(right),
        missed=float((right < MATCHING).mean()),
        other_world=area(inside, np.concatenate(strangers)),
        kind_left_out=area(inside, np.concatenate([absent.relevance, unspoken])),
        claimed_digits=float((unspoken >= MATCHING).mean()),
        claimed_noises=float((absent.relevance >= MATCHING).mean()),
        sure_copies=float(np.mean(sure)),
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a model directory made by 'arrowlens convert whisper'")
    parser.add_argument("--digits", type=Path, default=DIGITS, help="folder of recordings, DIGIT_SPEAKER_NUMBER.wav")
    options = parser.parse_args()
    recipe = model_info(options.model).recipe
    found = figures(MultimodalEmbeddingProvider(audio_model_path=options.model, recipe=recipe), options.digits)
    print(f"right answers called no match: {found.missed:.3f} of {found.n_right} (at most {MOST_MISSED})")
    print(f"another world: area {found.other_world:.3f} (at least {OTHER_WORLD})")
    print(f"a kind left out: area {found.kind_left_out:.3f} (at least {KIND_LEFT_OUT})")
    print(f"claimed to match: digits left out {found.claimed_digits:.3f}, noises {found.claimed_noises:.3f}")
    print(f"copies with a relevance above {COPY}: {found.sure_copies:.3f} (at least {SURE_COPIES})")
    areas_hold = found.other_world >= OTHER_WORLD and found.kind_left_out >= KIND_LEFT_OUT
    if not areas_hold or found.missed > MOST_MISSED or found.sure_copies < SURE_COPIES:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
