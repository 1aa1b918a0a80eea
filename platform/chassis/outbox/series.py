"""The time series of the outbox's topics, at 0 from the start, so that `increase()` sees the first event of each."""

from chassis.events.registry import handlers, published
from chassis.kafka import names
from chassis.observability import metrics
from chassis.observability.catalogue import start_at_zero
from chassis.outbox import retention


def start_written() -> None:
    """Start the series of a process that writes to the outbox: of the topics that its service publishes."""
    start_at_zero(metrics.OUTBOX_WRITTEN, *([names.topic(event)] for event in published()))


def start_relay() -> None:
    """Start the series of a relay: of the topics that its service publishes, its dead-letter topics, and what it purges."""
    topics = [*map(names.topic, published()), *map(names.dead_letter_topic, handlers())]
    for metric in (metrics.OUTBOX_PUBLISHED, metrics.OUTBOX_REFUSED, metrics.OUTBOX_TOPIC_WAITS):
        start_at_zero(metric, *([topic] for topic in topics))
    start_at_zero(metrics.PURGED_ROWS, *([expiry.table] for expiry in retention.expiries()))
