"""``arrowlens benchmark``."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from arrowlens.cli.output import columns, note, write_json
from arrowlens.cli.progress import ModelProgress
from arrowlens.search import printable

if TYPE_CHECKING:
    from arrowlens.benchmark import Benchmark, Measure, Outlook


def benchmark(options: argparse.Namespace) -> int:
    """How fast models are on this machine, and what bounds them."""
    from arrowlens import benchmark as room  # deferred: torch
    from arrowlens.models import keep_speeds  # deferred: conversion's imports

    with ModelProgress() as progress:
        result = room.benchmark(
            options.models, options.device, options.precision, options.seconds, on_progress=progress
        )
    is_usual = (options.device, options.precision) == (None, "auto")  # what `arrowlens models` shows
    try:
        keep_speeds(result.ms_per_item if is_usual else {})
    except OSError as error:
        note(f"arrowlens: `arrowlens models` will not show these figures: {error.filename}: {error.strerror}")
    if options.json:
        write_json(dataclasses.asdict(result))
    else:
        print("\n".join(_lines(result)))
    return 0


def _lines(result: Benchmark) -> Iterator[str]:
    cores = f"{result.n_cores} core{'' if result.n_cores == 1 else 's'}"
    yield printable(f"{result.device}, {cores}, {result.precision}: {result.reason}")
    yield ""
    yield columns([_row(measure) for measure in result.measures])
    yield ""
    if result.outlook is not None:
        yield _outlook(result.outlook)
    for measure in result.measures:
        if measure.share is not None:
            yield f"{measure.what}: bound by {_bound(measure.share)}"


def _row(measure: Measure) -> list[str]:
    value = f"{measure.value:,.0f}" if measure.value >= 1000 else f"{measure.value:,.1f}"
    share = "" if measure.share is None else f"{measure.share:.0%} of the matrix products"
    return [measure.what, value.rjust(7), measure.unit, share]


def _outlook(outlook: Outlook) -> str:
    return (
        f"an ingest of such JPEGs: at most {outlook.rate:,.0f} files/s, bound by {outlook.bound} "
        f"(a file takes {1000 * outlook.decoding:.1f} ms to decode, {1000 * outlook.encoding:.1f} ms to encode)"
    )


def _bound(share: float) -> str:
    if share >= 0.5:
        return "the matrix products: a faster processor, or one with faster half precision, would help"
    return "what lies between the matrix products, which are small here: memory, and the steps of each layer"
