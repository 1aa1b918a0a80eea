"""Whether a Kafka client is connected to a broker. The client reports when it loses the last one, but not when it reconnects.

It does not always report it, and does not always reconnect: see renewal.py.
"""

import math
import time

from confluent_kafka import Consumer, KafkaError, KafkaException

from chassis.kafka import clients
from chassis.runtime.dependency import Dependency

LOOK_AFTER_SECONDS = 1.0
"""How long after a client lost its brokers to check: by then it has reconnected, or has reported why it cannot."""
PATIENCE_SECONDS = 0.5
"""Timeout of the check."""


class Connectivity:
    """The connection state of a client, from its errors (`on_error` is its `error_cb`) and from checks."""

    def __init__(self, broker: Dependency) -> None:
        self._broker = broker
        self._look_at = math.inf

    @property
    def in_doubt(self) -> bool:
        """Whether the client has lost its brokers and has not been seen to reconnect."""
        return self._look_at < math.inf

    def on_error(self, error: KafkaError) -> None:
        """Note that the client has lost every broker, or is rejected. It keeps retrying, and reports each failure."""
        clients.on_error(error)
        if error.code() not in clients.UNREACHABLE:
            return
        if self._broker.up and error.code() == KafkaError._AUTHENTICATION:
            self._broker.failed(KafkaException(error))
        self._look_at = min(self._look_at, time.monotonic() + LOOK_AFTER_SECONDS)

    def found(self, client: Consumer) -> bool:
        """Check the connection if it is due. Returns True if the client has just reconnected."""
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
