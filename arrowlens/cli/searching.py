"""``arrowlens search`` and ``arrowlens similar``."""

from __future__ import annotations

import argparse
import base64
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import arrowlens
from arrowlens.addresses import is_bucket
from arrowlens.cli.output import (
    amount,
    file_text,
    held_text,
    hit_record,
    note,
    results_table,
    shown_path,
    write_json,
    write_paths,
)
from arrowlens.errors import InputError
from arrowlens.search import Group, grouped, parse, printable

_ASKED = {"text", "plus", "minus", "like", "unlike"}
_HOW_ALL = "--all shows the nearest anyway"


def open_library(options: argparse.Namespace) -> arrowlens.Library:
    """The library that a command names."""
    return arrowlens.Library.open(
        options.library,
        device=options.device,
        precision=options.precision,
        use_templates=getattr(options, "templates", True),  # only commands that ask texts have the option
        storage_options=dict(options.storage_option),
        replica=getattr(options, "replica", False),  # other commands read the library itself
    )


def search(options: argparse.Namespace) -> int:
    """Find pictures, recordings and films by a text, and by what is more or less like it."""
    _check_output(options)
    question = _question(options)
    if options.saved is not None and set(question) - {"where"}:
        options.wrong_usage("--saved asks the question as it was saved; leave what it looks for out")
    parse(question.get("where", ()))  # a mistyped condition ends here, before models are looked for
    if options.saved is None and not _ASKED.intersection(question):
        return _list(options, question)
    with open_library(options) as library:
        if options.saved is not None:
            question = _saved(library, options.saved, question)
        view = {"k": options.k, "offset": _offset(options), "collapse": options.collapse, "sort": options.sort}
        results = library.search(**(question | view))
        if options.save is not None:  # only what can be asked is kept
            library.save_question(options.save, _anywhere(question))
        _show(library, results, options, question.get("text"))
    return 0


def _question(options: argparse.Namespace) -> dict[str, Any]:
    """Return what is asked, as keyword arguments of ``Library.search`` that differ from their defaults."""
    given: dict[str, Any] = {
        "text": " ".join(options.text),
        "modality": "" if options.modality == "all" else options.modality,
        "mode": "" if options.mode == "auto" else options.mode,
        "sources": list(options.sources),
        "weights": dict(options.weight),
        "where": [*options.where, *(["favourite = yes"] if options.favourites else [])],
    }
    given |= {name: getattr(options, name) for name in ("plus", "minus", "like", "unlike")}
    return {name: value for name, value in given.items() if value}


def _saved(library: arrowlens.Library, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a saved question, with the conditions of the command line as well."""
    questions = library.saved_questions()
    if name not in questions:
        known = ", ".join(questions) or "none is saved"
        raise InputError(f"no question is saved as {name!r}; there are: {known}")
    question = questions[name]
    where = [*question.get("where", ()), *given.get("where", ())]
    return question | ({"where": where} if where else {})


def _anywhere(question: Mapping[str, Any]) -> dict[str, Any]:
    """Return a question that means the same in every folder: with absolute paths."""
    return {
        name: [path if is_bucket(path) else os.path.abspath(path) for path in value]  # noqa: PTH100 - follows no links
        if name in ("like", "unlike")
        else value
        for name, value in question.items()
    }


def _list(options: argparse.Namespace, question: Mapping[str, Any]) -> int:
    """List the files that satisfy conditions, newest first."""
    if "where" not in question:
        options.wrong_usage(
            "say what to look for: TEXT, --plus, --minus, --like or --unlike; --where or --favourites alone list files"
        )
    refining = {"--mode": "mode" in question, "--in": "sources" in question, "--weight": "weights" in question}
    for name, is_given in (refining | {"--collapse": options.collapse, "--save": options.save is not None}).items():
        if is_given:
            options.wrong_usage(f"{name} goes with something to look for, such as TEXT")
    with open_library(options) as library:
        where, offset = question["where"], _offset(options)
        results = library.newest(options.k, question.get("modality"), where=where, offset=offset)
        _show(library, results, options, None, has_scores=False)
    return 0


def show(options: argparse.Namespace) -> int:
    """All that the library knows of a file."""
    with open_library(options) as library:
        hit = library.file(options.file)
        texts = library.texts(hit)
    if options.json:
        found = {"score", "relevance", "start", "end", "found_by", "matched_words", "matches", "cluster_size", "source"}
        facts = {name: value for name, value in hit_record(hit).items() if name not in found | {"text"}}
        write_json({**facts, "texts": [dataclasses.asdict(text) for text in texts]})
    else:
        print(file_text(hit, texts))
    return 0


def similar(options: argparse.Namespace) -> int:
    """Find what is like a file."""
    _check_output(options)
    where = parse(options.where)
    with open_library(options) as library:
        results = library.similar(
            options.file,
            options.k,
            where=where,
            offset=_offset(options),
            collapse=options.collapse,
            sort=options.sort,
            at=options.at,
        )
        _show(library, results, options, str(options.file))
    return 0


def _offset(options: argparse.Namespace) -> int:
    return int((options.page - 1) * options.k if options.page else options.offset)


def _show(
    library: arrowlens.Library,
    results: arrowlens.Results,
    options: argparse.Namespace,
    query: str | None,
    *,
    has_scores: bool = True,
) -> None:
    for notice in results.notices:
        note(f"arrowlens: {printable(notice)}")
    shown = results if options.json or options.everything else results.folded
    groups = grouped(shown, options.group) if options.group else [Group(None, tuple(shown))]
    if options.json:
        columns = library.records(shown)
        hits = [columns.get(hit.media_id, {}) | _record(hit, group, options) for group in groups for hit in group.hits]
        if options.thumbnails:
            jpegs = [library.poster(hit) for group in groups for hit in group.hits]
            hits = [hit | {"thumbnail": _base64(jpeg)} for hit, jpeg in zip(hits, jpegs, strict=True)]
        answer = {
            "hits": hits,
            "has_match": results.has_match,
            "n_matches": results.n_matches,
            "matches": results.has_match,
            "took_ms": results.took_ms,
        }
        write_json({**answer, "query": query, "notices": results.notices})
    elif options.paths or options.null:
        write_paths([hit for group in groups for hit in group.hits], nul=options.null)
    elif results:
        if shown:
            print(_tables(groups, has_scores) if options.group else results_table(shown, has_scores=has_scores))
        note(f"{_counted(results, shown, options)} in {results.took_ms:.0f} ms")
        if results.has_match is False and not results[0].matches:  # a file that is asked with matches itself
            note("nothing here really matches; " + ("these are the nearest there are" if shown else _HOW_ALL))
        elif len(shown) < len(results):
            what = "no other file matches" if results.n_matches == 0 else "no more matches"
            note(f"{what}; {_HOW_ALL}")
    else:
        note(_why_nothing(library, options))


def _counted(results: arrowlens.Results, shown: arrowlens.Results, options: argparse.Namespace) -> str:
    if results.n_matches is None:
        return shown.summary
    if options.collapse:  # each hit stands for several files
        return f"{results.summary}, shown as {len(shown.matching):,}," if results.n_matches else results.summary
    is_part = len(shown.matching) < results.n_matches
    return f"{results.summary}, {len(shown.matching):,} of them here," if is_part else results.summary


def _record(hit: arrowlens.Hit, group: Group, options: argparse.Namespace) -> dict[str, Any]:
    record = hit_record(hit)
    if options.collapse:
        record["n_alike"] = hit.cluster_size  # the name of ``cluster_size`` before 0.2
    if options.group:
        record["group"] = None if group.key is None else str(group.key)
    return record


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode("ascii")


def _check_output(options: argparse.Namespace) -> None:
    if options.thumbnails and not options.json:
        options.wrong_usage("--thumbnails goes with --json")


def _tables(groups: Sequence[Group], has_scores: bool) -> str:
    parts = []
    for group in groups:
        name = "no date" if group.key is None else shown_path(str(group.key))
        parts.append(
            f"{name} ({amount(len(group.hits), 'result')})\n{results_table(group.hits, has_scores=has_scores)}"
        )
    return "\n\n".join(parts)


def _why_nothing(library: arrowlens.Library, options: argparse.Namespace) -> str:
    status = library.status()
    if not status.images and not status.audio and not status.films:
        return f"the library {shown_path(library.uri)} is empty: arrowlens ingest FOLDER fills it"
    if options.offset or options.page:
        return "there are no more results"
    held = f"({held_text(status)})"
    is_text = "text" in options and bool(options.text or options.plus or options.minus)
    is_text = is_text and not (options.like or options.unlike)
    only_audio = options.modality == "audio" or (options.modality == "all" and not (status.images or status.films))
    if is_text and options.mode != "keyword" and only_audio and not status.text_reaches_audio:
        words = "" if options.mode == "vector" else ", and no recording has all these words"
        return f"texts do not reach recordings with this library's models{words}; `arrowlens similar FILE` does"
    if is_text and options.mode == "keyword":
        kept = " and satisfies the conditions" if options.where else ""
        return f"no file of that kind in the library {held} has all these words{kept}"
    if options.where:
        return f"no file of that kind in the library {held} satisfies the conditions"
    return f"nothing of that kind in the library {held}"
