"""The progress of a conversion, and the report at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Progress:
    """The progress of one step.

    Attributes:
        step: ``licence``, ``wait`` (for another process with the same download), ``download``, ``convert``, ``verify``.
        detail: the step in words.
        done: bytes in a download; else 0 when a step starts and 1 when it ends.
        total: bytes of the whole download, else 1.
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

    Attributes:
        kind: the inputs, for people.
        count: how many inputs.
        average: the average cosine.
        minimum: the lowest cosine.
        contrast: the average cosine after subtracting the original's mean vector from both sides, which shows
            differences that a large common part of all vectors hides.
    """

    kind: str
    count: int
    average: float
    minimum: float
    contrast: float


@dataclass(frozen=True)
class ConversionReport:
    """The result of a conversion.

    ``original_bytes`` is the size of the tensors in the checkpoint, ``converted_bytes`` that of the weights file.
    ``verified`` is empty when verification was turned off. ``licence`` is what the hub states, None for a local folder
    or where it states none. ``notices`` are lines for a user.
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
    notices: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """The original size divided by the converted one."""
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
        """Return the report for people."""
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
        lines += [f"Note: {notice}" for notice in self.notices]
        return [*lines, f"Digest: {self.digest}", f"Written to {self.directory} in {self.seconds:.1f} s"]
