"""Topics that a consumer reads or writes and that are missing, or closed to it: said in the log and by `/health/ready`."""

from collections.abc import Iterable

import structlog
from confluent_kafka import KafkaError, KafkaException

log = structlog.get_logger(__name__)

STATES = {
    KafkaError.UNKNOWN_TOPIC_OR_PART: "missing",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "not permitted",
}
"""What the broker says of one topic. Any other error is about the broker, and tells nothing of the topic."""

HINT = (
    "make missing topics with `manage.py topics` for the service that publishes them, and grant READ on those that are"
    " consumed and WRITE on the others"
)


class MissingTopics:
    """Which of `topics` cannot be used. For `/health/ready` it is a part of the broker."""

    part = "broker"

    def __init__(self, topics: Iterable[str] = ()) -> None:
        self.topics = frozenset(topics)
        self._found: dict[str, str] = {}

    @property
    def up(self) -> bool:
        """Whether all topics are there, as far as is known."""
        return not self._found

    @property
    def why(self) -> str:
        """Which topics cannot be used, and what to do."""
        found = sorted(self._found.items())  # one step: another thread asks
        return f"topics cannot be used: {', '.join(f'{topic} ({state})' for topic, state in found)}; {HINT}"

    def answered(self, topic: str, error: BaseException | None) -> None:
        """What the broker says when it is asked for a topic."""
        if topic not in self.topics:
            return
        if error is None:
            if self._found.pop(topic, None):
                log.info("topic can be used now", topic=topic)
        elif isinstance(error, KafkaException) and (state := STATES.get(error.args[0].code())):
            if self._found.get(topic) != state:
                log.error("topic cannot be used", topic=topic, state=state, hint=HINT)
            self._found[topic] = state
