"""One file -> what the encoders take. A single picklable step for a thread or a process; imports no torch."""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from arrowlens.ingest.walk import Found
from arrowlens.media import Decoded, Limits, Window, decode, windows

if TYPE_CHECKING:
    from arrowlens.encoders import ImageProcessor

_DEPTH = 3  # files waiting, for each worker
_MAX_COST = 512 * 1024**2  # of the files waiting together

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A file that was opened.

    Attributes:
        found: the file. decoded: what it holds, without pixels and samples, or the reason why nothing.
        inputs: what to encode: one (S, S, 3) uint8 picture, or float32 samples (n,) for each window;
            nothing for a picture that there is no model for.
        windows: of a recording, one for each input; empty for a picture.
        unread: the system kept its bytes back, so that nothing is known of its content.
    """

    found: Found
    decoded: Decoded
    inputs: tuple[np.ndarray, ...] = ()
    windows: tuple[Window, ...] = ()
    unread: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Preparer:
    """Opens files: ``preparer(found) -> Prepared``. Picklable; never raises for a bad file.

    Attributes:
        image_processor: prepares pictures; None without a model for them.
        limits: what a file may be at most. exact: decode JPEGs in full.
        window_s, hop_s: windows over recordings, in seconds.
    """

    image_processor: ImageProcessor | None
    limits: Limits
    exact: bool
    window_s: float
    hop_s: float

    def __call__(self, found: Found) -> Prepared:
        """Decode a file and prepare what it holds."""
        processor = self.image_processor
        min_side = None if processor is None or self.exact else processor.image_size
        decoded = decode(found.path, self.limits, min_side=min_side)
        bare = dataclasses.replace(decoded, pixels=None, samples=None)
        if decoded.reason is not None:
            return Prepared(found, bare, unread=self._is_unread(found, decoded))
        if decoded.pixels is not None and processor is not None:
            return Prepared(found, bare, (processor(decoded.pixels, normalize=False),))
        if decoded.samples is not None:
            cuts = tuple(windows(len(decoded.samples), window_s=self.window_s, hop_s=self.hop_s))
            return Prepared(found, bare, tuple(decoded.samples[cut.slice()] for cut in cuts), cuts)
        return Prepared(found, bare)

    def _is_unread(self, found: Found, decoded: Decoded) -> bool:
        """Whether the reason says nothing of the content: the system refused, or the file is being written."""
        try:
            status = os.stat(found.path)  # noqa: PTH116 - bytes
        except OSError:
            return True
        if (status.st_size, status.st_mtime_ns) != (found.size, found.modified_ns):
            return True
        # Without a hash the bytes were not read: because of the system, or because they are too many.
        return decoded.content_hash is None and not self._is_too_large(found)

    def _is_too_large(self, found: Found) -> bool:
        limit = self.limits.max_image_bytes if found.modality == "image" else self.limits.max_file_bytes
        return found.size is not None and found.size > limit


def read_ahead(
    step: Callable[[_Item], _Result], items: Sequence[_Item], n_workers: int, cost: Callable[[_Item], int]
) -> Generator[_Result]:
    """``map`` over threads, in order; closing it drops what has not begun.

    At most three results a worker are under way or waiting, fewer when their ``cost`` (bytes) adds up to 512 MB, but
    always one.
    """
    with ThreadPoolExecutor(n_workers, thread_name_prefix="decode") as pool:
        waiting: deque[tuple[Future[_Result], int]] = deque()
        total = 0
        try:
            for item in items:
                price = cost(item)
                while waiting and (len(waiting) >= _DEPTH * n_workers or total + price > _MAX_COST):
                    future, paid = waiting.popleft()
                    total -= paid
                    yield future.result()
                waiting.append((pool.submit(step, item), price))
                total += price
            while waiting:
                yield waiting.popleft()[0].result()
        finally:
            for future, _ in waiting:
                future.cancel()
