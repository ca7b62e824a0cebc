"""A reader of texts for tests: it says what it was told about a content, or breaks as it was told."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from arrowlens.media.files import hash_bytes
from arrowlens.modalities import Input, TextSource
from arrowlens.store import MediaText


def content_of(path: Path) -> str:
    return hash_bytes(path.read_bytes())


@dataclass(frozen=True)
class KnownTexts:
    """Gives the texts of contents; picklable.

    Attributes:
        texts: by content hash; others have none.
        crashing: content hashes that end the process.
        failing: content hashes that raise.
        log: a file that gets a line for each content that is read.
    """

    source: TextSource
    reads: Input
    texts: dict[str, list[MediaText]]
    log: Path
    engine: str = "known 1"
    crashing: frozenset[str] = frozenset()
    failing: frozenset[str] = frozenset()
    min_side: int | None = None
    max_bytes: int = 1_000_000_000
    n_processes: int = 1

    def limit_s(self, duration):
        return 60.0

    def extract(self, decoded):
        with self.log.open("a") as log:
            log.write(f"{decoded.content_hash}\n")
        if decoded.content_hash in self.crashing:
            os.kill(os.getpid(), signal.SIGSEGV)
        if decoded.content_hash in self.failing:
            raise RuntimeError("no such letters")
        return self.texts.get(decoded.content_hash, [])

    @property
    def n_read(self):
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0
