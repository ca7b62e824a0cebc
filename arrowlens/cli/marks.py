"""``arrowlens favourite`` and ``arrowlens saved``."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from typing import Any

from arrowlens.cli.output import amount, note, table, write_json
from arrowlens.cli.searching import open_library
from arrowlens.search import printable

_OPTIONS = {"sources": "in", "weights": "weight"}  # of arguments of ``Library.search`` with another name


def favourite(options: argparse.Namespace) -> int:
    """Mark files as favourites, or take that back."""
    with open_library(options) as library:
        library.set_favourites(options.files, favourite=not options.remove)
        n_favourites = len(library.favourites())
    if options.json:
        write_json({"favourites": n_favourites})
    else:
        print(f"{amount(n_favourites, 'favourite')} in the library")
    return 0


def saved(options: argparse.Namespace) -> int:
    """List saved questions, or forget one."""
    with open_library(options) as library:
        if options.forget is not None:
            library.save_question(options.forget, None)
        questions = library.saved_questions()
    if options.json:
        write_json({"saved": questions})
    elif questions:
        rows = [[printable(name), printable(_written(question))] for name, question in questions.items()]
        print(table([["name", "question"], *rows]))
    else:
        note("no question is saved; `arrowlens search TEXT --save NAME` keeps one")
    return 0


def _written(question: Mapping[str, Any]) -> str:
    """A question as one would type it, as far as the command line has it."""
    parts = [shlex.quote(str(question["text"]))] if question.get("text") else []
    for name, value in question.items():
        if name != "text" and value:
            values = value if isinstance(value, list) else [value]
            if isinstance(value, Mapping):
                values = [f"{text}={weight}" for text, weight in value.items()]
            parts += [f"--{_OPTIONS.get(name, name)} {shlex.quote(str(each))}" for each in values]
    return " ".join(parts)
