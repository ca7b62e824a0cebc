"""The ``arrowlens`` command: thin commands over ``Library`` and ``conversion``; the only place that prints or exits."""

from __future__ import annotations

import gc
from collections.abc import Sequence

from arrowlens.cli import signals

__all__ = ["main"]

_OBJECTS_BETWEEN_COLLECTIONS = 20_000  # Python's 700 take a fifth of the time in which torch and lancedb are imported


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: this process's) and return its exit status."""
    if argv is None:
        signals.end_on_interrupt()
        gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    from arrowlens.cli.entry import run  # after the signals, for importing takes longer than a Ctrl-C

    if argv is None:
        signals.raise_on_interrupt()
    status = run(argv)
    if argv is None:
        gc.freeze()  # Python would look through all that was imported once more as it ends
    return signals.left(status) if argv is None else status
