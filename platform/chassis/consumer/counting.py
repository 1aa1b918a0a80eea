"""The metrics of a committed batch: how many events, how long it took, and how old the events were."""

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from chassis.consumer.unit_of_work import BatchResult
from chassis.events.registry import Received
from chassis.kafka.records import Record
from chassis.observability import metrics
from chassis.observability.bulk import observe_each


def count(batch: Sequence[Record], result: BatchResult, seconds: float) -> None:
    """Count a batch that took this long from its start to its commit, which has just succeeded."""
    metrics.EVENTS_BATCH_SIZE.observe(len(batch))
    metrics.EVENTS_BATCH_SECONDS.observe(seconds)
    now = time.time()
    by_topic: dict[str, list[tuple[Record, Received[Any]]]] = {}
    for pair in result.handled:
        by_topic.setdefault(pair[0].topic, []).append(pair)
    for topic, pairs in by_topic.items():
        metrics.EVENTS_CONSUMED.labels(topic).inc(len(pairs))
        written = [record.timestamp_ms / 1000 for record, _ in pairs if record.timestamp_ms >= 0]
        began = [datetime.fromisoformat(event.origin_time).timestamp() for _, event in pairs if event.origin_time]
        observe_each(metrics.EVENTS_DELAY.labels(topic), [max(0.0, now - at) for at in written])
        observe_each(metrics.EVENTS_SINCE_ORIGIN.labels(topic), [max(0.0, now - at) for at in began])
    for topic, number in Counter(record.topic for record in result.duplicates).items():
        metrics.EVENTS_DUPLICATE.labels(topic).inc(number)
