"""The engine of one machine: processes decode ahead, threads encode full batches."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence

from arrowlens.ingest.diff import Known
from arrowlens.ingest.prepare import Prepared, patience
from arrowlens.ingest.progress import Progress
from arrowlens.ingest.step import Encoding, Outcome, StepSpec
from arrowlens.ingest.walk import ScannedFile
from arrowlens.media.decoded import large_bytes
from arrowlens.workers.pool import Workers
from arrowlens.workers.prefetch import ReadAhead
from arrowlens.workers.resources import MemoryWatch, n_cores


class LocalEngine:
    """Decodes in processes, beside the threads that encode; gives each outcome once.

    Args:
        n_workers: processes that decode.
        progress: gets the seconds and the memory that the work takes.
    """

    def __init__(self, n_workers: int, progress: Progress) -> None:
        self._n_workers, self._progress = n_workers, progress

    def outcomes(
        self, spec: StepSpec, files: Sequence[ScannedFile], known: Mapping[str, Known], stop: threading.Event
    ) -> Generator[list[Outcome], None, None]:
        """Yield the outcomes of files, as of ``Engine``; a list for each file."""
        from arrowlens.encoders.runtime import encoding_threads  # deferred: torch, and a run may have nothing to encode

        progress, limits = self._progress, spec.limits
        progress.n_decoding = min(self._n_workers, n_cores())
        max_bytes = large_bytes(limits, exact=spec.exact, sample_rate=spec.models.recipe.sample_rate)
        workers = Workers(spec.preparer(concurrent=True), limits.max_decode_s, progress.decoding, max_bytes, patience)
        ahead = ReadAhead[ScannedFile, Prepared](
            workers.open,
            spec.source.read_ahead(files),
            min(self._n_workers, len(files)),
            lambda prepared: prepared.n_bytes,
            stop,
        )
        with MemoryWatch(lambda: workers.pids) as memory, encoding_threads(spec.device) as threads:
            progress.start_reading()
            progress.n_encoding = threads.n
            encoding = Encoding(spec, known, threads, progress.encoding)
            with ahead as results:
                try:
                    while self._take_next(results, workers, encoding):
                        yield encoding.outcomes()
                finally:
                    workers.close()
            yield encoding.finish()
            progress.stop_reading()
        progress.peak_memory = memory.peak

    def _take_next(
        self, results: Iterator[Prepared], workers: Workers[ScannedFile, Prepared], encoding: Encoding
    ) -> bool:
        """Take a result, if there is one more; what it holds is let go before the next one is waited for."""
        started = time.perf_counter()
        prepared = next(results, None)
        self._progress.timings["waiting"] += time.perf_counter() - started
        if prepared is None:
            return False
        encoding.add(prepared)
        workers.used(prepared)
        return True
