"""``arrowlens duplicates``."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from arrowlens.cli.output import amount, clock, columns, note, shown_path, write_json
from arrowlens.cli.searching import open_library
from arrowlens.modalities import MODALITIES
from arrowlens.search import DuplicateGroup, Member, byte_size

_MEANINGS = {
    "identical": "the same bytes",
    "copy": "the same in another file, or a little edited",
    "near": "nearly the same; look before you choose",
}
_NAMES = {"width": "pixels", "height": "pixels", "duration": "length", "sample_rate": "sample rate", "size": "bytes"}


def duplicates(options: argparse.Namespace) -> int:
    """Files that are there twice, or nearly; nothing is deleted."""
    with open_library(options) as library:
        groups = library.duplicates(*options.kind)
    saving = sum(group.saving for group in groups)
    if options.json:
        write_json({"groups": [_record(group) for group in groups], "saving": saving})
    elif groups:
        print("\n\n".join(_text(group) for group in groups))
        kept = f"keeping only the first of each would free {byte_size(saving)}"
        note(f"{amount(len(groups), 'group')}; {kept}; nothing was deleted")
    else:
        note("no duplicates" if not options.kind else f"no duplicates of that kind ({', '.join(options.kind)})")
    return 0


def _record(group: DuplicateGroup) -> dict[str, Any]:
    files = [dataclasses.asdict(member) for member in group.files]
    return {
        "kind": group.kind,
        "differences": group.differences,
        "saving": group.saving,
        "files": [{**file, "path": str(file["path"])} for file in files],
    }


def _text(group: DuplicateGroup) -> str:
    """A line on the group and one a file: how alike it is to the first, its extent, format, bytes, day and path."""
    differing = dict.fromkeys(_NAMES.get(name, name) for name in group.differences)
    meaning = _MEANINGS[group.kind] + (f"; they differ in {', '.join(differing)}" if differing else "")
    noun = MODALITIES[group.best.modality].noun
    title = f"{group.kind}: {amount(len(group.files), noun)}, {byte_size(group.saving)} to save ({meaning})"
    rows = columns([_row(member, group) for member in group.files])
    return "\n".join([title, *(f"  {row}" for row in rows.splitlines())])


def _row(member: Member, group: DuplicateGroup) -> list[str]:
    likeness = "largest" if member is group.best else f"{member.similarity:.3f}"
    if group.kind == "identical":
        likeness = "equal"
    extent = f"{member.width} x {member.height}"
    if member.modality == "audio":
        extent = f"{clock(member.duration or 0.0)}, {(member.sample_rate or 0) / 1000:g} kHz"
    when = member.taken or member.modified
    day = "" if when is None else f"{when:%Y-%m-%d}"
    return [likeness, extent, member.format or "", byte_size(member.size), day, shown_path(member.path)]
