"""The time series of the topics that a consumer handles, at 0 from the start, so that `increase()` sees the first event of each."""

from itertools import product

from django.conf import settings

from chassis.deadletters.record import REASONS
from chassis.events.registry import handlers
from chassis.observability import metrics
from chassis.observability.catalogue import start_at_zero
from chassis.outbox import series as outbox_series

BY_TOPIC = (
    metrics.EVENTS_CONSUMED,
    metrics.EVENTS_DUPLICATE,
    metrics.EVENTS_RETRIED,
    metrics.EVENTS_LOST,
    metrics.EVENTS_HELD,
    metrics.EVENTS_BLOCKED_KEYS,
    metrics.EVENTS_STOPPED,
    metrics.EVENTS_DELAY,
    metrics.EVENTS_SINCE_ORIGIN,
    metrics.PROCESS_SECONDS,
    metrics.TOPICS_RECREATED,
)


def start_consumer() -> None:
    """Start the series of a consumer: of the topics that its service handles, and of its dependencies."""
    topics = list(handlers())
    for metric in BY_TOPIC:
        start_at_zero(metric, *([topic] for topic in topics))
    for metric in (metrics.EVENTS_FAILED, metrics.EVENTS_DEAD_LETTERED):
        start_at_zero(metric, *product(topics, REASONS))
    dependencies = ["database", "broker"] if settings.SERVICE_DATABASE else ["broker"]
    start_at_zero(metrics.EVENTS_DEPENDENCY_WAITS, *([one] for one in dependencies))
    if settings.SERVICE_DATABASE:
        outbox_series.start_written()
