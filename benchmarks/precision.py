"""Half precision beside float32, input by input: 500 pictures, 200 recordings and 500 texts.

With the bundled models, whose weights are trained: random ones say little about what training makes of rounding. Our
own float32 is the reference here; that it is transformers' is what the property tests hold.

python -m benchmarks.precision [--clip DIR] [--audio DIR] [--precision bfloat16]
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import librosa
import numpy as np
from PIL import Image

import arrowlens
from arrowlens.encoders import AudioEncoder, BatchEncoder, CLIPEngine
from benchmarks.measure import header
from tests.support.reference import HALF_COSINE, cosines, pictures, sounds

DEMO = Path(arrowlens.__file__).parent / "demo"
BATCH = 8
N_PICTURES, N_RECORDINGS, N_TEXTS = 500, 200, 500
THINGS = ["cat", "dog", "guitar", "kite", "house", "car", "tree", "boat", "flower", "bird", "bridge", "train", "apple"]
PLACES = ["", " in the rain", " at night", " on a table", " beside the sea", " under a tree, seen from above"]
COLOURS = ["a", "a red", "two blue", "an old", "a photo of a small", "a drawing of a yellow", "my"]


def main() -> None:
    """Print a line for each kind of input."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clip", type=Path, default=DEMO / "models" / "clip")
    parser.add_argument("--audio", type=Path, default=DEMO / "models" / "audio")
    parser.add_argument("--precision", default="bfloat16")
    options = parser.parse_args()
    header(f"precision, {options.precision}")
    half, full = (CLIPEngine(options.clip, precision=name) for name in (options.precision, "float32"))
    images = drawings(full)
    compare("pictures", BatchEncoder(half, BATCH).encode_batch(images), BatchEncoder(full, BATCH).encode_batch(images))
    texts = phrases()
    compare("texts", half.encode_text(texts), full.encode_text(texts))
    ears = [AudioEncoder(options.audio, precision=name) for name in (options.precision, "float32")]
    waves = recordings()
    for context, kept in (("own", waves), ("padded", waves[::10])):
        compare(f"recordings, {context}", *(ear.encode(kept, context=context) for ear in ears))


def compare(name: str, half: np.ndarray, full: np.ndarray) -> None:
    """Print how far they are apart."""
    found = cosines(half, full)
    met = "met" if found.min() > HALF_COSINE else "missed"
    print(
        f"{len(found):6} {name}: lowest cosine {found.min():.6f}, average {found.mean():.6f}; bar {HALF_COSINE}: {met}",
        flush=True,
    )


def drawings(engine: CLIPEngine) -> np.ndarray:
    """(500, size, size, 3) uint8: test patterns, and the bundled pictures, whole and turned and mirrored."""
    size = engine.vision_encoder.config.image_size
    prepared = list(pictures(size))
    for turn in (None, *Image.Transpose):
        for path in sorted((DEMO / "samples" / "pictures").rglob("*.*")):
            with Image.open(path) as image:
                turned = image if turn is None else image.transpose(turn)
                prepared.append(engine.image_processor(turned, normalize=False))
            if len(prepared) == N_PICTURES:
                return np.stack(prepared)
    raise SystemExit(f"{len(prepared)} pictures are too few")


def phrases() -> list[str]:
    """500 texts of 2 to some ten words."""
    made = [" ".join((colour, thing)) + place for colour, thing, place in itertools.product(COLOURS, THINGS, PLACES)]
    return made[:N_TEXTS]


def recordings() -> list[np.ndarray]:
    """200 recordings at 16 kHz: test signals, and the bundled sounds, whole, quiet, backwards and cut."""
    files = sorted((DEMO / "samples" / "sounds").rglob("*.*"))
    waves = [librosa.load(path, sr=16_000, mono=True)[0][: 16_000 * 30] for path in files]
    changed = [waves, [0.1 * wave for wave in waves], [wave[::-1] for wave in waves], [w[: len(w) // 2] for w in waves]]
    made = [*sounds(), *itertools.chain.from_iterable(changed)]
    return [np.ascontiguousarray(wave, np.float32) for wave in made if np.abs(wave).max() > 0 and len(wave)][
        :N_RECORDINGS
    ]


if __name__ == "__main__":
    main()
