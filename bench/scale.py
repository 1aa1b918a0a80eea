"""What an event and a request cost if more processes share the work: 1, 2 and 4 consumers, 1, 2 and 4 web processes.

    PYTHONPATH=platform .venv/bin/python -m bench.scale [--rounds 3] [--events 10000]

The figures are processor time, since the machine may have fewer cores than there are processes: what is measured is the cost
of sharing, such as smaller batches. The topics have 12 partitions. Requires `wrk`.
"""

import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

from bench import command, load, processes
from bench.drain import drain
from bench.live import Live
from bench.table import Row
from embedded import ports
from embedded.processes import Child, drive
from embedded.runner import READY_WITHIN, get

NUMBERS = (1, 2, 4)
PARTITIONS = {"KAFKA_TOPIC_PARTITIONS": "12"}
MOST = 1.15
SECONDS = 4


def measure(live: Live, rounds: int = 3, events: int = 10_000) -> list[Row]:
    """Measure, and return a row for each number of consumers and of web processes after the first."""
    return [
        *_rows("consumers of orders: CPU time of an event", [_consumers(live, n, rounds, events) for n in NUMBERS]),
        *_rows("web processes of users: CPU time of `GET /users/{id}`", [_web(live, n, rounds) for n in NUMBERS]),
    ]


def _rows(what: str, costs: list[float]) -> list[Row]:
    return [
        Row(
            f"{number} {what}",
            f"{cost:.0f} µs",
            f"with one: {costs[0]:.0f} µs",
            cost / costs[0],
            f"≤ {MOST}",
            cost / costs[0] <= MOST,
        )
        for number, cost in zip(NUMBERS[1:], costs[1:], strict=True)
    ]


def _consumers(live: Live, number: int, rounds: int, events: int) -> float:
    """Microseconds of CPU time of all consumers of orders for each user.created and its payment.completed."""
    print(f"{number} consumers of orders", file=sys.stderr, flush=True)
    for index in range(1, number):
        if f"orders-consume-{index}" not in live.children:
            live.children[f"orders-consume-{index}"] = _consumer(live, index)
    drain(live, events // 5)  # warm, and the group has settled
    costs = [drain(live, events).cost for _ in range(rounds)]
    return statistics.median(
        sum(used for name, used in cost.items() if name.startswith("orders-consume")) for cost in costs
    )


def _consumer(live: Live, index: int) -> Child:
    [port] = ports.free(1)
    variables = {"WORKER_PORT": str(port), "CONSUMER_ID": f"orders-{index}"}
    argv = [sys.executable, "manage.py", "consume"]
    child = live.child(f"orders-consume-{index}", argv, "orders", variables)
    drive(child.until(lambda: get(port, "/health/ready")[0] == 200, within=READY_WITHIN))
    return child


def _web(live: Live, number: int, rounds: int) -> float:
    """Microseconds of CPU time of all web processes for a request."""
    print(f"{number} web processes of users", file=sys.stderr, flush=True)
    with _serving(live, number) as (url, child):
        load.run(url, 1)  # warm
        costs = []
        for _ in range(rounds):
            before = processes.seconds(child.family())
            run = load.run(url, SECONDS)
            costs.append((processes.seconds(child.family()) - before) / (run.per_second * SECONDS) * 1e6)
    return statistics.median(costs)


@contextmanager
def _serving(live: Live, number: int) -> Iterator[tuple[str, Child]]:
    [port] = ports.free(1)
    argv = [sys.executable, "-m", "gunicorn", "users.wsgi:application", "--config", "settings/gunicorn.py"]
    argv += ["--bind", f"127.0.0.1:{port}"]
    child = live.child(f"users-{number}", argv, "users", {"WEB_CONCURRENCY": str(number)})
    try:
        drive(child.until(lambda: get(port, "/health/ready")[0] == 200, within=READY_WITHIN))
        users = f"http://127.0.0.1:{port}/users"
        created = httpx2.post(users, json={"email": f"scale-{number}@example.org", "name": "Ada"}).raise_for_status()
        yield f"{users}/{created.json()['id']}", child
    finally:
        child.stop()


if __name__ == "__main__":
    command.run(measure, __doc__, PARTITIONS)
