"""Which of the best hits hold the very picture or recording that is asked with, in another file.

A model may put an MP3 of applause no closer to the original than to other applause. What tells duplicates of a library
tells these, too: the waveform of recordings, on which no model has a say, and the perceptual hash of pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from arrowlens.embedding import Example
    from arrowlens.store import MultimodalStorage

RELEVANCE = 0.98  # of a copy: the precision that is promised for duplicates (docs/performance.md)
N_COMPARED = 16  # best hits of a question; comparing two recordings takes up to 25 ms


class Copies:
    """Compares one example with files of its modality, and remembers what came out.

    Args:
        storage: holds the files' fingerprints and thumbnails, and those of an example that is one of its files.
        example: what is asked with, a picture or a recording.

    Attributes:
        modality: of the example, and of the files that may be copies of it.
    """

    def __init__(self, storage: MultimodalStorage, example: Example) -> None:
        self._storage = storage
        self._example = example
        self.modality = example.modality
        self._known: dict[str, bool] = {}

    def among(self, contents: Sequence[str]) -> set[str]:
        """Return those of some content hashes whose files are copies of the example, in other bytes."""
        new = [content for content in contents if content not in self._known | {self._example.content_hash: False}]
        if new:
            compare = self._copied_recordings if self.modality == "audio" else self._copied_pictures
            copied = compare(new)
            self._known.update((content, content in copied) for content in new)
        return {content for content in contents if self._known.get(content)}

    def _copied_recordings(self, contents: Sequence[str]) -> set[str]:
        from arrowlens.media.acoustic_fingerprint import Waveform  # deferred: a text needs none of it
        from arrowlens.search.waveform_matching import Recordings, spectra_of  # deferred, as above

        own = self._own_fingerprint()
        spectra = self._storage.fingerprints(contents, "spectrum") if own is not None else {}
        if own is None or not spectra:
            return set()
        held = list(spectra)

        def waveforms(positions: Sequence[int]) -> list[Waveform | None]:
            wanted = [held[position - 1] for position in positions if position]
            stored = self._storage.fingerprints(wanted, "waveform") if wanted else {}
            data = [stored.get(held[position - 1], b"") if position else own[1] for position in positions]
            return [Waveform.unpack(each) for each in data]

        recordings = Recordings(spectra_of([own[0], *spectra.values()]), waveforms)
        _, found = recordings.copies(np.array([0]), np.arange(1, len(held) + 1))
        return {held[position - 1] for position in found.tolist()}

    def _copied_pictures(self, contents: Sequence[str]) -> set[str]:
        from arrowlens.search.perceptual_hash import Fingerprints  # deferred: a text needs none of it
        from arrowlens.search.similarity import Pictures  # deferred, as above

        own = self._own_thumbnail()
        thumbnails = self._storage.thumbnails(contents) if own is not None else {}
        if own is None or not thumbnails:
            return set()
        held = list(thumbnails)
        try:
            fingerprints = Fingerprints.of([own, *thumbnails.values()])
        except (OSError, SyntaxError):  # a damaged thumbnail, which the doctor names, must not cost the answer
            return set()
        pictures = Pictures(fingerprints, np.zeros((len(held) + 1, 1), np.float16))
        _, found = pictures.copies(np.array([0]), np.arange(1, len(held) + 1))
        return {held[position - 1] for position in found.tolist()}

    def _own_fingerprint(self) -> tuple[bytes, bytes] | None:
        """The two parts of the example's acoustic fingerprint; None where it has none."""
        if self._example.fingerprint is not None:
            return self._example.fingerprint.parts
        own = self._example.content_hash
        spectrum, waveform = (
            (self._storage.fingerprints([own], part).get(own) if own is not None else None)
            for part in ("spectrum", "waveform")
        )
        return None if spectrum is None or waveform is None else (spectrum, waveform)

    def _own_thumbnail(self) -> bytes | None:
        if self._example.thumbnail is not None or self._example.content_hash is None:
            return self._example.thumbnail
        return self._storage.thumbnails([self._example.content_hash]).get(self._example.content_hash)
