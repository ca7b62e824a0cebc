"""Imports lancedb in half its time."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from typing import Any

_REST_CLIENT = "lance_namespace_urllib3_client"  # for catalogues on other machines; lancedb uses its data classes only
_lock = threading.RLock()


def import_lancedb() -> Any:  # noqa: ANN401 - lancedb is not typed
    """Return the module ``lancedb``, without the functions of the REST client that nothing here calls.

    They take half a second of the second that the import takes; ``docs/performance.md`` has the figures.
    """
    with _lock:
        defer_package(_REST_CLIENT)
    return importlib.import_module("lancedb")


def defer_package(name: str) -> None:
    """Have a package's own file run when a name of it is first asked for; its submodules are imported without it.

    Does nothing for a package that is imported already or is not installed.
    """
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    loader, module, is_loaded = spec.loader, importlib.util.module_from_spec(spec), False

    def load_and_get(attribute: str) -> Any:  # noqa: ANN401 - any name of the package
        nonlocal is_loaded
        if not attribute.startswith("__"):  # tools that look through all modules ask for names such as __wrapped__
            with _lock:
                if not is_loaded:
                    is_loaded = True  # before it is so: the package's own modules may ask meanwhile
                    loader.exec_module(module)
            if attribute in module.__dict__:
                return module.__dict__[attribute]
        raise AttributeError(f"module {name!r} has no attribute {attribute!r}")

    module.__dict__["__getattr__"] = load_and_get
    sys.modules[name] = module
