"""How functions that decode are called: here, or as ``guarded`` does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from arrowlens.workers.guarded import Guard

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Call(Protocol):
    """Calls a function of a module with its arguments, and gives or raises what it does."""

    def __call__(self, function: Callable[_P, _T], /, *arguments: _P.args, **named: _P.kwargs) -> _T:
        """What the function gives."""


def directly(function: Callable[_P, _T], /, *arguments: _P.args, **named: _P.kwargs) -> _T:
    """In this process: what a decoder does to it, it does to all of it."""
    return function(*arguments, **named)


class Isolated:
    """Calls functions as ``guarded.Guard`` does, which is imported with the first one: most searches need none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._guard: Guard | None = None

    def __call__(self, function: Callable[_P, _T], /, *arguments: _P.args, **named: _P.kwargs) -> _T:
        """What the function gives; errors as ``Guard``."""
        from arrowlens.workers.guarded import Guard  # deferred, as said above

        with self._lock:
            guard = self._guard = self._guard or Guard()
        return guard(function, *arguments, **named)

    def close(self) -> None:
        """End the processes; the next call starts new ones."""
        if self._guard is not None:
            self._guard.close()
