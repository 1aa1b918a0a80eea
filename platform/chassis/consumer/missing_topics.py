"""Topics that a consumer reads or writes and that are missing or not permitted, reported in the log and in `/health/ready`."""

from collections.abc import Iterable

import structlog
from confluent_kafka import KafkaError, KafkaException

log = structlog.get_logger(__name__)

STATES = {
    KafkaError.UNKNOWN_TOPIC_OR_PART: "missing",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "not permitted",
}
"""Errors about a single topic. Any other error is about the broker, and says nothing about the topic."""

HINT = (
    "create missing topics with `manage.py topics` for the service that publishes them; grant READ on consumed topics and"
    " WRITE on the others"
)


class MissingTopics:
    """The state of `topics`. In `/health/ready` it belongs to the check `broker`."""

    part = "broker"

    def __init__(self, topics: Iterable[str] = ()) -> None:
        self.topics = frozenset(topics)
        self._found: dict[str, str] = {}

    @property
    def up(self) -> bool:
        """Whether all topics can be used, as far as is known."""
        return not self._found

    @property
    def why(self) -> str:
        """Which topics cannot be used, and what to do."""
        found = sorted(self._found.items())  # atomic: another thread calls this
        return f"topics cannot be used: {', '.join(f'{topic} ({state})' for topic, state in found)}; {HINT}"

    def answered(self, topic: str, error: BaseException | None) -> None:
        """Note the broker's response to a request for a topic."""
        if topic not in self.topics:
            return
        if error is None:
            if self._found.pop(topic, None):
                log.info("topic can be used now", topic=topic)
        elif isinstance(error, KafkaException) and (state := STATES.get(error.args[0].code())):
            if self._found.get(topic) != state:
                log.error("topic cannot be used", topic=topic, state=state, hint=HINT)
            self._found[topic] = state
