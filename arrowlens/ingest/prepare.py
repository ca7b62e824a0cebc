"""One file -> what the encoders take. A single picklable step for a worker process; imports no torch."""

from __future__ import annotations

import dataclasses
import os
import stat
from typing import Any

from arrowlens.embedding import EmbeddingPlan, Inputs, prepare
from arrowlens.errors import MediaError
from arrowlens.ingest.walk import ScannedFile
from arrowlens.media import Decoded, Limits, decode, hash_file, read_caption
from arrowlens.media.decoded import EXACT_PIXEL_BYTES, PIXEL_BYTES, SECOND_BYTES
from arrowlens.media.files import ExactFile, bounded_ns, file_id_of

_COPIES_OF_SOUND = 3  # while a recording is put together, checked and sent
COMPANY_BYTES = 112_500_000  # that decoding a file may take beside others


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A file that was opened.

    Attributes:
        found: the file, with the ``file_id`` of the one that was opened.
        decoded: what it holds, without pixels and samples, or the reason why nothing.
        inputs: what is to be encoded; None for a file that cannot be read.
        unread: the system kept its bytes back, so that nothing is known of its content.
        caption: the text of the file beside it. caption_unread: there is one, and the system kept it back.
        needs_room: it was left alone, since it takes much memory; ``Preparer.alone`` takes it.
    """

    found: ScannedFile
    decoded: Decoded
    inputs: Inputs | None = None
    unread: bool = False
    caption: str | None = None
    caption_unread: bool = False
    needs_room: bool = False

    @property
    def n_bytes(self) -> int:
        """About what it takes in memory."""
        content = self.inputs.content if self.inputs is not None else None
        parts = [self.decoded.thumbnail or b"", *(self.decoded.fingerprint.parts if self.decoded.fingerprint else ())]
        return (0 if content is None else content.nbytes) + sum(map(len, parts))

    def failed(self, reason: str, *, unread: bool) -> Prepared:
        """The same file, of which no vectors could be made; ``unread`` where that says nothing of its content."""
        return dataclasses.replace(self, decoded=dataclasses.replace(self.decoded, reason=reason), unread=unread)

    def bare(self) -> Prepared:
        """The same without what is encoded."""
        assert self.inputs is not None
        return dataclasses.replace(self, inputs=dataclasses.replace(self.inputs, content=None))


@dataclasses.dataclass(frozen=True, slots=True)
class Preparer:
    """Opens files: ``preparer(found) -> Prepared``. Picklable; never raises for a bad file.

    Attributes:
        plan: how what they hold is prepared.
        limits: what a file may be at most.
        concurrent: others work beside it, so that large files are left for ``alone``.
    """

    plan: EmbeddingPlan
    limits: Limits
    concurrent: bool = False

    def __call__(self, found: ScannedFile) -> Prepared:
        """Decode a file and prepare what it holds."""
        if not self.concurrent:
            return self.alone(found)
        limits = self.limits
        left = max(0, COMPANY_BYTES - (found.size or 0))  # a picture's file is held beside its pixels
        pixel_bytes = EXACT_PIXEL_BYTES if self.plan.exact else PIXEL_BYTES
        company = dataclasses.replace(
            limits,
            max_pixels=min(limits.max_pixels, int(left / pixel_bytes)),
            max_seconds=min(limits.max_seconds, COMPANY_BYTES / (_COPIES_OF_SOUND * SECOND_BYTES)),
        )
        prepared = self._prepare(found, company)
        is_picture = prepared.decoded.modality == "image"
        has_room = company.max_pixels < limits.max_pixels if is_picture else company.max_seconds < limits.max_seconds
        return dataclasses.replace(prepared, needs_room=prepared.decoded.too_large and has_room)

    def alone(self, found: ScannedFile) -> Prepared:
        """The same for a file that needs room."""
        return self._prepare(found, self.limits)

    def content(self, found: ScannedFile) -> str | None:
        """The content hash of a file that is as the walk saw it; None when it cannot be read, or is too large."""
        try:
            content = hash_file(_as_it_is(found)[1], self.limits)
        except MediaError:
            return None
        return None if self._has_changed(found) else content

    def lost(self, found: ScannedFile, reason: str, content: str | None) -> Prepared:
        """A file that took its process along; without its content it is tried again by the next run."""
        decoded = Decoded(found.modality, reason, content, found.size or 0)
        return Prepared(found, decoded, unread=content is None)

    def _prepare(self, found: ScannedFile, limits: Limits) -> Prepared:
        found, file = _as_it_is(found)
        decoded = decode(file, limits, name=os.fsdecode(found.path), min_side=self.plan.min_side)
        bare = dataclasses.replace(decoded, pixels=None, samples=None)
        if decoded.reason is not None:
            return Prepared(found, bare, unread=self._is_unread(found, decoded))
        try:
            return Prepared(found, bare, prepare(decoded, self.plan), **_caption(found))
        except Exception as error:  # whatever it is, it costs this file only
            cause = " ".join(str(error).split())
            reason = f"cannot be prepared for the model: {type(error).__name__}{f': {cause}' if cause else ''}"
            return Prepared(found, dataclasses.replace(bare, reason=reason, thumbnail=None))

    def _is_unread(self, found: ScannedFile, decoded: Decoded) -> bool:
        """Whether the reason says nothing of the content: the system refused, or the file is being written."""
        if self._has_changed(found):
            return True
        # Without a hash the bytes were not read: because of the system, or because they are too many.
        return decoded.content_hash is None and not self._is_too_large(found)

    def _has_changed(self, found: ScannedFile) -> bool:
        try:
            status = os.stat(found.path)  # noqa: PTH116 - bytes
        except OSError:
            return True
        return (status.st_size, bounded_ns(status.st_mtime_ns)) != found.stamp

    def _is_too_large(self, found: ScannedFile) -> bool:
        limit = self.limits.max_image_bytes if found.modality == "image" else self.limits.max_file_bytes
        return found.size is not None and found.size > limit


def _as_it_is(found: ScannedFile) -> tuple[ScannedFile, bytes | ExactFile]:
    """A file with its identity as of now, and what to open: this very file at its real path, whatever the walk saw."""
    if found.size is None:  # nothing is known of it; opening it finds the words for that
        return found, found.path
    path = found.real_path or found.path
    try:
        status = os.lstat(path)
    except OSError:
        return found, ExactFile(path)
    if not stat.S_ISREG(status.st_mode):
        return found, ExactFile(path)
    file = ExactFile(path, file_id_of(status), status.st_size, bounded_ns(status.st_mtime_ns))
    return dataclasses.replace(found, file_id=file.file_id), file


def _caption(found: ScannedFile) -> dict[str, Any]:
    """The fields of ``Prepared`` that tell of the text file beside it."""
    try:
        return {"caption": None if found.sidecar is None else read_caption(ExactFile(found.sidecar))}
    except MediaError:
        return {"caption_unread": True}
