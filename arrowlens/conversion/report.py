"""What a conversion tells: its progress while it runs, and a report at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Progress:
    """One step of work, told as it goes on.

    ``step`` is ``licence``, ``wait`` (another process has the same download in hand), ``download``, ``convert`` or
    ``verify``; ``detail`` says it for people. ``done`` of ``total`` are bytes while downloading, else 0 of 1 when a
    step starts and 1 of 1 when it ends.
    """

    step: str
    detail: str
    done: int = 0
    total: int = 1


OnProgress = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """An ``on_progress`` that tells nobody."""


@dataclass(frozen=True)
class Verified:
    """Cosines between the converted model's vectors and the original's, on built-in inputs of one kind.

    ``contrast`` is the average cosine once the original's mean vector is subtracted from both sides: what inputs have
    in common no longer hides how they differ.
    """

    kind: str
    count: int
    average: float
    minimum: float
    contrast: float


@dataclass(frozen=True)
class ConversionReport:
    """What came out of a conversion.

    ``original_bytes`` counts the tensors taken from the checkpoint in the type they had there, ``converted_bytes`` the
    weights file written. ``verified`` is empty when verification was turned off; ``licence`` is the hub's word, None
    for a local folder or when the model card states none.
    """

    family: str
    source: str
    directory: Path
    digest: str
    dtype: str
    format: str
    tensors: int
    parameters: int
    original_bytes: int
    converted_bytes: int
    licence: str | None
    verified: tuple[Verified, ...]
    seconds: float

    @property
    def ratio(self) -> float:
        """Original bytes for each converted byte."""
        return self.original_bytes / self.converted_bytes

    @property
    def average(self) -> float | None:
        """The lowest of the average cosines of each kind of input, None when nothing was verified."""
        return min((kind.average for kind in self.verified), default=None)

    @property
    def minimum(self) -> float | None:
        """The lowest cosine of all inputs, None when nothing was verified."""
        return min((kind.minimum for kind in self.verified), default=None)

    def lines(self) -> list[str]:
        """The report for people."""
        lines = [
            f"{self.family} model from {self.source}: {self.tensors} tensors, {self.parameters / 1e6:.1f} M parameters",
            f"Original size: {self.original_bytes / _MIB:.2f} MB",
            f"Converted size: {self.converted_bytes / _MIB:.2f} MB ({self.dtype}, {self.format})",
            f"Compression ratio: {self.ratio:.2f}x",
        ]
        lines += [
            f"Cosine against the original, {kind.count} {kind.kind}: {kind.average:.6f} on average, "
            f"{kind.minimum:.6f} at least"
            for kind in self.verified
        ]
        lines += [] if self.verified else ["Not verified against the original (verification was turned off)"]
        lines += [f"Licence: {self.licence}"] if self.licence else []
        return [*lines, f"Digest: {self.digest}", f"Written to {self.directory} in {self.seconds:.1f} s"]
