"""``arrowlens completion``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

_FILES = {"FILE", "PATH", "PAIRS.csv"}
_FOLDERS = {"DIR", "FOLDER", "LIB"}


def completion(options: argparse.Namespace) -> int:
    """Print the script of a shell that completes commands, options, files and folders."""
    import shtab  # deferred: only this command needs it

    parser = options.build_parser()
    for action in _actions(parser):
        if action.metavar in _FILES | _FOLDERS:
            action.complete = shtab.FILE if action.metavar in _FILES else shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(parser, options.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
