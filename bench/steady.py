"""Minutes of steady load: whether memory or the response times grow.

    PYTHONPATH=platform .venv/bin/python -m bench.steady [--minutes 5] [--rate 20]

`POST /api/users` at a constant rate, everything running. Every WINDOW_SECONDS, the memory of all Python processes (PSS) and the
p99 of the response times are noted. The first window is left out, since caches fill; then the last third is compared with the
first third. Kafka and PostgreSQL are left out: their caches grow until they are full.
"""

import asyncio
import statistics
import sys
import time
import uuid

import httpx2

from bench import command, processes
from bench.live import Live
from bench.table import Row, each, percentile

WINDOW_SECONDS = 20.0
MEMORY, P99 = 1.03, 1.5
"""How much larger the last third may be. Response times vary with what else the machine does, memory does not."""


def measure(live: Live, minutes: float = 5.0, rate: float = 20.0) -> list[Row]:
    """Measure, and return a row for memory and one for the response times."""
    windows = max(4, round(minutes * 60 / WINDOW_SECONDS))
    memory, p99 = [], []
    for number in range(windows):
        print(f"steady load, window {number + 1} of {windows}", file=sys.stderr, flush=True)
        times = asyncio.run(_post(live.addresses["GATEWAY_URL"], rate, WINDOW_SECONDS))
        p99.append(percentile(times, 99) * 1000)
        pids = [pid for child in live.children.values() for pid in child.family()]
        memory.append(processes.memory(pids).pss)
    what = f"{minutes:g} minutes of {rate:g} `POST /api/users` per second"
    return [
        _row(f"{what}: memory of all Python processes", "MiB", memory[1:], MEMORY),
        _row(f"{what}: p99", "ms", p99[1:], P99),
    ]


def _row(what: str, unit: str, found: list[float], most: float) -> Row:
    third = max(1, len(found) // 3)
    growth = statistics.median(found[-third:]) / statistics.median(found[:third])
    reference = "the first third of the windows"
    return Row(what, f"{each(found)} {unit}", reference, growth, f"≤ {most}", growth <= most)


async def _post(gateway: str, rate: float, seconds: float) -> list[float]:
    """The response times of POSTs at a constant rate, in seconds. One that is slow delays no other."""
    times: list[float] = []

    async def post(client: httpx2.AsyncClient) -> None:
        began = time.perf_counter()
        response = await client.post("/api/users", json={"email": f"{uuid.uuid4()}@example.org", "name": "Ada"})
        response.raise_for_status()
        times.append(time.perf_counter() - began)

    async with httpx2.AsyncClient(base_url=gateway, timeout=30) as client, asyncio.TaskGroup() as group:
        began = time.monotonic()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            group.create_task(post(client))
    return times


if __name__ == "__main__":
    command.run(measure, __doc__)
