"""How far a long job is: on stderr; bars only on a terminal, and gone when the job ends."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tqdm import tqdm

from arrowlens.search import printable

if TYPE_CHECKING:
    from arrowlens.conversion import Progress
    from arrowlens.ingest import IngestEvent


class _Bar:
    """A tqdm bar that appears with its first figures; a context manager that clears it away."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Clear the bar away; the next figures start a new one."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show(self, done: int, total: int | None, **look: Any) -> None:  # noqa: ANN401 - tqdm's own options
        if not sys.stderr.isatty():
            return
        if self._bar is None:
            # What was done before the first figures (unchanged files, resumed bytes) must not count into the rate.
            self._bar = tqdm(file=sys.stderr, leave=False, dynamic_ncols=True, initial=done, **look)
        self._bar.total = total
        self._bar.update(done - self._bar.n)


class ModelProgress(_Bar):
    """Downloads as a bar, the other steps of a conversion as a line when each begins; licences always."""

    def __call__(self, progress: Progress) -> None:
        """Show one step."""
        if progress.step == "download":
            self._show(
                progress.done,
                progress.total,
                desc=printable(progress.detail),
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
            )
            if progress.done < progress.total:
                return
        self.close()
        if progress.step == "licence" or progress.done == 0:
            print(printable(progress.detail), file=sys.stderr)


class IngestProgress(_Bar):
    """Files dealt with, of all that were found, with the rate, the time left, and what the run waits for most.

    Then, once for a model, how much of what comes with the package it has learned from.
    """

    def __call__(self, event: IngestEvent) -> None:
        """Show one event."""
        if event.phase == "index":
            self._show(event.done, event.total, desc="indexing", unit="file")
            if self._bar is not None:
                facts = [f"{event.nodes} node{'s' if event.nodes > 1 else ''}"] if event.nodes else []
                facts += [f"bound by {event.bound}"] if event.bound else []
                facts += [f"{event.skipped:,} skipped"] if event.skipped else []
                self._bar.set_postfix_str(", ".join(facts), refresh=False)
        elif event.phase == "calibrate":
            self._show(
                event.done,
                event.total,
                desc="learning what counts as a match",
                bar_format="{desc}: {n_fmt} of {total_fmt}",
            )
            if event.done == event.total:
                self.close()
        else:
            self.close()
