"""Waiting for conditions in tests, never for a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.01, 0.25, 1.2


def eventually(condition: Callable[[], T], *, within: float = 60.0, every: float | None = None, what: str = "") -> T:
    """Call `condition` until it returns something true, and return that.

    The pauses between the calls grow, since frequent calls slow down what is waited for; with `every`, each is that long.

    `within` is generous, for slow machines, and not a requirement: tests of speed compare with something slow. An
    AssertionError in `condition` also means "not yet", so that assertions can be polled. After `within` seconds the last
    such error is raised, or an AssertionError that names `what`.
    """
    deadline = time.monotonic() + within
    pause = FIRST_PAUSE if every is None else every
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
        time.sleep(pause)
        if every is None:
            pause = min(pause * GROWTH, LONGEST_PAUSE)
