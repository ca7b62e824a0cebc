"""Words in media: what is written in pictures, and what is said in recordings.

A reader finds texts in what ``media.decode`` gives; ``ingest --read-text`` and ``--transcribe`` run readers in worker
processes and store what they find::

    OcrReader()                         text in pictures and films; needs the extra ocr
    SpeechReader.of(model_directory)    speech in recordings and films; needs the extra speech

The packages that do the work are imported in the worker, with the first file.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from arrowlens.errors import InputError
from arrowlens.media import Decoded
from arrowlens.modalities import MAX_SHOTS, Input, TextSource
from arrowlens.store import MediaText

__all__ = ["MOST_SHOTS", "TextReader", "installed_version"]


MOST_SHOTS = MAX_SHOTS  # of a film that are read, of one over 16:9 fewer; their pictures are in memory at once: 560 MB


class TextReader(Protocol):
    """Finds texts in what is seen or heard of media. Picklable."""

    @property
    def source(self) -> TextSource:
        """What its texts are called."""

    @property
    def reads(self) -> Input:
        """What it reads: pictures and shots of films ("image"), or recordings and the sound of films ("audio")."""

    @property
    def engine(self) -> str:
        """The program with its version, and its model: what another one has read is read again."""

    @property
    def min_side(self) -> int | None:
        """How far pictures may be reduced while they are decoded, as ``media.decode`` takes it."""

    @property
    def max_bytes(self) -> int:
        """Bytes that a process may hold in memory while it reads."""

    @property
    def n_processes(self) -> int:
        """How many processes read at once at most."""

    def limit_s(self, duration: float | None) -> float:
        """Return the seconds that reading may take; ``duration`` is the medium's in seconds, None of a picture."""

    def extract(self, decoded: Decoded) -> list[MediaText]:
        """Return the texts of a medium, in their order; none where there is no text."""


def installed_version(package: str, extra: str) -> str:
    """Return the version of a package that an extra brings.

    Raises:
        InputError: it is not installed; the message names the extra.
    """
    try:
        return version(package)
    except PackageNotFoundError:
        raise InputError(f"{package} is not installed; pip install 'arrowlens[{extra}]'") from None
