"""Run one command; errors become one line on stderr and an exit status.

Exit status: 0 done; 1 failed, with one line of cause and cure; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from arrowlens.cli import signals
from arrowlens.cli.parser import build_parser
from arrowlens.errors import ArrowlensError

DONE, FAILED = 0, 1


def run(argv: Sequence[str] | None) -> int:
    """Run the command line ``argv``, None for this process's, and return its exit status."""
    try:
        _accept_any_file_name()
        options = build_parser().parse_args(argv)
        status = int(options.run(options))
        sys.stdout.flush()  # a closed pipe shows here, inside the try
    except ArrowlensError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        signals.say_interrupted()
        return signals.INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough (`arrowlens search cat | head -1`); the interpreter's own flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:  # the last resort: no traceback for users
        if signals.interrupted():  # a module that was being imported then makes an ImportError of it
            signals.say_interrupted()
            return signals.INTERRUPTED
        if os.environ.get("ARROWLENS_DEBUG"):
            raise
        return _fail(f"unexpected {type(error).__name__}: {error}; ARROWLENS_DEBUG=1 shows where")
    finally:
        signals.ended()
    return status


def _fail(message: str) -> int:
    from arrowlens.search.sanitize import printable  # deferred: numpy comes with it, and --version needs none

    print(f"arrowlens: {printable(' '.join(message.split()))}", file=sys.stderr)
    return FAILED


def _accept_any_file_name() -> None:
    """A name that the terminal's encoding lacks is printed as an escape, never a crash."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
