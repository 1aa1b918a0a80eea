"""Saves memory and start time by hiding what a library imports although this system does not use it."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Make imports in the body behave as if these optional dependencies were not installed.

    Modules that are already loaded remain; the hidden ones can be imported afterwards.
    """
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # with None, Python raises ModuleNotFoundError
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def without_init(package: str) -> None:
    """Let the modules of this package be imported without running its `__init__`, which imports all of them.

    Afterwards the package itself has no attributes but these modules. Does nothing if it is already loaded.
    Raises ModuleNotFoundError if it is not installed.
    """
    if package in sys.modules:
        return
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    sys.modules[package] = importlib.util.module_from_spec(spec)
