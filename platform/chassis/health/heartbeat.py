"""The heartbeat of a worker: its loop beats at every turn, and a loop that turns is what "live" means."""

import threading
import time

from chassis.observability import metrics
from chassis.runtime.shutdown import Awaited


class Heartbeat:
    """When a loop last turned, and whether it has what it needs to work."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.joined = threading.Event()
        self._last = time.monotonic()
        self._dependencies: tuple[Awaited, ...] = ()
        self._said: dict[str, str] = {}

    def watch(self, *dependencies: Awaited) -> None:
        """Say what the loop depends on."""
        self._dependencies = dependencies

    def waits_for(self, part: str) -> bool:
        """Whether the loop waits for this part: it may answer others, and yet not do what the loop asks of it."""
        return any(one.part == part and not one.up for one in self._dependencies)

    def report(self, part: str, reason: str) -> None:
        """Say what is the matter with a part of this worker; an empty reason is that nothing is."""
        self._said[part] = reason

    def said(self, part: str) -> str:
        """What the loop has said about a part, or nothing."""
        return self._said.get(part, "")

    def why(self, part: str) -> str:
        """What a person has to know about this part while the loop waits for it; may be empty."""
        return "; ".join(one.why for one in self._dependencies if one.part == part and not one.up and one.why)

    def beat(self) -> None:
        """Say that the loop turned. Cheap: call it every turn, and between the steps of a long one."""
        self._last = time.monotonic()
        metrics.LOOP_LAST_TURN.labels(self.name).set_to_current_time()

    def age(self) -> float:
        """Seconds since the last beat, or since the start."""
        return time.monotonic() - self._last


loop = Heartbeat("main")
"""The one loop of a worker process."""

beat = loop.beat
joined = loop.joined
"""Set when the worker has joined its group (or leads, or stands by), cleared when it has lost that."""
