"""What happens inside a decoder, set off by a picture's colour: crashes, hangs, chatter. For real workers."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from arrowlens.embedding import Inputs
from arrowlens.encoders import ImageProcessor
from arrowlens.ingest.prepare import Prepared
from arrowlens.ingest.walk import ScannedFile
from arrowlens.media import Decoded

CRASH, STOP, SLEEP, LEAVE, STARVE, RAISE, IMPORTS = (
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 0),
    (0, 255, 255),
    (255, 0, 255),
    (10, 20, 30),
)
N_ATTEMPTS = "ARROWLENS_TEST_ATTEMPTS"  # the environment names a file that gets a byte for each attempt


class HostileProcessor(ImageProcessor):
    """Prepares pictures as its parent does, but for pictures of one of the colours above."""

    def __call__(self, image: Image.Image | np.ndarray, **how: Any) -> np.ndarray:
        os.write(1, b"decoder chatter\n")
        os.write(2, b"decoder chatter\n")
        print("decoder chatter", file=sys.stderr, flush=True)
        pixels = np.asarray(image)
        colour = tuple(int(value) for value in pixels[0, 0]) if (pixels == pixels[0, 0]).all() else ()
        self._note(colour)
        if colour == CRASH:
            os.kill(os.getpid(), signal.SIGSEGV)
        elif colour == STOP:
            os.kill(os.getpid(), signal.SIGSTOP)
        elif colour == SLEEP:
            time.sleep(1000)
        elif colour == LEAVE:
            os._exit(3)
        elif colour == STARVE:
            raise MemoryError
        elif colour == RAISE:
            raise KeyError("what no decoder\nshould raise")
        elif colour == IMPORTS:
            loaded = [
                name for name in ("torch", "lancedb", "pandas", "transformers", "streamlit") if name in sys.modules
            ]
            raise RuntimeError(f"loaded: {loaded}, SIGINT {signal.getsignal(signal.SIGINT)!r}")
        return super().__call__(image, **how)

    def _note(self, colour: tuple[int, ...]) -> None:
        if N_ATTEMPTS in os.environ and colour in (CRASH, STOP, SLEEP, LEAVE):
            with Path(os.environ[N_ATTEMPTS]).open("ab") as file:
                file.write(b".")


def write_plain(path: Path, colour: tuple[int, int, int]) -> Path:
    """A picture of one colour; a PNG, which keeps it exactly."""
    Image.new("RGB", (40, 30), colour).save(path, "PNG")
    return path


class LargeStep:
    """A step for files that all need room; says in a journal when it begins and ends each of them."""

    def __init__(self, journal: Path, n_samples: int = 1) -> None:
        self.journal, self.n_samples = journal, n_samples

    def __call__(self, found: ScannedFile) -> Prepared:
        return Prepared(found, Decoded("image", "large"), needs_room=True)

    def alone(self, found: ScannedFile) -> Prepared:
        self._say("begin")
        time.sleep(0.05)
        self._say("end")
        if found.relative == b"crash":
            os.kill(os.getpid(), signal.SIGKILL)
        return Prepared(found, Decoded("audio", None, "hash"), (Inputs("audio", np.zeros(self.n_samples, np.float32)),))

    def content(self, found: ScannedFile) -> str | None:
        return "hash"

    def lost(self, found: ScannedFile, reason: str, content: str | None) -> Prepared:
        return Prepared(found, Decoded("image", reason, content))

    def _say(self, word: str) -> None:
        with self.journal.open("a", encoding="ascii") as file:
            file.write(f"{word}\n")


class LongStep:
    """A step whose results are larger than any pipe."""

    def __call__(self, found: ScannedFile) -> Prepared:
        return Prepared(
            found, Decoded("audio", None, "hash"), (Inputs("audio", np.arange(50_000_000, dtype=np.float32)),)
        )
