"""How long each process takes from its start to its first answer, one at a time in a running system.

    PYTHONPATH=platform .venv/bin/python -m bench.starts [--rounds 3]

A process is stopped, and started again as in a container: it is no fork (ADR 0068). Its first answer is that of /health/live, or of
/health/ready, which a worker gives once it has joined its group or acquired its lock.
"""

import statistics
import sys
import time

from bench import command, processes
from bench.live import Live
from bench.table import Row
from embedded.processes import drive
from embedded.runner import READY_WITHIN, get
from embedded.system import PROCESSES, Process

LONGEST = 1.0
"""Seconds."""


def measure(live: Live, rounds: int = 3) -> list[Row]:
    """Measure, and return a row for each process."""
    rows = []
    for process in PROCESSES:
        print(f"start of {process.name}", file=sys.stderr, flush=True)
        found = [_start(live, process) for _ in range(rounds)]
        alive, ready, used = (statistics.median(one[part] for one in found) for part in range(3))
        rows.append(
            Row(
                f"start of {process.name}",
                f"alive after {alive:.2f} s, ready after {ready:.2f} s, {used:.2f} s of CPU time",
                "",
                None,
                f"alive ≤ {LONGEST:g} s",
                alive <= LONGEST,
            )
        )
    return rows


def _start(live: Live, process: Process) -> tuple[float, float, float]:
    """The seconds to the first answer, to readiness, and of CPU time until then."""
    port = live.ports[process.name]
    live.children[process.name].stop()
    began = time.monotonic()
    argv = process.argv(sys.executable, port)
    child = live.child(process.name, argv, process.service, process.variables(port), alone=True)
    live.children[process.name] = child
    drive(child.until(lambda: get(port, "/health/live")[0] == 200, within=READY_WITHIN))
    alive = time.monotonic() - began
    drive(child.until(lambda: get(port, "/health/ready")[0] == 200, within=READY_WITHIN))
    return alive, time.monotonic() - began, processes.seconds(child.family())


if __name__ == "__main__":
    command.run(measure, __doc__)
