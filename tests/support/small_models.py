"""Small deterministic encoders with the methods of the real ones: fast tests of everything around them."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

import numpy as np

from arrowlens.encoders import ImageProcessor
from arrowlens.modalities import Recipe
from arrowlens.store import ModelRecord

DIMENSION = 24
CLIP_DIGEST = "c" * 64
AUDIO_DIGEST = "a" * 64


class SmallClip:
    """A picture's colours on a coarse grid, projected. Counts the pictures it encodes."""

    device = "cpu"

    def __init__(self, seed: int = 0, dimension: int = DIMENSION) -> None:
        self.image_processor = ImageProcessor(image_size=32)
        self.n_encoded = 0
        self._lock = threading.Lock()
        self._projection = np.random.default_rng(seed).standard_normal((8 * 8 * 3 + 1, dimension))

    def encode_image(self, images: np.ndarray, normalize: bool = True) -> np.ndarray:
        assert images.dtype == np.uint8
        assert images.shape[1:] == (32, 32, 3)
        with self._lock:
            self.n_encoded += _n_without_copies(images)
        grid = images.astype(np.float64).reshape(len(images), 8, 4, 8, 4, 3).mean(axis=(2, 4)).reshape(len(images), -1)
        return _normalised(np.pad(grid / 255, ((0, 0), (0, 1)), constant_values=0.1) @ self._projection)


def _n_without_copies(images: np.ndarray) -> int:
    """The number of pictures without the copies of the last one that fill a batch."""
    n = len(images)
    while n > 1 and np.array_equal(images[n - 1], images[n - 2]):
        n -= 1
    return n


class SmallAudio:
    """A recording's energy in bands of frequency, projected. Counts the windows it encodes."""

    device = "cpu"

    def __init__(self, seed: int = 1, dimension: int = DIMENSION) -> None:
        self.n_encoded = 0
        self._lock = threading.Lock()
        self._projection = np.random.default_rng(seed).standard_normal((41, dimension))

    def encode(
        self,
        audio: Sequence[np.ndarray],
        normalize: bool = True,
        context: str = "padded",
        layer: int | None = None,
        sample_rate: int | None = None,
    ) -> np.ndarray:
        assert (context, layer, sample_rate or 16_000) == ("own", None, 16_000)
        assert all(samples.ndim == 1 and samples.dtype == np.float32 for samples in audio)
        with self._lock:
            self.n_encoded += len({id(samples) for samples in audio})  # the copies that fill a batch are one object
        return _normalised(np.stack([self._bands(samples) for samples in audio]) @ self._projection)

    def _bands(self, samples: np.ndarray) -> np.ndarray:
        power = np.abs(np.fft.rfft(samples.astype(np.float64), 32_000)[:16_000]) ** 2
        return np.append(np.log1p(power.reshape(40, 400).mean(axis=1)), 0.1)


class SmallText:
    """A text's words, projected: texts that share words are alike. Counts the texts it encodes."""

    def __init__(self, seed: int = 2, dimension: int = DIMENSION) -> None:
        self.n_encoded = 0
        self._seed, self._dimension = seed, dimension

    def encode(self, texts: list[str] | str, normalize: bool = True) -> np.ndarray:
        texts = [texts] if isinstance(texts, str) else texts
        self.n_encoded += len(texts)
        return _normalised(np.stack([self._sum(text) for text in texts]))

    def _sum(self, text: str) -> np.ndarray:
        words = re.findall(r"\w+", text.lower())
        return sum((self._word(word) for word in words), np.full(self._dimension, 1e-3))

    def _word(self, word: str) -> np.ndarray:
        return np.random.default_rng([self._seed, *word.encode()]).standard_normal(self._dimension)


class SmallProvider:
    """A model set of these; ``roles`` leaves some out, another ``seed`` makes another set with vectors of its own."""

    def __init__(self, roles: Sequence[str] = ("vision", "audio"), seed: int = 0, dimension: int = DIMENSION) -> None:
        self.clip_engine = SmallClip(seed, dimension)
        self.audio_encoder = SmallAudio(seed + 1, dimension)
        self.text_encoder = SmallText(seed + 2, dimension)
        self._digests = {
            role: (digit * 4 + f"{seed:04x}") * 8 for role, digit in (("vision", "c"), ("audio", "a"), ("text", "7"))
        }
        if seed == 0:
            self._digests |= {"vision": CLIP_DIGEST, "audio": AUDIO_DIGEST}
        self._roles, self._dimension, self._seed = tuple(roles), dimension, seed

    def __reduce__(self):
        return SmallProvider, (self._roles, self._seed, self._dimension)

    @property
    def n_encoded(self) -> int:
        return self.clip_engine.n_encoded + self.audio_encoder.n_encoded

    recipe = Recipe()

    def has(self, role: str) -> bool:
        return role in self._roles

    def digest(self, role: str) -> str:
        return self._digests[role]

    def recipe_digest(self, role: str) -> str:
        return self.digest(role)

    def dimension(self, role: str) -> int:
        return self._dimension

    def space(self, role: str) -> str | None:
        return None

    has_one_space = text_reaches_audio = False

    def takes_text(self, role: str) -> bool:
        return role == "vision"

    def language(self, role: str) -> str | None:
        return None

    def text_role(self, modality: str) -> str | None:
        return "vision" if modality == "image" and self.has("vision") else None

    def records(self) -> dict[str, ModelRecord]:
        """The set as a library remembers it."""
        return {role: ModelRecord(self.digest(role), self._dimension, "small") for role in self._roles}


def _normalised(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
