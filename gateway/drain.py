"""The gateway's end, in two steps: it says that it is leaving and serves on, and only then stops listening.

A connection that is made in the moment in which a listener closes is reset, and no client can tell whether its request
was read. So whoever sends requests here (a load balancer) is told first, by `/health/ready`, and has time to go elsewhere.
"""

import threading
from dataclasses import dataclass

from health_check.base import HealthCheck
from health_check.exceptions import ServiceUnavailable

draining = threading.Event()
"""Set once the gateway was told to end: it is not ready, and closes each connection with its next answer."""


@dataclass
class Listener(HealthCheck):
    """The gateway takes requests and will go on to."""

    def run(self) -> None:
        """Raises ServiceUnavailable once it was told to end."""
        if draining.is_set():
            raise ServiceUnavailable("is about to close")
