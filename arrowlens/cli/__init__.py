"""The ``arrowlens`` command: thin commands over ``Library`` and ``conversion``; the only place that prints or exits."""

from __future__ import annotations

from arrowlens.cli.main import main

__all__ = ["main"]
