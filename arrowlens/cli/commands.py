"""One function a command: call the library, print what it says, return the exit status."""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Literal, cast

import arrowlens
from arrowlens.addresses import absolute, is_bucket
from arrowlens.cli.output import (
    amount,
    causes_text,
    effort_text,
    findings_text,
    note,
    plan_text,
    recall_table,
    reliability_table,
    report_text,
    shown_path,
    status_text,
    table,
    write_json,
)
from arrowlens.cli.progress import IngestProgress, ModelProgress
from arrowlens.cli.searching import open_library
from arrowlens.cli.server import INTERRUPTED, is_reached_by_others, serve, set_password
from arrowlens.cli.signals import stop_on_interrupt
from arrowlens.errors import FolderError, LibraryBusyError, LibraryNotFoundError, StorageError
from arrowlens.modalities import MODALITIES, ROLE_OF, Modality, TextSource
from arrowlens.search import byte_size, printable

if TYPE_CHECKING:
    from arrowlens.evaluation import Evaluation
    from arrowlens.ingest import IngestPlan, RayOptions
    from arrowlens.media import Limits

Command = Callable[[argparse.Namespace], int]


def ingest(options: argparse.Namespace) -> int:
    """Index folders; the only command that creates a library."""
    from arrowlens.ingest import require_folders  # deferred: pyarrow and numpy

    # Before the library is made: a mistyped folder must leave nothing behind.
    require_folders(options.library, options.folders, dict(options.storage_option))
    if options.speech_model is not None and not options.transcribe:
        options.wrong_usage("--speech-model goes with --transcribe")
    engine = engine_of(options)
    if options.price_per_hour is not None and not options.dry_run:
        options.wrong_usage("--price-per-hour goes with --dry-run")
    if options.watch_every is not None and not options.watch:
        options.wrong_usage("--watch-every goes with --watch")
    if options.dry_run:
        if options.watch:
            options.wrong_usage("--watch does not go with --dry-run")
        return _dry_run(options)
    from arrowlens.library import DEFAULT_SPEECH_MODEL, text_readers  # deferred, as below

    speech_model = options.speech_model or DEFAULT_SPEECH_MODEL
    with ModelProgress() as progress:
        # A missing extra or speech model, too, must leave nothing behind.
        text_readers(options.read_text, options.transcribe, speech_model, progress)
        library = arrowlens.Library.open(
            options.library,
            options.models,
            True,
            options.device,
            options.precision,
            on_progress=progress,
            storage_options=dict(options.storage_option),
            n_shards=options.shards,
        )
    with library, stop_on_interrupt() as stop:
        if options.watch:
            return _run_on_changes(options, library, stop, engine)
        return _run(options, library, stop, engine)


def _run(
    options: argparse.Namespace, library: arrowlens.Library, stop: Event, engine: RayOptions | Literal["local"]
) -> int:
    """Bring the library up to date once, say what was done, and return the exit status."""
    from arrowlens.library import DEFAULT_SPEECH_MODEL  # deferred, as above

    with IngestProgress() as bar:
        report = library.ingest(
            *options.folders,
            on_event=bar,
            stop=stop,
            workers=options.workers,
            prune=options.prune,
            retry=options.retry,
            exact=options.exact,
            limits=limits_of(options),
            read_text=options.read_text,
            transcribe=options.transcribe,
            speech_model=options.speech_model or DEFAULT_SPEECH_MODEL,
            engine=engine,
        )
    _note_unread(report.unread_folders)
    interrupted = stop.is_set()
    if options.json:
        write_json({**report.to_dict(), "interrupted": interrupted, "library": library.uri})
    elif options.watch:
        print(f"{time.strftime('%H:%M:%S')} {report_text(report).splitlines()[0]}", flush=True)
    else:
        print(report_text(report))
    if interrupted:
        note("arrowlens: interrupted; the same command goes on from here")
    return INTERRUPTED if interrupted else _held_back(report.held_back)


def _run_on_changes(
    options: argparse.Namespace, library: arrowlens.Library, stop: Event, engine: RayOptions | Literal["local"]
) -> int:
    """Run at once and whenever something changes, until Ctrl-C; what cannot be done now is said, and tried again."""
    from arrowlens.ingest.watching import DEFAULT_EVERY_S, Watch  # deferred: few runs watch

    folders, said = list(options.folders), ""
    every_s = DEFAULT_EVERY_S if options.watch_every is None else 60 * options.watch_every
    watch = Watch(folders, library.path, every_s)
    for _ in watch.changes(stop):
        missing = {*watch.missing}
        for folder in sorted(missing):
            note(f"arrowlens: {shown_path(folder)} is not there; nothing of it is removed, and it is waited for")
        options.folders = [
            folder
            for folder in folders
            if is_bucket(folder) or os.path.realpath(Path(folder).expanduser()) not in missing
        ]
        try:
            if options.folders:
                _run(options, library, stop, engine)
            said = ""
        except (FolderError, LibraryBusyError, StorageError) as error:  # a run elsewhere, a full disk, a bucket away
            watch.retry()
            if str(error) != said:
                note(f"arrowlens: {printable(str(error))}")
            said = str(error)
    return INTERRUPTED


def engine_of(options: argparse.Namespace) -> RayOptions | Literal["local"]:
    """Return who decodes and encodes; options of a cluster without ``--engine ray`` are wrong usage."""
    if options.engine == "ray":
        from arrowlens.ingest import RayOptions  # deferred: torch

        return RayOptions(options.address, options.concurrency, options.num_gpus or 0)
    given = {"--address": options.address, "--concurrency": options.concurrency, "--num-gpus": options.num_gpus}
    for name, value in given.items():
        if value is not None:
            options.wrong_usage(f"{name} goes with --engine ray")
    return "local"


def _held_back(held_back: Mapping[str, int]) -> int:
    """Say of which folders too much is gone; the exit status."""
    for folder, n_files in held_back.items():
        note(
            f"arrowlens: {amount(n_files, 'file')} of {shown_path(folder)} are gone from disk, and nothing of it was "
            "removed; look whether a disk or a folder is missing, or confirm it with --prune"
        )
    return 1 if held_back else 0


def _dry_run(options: argparse.Namespace) -> int:
    from arrowlens.ingest import plan  # deferred: pyarrow and numpy

    folders = [folder if is_bucket(folder) else Path(folder).expanduser() for folder in options.folders]
    asked: dict[TextSource, bool] = {"ocr": options.read_text, "speech": options.transcribe}
    planned = plan(
        options.library,
        folders,
        prune=options.prune,
        retry=options.retry,
        sources=[source for source, is_asked in asked.items() if is_asked],
        storage_options=dict(options.storage_option),
    )
    _note_unread(planned.unread_folders)
    hours, price = _encoding_hours(planned, options), options.price_per_hour
    cost = None if hours is None or price is None else hours * price
    if options.json:
        given = {"encoding_hours": hours, "cost": cost, "library": absolute(options.library)}
        write_json({**planned.to_dict(), **given})
    else:
        print(plan_text(planned))
        print(effort_text(hours, cost, planned.by_modality))
    return _held_back(planned.held_back)


def _encoding_hours(planned: IngestPlan, options: argparse.Namespace) -> float | None:
    """Return the hours of a machine like this one that encoding the pictures takes; None where it was not measured."""
    from arrowlens import models  # deferred: torch
    from arrowlens.library import DEFAULT_MODELS  # deferred, as above

    role = ROLE_OF["image"]
    digest = planned.models.get(role) or models.digest_of(options.models or DEFAULT_MODELS, role)
    ms_per_item = models.measured_ms(digest) if digest is not None else None
    return None if ms_per_item is None else planned.by_modality.get("image", 0) * ms_per_item / 3.6e6


def _note_unread(folders: Mapping[str, str]) -> None:
    for folder, reason in folders.items():
        note(f"arrowlens: {shown_path(folder)} could not be read ({printable(reason)}); what is known of it is kept")


def convert(options: argparse.Namespace) -> int:
    """A Hugging Face checkpoint -> a model directory."""
    from arrowlens import conversion  # deferred: torch

    with ModelProgress() as progress:
        how = conversion.ConversionOptions(options.dtype, options.format, options.verify, on_progress=progress)
        report = conversion.convert_model(options.family, options.source, options.output, how)
    print("\n".join(printable(line) for line in report.lines()))
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Recall of a model set over the user's own captioned files, and how true its relevance is of them."""
    measured = _measured(options)
    for path, reason in measured.skipped:
        note(f"arrowlens: {shown_path(path)} is left out: {printable(reason)}")
    if options.json:
        recalls = [dataclasses.asdict(recall) for recall in measured.recalls]
        skipped = [{"path": str(path), "reason": reason} for path, reason in measured.skipped]
        reliability = [dataclasses.asdict(each) for each in measured.reliability]
        calibrated = dict(measured.calibrated)
        result = {"recalls": recalls, "skipped": skipped, "reliability": reliability, "calibrated": calibrated}
        write_json({**result, "not_calibrated": measured.not_calibrated, "templates": dict(measured.templates)})
        return 0
    print(recall_table(measured.recalls))
    for kind, templates in measured.templates.items():
        asked = f"names of things are asked for in {amount(len(templates), 'template')}, as {templates[0]!r}"
        note(f"for {MODALITIES[kind].plural}, {asked}; --no-templates asks for them as they are")
    for each in measured.reliability:
        print(f"\nHow true relevance is of {MODALITIES[each.answer].plural} found by a text:")
        print(reliability_table(each))
    for route, n_pairs in measured.calibrated.items():
        noun = MODALITIES[cast("Modality", route.split()[-1])].plural
        print(f"from now on the relevance of {noun} found by a text is calibrated with your {amount(n_pairs, 'pair')}")
    for noun in measured.not_calibrated:
        note(f"arrowlens: {noun} keep their relevance, for the models do not tell right ones from wrong ones")
    return 0


def _measured(options: argparse.Namespace) -> Evaluation:
    from arrowlens import evaluation  # deferred: torch
    from arrowlens.library import DEFAULT_MODELS  # deferred, as above

    if options.save_calibration:
        if options.models is not None:
            options.wrong_usage("--save-calibration measures the models of the library; leave --models out")
        options.library = options.library or options.usual_library
        with open_library(options) as library:
            return library.calibrate(options.folder, options.pairs)
    if options.library is not None:
        options.wrong_usage("--library goes with --save-calibration; --models names the models to measure")
    with ModelProgress() as progress:
        return evaluation.evaluate(
            options.folder,
            options.pairs,
            options.models or DEFAULT_MODELS,
            options.device,
            options.precision,
            use_templates=options.templates,
            on_progress=progress,
        )


def status(options: argparse.Namespace) -> int:
    """What the library holds, with which models."""
    with open_library(options) as library:
        status = library.status()
    if options.json:
        write_json(dataclasses.asdict(status))
    else:
        print(status_text(status))
    return 0


def skipped(options: argparse.Namespace) -> int:
    """Files that could not be read, and why."""
    with open_library(options) as library:
        files = library.skipped()
    if options.json:
        write_json({"files": [{"path": str(file.path), "reason": file.reason} for file in files]})
    elif files:
        print(table([["path", "reason"], *([shown_path(file.path), printable(file.reason)] for file in files)]))
        note(causes_text(Counter(file.reason for file in files)))
    else:
        note("every file could be read")
    return 0


def remove(options: argparse.Namespace) -> int:
    """Forget files or folders; the files themselves stay."""
    with open_library(options) as library:
        n_removed = library.remove(options.paths)
    if options.json:
        write_json({"removed": n_removed})
    else:
        print(f"{amount(n_removed, 'file')} forgotten")
    return 0


def optimize(options: argparse.Namespace) -> int:
    """Compact the library's files."""
    with open_library(options) as library:
        before, started = library.status().n_bytes, time.monotonic()
        library.optimize()
        after, seconds = library.status().n_bytes, time.monotonic() - started
    if options.json:
        write_json({"bytes_before": before, "bytes_after": after, "seconds": seconds})
    else:
        print(f"{byte_size(before)} before, {byte_size(after)} after, in {seconds:.1f} s")
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Examine the library; 1 when something is wrong with it."""
    if options.repair:
        arrowlens.Library.restore_settings(options.library, dict(options.storage_option))
    with open_library(options) as library:
        if options.repair:
            library.repair()
        findings = library.doctor(n_vectors=options.vectors, n_files=options.files)
    levels = Counter(finding.level for finding in findings)
    if options.json:
        counts = {"problems": levels["problem"], "notices": levels["notice"]}
        write_json({**counts, "findings": [dataclasses.asdict(finding) for finding in findings]})
    else:
        print(findings_text(findings))
    if levels["problem"]:
        note(f"arrowlens: {amount(levels['problem'], 'problem')} found; each says what to do")
    return 1 if levels["problem"] else 0


def ui(options: argparse.Namespace) -> int:
    """Search in the browser, until Ctrl-C; or set the password for it."""
    if options.set_password is not None:
        set_password(options.set_password)
        return 0
    try:
        with open_library(options) as library:  # missing models end here, not in the browser
            uri = library.uri
    except LibraryNotFoundError:
        if options.no_auth and is_reached_by_others(options):  # nobody may make one on the page
            raise
        uri = absolute(options.library)
        note(f"arrowlens: no library at {printable(uri)}; the page offers to make one")
    return serve(uri, options)


def limits_of(options: argparse.Namespace) -> Limits:
    """Return the limits of what is read of a file: the default ones, but for those that were given."""
    from arrowlens.media import Limits  # deferred: numpy and Pillow

    limits = Limits()
    if options.max_megapixels is not None:
        limits = dataclasses.replace(limits, max_pixels=int(options.max_megapixels * 1e6))
    if options.max_hours is not None:
        limits = dataclasses.replace(limits, max_seconds=3600 * options.max_hours)
    if options.max_file_size is not None:
        image_bytes = min(limits.max_image_bytes, options.max_file_size)
        limits = dataclasses.replace(
            limits,
            max_file_bytes=options.max_file_size,
            max_image_bytes=image_bytes,
            max_film_bytes=options.max_file_size,
        )
    if options.max_shots is not None:
        limits = dataclasses.replace(limits, max_shots=options.max_shots)
    if options.time_limit is not None:
        limits = dataclasses.replace(limits, max_decode_s=options.time_limit)
    return limits
