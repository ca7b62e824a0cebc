"""How well the sound encoder finds recordings with parameters and voices that were never trained on."""

from __future__ import annotations

import librosa
import numpy as np
from catalogue import sounds
from evaluate_pictures import Vectors, recall, timed
from make_sounds import clip
from numpy.typing import NDArray
from waves import RATE

from arrowlens.encoders import AudioEncoder, CLIPEngine

EACH, SEED = 6, 88_000_000


class SoundTests:
    """Six unseen recordings of every kind, their vectors, and what is found with them."""

    def __init__(self, encoder: AudioEncoder, engine: CLIPEngine) -> None:
        self.encoder, self.engine = encoder, engine
        self.kinds = sounds()
        self.clips = [
            clip(kind, SEED + 1000 * number + index, unseen=True)
            for number, kind in enumerate(self.kinds)
            for index in range(EACH)
        ]
        self.labels = np.repeat(np.arange(len(self.kinds)), EACH)
        self.vectors = self._encode(self.clips)

    def _encode(self, clips: list[NDArray[np.float32]]) -> Vectors:
        parts = [self.encoder.encode(clips[start : start + 32], context="own") for start in range(0, len(clips), 32)]
        return np.concatenate(parts)

    def neighbours(self) -> dict[str, float]:
        """How often the nearest other recording is of the same kind: the model, mean log-mel, mean MFCC, chance."""
        mels, mfccs = [], []
        for wave in self.clips:
            mel = librosa.feature.melspectrogram(y=wave, sr=RATE, n_fft=400, hop_length=160, n_mels=80)
            mels.append(np.log10(np.maximum(mel, 1e-10)).mean(1))
            mfccs.append(librosa.feature.mfcc(y=wave, sr=RATE, n_mfcc=20).mean(1))
        chance = (EACH - 1) / (len(self.clips) - 1)
        return {
            "model": self._same(self.vectors), "log-mel mean": self._same(_standard(mels)),
            "MFCC mean": self._same(_standard(mfccs)), "chance": chance,
        }  # fmt: skip

    def _same(self, vectors: Vectors) -> float:
        scores = vectors @ vectors.T
        np.fill_diagonal(scores, -np.inf)
        return float((self.labels[scores.argmax(1)] == self.labels).mean())

    def text_to_sound(self) -> dict[str, float]:
        """Recall of one recording of each kind by its name; `words`: by every other way to say it."""
        names = self.engine.encode_text([phrases[0] for phrases in self.kinds.values()])
        galleries = [self.vectors[index::EACH] for index in range(EACH)]
        found = {f"R@{k}": float(np.mean([recall(names, gallery, k) for gallery in galleries])) for k in (1, 5)}
        longest = max(len(phrases) for phrases in self.kinds.values())
        rounds = []
        for number in range(1, longest):
            others = self.engine.encode_text([phrases[number % len(phrases)] for phrases in self.kinds.values()])
            rounds += [recall(others, gallery, 5) for gallery in galleries]
        return {**found, "words R@5": float(np.mean(rounds))}

    def worst(self, count: int = 6) -> list[tuple[str, float]]:
        """The kinds that are mistaken most often."""
        scores = self.vectors @ self.vectors.T
        np.fill_diagonal(scores, -np.inf)
        right = self.labels[scores.argmax(1)] == self.labels
        shares = [(kind, float(right[self.labels == number].mean())) for number, kind in enumerate(self.kinds)]
        return sorted(shares, key=lambda pair: pair[1])[:count]

    def speed(self) -> float:
        """Five-second recordings a second, spectrogram and all; the best of five."""
        clips = [np.resize(wave, 5 * RATE) for wave in self.clips[:96]]
        return max(timed(lambda: self._encode(clips), len(clips)) for _ in range(5))


def _standard(rows: list[NDArray[np.float32]]) -> Vectors:
    table = np.stack(rows)
    table = (table - table.mean(0)) / (table.std(0) + 1e-6)
    return np.asarray(table / np.linalg.norm(table, axis=1, keepdims=True), dtype=np.float32)
