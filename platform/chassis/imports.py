"""Keeps out of memory what libraries load only because it happens to be installed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Import, in the body, a library as if these optional dependencies of it were not installed.

    What is loaded already stays; what is hidden here can be imported again afterwards.
    """
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is Python's own mark for "not to be found"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
