import signal
import time
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand

from chassis.health import checks
from chassis.health.heartbeat import Heartbeat, loop
from chassis.health.registry import Part
from chassis.monitor.monitor import run
from chassis.runtime.background import in_background
from chassis.runtime.shutdown import Stop
from chassis.workers import worker

STUCK_SECONDS = 60.0
"""Longer than a round, of which each request takes two seconds at most."""


class Command(BaseCommand):
    """`monitor`: measure the lag and the members of all consumer groups until SIGTERM. The system needs one of it."""

    help = "Measure the lag and the members of the consumer groups, and the dead-letter topics, of the whole system."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Measure in the background: a request to a broker in progress must not delay the end."""
        stop = Stop(signal.SIGTERM, signal.SIGINT)
        with (
            worker.serving("monitor", _parts(loop)) as heartbeat,
            in_background("monitor", partial(run, heartbeat), 0.5),
        ):
            while not stop:
                time.sleep(0.1)


def _parts(heartbeat: Heartbeat) -> list[Part]:
    """What the monitor needs: its clock, and a broker."""
    return [
        Part("loop", checks.Loop(heartbeat, within=STUCK_SECONDS)),
        Part("broker", checks.Awaited("broker", checks.Broker(), heartbeat)),
    ]
