"""Waiting for conditions in tests, never for a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], *, within: float = 60.0, every: float = 0.02, what: str = "") -> T:
    """Call `condition` until it returns something true, and return that.

    `within` is generous, for slow machines, and not a requirement: tests of speed compare with something slow. An
    AssertionError in `condition` also means "not yet", so that assertions can be polled. After `within` seconds the last
    such error is raised, or an AssertionError that names `what`.
    """
    deadline = time.monotonic() + within
    while True:
        failure: AssertionError | None = None
        try:
            result = condition()
        except AssertionError as error:
            failure = error
        else:
            if result:
                return result
        if time.monotonic() > deadline:
            raise failure or AssertionError(f"not within {within:g} s: {what or condition}")
        time.sleep(every)
