"""How functions that decode are called: here, or as ``guarded`` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Call(Protocol):
    """Calls a function of a module with its arguments, and gives or raises what it does."""

    def __call__(self, function: Callable[_P, _T], /, *arguments: _P.args, **named: _P.kwargs) -> _T:
        """What the function gives."""


def directly(function: Callable[_P, _T], /, *arguments: _P.args, **named: _P.kwargs) -> _T:
    """In this process: what a decoder does to it, it does to all of it."""
    return function(*arguments, **named)
