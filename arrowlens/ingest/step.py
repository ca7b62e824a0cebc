"""Turns files into outcomes: decode, decide, encode. Engines repeat this step, on this machine or on others."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from arrowlens.embedding import EmbeddingPlan, Provider, encode
from arrowlens.errors import MediaError
from arrowlens.ingest.batching import BATCH, BATCH_OF_A_CORE, Batcher, Batches, ModelFailure, Pending
from arrowlens.ingest.diff import Action, Known, decide
from arrowlens.ingest.prepare import Prepared, Preparer
from arrowlens.ingest.progress import IngestOptions
from arrowlens.ingest.source import Source
from arrowlens.ingest.walk import ScannedFile
from arrowlens.media import Limits
from arrowlens.modalities import ROLE_OF, Input
from arrowlens.store import MultimodalStorage
from arrowlens.workers.isolated import Call, directly
from arrowlens.workers.resources import Spent

if TYPE_CHECKING:
    from arrowlens.encoders.runtime import EncodingThreads


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What becomes of a file that was opened, or refused without that; the writer does it. Picklable.

    Attributes:
        prepared: the file and what it holds, without what was encoded.
        action: what happens to it.
        vectors: (n_segments, d) float32 by role where the action writes vectors. None in place of vectors that are
            those of equal content, which an outcome before it has, or the library.
    """

    prepared: Prepared
    action: Action
    vectors: Mapping[str, np.ndarray | None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class StepSpec:
    """All that outcomes depend on, beside the files and what is known of them. Picklable if ``models`` is.

    Attributes:
        source: where the files lie.
        models: encode them.
        roles: those that the library has models for.
        limits: what a file may be at most.
        exact: decode pictures in full, instead of at twice the size that the model takes.
        batch_size: items that a model encodes at once; None takes what suits the device.
    """

    source: Source
    models: Provider
    roles: frozenset[str]
    limits: Limits
    exact: bool = False
    batch_size: int | None = None

    @classmethod
    def of(cls, storage: MultimodalStorage, models: Provider, source: Source, options: IngestOptions) -> StepSpec:
        """Return what the outcomes of a run depend on."""
        roles = frozenset(storage.models)
        return cls(source, models, roles, options.limits, options.exact, options.batch_size)

    def preparer(self, *, concurrent: bool = False) -> Preparer:
        """Return what opens files, as of ``Preparer``; loads the picture model."""
        plan = EmbeddingPlan.of(self.models, exact=self.exact)
        return Preparer(self.source, plan, self.limits, concurrent)

    @property
    def device(self) -> str:
        """The name of the device that encodes."""
        return (self.models.clip_engine if ROLE_OF["image"] in self.roles else self.models.audio_encoder).device

    def full_batch(self, *, on_cpu: bool) -> int:
        """Return how many items are encoded at once."""
        return self.batch_size or (BATCH_OF_A_CORE if on_cpu else BATCH)

    def fits_a_batch(self, modality: Input, segment: np.ndarray) -> bool:
        """Return whether a segment is encoded with others: a picture, or a whole window.

        A recording of another length is encoded by itself, since models take those of one length together, and it may
        be the only one of its length.
        """
        recipe = self.models.recipe
        return modality == "image" or len(segment) == round(recipe.windows.length_s * recipe.sample_rate)

    def encode(self, size: int, modality: Input, segments: Sequence[np.ndarray]) -> np.ndarray:
        """Encode a batch of exactly ``size``, which copies of the last segment fill, or one segment by itself.

        The last bits of a vector depend on how many inputs the model is given at once: in a batch that happened to be
        smaller, the same file would get other ones.

        Args:
            size: of ``full_batch``.
            modality: of all segments.
            segments: 1 to ``size`` that fit a batch, or one that does not.

        Returns:
            (n, d) float32, in the order of the segments.

        Raises:
            InputError: the model refuses a segment. RuntimeError: the model does not work.
        """
        n_copies = size - len(segments) if self.fits_a_batch(modality, segments[0]) else 0
        return encode(modality, [*segments, *[segments[-1]] * n_copies], self.models)[: len(segments)]


@dataclasses.dataclass(eq=False, slots=True)
class _File:
    """A readable file that is being encoded.

    Attributes:
        prepared: the file, without its inputs.
        parts: what is being encoded of it, by role.
        copies: further files of the same content.
    """

    prepared: Prepared
    parts: dict[str, Pending]
    copies: list[Prepared] = dataclasses.field(default_factory=list)


def _is_of_model(failure: str) -> bool:
    return isinstance(failure, ModelFailure)


class Encoding:
    """Prepared files -> outcomes: decides what each one needs, and encodes in full batches that span files.

    Args:
        spec: what outcomes depend on.
        known: what the library holds, by media id, as of ``EncodeStep``.
        threads: run the model.
        spent: gets their seconds.
    """

    def __init__(
        self,
        spec: StepSpec,
        known: Mapping[str, Known],
        threads: EncodingThreads,
        spent: Spent,
    ) -> None:
        size = spec.full_batch(on_cpu=threads.on_cpu)
        self._known, self._roles = known, spec.roles
        self._batches = batches = Batches(threads.pool, threads.n, spent)
        self._contents: dict[str | None, frozenset[str]] = {}  # the roles that have vectors of a content
        for row in known.values():
            if row.indexed and not row.is_read_anew:
                self._contents[row.content_hash] = self._contents.get(row.content_hash, frozenset()) | row.roles
        self._batchers = {
            role: Batcher(batches, partial(spec.encode, size, one), size, partial(spec.fits_a_batch, one))
            for one, role in ROLE_OF.items()
        }
        self._pending: dict[str, _File] = {}  # by content, until it is encoded
        self._files: dict[int, _File] = {}  # by the identity of their parts that are being encoded
        self._outcomes: list[Outcome] = []

    def add(self, prepared: Prepared) -> None:
        """Take a file; waits while enough batches are under way."""
        action = self._decide(prepared)
        content = prepared.decoded.content_hash
        if action.writes != "vectors":
            self._outcomes.append(Outcome(prepared.bare(), action))
            return
        assert content is not None
        wanted = [inputs for inputs in prepared.inputs if ROLE_OF[inputs.modality] in self._roles]
        held = self._contents.get(content, frozenset()) | self._own_roles(prepared)
        missing = [inputs for inputs in wanted if ROLE_OF[inputs.modality] not in held]
        if content in self._pending:
            self._pending[content].copies.append(prepared.bare())
        elif not missing:
            self._outcomes.append(self._copy(prepared.bare(), action))
        else:
            bare = prepared.bare()
            parts = {ROLE_OF[one.modality]: Pending(bare, [None] * len(one.segments)) for one in missing}
            self._pending[content] = file = _File(bare, parts)
            self._files |= {id(part): file for part in parts.values()}
            for inputs in missing:
                role = ROLE_OF[inputs.modality]
                self._batchers[role].add(parts[role], inputs.segments)

    def _own_roles(self, prepared: Prepared) -> frozenset[str]:
        """The roles that have vectors of a file's content at its own place."""
        own = self._known.get(prepared.file.media_id)
        is_same = own is not None and own.indexed and own.content_hash == prepared.decoded.content_hash
        return own.roles if own is not None and is_same else frozenset()

    def _copy(self, prepared: Prepared, action: Action) -> Outcome:
        return Outcome(prepared, action, {role: None for role in prepared.roles if role in self._roles})

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes since the last call; does not wait.

        Raises:
            RuntimeError: the model does not work.
        """
        for part in self._batches.complete():
            file = self._files.pop(id(part))
            if not any(id(each) in self._files for each in file.parts.values()):
                self._end(file)
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def finish(self) -> list[Outcome]:
        """Encode what is left, and return the last outcomes; errors as ``outcomes``."""
        for batcher in self._batchers.values():
            batcher.flush()
        self._batches.finish()
        return self.outcomes()

    def _end(self, file: _File) -> None:
        prepared = file.prepared
        content = prepared.decoded.content_hash or ""
        del self._pending[content]
        # A reason that says nothing of the file is the one to give only where there is no other.
        failures = sorted((part.failure for part in file.parts.values() if part.failure is not None), key=_is_of_model)
        if not failures:
            encoded = {
                role: np.stack([vector for vector in part.vectors if vector is not None])
                for role, part in file.parts.items()
            }
            self._contents[content] = self._contents.get(content, frozenset()) | encoded.keys()
            outcome = self._copy(prepared, self._decide(prepared))
            self._outcomes.append(dataclasses.replace(outcome, vectors={**outcome.vectors, **encoded}))
            self._outcomes.extend(self._copy(copy, self._decide(copy)) for copy in file.copies)
            return
        for each in (prepared, *file.copies):
            failed = each.failed(failures[0], unread=_is_of_model(failures[0]))
            self._outcomes.append(Outcome(failed, self._decide(failed)))

    def _decide(self, prepared: Prepared) -> Action:
        return decide(self._known.get(prepared.file.media_id), prepared, self._roles)


class EncodeStep:
    """``EncodeStep(spec)(files, known) -> list[Outcome]``: what a worker of a distributed engine does. Picklable.

    Outcomes depend on the files' bytes, on ``known`` and on the spec alone: not on the order of the files, nor on how
    they are divided among calls, but for which of equal files is encoded. For that, the model is always given full
    batches: the last bit of a vector depends on how many inputs are encoded together.

    Args:
        spec: all that outcomes depend on.
        call: how files are decoded: in this process, which a decoder's crash then ends, or by ``workers.isolated``.
        threads: run the model, and may do so for several calls at once; None starts some for each call.
        n_ahead: files that are decoded at once, ahead of the model.

    Attributes:
        decoding, encoding: the seconds of all calls so far.
    """

    def __init__(
        self, spec: StepSpec, call: Call = directly, threads: EncodingThreads | None = None, n_ahead: int = 1
    ) -> None:
        self._spec, self._call, self._threads, self._n_ahead = spec, call, threads, n_ahead
        self.decoding, self.encoding = Spent(), Spent()

    def __call__(self, files: Sequence[ScannedFile], known: Mapping[str, Known]) -> list[Outcome]:
        """Turn files into outcomes.

        Args:
            files: as the source listed them.
            known: by media id, what the library holds of these files, and of those that they may be copies of.

        Returns:
            One for each file, in any order.

        Raises:
            ModelLoadError: a model cannot be loaded.
            RuntimeError: the model does not work.
        """
        from arrowlens.encoders.runtime import encoding_threads  # deferred: torch, and a run may have nothing to encode

        given = nullcontext(self._threads) if self._threads is not None else encoding_threads(self._spec.device)
        with given as threads:
            encoding = Encoding(self._spec, known, threads, self.encoding)
            for prepared in self._prepared(files):
                encoding.add(prepared)
            return encoding.finish()

    def _prepared(self, files: Sequence[ScannedFile]) -> Iterator[Prepared]:
        """Decode files ahead, and yield them in their order."""
        work = partial(self._prepare, self._spec.preparer())
        ahead: deque[Future[Prepared]] = deque()
        with ThreadPoolExecutor(self._n_ahead, "decode") as threads:
            for file in self._spec.source.read_ahead(files):
                ahead.append(threads.submit(work, file))
                if len(ahead) > self._n_ahead:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _prepare(self, preparer: Preparer, file: ScannedFile) -> Prepared:
        started = time.perf_counter()
        try:
            prepared: Prepared = self._call(preparer, file)
        except MediaError as lost:
            content = None
            with suppress(MediaError):
                content = self._call(preparer.content, file)
            prepared = preparer.lost(file, str(lost), content)
        self.decoding.busy += time.perf_counter() - started
        return prepared
