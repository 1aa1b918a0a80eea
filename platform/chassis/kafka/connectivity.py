"""Whether a Kafka client has a broker to talk to: it says when it has lost the last one, and not when it has one again."""

import math
import time

from confluent_kafka import Consumer, KafkaError, KafkaException

from chassis.kafka import clients
from chassis.runtime.dependency import Dependency

LOOK_AFTER_SECONDS = 1.0
"""After this long a client that has lost its brokers has one again, or has said why it gets none."""
PATIENCE_SECONDS = 0.5
"""How long the answer may take."""


class Connectivity:
    """What a client tells of its brokers (`on_error` is its `error_cb`), and what it finds when it looks."""

    def __init__(self, broker: Dependency) -> None:
        self._broker = broker
        self._look_at = math.inf

    @property
    def in_doubt(self) -> bool:
        """Whether the client has lost its brokers, and has not found one since."""
        return self._look_at < math.inf

    def on_error(self, error: KafkaError) -> None:
        """The client has lost every broker, or none lets it in; it goes on trying by itself, and says so each time."""
        clients.on_error(error)
        if error.code() not in clients.UNREACHABLE:
            return
        if self._broker.up and error.code() == KafkaError._AUTHENTICATION:
            self._broker.failed(KafkaException(error))
        self._look_at = min(self._look_at, time.monotonic() + LOOK_AFTER_SECONDS)

    def found(self, client: Consumer) -> bool:
        """Look whether there is a broker again, if it is time to. Returns whether there is, since this very moment."""
        now = time.monotonic()
        if now < self._look_at or not self._broker.may_try(now):
            return False
        try:
            client.list_topics(clients.ANY_TOPIC, timeout=PATIENCE_SECONDS)
        except KafkaException as exception:
            self._broker.failed(exception)
            return False
        self._look_at = math.inf
        self._broker.answered()
        return True
