"""What the loop of a long-lived command has around it: how it is told to stop, and how it says that it turns."""

import signal
import threading
import time
from types import FrameType
from typing import Any, Protocol

import structlog

log = structlog.get_logger(__name__)

GRACE_SECONDS = 8.0
"""How long a loop may go on with what it holds, once told to stop, before it is made to let go."""


class Overdue(BaseException):
    """The stop was asked for GRACE_SECONDS ago and something still waits for a dependency: let go of it."""


class Stop:
    """A flag that SIGTERM and SIGINT set. Made before anything slow, so that a signal during the start is not lost."""

    def __init__(self, *signals: int) -> None:
        self._asked_at: float | None = None
        self._signals = signals
        self._told: set[tuple[int, str]] = set()
        for number in signals:
            signal.signal(number, self._on_signal)

    def keep_signals(self) -> None:
        """Take the signals back from whatever has taken them; called at each turn of the loop, in the main thread.

        A library that an event handler uses may have set its own handler, the default, or none, or blocked the signal: then
        SIGTERM would end the process in the midst of its work, or never. What is set in C is replaced too, but not seen.
        """
        for number in self._signals:
            before = signal.signal(number, self._on_signal)
            if before != self._on_signal:
                self._tell(number, _name(before))
        for number in signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals).intersection(self._signals):
            self._tell(number, "blocked")

    def _tell(self, number: int, was: str) -> None:
        if (number, was) not in self._told:
            self._told.add((number, was))
            log.error(
                "a signal was taken from this process, which needs it to stop; taken back",
                signal=signal.Signals(number).name,
                was=was,
                hint="find what calls signal.signal() or pthread_sigmask() in a handler of events, and keep it from that",
            )

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.ask()

    def ask(self) -> None:
        """Ask the loop to stop at its next turn."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()

    def __bool__(self) -> bool:
        return self._asked_at is not None

    def raise_if_overdue(self) -> None:
        """Raise Overdue when the stop was asked for too long ago; called from waits that have no other end."""
        if self._asked_at is not None and time.monotonic() - self._asked_at > GRACE_SECONDS:
            raise Overdue


def _name(handler: Any) -> str:
    """What a signal's handler is called, as `signal.signal` returns it: None is one that was set in C."""
    if isinstance(handler, signal.Handlers):
        return handler.name
    return "not Python" if handler is None else getattr(handler, "__qualname__", repr(handler))


class Awaited(Protocol):
    """What a loop may have to wait for, and as which part `/health/ready` names it."""

    @property
    def part(self) -> str:
        """Its name there."""

    @property
    def up(self) -> bool:
        """Whether nothing waits for it."""

    @property
    def why(self) -> str:
        """What a person has to know about it; may be empty."""


class Heartbeat(Protocol):
    """Where a loop says that it turns, that it has joined its group (or has the relay's lock, or stands by), and on what it waits."""

    joined: threading.Event

    def watch(self, *dependencies: Awaited) -> None:
        """Say what the loop depends on; which of these is down is asked for when somebody wants to know."""

    def beat(self) -> None:
        """Say that the loop turned."""

    def report(self, part: str, reason: str) -> None:
        """Say what is the matter with a part of this worker; an empty reason is that nothing is."""
