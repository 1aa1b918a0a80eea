"""The cost of the console that `make up` starts, and what it does with 10,000 stories in memory.

    make bench ARGS="--only console"

The whole system runs with the console and without it, under the same load. The processes send their spans to the console,
and it follows their logs. The load is more requests per second than are recorded, so the cost no longer grows with it. What is
compared is the CPU time per second of all Python processes, the console included: the difference is what the console takes
from the cores of a developer's machine. For memory, pages, and how soon a story is visible, see pages.py.
"""

import contextlib
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from uuid import uuid4

import httpx2

from bench import pages, processes
from bench.live import Live, running
from bench.table import Row, each
from embedded import ports
from embedded.console import CONSOLE, TRACES_PER_SECOND, Console
from embedded.processes import Child, drive
from embedded.runner import READY_WITHIN, get
from embedded.system import ROOT, environment

MOST = 0.05
"""The part of a machine of two cores that the console may take."""
CORES = 2
PER_SECOND = 2 * TRACES_PER_SECOND
SETTLE_SECONDS = 3.0


def measure(rounds: int, seconds: int = 20) -> list[Row]:
    """Measure, and return the rows of the table."""
    with _system() as (live, console):
        rows = pages.measure(live, console, live.children["console"])
    return [*rows, _cpu(rounds, seconds)]


def _cpu(rounds: int, seconds: int) -> Row:
    found: dict[str, list[float]] = {"without": [], "with": []}
    for number in range(rounds):
        for way in found if number % 2 else reversed(found):
            print(f"round {number + 1}, {way} the console", file=sys.stderr, flush=True)
            found[way].append(_used(seconds, with_console=way == "with"))
    cost = (statistics.median(found["with"]) - statistics.median(found["without"])) / CORES
    return Row(
        f"CPU time per second at {PER_SECOND} `POST /api/users` per second, all Python processes, with the console",
        f"{each([1000 * one for one in found['with']])} ms",
        f"without it: {each([1000 * one for one in found['without']])} ms",
        1 - cost,
        f"≥ {1 - MOST:.2f} of two cores are left",
        cost <= MOST,
    )


def _used(seconds: int, *, with_console: bool) -> float:
    """CPU time per second of the system under load."""
    with contextlib.ExitStack() as stack:
        live = stack.enter_context(_system())[0] if with_console else stack.enter_context(running())
        _load(live, 3)
        time.sleep(SETTLE_SECONDS)
        before, began = _sum(live), time.monotonic()
        _load(live, seconds)
        time.sleep(SETTLE_SECONDS)
        return (_sum(live) - before) / (time.monotonic() - began)


@contextlib.contextmanager
def _system() -> Iterator[tuple[Live, Console]]:
    """The system with its console."""
    console = Console(ports.free(1)[0], "x" * 32, "x" * 32, Path())
    with running(console.variables_of_services()) as live:
        console = replace(console, logs=live.folder)
        with _console(live, console) as live.children["console"]:
            yield live, console


def _sum(live: Live) -> float:
    return sum(processes.seconds(child.family()) for child in live.children.values())


def _load(live: Live, seconds: int) -> None:
    url = f"{live.addresses['GATEWAY_URL']}/api/users"
    with ThreadPoolExecutor(16) as pool, httpx2.Client(timeout=60) as client:
        began = time.monotonic()
        sent = [pool.submit(_post, client, url, began + n / PER_SECOND) for n in range(seconds * PER_SECOND)]
        for one in sent:
            one.result()


def _post(client: httpx2.Client, url: str, at: float) -> None:
    """Send a request, and repeat it if a pause of the machine let it wait for too long: see `WAIT_SECONDS` of the web processes."""
    time.sleep(max(0.0, at - time.monotonic()))
    user = {"email": f"{uuid4()}@example.org", "name": "Ada"}
    while (answer := client.post(url, json=user)).status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        time.sleep(float(answer.headers["Retry-After"]))
    answer.raise_for_status()


@contextlib.contextmanager
def _console(live: Live, console: Console) -> Iterator[Child]:
    own = environment(CONSOLE.service, addresses=live.addresses, secret_key="x" * 50)
    variables = CONSOLE.variables(console.port) | console.variables(live.ports, {})
    argv = CONSOLE.argv(sys.executable, console.port)
    child = Child(argv, name="console", log=live.folder / "console.log", cwd=ROOT, env={**own, **variables})
    try:
        drive(child.until(lambda: get(console.port, "/health/ready")[0] == 200, within=READY_WITHIN))
        yield child
    finally:
        child.stop()
