"""The ``arrowlens`` command: thin commands over ``Library`` and ``conversion``; the only place that prints or exits."""

from __future__ import annotations

from collections.abc import Sequence

from arrowlens.cli import signals

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: this process's) and return its exit status."""
    if argv is None:
        signals.end_on_interrupt()
    from arrowlens.cli.entry import run  # after the signals, for importing takes longer than a Ctrl-C

    if argv is None:
        signals.raise_on_interrupt()
    status = run(argv)
    return signals.left(status) if argv is None else status
