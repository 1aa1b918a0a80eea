"""The heartbeat of a worker: its loop beats at every turn, and a loop that turns is what "live" means."""

import threading
import time
from typing import Protocol

from chassis.observability import metrics


class Dependency(Protocol):
    """What a loop may have to wait for, as the loop itself sees it."""

    part: str

    @property
    def up(self) -> bool:
        """Whether the last try succeeded."""


class Heartbeat:
    """When a loop last turned, and whether it has what it needs to work."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.joined = threading.Event()
        self._last = time.monotonic()
        self._dependencies: tuple[Dependency, ...] = ()
        self._warnings: dict[str, str] = {}

    def watch(self, *dependencies: Dependency) -> None:
        """Say what the loop depends on."""
        self._dependencies = dependencies

    def waits_for(self, part: str) -> bool:
        """Whether the loop waits for this part: it may answer others, and yet not do what the loop asks of it."""
        return any(one.part == part and not one.up for one in self._dependencies)

    def warn(self, part: str, reason: str) -> None:
        """Say that something needs a person, though the loop works; it stays so for the life of the process."""
        self._warnings[part] = reason

    def warning(self, part: str) -> str:
        """What was said last about this part; empty when nothing was."""
        return self._warnings.get(part, "")

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
