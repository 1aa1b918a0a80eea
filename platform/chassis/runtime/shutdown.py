"""Shutdown of long-lived commands: the signals that stop a loop, and the heartbeat that shows that it is not stuck."""

import os
import signal
import threading
import time
from functools import cache
from types import FrameType
from typing import Any, Protocol

import structlog

log = structlog.get_logger(__name__)

GRACE_SECONDS = 8.0
"""How long a loop that was told to stop may continue with unfinished work before it is interrupted."""


class Overdue(BaseException):
    """The loop was told to stop GRACE_SECONDS ago and still waits for a dependency: give up."""


class Stop:
    """A flag that SIGTERM and SIGINT set. Create it before anything slow, so that no signal during startup is lost."""

    def __init__(self, *signals: int) -> None:
        self._requested_at: float | None = None
        self._signals = signals
        self._reported: set[tuple[int, str]] = set()
        for number in signals:
            signal.signal(number, self._on_signal)
        if signals:
            _arrived()

    def keep_signals(self) -> None:
        """Restore the handling of the signals; call it in each iteration of the loop, in the main thread.

        A library that an event handler uses may have replaced, reset, ignored or blocked a signal: SIGTERM would then
        terminate the process during its work, or have no effect. A handler that was set in C is replaced too, but not detected.

        A signal that another Python function has received since the last call tells the loop to stop. One that arrived while
        signals were ignored cannot be found: the kernel discards it.
        """
        if self._signals and not _arrived().isdisjoint(self._signals):
            self.ask()
        for number in self._signals:
            before = signal.signal(number, self._on_signal)
            if before != self._on_signal:
                self._report(number, _name(before))
        for number in signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals).intersection(self._signals):
            self._report(number, "blocked")

    def _report(self, number: int, was: str) -> None:
        if (number, was) not in self._reported:
            self._reported.add((number, was))
            log.error(
                "the handling of a signal was changed; restored, since this process needs it to stop",
                signal=signal.Signals(number).name,
                was=was,
                hint="an event handler, or a library that it uses, calls signal.signal() or pthread_sigmask(): remove that call",
            )

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.ask()

    def ask(self) -> None:
        """Tell the loop to stop before its next iteration."""
        if self._requested_at is None:
            self._requested_at = time.monotonic()

    def __bool__(self) -> bool:
        return self._requested_at is not None

    def raise_if_overdue(self) -> None:
        """Raise Overdue if the loop was told to stop more than GRACE_SECONDS ago; call it in waits without another limit."""
        if self._requested_at is not None and time.monotonic() - self._requested_at > GRACE_SECONDS:
            raise Overdue


@cache
def _arrivals() -> tuple[int, int]:
    """The ends of a pipe into which Python writes each signal that it receives, whichever function handles it."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    # The pipe is this process's: a signal of a forked child is none of the parent's.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    return reader, writer


def _arrived() -> set[int]:
    """The signals that Python has received since the last call, and let it note the next ones. Only for the main thread."""
    reader, writer = _arrivals()
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        return set(os.read(reader, 65_536))
    except BlockingIOError:
        return set()


def _name(handler: Any) -> str:
    """The name of a signal handler, as returned by `signal.signal`: None means that it was set in C."""
    if isinstance(handler, signal.Handlers):
        return handler.name
    return "not Python" if handler is None else getattr(handler, "__qualname__", repr(handler))


class Awaited(Protocol):
    """Something for which a loop may have to wait, and which `/health/ready` reports."""

    @property
    def part(self) -> str:
        """The name of its check."""

    @property
    def up(self) -> bool:
        """Whether nothing waits for it."""

    @property
    def why(self) -> str:
        """A hint for the operator; may be empty."""


class Heartbeat(Protocol):
    """The state that a loop reports: that it is running, that it has joined its group (or, as a relay, is ready), and its waits."""

    joined: threading.Event

    def watch(self, *dependencies: Awaited) -> None:
        """Register the loop's dependencies, whose state is read when a health check asks for it."""

    def beat(self) -> None:
        """Note that the loop is running."""

    def report(self, part: str, reason: str) -> None:
        """Report why a check of this worker fails; an empty reason means that it passes."""
