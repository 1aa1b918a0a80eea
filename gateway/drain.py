"""The gateway's end, in two steps: it says that it is leaving and serves on, and only then closes its door.

A connection that is made in the moment in which the door closes is reset, and no client can tell whether its request was
read. So whoever sends requests here (a load balancer) is told first, by `/health/ready`, and has time to go elsewhere.
"""

import signal
import threading
import time
from dataclasses import dataclass
from types import FrameType

import uvicorn
from health_check.base import HealthCheck
from health_check.exceptions import ServiceUnavailable

leaving = threading.Event()
"""Set once the gateway was told to end: it is not ready, and closes each connection with its next answer."""


@dataclass
class Door(HealthCheck):
    """The gateway takes requests and will go on to."""

    def run(self) -> None:
        """Raises ServiceUnavailable once it was told to end."""
        if leaving.is_set():
            raise ServiceUnavailable("is about to close")


class Server(uvicorn.Server):
    """uvicorn, which after SIGTERM serves on for `seconds`. A second signal, or Ctrl-C, ends it at once."""

    def __init__(self, config: uvicorn.Config, *, seconds: float) -> None:
        super().__init__(config)
        self._seconds = seconds
        self._closes_at = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by the signal."""
        if sig == signal.SIGTERM and self._seconds and not leaving.is_set():
            self._closes_at = time.monotonic() + self._seconds
            leaving.set()
            return
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; whether to end now."""
        if leaving.is_set() and not self.should_exit and time.monotonic() >= self._closes_at:
            super().handle_exit(signal.SIGTERM, None)
        return await super().on_tick(counter)
