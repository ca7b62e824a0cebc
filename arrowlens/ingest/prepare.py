"""Turns one file into what the encoders take: a picklable step for a worker process, which imports no torch."""

from __future__ import annotations

import dataclasses
import os

from arrowlens.addresses import is_bucket
from arrowlens.embedding import EmbeddingPlan, Inputs, prepare_each
from arrowlens.errors import MediaError, UnreachableError
from arrowlens.ingest.source import Fetched, Source
from arrowlens.ingest.walk import ScannedFile
from arrowlens.media import Decoded, Limits, decode, hash_file, read_caption
from arrowlens.media.decoded import EXACT_PIXEL_BYTES, PIXEL_BYTES, second_bytes
from arrowlens.media.files import hash_bytes, hash_stream
from arrowlens.modalities import ROLE_OF, ROLES_OF

_COPIES_OF_SOUND = 3  # while a recording is put together, checked and sent
_CONCURRENT_BYTES = 112_500_000  # that decoding a file may take beside others
_MOST_PATIENCE, _PATIENCE_BYTES = 10.0, 32 * 1024**2  # a film of hours takes minutes
_CHANGING = "the file changed while it was read; try again when nothing writes to it"


def patience(file: ScannedFile) -> float:
    """Return how many times ``Limits.max_decode_s`` decoding a file may take: 1, or up to 10 for a large film."""
    return min(_MOST_PATIENCE, 1.0 + (file.size or 0) / _PATIENCE_BYTES) if file.modality == "video" else 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A file that was opened.

    Attributes:
        file: the file, with the ``file_id`` of the one that was opened.
        decoded: what it holds, without pixels, frames and samples, or the reason why nothing.
        inputs: what is to be encoded, of a film for two models; empty for a file that cannot be read.
        unread: its bytes could not be read, so that nothing is known of its content.
        unreachable: ``unread``, since a bucket refused it or did not answer; it may be there as it was.
        caption: the text of the file beside it.
        caption_unread: there is such a text file, and it could not be read.
        needs_room: it was not decoded, since that takes much memory; ``Preparer.alone`` decodes it.
    """

    file: ScannedFile
    decoded: Decoded
    inputs: tuple[Inputs, ...] = ()
    unread: bool = False
    unreachable: bool = False
    caption: str | None = None
    caption_unread: bool = False
    needs_room: bool = False

    @property
    def n_bytes(self) -> int:
        """About the bytes that it takes in memory."""
        arrays = sum(inputs.content.nbytes for inputs in self.inputs if inputs.content is not None)
        parts = [
            self.decoded.thumbnail or b"",
            self.decoded.strip or b"",
            *(self.decoded.fingerprint.parts if self.decoded.fingerprint else ()),
        ]
        return arrays + sum(map(len, parts))

    @property
    def roles(self) -> tuple[str, ...]:
        """Those of the models that take something of it; of a file that was not opened, all that may."""
        return tuple(ROLE_OF[inputs.modality] for inputs in self.inputs) or ROLES_OF[self.decoded.modality or ""]

    def failed(self, reason: str, *, unread: bool) -> Prepared:
        """Return the same file without vectors; ``unread`` where the reason says nothing of its content."""
        return dataclasses.replace(self, decoded=dataclasses.replace(self.decoded, reason=reason), unread=unread)

    def bare(self) -> Prepared:
        """Return the same without what is encoded."""
        return dataclasses.replace(
            self, inputs=tuple(dataclasses.replace(inputs, content=None) for inputs in self.inputs)
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Preparer:
    """Opens files: ``preparer(file) -> Prepared``. Picklable; never raises for a bad file.

    Attributes:
        source: where the files come from.
        plan: how what they hold is prepared.
        limits: what a file may be at most.
        concurrent: others work beside it, so that large files are left for ``alone``.
    """

    source: Source
    plan: EmbeddingPlan
    limits: Limits
    concurrent: bool = False

    def __call__(self, file: ScannedFile) -> Prepared:
        """Decode a file and prepare what it holds."""
        if not self.concurrent:
            return self.alone(file)
        limits = self.limits
        left = max(0, _CONCURRENT_BYTES - (file.size or 0))  # a picture's file is held beside its pixels
        pixel_bytes = EXACT_PIXEL_BYTES if self.plan.exact else PIXEL_BYTES
        a_second = second_bytes(self.plan.recipe.sample_rate)
        lower = dataclasses.replace(
            limits,
            max_pixels=min(limits.max_pixels, int(left / pixel_bytes)),
            max_seconds=min(limits.max_seconds, _CONCURRENT_BYTES / (_COPIES_OF_SOUND * a_second)),
        )
        prepared = self._prepare(file, lower)
        modality = prepared.decoded.modality
        has_room = (modality != "audio" and lower.max_pixels < limits.max_pixels) or (
            modality != "image" and lower.max_seconds < limits.max_seconds
        )
        return dataclasses.replace(prepared, needs_room=prepared.decoded.too_large and has_room)

    def alone(self, file: ScannedFile) -> Prepared:
        """Decode and prepare a file that needs room; of a film that is too long, the pictures."""
        prepared = self._prepare(file, self.limits)
        if prepared.decoded.modality == "video" and prepared.decoded.too_large:
            without = self._prepare(file, self.limits, sound=False)
            decoded = dataclasses.replace(without.decoded, sound_missing=prepared.decoded.reason)
            return dataclasses.replace(without, decoded=decoded)
        return prepared

    def content(self, file: ScannedFile) -> str | None:
        """Return the content hash of the version listed; None when it cannot be read, or is too large."""
        try:
            fetched = self.source.fetch(file) if file.content is None else Fetched(file.path, file.content)
            if fetched is None:
                return None
            if fetched.data is not None:
                return hash_bytes(fetched.data)
            if fetched.opened is None:
                return hash_file(fetched.path, self.limits)
            if self._is_too_large(file):
                return None
            with fetched.opened() as opened:
                return hash_stream(opened, file.size or 0)
        except MediaError:
            return None

    def lost(self, file: ScannedFile, reason: str, content: str | None) -> Prepared:
        """Return the result for a file whose process died; its content is unknown, so the next run tries again."""
        decoded = Decoded(file.modality, reason, content, file.size or 0)
        unread = content is None
        unreachable = unread and is_bucket(os.fsdecode(file.path))  # it could not be read for its hash either
        return Prepared(dataclasses.replace(file, content=None), decoded, unread=unread, unreachable=unreachable)

    def _prepare(self, file: ScannedFile, limits: Limits, *, sound: bool = True) -> Prepared:
        try:
            fetched = self._fetch(file)
        except MediaError as error:
            unreachable = isinstance(error, UnreachableError)
            return Prepared(file, Decoded(file.modality, str(error)), unread=True, unreachable=unreachable)
        file = dataclasses.replace(file, file_id=fetched.file_id or file.file_id, content=None)
        name = os.fsdecode(file.path)
        decoded = decode(
            fetched.path,
            limits,
            data=fetched.data,
            opened=fetched.opened,
            name=name,
            min_side=self.plan.min_side,
            sample_rate=self.plan.recipe.sample_rate,
            sound=sound,
        )
        bare = dataclasses.replace(decoded, pixels=None, samples=None, shots=(), frames=())
        if decoded.reason is not None:
            unread = self._is_unread(file, decoded)
            unreachable = unread and fetched.opened is not None and decoded.content_hash is None
            return Prepared(file, bare, unread=unread, unreachable=unreachable)
        try:
            inputs = prepare_each(decoded, self.plan)
        except Exception as error:  # any error costs this file only
            cause = " ".join(str(error).split())
            reason = f"cannot be prepared for the model: {type(error).__name__}{f': {cause}' if cause else ''}"
            return Prepared(file, dataclasses.replace(bare, reason=reason, thumbnail=None, strip=None))
        return self.with_caption(file, bare, inputs)

    def with_caption(self, file: ScannedFile, decoded: Decoded, inputs: tuple[Inputs, ...]) -> Prepared:
        """Return a readable file with its caption, which is read now.

        Args:
            file: the file.
            decoded: what it holds, as of ``Prepared``.
            inputs: what is encoded of it, or was.
        """
        try:
            return Prepared(file, decoded, inputs, caption=self._caption(file))
        except MediaError:
            return Prepared(file, decoded, inputs, caption_unread=True)

    def _fetch(self, file: ScannedFile) -> Fetched:
        """Get the version listed, else the one that is there now, whose other stamp the next run will see."""
        if file.content is not None:
            return Fetched(file.path, file.content)
        if file.etag is not None and self._is_too_large(file):  # before it is downloaded
            raise MediaError(f"{file.size:,} bytes is over the limit of {self._max_bytes(file):,} bytes")
        fetched = self.source.fetch(file) or self.source.fetch(self.source.look(file))
        if fetched is None:
            raise MediaError(_CHANGING)
        return fetched

    def _caption(self, file: ScannedFile) -> str | None:
        return None if file.sidecar is None else read_caption(file.sidecar, self.source.open)

    def _is_unread(self, file: ScannedFile, decoded: Decoded) -> bool:
        """Return whether the reason says nothing of the content: the system refused, or the file is being written."""
        try:
            has_changed = self.source.look(file).stamp != file.stamp
        except MediaError:
            return True
        # Without a hash the bytes were not read: because of the system, or because they are too many.
        return has_changed or (decoded.content_hash is None and not self._is_too_large(file))

    def _is_too_large(self, file: ScannedFile) -> bool:
        return file.size is not None and file.size > self._max_bytes(file)

    def _max_bytes(self, file: ScannedFile) -> int:
        return self.limits.max_bytes_of(file.modality)
