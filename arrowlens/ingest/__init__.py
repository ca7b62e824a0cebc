"""Folders and buckets -> a library: walk, compare, decode, encode, store.

``run(storage, provider, folders, options, on_event, stop)`` brings a library up to date, reports ``IngestEvent``s while
it works, and returns an ``IngestReport``. ``plan`` says what a run would do. A file belongs to the deepest root of the
library that contains it; a folder that is new becomes a root. Unchanged files are recognised by size and time and not
opened; a file that moved, or lies in several places, is encoded once; what cannot be read is recorded with its reason.
``migrate(storage, provider, models, options, on_event, stop)`` encodes everything anew for other models.

A ``Source`` lists files and fetches them, ``diff.compare`` says which of them have to be read, an ``Engine`` repeats an
``EncodeStep`` that turns files into outcomes, and a ``Writer`` writes these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from arrowlens.deprecation import with_renamed_names
from arrowlens.embedding import Provider

if TYPE_CHECKING:
    from arrowlens.ingest.diff import IngestPlan, plan, require_folders
    from arrowlens.ingest.engines import RayOptions
    from arrowlens.ingest.migration import MigrationReport, migrate
    from arrowlens.ingest.pipeline import run
    from arrowlens.ingest.progress import IngestEvent, IngestOptions, IngestReport


__all__ = [
    "IngestEvent",
    "IngestOptions",
    "IngestPlan",
    "IngestReport",
    "MigrationReport",
    "Provider",
    "RayOptions",
    "migrate",
    "plan",
    "require_folders",
    "run",
]

_NAMES = {
    "diff": ["IngestPlan", "plan", "require_folders"],
    "engines": ["RayOptions"],
    "migration": ["MigrationReport", "migrate"],
    "pipeline": ["run"],
    "progress": ["IngestEvent", "IngestOptions", "IngestReport"],
}
_load, __dir__, _ = lazy_loader.attach(__name__, submod_attrs=_NAMES)
__getattr__ = with_renamed_names(__name__, {"Event": "IngestEvent"}, _load)
