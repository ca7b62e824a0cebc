"""``arrowlens duplicates``."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from arrowlens.cli.output import amount, clock, columns, note, shown_path, write_json
from arrowlens.cli.searching import open_library
from arrowlens.modalities import MODALITIES
from arrowlens.search import DuplicateGroup, Duplicates, Member, byte_size

_SHOWN = 20  # groups
_MEANINGS = {
    "identical": "the same bytes",
    "copy": "the same in another file, or a little edited",
    "near": "nearly the same; look before you choose",
}
_NAMES = {"width": "pixels", "height": "pixels", "duration": "length", "sample_rate": "sample rate", "size": "bytes"}


def duplicates(options: argparse.Namespace) -> int:
    """Files that are there twice, or nearly; nothing is deleted."""
    with open_library(options) as library:
        for pair, are in ((options.not_duplicate, True), (options.duplicate, False)):
            if pair is not None:
                library.set_not_duplicates(pair[0], pair[1], are=are)
        groups = library.duplicates(*options.kind)
    if options.json:
        records = [_record(group) for group in groups]
        write_json({"groups": records, "saving": groups.saving, "not_compared": groups.n_not_compared})
        return 0
    if groups:
        shown = groups if options.all else groups[:_SHOWN]
        print("\n\n".join(_text(group) for group in shown))
        note(_summary(groups, len(groups) - len(shown)))
    else:
        note("no duplicates" if not options.kind else f"no duplicates of that kind ({', '.join(options.kind)})")
    if groups.n_not_compared:
        n, verb = amount(groups.n_not_compared, "recording"), "was" if groups.n_not_compared == 1 else "were"
        cure = "run `arrowlens optimize` while their files are there"
        note(f"{n} {verb} not compared, indexed by an earlier version; {cure}")
    return 0


def _summary(groups: Duplicates, n_hidden: int) -> str:
    """How many groups there are, and what could be saved."""
    hidden = f", {n_hidden:,} not shown (--all shows {'it' if n_hidden == 1 else 'them'})" if n_hidden else ""
    saving = "nothing was deleted"
    if any(group.kind != "near" for group in groups):
        of_each = "each identical file and copy" if any(group.kind == "near" for group in groups) else "each"
        saving = f"keeping only the first of {of_each} would free {byte_size(groups.saving)}; {saving}"
    return f"{amount(len(groups), 'group')}{hidden}; {saving}"


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
    others = "beside the first" if group.kind == "near" else "to save"
    title = f"{group.kind}: {amount(len(group.files), noun)}, {byte_size(group.saving)} {others} ({meaning})"
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
