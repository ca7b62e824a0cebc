"""Public names that were renamed: the old one works for a release, with a ``DeprecationWarning``."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def renamed_property(old: str, new: str) -> property:
    """A read-only attribute ``old`` that returns the attribute ``new``."""

    def read(self: object) -> Any:  # noqa: ANN401 - the type of the new attribute
        warn_renamed(f"{type(self).__name__}.{old}", new)
        return getattr(self, new)

    return property(read, doc=f"Deprecated: use ``{new}``.")


def renamed_method(old: str, new: str) -> Callable[..., Any]:
    """A method ``old`` that calls the method ``new``."""

    def call(self: object, *args: object, **options: object) -> Any:  # noqa: ANN401 - the type of the new method
        warn_renamed(f"{type(self).__name__}.{old}", new)
        return getattr(self, new)(*args, **options)

    call.__doc__ = f"Deprecated: use ``{new}``."
    return call


def with_renamed_names(
    module: str, names: Mapping[str, str], get: Callable[[str], object] | None = None
) -> Callable[[str], object]:
    """A module's ``__getattr__`` that knows old names.

    Args:
        module: its ``__name__``.
        names: new names by old ones.
        get: what looks up the names that load on first use, for a module that has such.
    """

    def look_up(name: str) -> object:
        if name in names:
            warn_renamed(f"{module}.{name}", names[name])
            return getattr(sys.modules[module], names[name])
        if get is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return get(name)

    return look_up


def warn_renamed(old: str, new: str) -> None:
    """Warn the caller of the function that calls this."""
    warnings.warn(f"{old} is deprecated; use {new}", DeprecationWarning, stacklevel=3)
