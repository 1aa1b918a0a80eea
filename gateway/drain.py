"""Draining: before the gateway stops listening, it reports that it is not ready and keeps serving for a while.

A connection that is established just as a listener closes is reset, and the client cannot know whether its request was
read. Therefore `/health/ready` first tells the load balancer, which then has time to use another gateway.
"""

import threading
from dataclasses import dataclass

from chassis.health.check import HealthCheck, ServiceUnavailable

draining = threading.Event()
"""Set when the gateway is stopping: it is not ready, and closes each connection after the next response."""


@dataclass
class Listener(HealthCheck):
    """The gateway accepts requests and is not draining."""

    def run(self) -> None:
        """Raises ServiceUnavailable when the gateway is stopping."""
        if draining.is_set():
            raise ServiceUnavailable("is draining")
