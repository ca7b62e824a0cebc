"""Films made of the bundled drawings, with cuts at known times and a noise for each scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import arrowlens
from tests.support.film_factory import Scene, scene_film

_PICTURES = Path(arrowlens.__file__).parent / "demo" / "samples" / "pictures"
DRAWINGS = {path.stem.rsplit("-", 1)[0]: path for path in sorted(_PICTURES.rglob("*.*"))}
BICYCLE = "red-bicycle"
_QUICK = {"preset": "ultrafast", "tune": "zerolatency"}


@dataclass(frozen=True)
class Story:
    """What a film shows: names of drawings, and the seconds at which each begins."""

    names: tuple[str, ...]
    starts: tuple[float, ...]
    lengths: tuple[float, ...]

    @classmethod
    def drawn(cls, seed: int, n_scenes: int = 5) -> Story:
        """A story with a red bicycle in it; the same seed always tells the same one."""
        generator = np.random.default_rng(seed)
        others = [name for name in DRAWINGS if "bicycle" not in name and "red" not in name]
        names = [others[place] for place in generator.choice(len(others), n_scenes - 1, replace=False)]
        names.insert(int(generator.integers(n_scenes)), BICYCLE)
        lengths = generator.uniform(1.5, 7.0, n_scenes).round(1)
        starts = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
        return cls(tuple(names), tuple(starts.tolist()), tuple(lengths.tolist()))

    def start_of(self, name: str) -> float:
        """Seconds at which a drawing is first shown."""
        return self.starts[self.names.index(name)]

    def film(self, **options) -> bytes:
        """Return the film's bytes; options as of ``scene_film``."""
        scenes = [
            Scene(_pixels(name), seconds, _noise(name)) for name, seconds in zip(self.names, self.lengths, strict=True)
        ]
        return scene_film(scenes, **{"options": _QUICK, "size": (192, 144), "rate": 12, **options})


def _pixels(name: str) -> np.ndarray:
    with Image.open(DRAWINGS[name]) as image:
        return np.asarray(image.convert("RGB"))


def _noise(name: str) -> np.ndarray:
    generator = np.random.default_rng(sum(map(ord, name)))
    return (0.1 * generator.standard_normal(48_000)).astype(np.float32)
