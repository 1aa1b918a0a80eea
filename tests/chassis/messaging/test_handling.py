"""The time limit of a handler; it needs the main thread, in which tests and workers run."""

import signal
import time

import pytest

from chassis.messaging.failures import HandlerTimeout
from chassis.messaging.handling import time_limit


def test_ends_a_handler_that_computes_for_ever():
    with pytest.raises(HandlerTimeout, match=r"longer than 0\.1 s"), time_limit(0.1):  # noqa: PT012
        while True:
            pass


def test_ends_a_handler_that_waits_for_ever():
    with pytest.raises(HandlerTimeout), time_limit(0.1):
        signal.pause()


def test_a_handler_in_time_is_left_alone_and_so_is_what_comes_after_it():
    with time_limit(0.05):
        done = True
    deadline = time.monotonic() + 0.2
    while time.monotonic() < deadline:
        pass
    assert done
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
