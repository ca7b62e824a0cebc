"""One file -> what the encoders take. A single picklable step for a worker process; imports no torch."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import numpy as np

from arrowlens.errors import MediaError
from arrowlens.ingest.walk import Found
from arrowlens.media import Decoded, Limits, Window, decode, windows
from arrowlens.media.files import hash_stream, open_regular

if TYPE_CHECKING:
    from arrowlens.encoders import ImageProcessor


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A file that was opened.

    Attributes:
        found: the file. decoded: what it holds, without pixels and samples, or the reason why nothing.
        content: what is to be encoded: one (S, S, 3) uint8 picture, or the float32 samples (n,) of a recording;
            nothing for a picture that there is no model for.
        windows: of a recording; empty for a picture.
        unread: the system kept its bytes back, so that nothing is known of its content.
        needs_room: it was left alone, since it takes much memory; ``Preparer.alone`` takes it.
    """

    found: Found
    decoded: Decoded
    content: np.ndarray | None = None
    windows: tuple[Window, ...] = ()
    unread: bool = False
    needs_room: bool = False

    @property
    def inputs(self) -> tuple[np.ndarray, ...]:
        """What the model takes: the picture, or a view of each window's samples."""
        if self.content is None:
            return ()
        return tuple(self.content[window.slice()] for window in self.windows) or (self.content,)

    @property
    def n_bytes(self) -> int:
        """About what it takes in memory."""
        thumbnail = self.decoded.thumbnail
        return (0 if self.content is None else self.content.nbytes) + (0 if thumbnail is None else len(thumbnail))

    def bare(self) -> Prepared:
        """The same without what is encoded."""
        return dataclasses.replace(self, content=None)


@dataclasses.dataclass(frozen=True, slots=True)
class Preparer:
    """Opens files: ``preparer(found) -> Prepared``. Picklable; never raises for a bad file.

    Attributes:
        image_processor: prepares pictures; None without a model for them.
        limits: what a file may be at most. exact: decode pictures in full.
        window_s, hop_s: windows over recordings, in seconds.
    """

    image_processor: ImageProcessor | None
    limits: Limits
    exact: bool
    window_s: float
    hop_s: float

    def __call__(self, found: Found) -> Prepared:
        """Decode a file and prepare what it holds."""
        return self._prepare(found, self.limits)

    def alone(self, found: Found) -> Prepared:
        """The same for a file that needs room."""
        return self._prepare(found, self.limits)

    def content(self, found: Found) -> str | None:
        """The content hash of a file that is as the walk saw it; None when it cannot be read, or is too large."""
        try:
            with open_regular(found.path) as file:
                if found.size is None or self._is_too_large(found) or self._has_changed(found):
                    return None
                return hash_stream(file, found.size)
        except MediaError:
            return None

    def _prepare(self, found: Found, limits: Limits) -> Prepared:
        processor = self.image_processor
        min_side = None if processor is None or self.exact else processor.image_size
        decoded = decode(found.path, limits, min_side=min_side)
        bare = dataclasses.replace(decoded, pixels=None, samples=None)
        if decoded.reason is not None:
            return Prepared(found, bare, unread=self._is_unread(found, decoded))
        try:
            return self._contents(found, decoded, bare)
        except Exception as error:  # whatever it is, it costs this file only
            cause = " ".join(str(error).split())
            reason = f"cannot be prepared for the model: {type(error).__name__}{f': {cause}' if cause else ''}"
            return Prepared(found, dataclasses.replace(bare, reason=reason, thumbnail=None))

    def _contents(self, found: Found, decoded: Decoded, bare: Decoded) -> Prepared:
        if decoded.pixels is not None and self.image_processor is not None:
            return Prepared(found, bare, self.image_processor(decoded.pixels, normalize=False))
        if decoded.samples is not None:
            cuts = tuple(windows(len(decoded.samples), window_s=self.window_s, hop_s=self.hop_s))
            return Prepared(found, bare, decoded.samples, cuts)
        return Prepared(found, bare)

    def _is_unread(self, found: Found, decoded: Decoded) -> bool:
        """Whether the reason says nothing of the content: the system refused, or the file is being written."""
        if self._has_changed(found):
            return True
        # Without a hash the bytes were not read: because of the system, or because they are too many.
        return decoded.content_hash is None and not self._is_too_large(found)

    def _has_changed(self, found: Found) -> bool:
        try:
            status = os.stat(found.path)  # noqa: PTH116 - bytes
        except OSError:
            return True
        return (status.st_size, status.st_mtime_ns) != (found.size, found.modified_ns)

    def _is_too_large(self, found: Found) -> bool:
        limit = self.limits.max_image_bytes if found.modality == "image" else self.limits.max_file_bytes
        return found.size is not None and found.size > limit
