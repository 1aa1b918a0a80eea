"""The clock of `dependency_up` and `health_part_status`: it checks the parts of readiness even without a prober.

It runs in a thread of its own. A scrape reads what was found last, and waits for no service.
"""

import threading
import time

import structlog

from chassis.health import probe, registry
from chassis.observability.catalogue import start_at_zero
from chassis.observability.metrics import DEPENDENCY_UP, HEALTH_PART_STATUS

log = structlog.get_logger(__name__)


class Clock:
    """Checks all parts every `every` seconds. Until the first check has ended, the gauges are 0."""

    def __init__(self, *, every: float) -> None:
        self._every = every
        self._parts = registry.parts()

    def start(self) -> None:
        """Start the thread, which ends with the process."""
        start_at_zero(HEALTH_PART_STATUS, *((part.name,) for part in self._parts))
        start_at_zero(DEPENDENCY_UP, *((part.name,) for part in self._parts if part.sets_dependency))
        threading.Thread(target=self._run, name="parts", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                probe.examine(self._parts)  # sets the gauges
            except Exception:
                # A thread that ended would leave its last findings in the gauges.
                log.exception("the parts could not be checked")
            time.sleep(self._every)
