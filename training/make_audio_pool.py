"""Synthesise the training clips and keep their mel power: `sounds.npz` in the work folder."""

from __future__ import annotations

import argparse

import numpy as np
from catalogue import add_folders, sounds
from make_sounds import clip
from numpy.typing import NDArray
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function
from waves import RATE

MELS, WINDOW, HOP = 80, 400, 160
FILTERS = mel_filter_bank(1 + WINDOW // 2, MELS, 0.0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
HANN = window_function(WINDOW, "hann")


def log_mel(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logarithm (base 10) of the mel power, (frames, 80), as Whisper computes it before its normalisation."""
    power = spectrogram(
        wave,
        HANN,
        WINDOW,
        HOP,
        power=2.0,
        mel_filters=FILTERS,
        log_mel="log10",
        mel_floor=1e-10,
        dtype=np.dtype(np.float32),
    )
    return np.asarray(power[:, :-1].T, dtype=np.float32)


def normalised(logarithms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Whisper's normalisation of one clip: at most 8 below its maximum, then (x + 4) / 4."""
    return np.asarray((np.maximum(logarithms, logarithms.max() - 8) + 4) / 4)


def pool(clips: int, seed: int, unseen: bool) -> dict[str, NDArray[np.generic]]:
    """`clips` of every kind: `frames` (total, 80) float16, `starts` and `kind` (n,)."""
    pieces, starts, kinds, total = [], [], [], 0
    for index, kind in enumerate(sounds()):
        for number in range(clips):
            mel = log_mel(clip(kind, seed + 100_000 * index + number, unseen)).astype(np.float16)
            pieces.append(mel)
            starts.append(total)
            kinds.append(index)
            total += len(mel)
    return {"frames": np.concatenate(pieces), "starts": np.array([*starts, total]), "kind": np.array(kinds)}


def main() -> None:
    """Write the pool."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_folders(parser, work=True)
    parser.add_argument("--clips", type=int, default=150, help="of every kind")
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    np.savez(options.work / "sounds.npz", allow_pickle=False, **pool(options.clips, options.seed, unseen=False))


if __name__ == "__main__":
    main()
