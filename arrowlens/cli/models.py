"""``arrowlens models``: what there is, and changing a library to it."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from arrowlens.cli.commands import limits_of
from arrowlens.cli.output import amount, causes_text, note, table, write_json
from arrowlens.cli.progress import IngestProgress, ModelProgress
from arrowlens.cli.searching import open_library
from arrowlens.cli.server import INTERRUPTED
from arrowlens.cli.signals import stop_on_interrupt
from arrowlens.conversion import FAMILIES
from arrowlens.errors import ModelLoadError
from arrowlens.search import byte_size, printable

if TYPE_CHECKING:
    from arrowlens.ingest import MigrationReport


def available(options: argparse.Namespace) -> int:
    """What is bundled, cached, and can be downloaded."""
    from arrowlens.encoders import choose_runtime  # deferred: torch
    from arrowlens.models import available  # deferred: conversion's imports

    found, runtime = available(), choose_runtime()
    if options.json:
        families = [{"name": each.name, "role": each.role, "verified": each.verified} for each in FAMILIES]
        runs_on = {"device": str(runtime.device), "precision": runtime.precision, "reason": runtime.reason}
        models = [dataclasses.asdict(model) for model in found]
        write_json({"models": models, "families": families, "runtime": runs_on})
        return 0
    rows = [["set", "role", "state", "size", "ms an item", "languages", "digest", "licence", "source"]]
    for model in found:
        speed = "-" if model.ms_per_item is None else f"{model.ms_per_item:.1f}"
        digest = model.digest[:8] if model.digest else "-"
        size = "unverified" if model.n_bytes is None else byte_size(model.n_bytes)
        source, languages = printable(model.source), model.languages or "-"
        rows.append([model.set_name, model.role, model.state, size, speed, languages, digest, model.licence, source])
    print(table(rows))
    print(f"\n{printable(f'Models run on {runtime.summary}.')}")
    if all(model.ms_per_item is None for model in found):
        print("\n`arrowlens benchmark --models SET` measures the milliseconds that an item takes on this machine.")
    print("\nWhat was verified of each family's vectors in Arrowlens's tests:\n")
    print(table([["family", "role", "compared"], *([each.name, each.role, each.verified] for each in FAMILIES)]))
    return 0


def prepare(options: argparse.Namespace) -> int:
    """Write the folded weights of models that lack them."""
    from arrowlens.encoders.folding import fold_model  # deferred: torch
    from arrowlens.models import available  # deferred, as above

    cached = [model.path for model in available() if model.state == "cached" and model.path is not None]
    for directory in options.directories or dict.fromkeys(cached):
        try:
            is_new = fold_model(directory)
        except OSError as error:
            detail = error.strerror or error
            raise ModelLoadError(
                f"{directory} cannot be written ({detail}); free some space or check permissions"
            ) from error
        print(f"{printable(str(directory))}: {'prepared' if is_new else 'nothing to do'}")
    if not (options.directories or cached):
        print("no model was downloaded; name a model directory")
    return 0


def use(options: argparse.Namespace) -> int:
    """Encode everything for other models, which then serve."""
    with open_library(options) as library, ModelProgress() as progress:
        with stop_on_interrupt() as stop, IngestProgress() as bar:
            report = library.migrate(
                options.models,
                on_event=bar,
                stop=stop,
                workers=options.workers,
                limits=limits_of(options),
                on_progress=progress,
            )
        path = library.uri
    if options.json:
        write_json({**report.to_dict(), "models": options.models, "library": path})
    else:
        print(migration_text(report, options.models))
    if not report.switched:
        cause = "interrupted" if stop.is_set() else "files in a bucket could not be reached"
        note(f"arrowlens: {cause}; the earlier models serve on, and the same command goes on from here")
        return INTERRUPTED if stop.is_set() else 1
    return 0


def migration_text(report: MigrationReport, models: str) -> str:
    """What a change of models did, for people."""
    facts = [f"{amount(report.encoded, 'file')} encoded in {report.seconds:.1f} s"]
    facts += [f"{report.unchanged:,} had their vectors"] if report.unchanged else []
    facts += [f"{amount(report.captions, 'caption')}"] if report.captions else []
    lines = [", ".join(facts)]
    if report.lost:
        files = amount(report.lost, "file")
        left = f"{files} could not be encoded and left the results; `arrowlens skipped` names them"
        lines.append(left if report.switched else f"{files} cannot be encoded so far")
        lines.append(causes_text(report.reasons))
    if report.switched:
        lines.append(f"the library uses {printable(models)}")
    return "\n".join(lines)
