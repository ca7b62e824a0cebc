"""Folders on disk -> a library: walk, compare, decode, encode, store.

``run(storage, provider, folders, options, on_event, stop)`` brings a library up to date and gives an ``IngestReport``;
while it works it tells ``Event``s. ``plan`` says what a run would do. A file belongs to the deepest root of the library
that contains it; a folder that is new becomes a root. Unchanged files are recognised by size and time and not opened; a
file that moved, or lies in several places, is encoded once; what cannot be read is recorded with its reason.
``migrate(storage, provider, models, options, on_event, stop)`` encodes everything anew for other models.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arrowlens.ingest.encode import Provider
    from arrowlens.ingest.jobs import Event, IngestOptions, IngestReport
    from arrowlens.ingest.migration import MigrationReport, migrate
    from arrowlens.ingest.pipeline import run
    from arrowlens.ingest.planning import IngestPlan, plan

_HOMES = {
    "Event": "jobs",
    "IngestOptions": "jobs",
    "IngestPlan": "planning",
    "IngestReport": "jobs",
    "MigrationReport": "migration",
    "Provider": "encode",
    "migrate": "migration",
    "plan": "planning",
    "run": "pipeline",
}

__all__ = [
    "Event",
    "IngestOptions",
    "IngestPlan",
    "IngestReport",
    "MigrationReport",
    "Provider",
    "migrate",
    "plan",
    "run",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'arrowlens.ingest' has no attribute {name!r}")
    return getattr(importlib.import_module(f"arrowlens.ingest.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
