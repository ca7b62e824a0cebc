"""Is this library all right? What was measured on the user's own data, how bad it is, and what to do about it."""

from __future__ import annotations

import dataclasses
import math
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from arrowlens.addresses import is_bucket
from arrowlens.embedding import EmbeddingPlan, Inputs, embed
from arrowlens.encoders import WeightLoader
from arrowlens.encoders.folding import lacks_folded_weights
from arrowlens.encoders.model_directory import weights_file
from arrowlens.errors import MediaError, ModelLoadError, StorageError
from arrowlens.ingest.bucket import BucketSource, Sources
from arrowlens.ingest.prepare import Prepared, Preparer
from arrowlens.ingest.source import FolderSource
from arrowlens.ingest.walk import ScannedFile
from arrowlens.media import Limits
from arrowlens.media.files import ExactFile, hash_file
from arrowlens.media.windowing import Window
from arrowlens.modalities import MAX_SHOTS, MEDIA_ROLES, ROLE_OF, ROLES_OF
from arrowlens.store.identifiers import strip_key
from arrowlens.store.index import max_unindexed
from arrowlens.store.maintenance import MAX_FRAGMENTS, TableStats
from arrowlens.workers.isolated import Call, directly

if TYPE_CHECKING:
    from arrowlens.encoders import MultimodalEmbeddingProvider
    from arrowlens.store import MultimodalStorage, VectorRow

Level = Literal["ok", "notice", "problem"]

N_VECTORS = 50  # that are searched for, of each role
N_FILES = 8  # that are encoded again
MIN_RECALL = 0.97
SAME = 0.9999  # cosine from which on two vectors are the same
# Files were ingested under whatever limits; one that has changed since is not decoded.
_ANY_SIZE = Limits(max_pixels=2**62, max_file_bytes=2**62, max_image_bytes=2**62, max_seconds=math.inf)
_MANY_SHOTS = 1_000  # of a film whose library was made with another limit: 300 MB of pictures
_WORTH_A_WORD = 1024**2  # bytes; a run leaves some that compaction does not take away
_QUICKLY_CAST = 50_000_000  # bytes of weights, in some hundredths of a second
_DOCTOR = "`arrowlens doctor"
_KEEP_ONE = "`arrowlens doctor --repair` keeps one of each"
_REPAIR = "`arrowlens doctor --repair` makes them anew; thumbnails of files that are unchanged"
_OPTIMIZE = "`arrowlens optimize`"
_INGEST = "`arrowlens ingest` on its folder"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: that was measured, with its unit.
        level: "ok"; "notice": worth knowing, nothing is wrong with the results; "problem": results are wrong, are
            missing, or come slower than they should.
        value: what was measured.
        cure: what to do about it; empty where nothing is to be done.
    """

    what: str
    level: Level
    value: float | int | str
    cure: str = ""


class Doctor:
    """Examines a library and changes nothing in it; any number may search meanwhile."""

    def __init__(
        self, storage: MultimodalStorage, provider: MultimodalEmbeddingProvider, call: Call = directly
    ) -> None:
        self._storage = storage
        self._provider = provider
        self._call = call  # how files are decoded

    def findings(self, n_vectors: int = N_VECTORS, n_files: int = N_FILES) -> Iterator[Finding]:
        """Look at the searches, the tables, the models and the files, in this order.

        Args:
            n_vectors: stored vectors of each role that are searched for. n_files: files that are encoded again.

        Raises:
            StorageError: the database refused.
        """
        roles = [role for role in self._storage.settings.models if role in MEDIA_ROLES]
        lookup = self._lookup(n_vectors)
        if lookup.level == "problem":  # whatever is found is looked up by its id
            yield Finding("searches", "notice", "not examined", f"{_DOCTOR} --repair` first, then {_DOCTOR}` again")
        else:
            for role in roles:
                yield from self._searches(role, n_vectors)
            yield self._words(n_vectors)
        for role in roles:
            yield from self._agreement(role)
        yield lookup
        yield from self._thumbnails()
        for name, shape in self._storage.table_stats().items():
            yield from _table(name, shape)
            with suppress(StorageError):  # a table that cannot be read is reported above
                yield _repeated(name, self._storage.health.n_repeated(name))
        damaged = set()
        for role in self._storage.settings.models:
            finding = self._model(role)
            damaged |= {role} if finding.level == "problem" else set()
            yield finding
            if finding.level == "ok":
                yield from self._loading(role)
        yield from self._change()
        if lookup.level == "problem":  # files are looked up by their ids
            yield Finding("files encoded again", "notice", 0, f"{_DOCTOR} --repair` first, then {_DOCTOR}` again")
        else:
            yield from self._files(n_files, damaged)

    # -- searches -------------------------------------------------------------------------------------------------

    def _searches(self, role: str, n: int) -> Iterator[Finding]:
        try:
            state, check = self._storage.index_states()[role], self._storage.health.check_search(role, n)
        except StorageError as error:
            cure = (
                f"{_DOCTOR} --repair` builds the index anew; if that does not help, restore the library from a backup"
            )
            yield Finding(f"{role} vectors or their index", "problem", str(error), cure)
            return
        if check is None:
            yield Finding(f"{role} vectors", "ok", 0)
            return
        yield Finding(f"{role} vectors", "ok", state.n_rows)
        if check.n_unusable:
            cure = f"restore the library from a backup, or remove the files and run {_INGEST}"
            yield Finding(f"{role} vectors that are damaged, of {check.n_sampled}", "problem", check.n_unusable, cure)
        yield self._index(role, check.index_used, check.index_expected)
        if not check.index_expected:
            yield Finding(f"{role} search, median ms", "ok", round(check.exact_ms, 2))
            return
        is_bad = check.recall < MIN_RECALL
        cure = f"{_OPTIMIZE} builds the index anew" if is_bad else ""
        what = f"{role} recall@10 of the index, {check.n_sampled} vectors"
        yield Finding(what, "problem" if is_bad else "ok", round(check.recall, 4), cure)
        # A scan of few rows in memory may be as quick as the index.
        yield Finding(f"{role} search by the index, median ms", "ok", round(check.ms, 2))
        yield Finding(f"{role} search by an exact scan, median ms", "ok", round(check.exact_ms, 2))
        is_late = state.n_unindexed > max_unindexed(self._storage.index_from)
        cure = f"{_OPTIMIZE} takes them in" if is_late else ""
        yield Finding(f"{role} rows beside the index", "notice" if is_late else "ok", state.n_unindexed, cure)

    def _index(self, role: str, is_used: bool, is_there: bool) -> Finding:
        what = f"{role} index"
        if is_there and not is_used:
            return Finding(what, "problem", "there, but not used", f"{_OPTIMIZE} builds it anew")
        if is_there:
            return Finding(what, "ok", str(self._storage.index_states()[role].kind))
        if self._storage.index_states()[role].n_rows >= self._storage.index_from:
            return Finding(what, "problem", "missing", f"{_OPTIMIZE} builds it")
        return Finding(what, "ok", "none: so few vectors are compared one by one")

    def _agreement(self, role: str) -> Iterator[Finding]:
        try:
            agreement = self._storage.health.check_agreement(role)
        except StorageError as error:
            cure = "restore the library from a backup, or index into a new one"
            yield Finding(f"files and {role} vectors compared", "problem", str(error), cure)
            return
        if agreement.n_without_vectors:
            cure = "`arrowlens ingest` on their folders encodes them"
            yield Finding(f"files without {role} vectors", "problem", agreement.n_without_vectors, cure)
        if agreement.n_without_file:
            cure = "the next `arrowlens ingest` deletes what a run that was cut off left behind"
            yield Finding(f"{role} vectors without a file", "notice", agreement.n_without_file, cure)

    def _words(self, n: int) -> Finding:
        return _of_index("the word index", lambda: self._storage.health.check_words(n))

    def _lookup(self, n: int) -> Finding:
        return _of_index("the index of ids", lambda: self._storage.health.check_lookup(n))

    def _thumbnails(self) -> Iterator[Finding]:
        what = "pictures and films without a thumbnail"
        try:
            thumbnails = self._storage.health.check_thumbnails()
        except StorageError as error:
            yield Finding(what, "problem", "the thumbnails cannot be read", str(error))
            return
        yield Finding(
            what,
            "problem" if thumbnails.missing else "ok",
            len(thumbnails.missing),
            _REPAIR if thumbnails.missing else "",
        )
        if thumbnails.n_unused:
            yield Finding("thumbnails without a file", "notice", thumbnails.n_unused, _REPAIR)

    def repair(self) -> None:
        """Build the indexes anew from the tables, and missing thumbnails from files that have not changed.

        Raises:
            LibraryBusyError, StorageError: another run is writing; the database refused.
        """
        with self._storage.writing():
            self._storage.repair()
            self._storage.rebuild_indexes()
            thumbnails: dict[str, bytes] = {}
            for content in self._storage.health.check_thumbnails().missing:
                for row in self._storage.media_of(content).to_pylist():
                    prepared: Prepared | None = None
                    with suppress(MediaError):  # another place of the same content may do
                        prepared = self._prepared(row, exact=False, max_shots=MAX_SHOTS)
                    if prepared is not None and prepared.decoded.thumbnail is not None:
                        thumbnails[content] = prepared.decoded.thumbnail
                        if prepared.decoded.strip is not None:
                            thumbnails[strip_key(content)] = prepared.decoded.strip
                        break
            self._storage.upsert_thumbnails(thumbnails)

    # -- models ---------------------------------------------------------------------------------------------------

    def _model(self, role: str) -> Finding:
        recorded, what = self._storage.settings.models[role], f"{role} model, SHA-256 of its weights and files"
        try:
            loader = WeightLoader(self._provider.path(role))
            loader.verify()
        except ModelLoadError as error:
            return Finding(what, "problem", "not as recorded", str(error))
        if loader.info.digest != recorded.digest:
            cure = f"open the library with the model {recorded.digest[:8]} that it was made with"
            return Finding(what, "problem", loader.info.digest, cure)
        return Finding(what, "ok", recorded.digest)

    def _loading(self, role: str) -> Iterator[Finding]:
        path = self._provider.path(role)
        n_bytes = weights_file(path).stat().st_size
        if n_bytes > _QUICKLY_CAST and lacks_folded_weights(path):
            cure = f"`arrowlens models prepare {shlex.quote(str(path))}` makes the file that needs no cast"
            yield Finding(f"{role} model, cast whenever it is loaded", "notice", f"{n_bytes / 1e6:.0f} MB", cure)

    def _change(self) -> Iterator[Finding]:
        """Of a change to other models that was begun: both sets of vectors are on disk until it is over."""
        settings = self._storage.settings
        if settings.next_models:
            sources = ", ".join(dict.fromkeys(record.source for record in settings.next_models.values()))
            cure = "`arrowlens models use` goes on with it; with the set that serves, it gives it up"
            yield Finding("change to other models, begun and not complete", "notice", sources, cure)
        if settings.retired:
            cure = "the next `arrowlens ingest` deletes them"
            yield Finding("tables of earlier models", "notice", len(settings.retired), cure)

    # -- files ----------------------------------------------------------------------------------------------------

    def _files(self, n: int, damaged: set[str]) -> Iterator[Finding]:
        """Encode files again, but for those of a damaged model, of which that was said."""
        same, moved, undecoded = [], [], []
        for row in self._storage.sample_media(n):
            path = os.fsdecode(row["absolute_path"])
            roles = [role for role in ROLES_OF[row["modality"]] if role not in damaged and self._provider.has(role)]
            held = {role: self._stored(role, row["content_hash"]) for role in roles}
            stored = {role: vectors for role, vectors in held.items() if vectors}
            if not stored:
                continue  # said as a file without vectors, or as vectors that cannot be read
            try:
                cosine = self._cosine(row, stored)
            except MediaError as error:
                undecoded.append(f"{path}: {error}")
                continue
            if cosine is None:
                moved.append(path)
            elif cosine > SAME:
                same.append(cosine)
            else:
                cure = (
                    f"`arrowlens remove` it and run {_INGEST}; where many differ, the library was made with another "
                    "--precision or on another device"
                )
                yield Finding(f"cosine of {path} with its stored vector", "problem", round(cosine, 6), cure)
        if same:
            yield Finding(f"lowest cosine of {len(same)} files, encoded again", "ok", round(min(same), 6))
        if moved:
            cure = f"run {_INGEST}: {moved[0]}{f' and {len(moved) - 1} more' if len(moved) > 1 else ''}"
            yield Finding("files that changed or are gone from disk since they were stored", "notice", len(moved), cure)
        if undecoded:
            yield Finding("files that could not be decoded again", "notice", len(undecoded), undecoded[0])

    def _stored(self, role: str, content_hash: str) -> list[VectorRow]:
        """The vectors of a content, none where there are none or they cannot be read."""
        try:
            return self._storage.vector_rows(role, [content_hash]).get(content_hash, [])
        except StorageError:
            return []

    def _cosine(self, row: dict[str, Any], stored: Mapping[str, Sequence[VectorRow]]) -> float | None:
        """Lowest cosine of a file's vectors, encoded now, with the stored ones by role; None for another file now.

        Raises:
            MediaError: it is the same file, and cannot be decoded now, or it is a film whose shots are others now.
        """
        best = 0.0
        for exact in (False, True):  # `ingest --exact` decodes in full, and does not say so in the library
            prepared = self._prepared_again(row, exact, stored.get(ROLE_OF["image"], ()))
            if prepared is None:
                return None
            cosines = []
            for inputs in prepared.inputs:
                rows = stored.get(ROLE_OF[inputs.modality], ())
                if rows and inputs.modality == "image" and row["modality"] == "video":
                    inputs, rows = _shared_shots(inputs, rows)
                if rows:
                    vectors = np.stack([each.embedding for each in rows])
                    cosines.append(_lowest_cosine(embed(inputs, self._provider), vectors))
            best = max(best, min(cosines, default=0.0))
            if best > SAME:
                break
        return best

    def _prepared_again(self, row: dict[str, Any], exact: bool, shots: Sequence[VectorRow]) -> Prepared | None:
        """A file as ``_prepared`` gives it; a film with the stored shots, under whatever limit they were chosen.

        Black shots are dropped after a film is thinned, so the number of stored shots is not that limit.
        """
        if row["modality"] != "video":
            return self._prepared(row, exact)
        prepared, times = None, {_times(shot) for shot in shots}
        for most in (max(MAX_SHOTS, len(shots)), _MANY_SHOTS):
            prepared = self._prepared(row, exact, max_shots=most)
            if prepared is None or times <= {_times(window) for window in prepared.inputs[0].windows}:
                break
        return prepared

    def _prepared(self, row: dict[str, Any], exact: bool, *, max_shots: int = 1) -> Prepared | None:
        """A file as it was ingested; None when it is another file now, or is gone.

        Raises:
            MediaError: it is the same file, and cannot be decoded now.
        """
        path = row["absolute_path"]
        root = self._storage.settings.root_of(os.fsdecode(path))
        if root is None:
            return None
        stamp = row["size"], row["modified_ns"]
        listed = ScannedFile(path, root, row["path_bytes"], row["modality"], *stamp, file_id=row["file_id"])
        source = Sources(FolderSource((), self._storage.path), BucketSource())
        try:
            if is_bucket(os.fsdecode(path)):
                if source.look(listed).stamp != listed.stamp:
                    return None
            else:
                file = ExactFile.of_row(row)
                listed = dataclasses.replace(listed, real_path=file.path, file_id=None)
                # In constant memory, before a decoder sees another file of the same size and time.
                if hash_file(file, _ANY_SIZE) != row["content_hash"]:
                    return None
        except MediaError:
            return None
        plan = EmbeddingPlan.of(self._provider, exact=exact)
        limits = dataclasses.replace(_ANY_SIZE, max_shots=max_shots)
        prepared: Prepared = self._call(Preparer(source, plan, limits), listed)
        if prepared.decoded.reason is not None:
            raise MediaError(prepared.decoded.reason)
        return prepared if prepared.decoded.content_hash == row["content_hash"] else None


def _shared_shots(inputs: Inputs, rows: Sequence[VectorRow]) -> tuple[Inputs, list[VectorRow]]:
    """The shots of a film that are stored and were cut again, in one order.

    Raises:
        MediaError: there is none.
    """
    stored = {_times(row): row for row in rows}
    places = [place for place, window in enumerate(inputs.windows) if _times(window) in stored]
    if not places or inputs.content is None:
        raise MediaError("none of its stored shots is among those that were cut now")
    windows = tuple(inputs.windows[place] for place in places)
    shared = dataclasses.replace(inputs, content=inputs.content[places], windows=windows)
    return shared, [stored[_times(window)] for window in windows]


def _times(shot: Window | VectorRow) -> tuple[float, float]:
    """Start and end in seconds, in the precision in which they are stored."""
    if isinstance(shot, Window):
        return float(np.float32(shot.start_s)), float(np.float32(shot.end_s))
    return float(np.float32(shot.start or 0.0)), float(np.float32(shot.end or 0.0))


def _lowest_cosine(vectors: np.ndarray, stored: np.ndarray) -> float:
    """Of (n, d) with (n, d), row by row; 0 where the numbers of rows differ or what is stored has no direction."""
    if len(vectors) != len(stored):
        return 0.0
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(stored, axis=1)
    with np.errstate(all="ignore"):
        lowest = float(((vectors * stored).sum(axis=1) / lengths).min())
    return lowest if math.isfinite(lowest) else 0.0


def _of_index(name: str, check: Callable[[], tuple[int, int]]) -> Finding:
    try:
        n_asked, n_found = check()
    except StorageError as error:
        return Finding(f"files found by {name}", "problem", str(error), _REPAIR)
    is_whole = n_found == n_asked
    what = f"files found by {name}, of {n_asked}"
    return Finding(what, "ok" if is_whole else "problem", n_found, "" if is_whole else _REPAIR)


def _repeated(name: str, n: int) -> Finding:
    return Finding(f"{name}: ids that several rows have", "problem" if n else "ok", n, _KEEP_ONE if n else "")


def _table(name: str, shape: TableStats) -> Iterator[Finding]:
    level: Level = "notice" if shape.n_fragments > MAX_FRAGMENTS else "ok"
    cure = f"{_OPTIMIZE} joins them" if level == "notice" else ""
    yield Finding(f"{name}: fragments", level, shape.n_fragments, cure)
    is_wasteful = shape.has_deleted or (shape.is_wasteful and shape.n_wasted > _WORTH_A_WORD)
    level = "notice" if is_wasteful else "ok"
    cure = f"{_OPTIMIZE} frees them" if level == "notice" else ""
    yield Finding(f"{name}: bytes of old versions and deleted rows", level, shape.n_wasted, cure)
