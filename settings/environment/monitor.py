"""The variables that the monitor reads."""

from settings.environment.messaging import WorkerPort


class MonitorEnvironment(WorkerPort):
    """The variables that the monitor reads: where Kafka is, and its own port. It has no secrets but those of Kafka."""
