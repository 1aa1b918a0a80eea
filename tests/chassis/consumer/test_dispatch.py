"""The time limit of handlers, which requires the main thread, in which tests and workers run."""

import signal
import time

import pytest

from chassis.consumer.dispatch import time_limit
from chassis.runtime.failures import HandlerFailed, HandlerTimeout


def test_interrupts_a_handler_that_computes_forever():
    with pytest.raises(HandlerTimeout, match=r"longer than 0\.1 s"), time_limit(0.1):  # noqa: PT012
        while True:
            pass


def test_interrupts_a_handler_that_waits_forever():
    with pytest.raises(HandlerTimeout), time_limit(0.1):
        signal.pause()


def test_a_handler_that_catches_the_timeout_gets_another():
    caught = []

    def stubborn():
        while len(caught) < 2:
            try:
                signal.pause()
            except BaseException as error:
                caught.append(error)
        signal.pause()

    with pytest.raises(HandlerTimeout), time_limit(0.1):
        stubborn()
    assert [type(error) for error in caught] == [HandlerTimeout] * 2


class TextThatEnds(Exception):
    def __str__(self):
        raise SystemExit(3)


def test_an_exception_without_a_message_is_also_logged():
    assert str(HandlerFailed(TextThatEnds())) == "TextThatEnds: (no text: SystemExit)"
    assert len(str(HandlerFailed(ValueError("x" * 10_000_000)))) < 21_000


def test_a_fast_handler_is_not_interrupted_nor_is_later_code():
    with time_limit(0.05):
        done = True
    deadline = time.monotonic() + 0.2
    while time.monotonic() < deadline:
        pass
    assert done
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
