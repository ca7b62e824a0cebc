"""``arrowlens completion``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

_FOLDERS = {"DIR", "LIB"}
_FILES = {"FILE", "PATH", "PAIRS.csv", "FOLDER"}  # `ingest FOLDER` takes files, too; a shell's files have its folders


def completion(options: argparse.Namespace) -> int:
    """Print the script of a shell that completes commands, options, files and folders."""
    import shtab  # deferred: only this command needs it

    parser = options.build_parser()
    for action in _actions(parser):
        names = {action.metavar} if isinstance(action.metavar, str) else set(action.metavar or ())
        if names & (_FILES | _FOLDERS):
            action.complete = shtab.FILE if names & _FILES else shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(parser, options.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
