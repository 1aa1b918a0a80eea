"""The heartbeat of a worker: its loop beats in each iteration, and the worker is live as long as it does."""

import threading
import time

from chassis.observability import metrics
from chassis.runtime.shutdown import Awaited


class Heartbeat:
    """When a loop last ran, and whether it waits for a dependency."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.joined = threading.Event()
        self.last = time.monotonic()
        """When the loop last ran, on the monotonic clock, or when this was created."""
        self._dependencies: tuple[Awaited, ...] = ()
        self._reported: dict[str, str] = {}

    def watch(self, *dependencies: Awaited) -> None:
        """Register the loop's dependencies."""
        self._dependencies = dependencies

    def waits_for(self, part: str) -> bool:
        """Whether the loop waits for this part, which may respond to a check and still fail the loop's requests."""
        return any(one.part == part and not one.up for one in self._dependencies)

    def report(self, part: str, reason: str) -> None:
        """Report why a check of this worker fails; an empty reason means that it passes."""
        self._reported[part] = reason

    def reported(self, part: str) -> str:
        """The reason that the loop has reported for a part; may be empty."""
        return self._reported.get(part, "")

    def why(self, part: str) -> str:
        """A hint for the operator about this part while the loop waits for it; may be empty."""
        return "; ".join(one.why for one in self._dependencies if one.part == part and not one.up and one.why)

    def beat(self) -> None:
        """Note that the loop is running. Cheap: call it in each iteration, and between the steps of a long one."""
        self.last = time.monotonic()
        metrics.LOOP_LAST_TURN.labels(self.name).set_to_current_time()

    def age(self) -> float:
        """The seconds since the last beat, or since the start."""
        return time.monotonic() - self.last


loop = Heartbeat("main")
"""The one loop of a worker process."""

beat = loop.beat
joined = loop.joined
"""Set while the worker is a member of its group, or, as a relay, is active or stands by."""
