"""The statistics of Kafka clients as metrics: round-trip times and queued records. Only for clients that are polled regularly.

librdkafka queues a report every STATISTICS_SECONDS until the client is polled. Handling one takes about 0.05 ms.
"""

import time
from typing import Any

import orjson

from chassis.observability import metrics

STATISTICS_SECONDS = 5

_queued: dict[str, tuple[float, int]] = {}
"""When each client of this process last reported, and how many records it had queued."""


def options() -> dict[str, Any]:
    """The options of a client that reports its statistics."""
    return {"statistics.interval.ms": STATISTICS_SECONDS * 1000, "stats_cb": note}


def note(report: str) -> None:
    """Set the metrics from a client's report, which is JSON."""
    statistics = orjson.loads(report)
    _note_round_trips(statistics["brokers"].values())
    now = time.monotonic()
    _queued[statistics["name"]] = (now, statistics["msg_cnt"])
    for name in [name for name, (at, _) in _queued.items() if now - at > 3 * STATISTICS_SECONDS]:
        del _queued[name]  # that client has been closed
    metrics.KAFKA_QUEUE_MESSAGES.set(sum(number for _, number in _queued.values()))


def _note_round_trips(connections: Any) -> None:
    """A consumer has two connections to its coordinator, of which one waits for records: the faster one counts."""
    fastest: dict[int, float] = {}
    for connection in connections:
        node, window = connection["nodeid"], connection["rtt"]
        if node >= 0 and window["cnt"]:
            seconds = window["avg"] / 1e6
            fastest[node] = min(seconds, fastest.get(node, seconds))
    for node, seconds in fastest.items():
        metrics.KAFKA_BROKER_RTT.labels(str(node)).set(seconds)
