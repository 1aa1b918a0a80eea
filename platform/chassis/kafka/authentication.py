"""Whether the broker rejects this process's credentials. librdkafka's messages vary; the instructions logged here do not."""

import time

import structlog
from confluent_kafka import KafkaError

log = structlog.get_logger(__name__)

CHECK = (
    "check KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD, KAFKA_SASL_MECHANISM and KAFKA_SECURITY_PROTOCOL of this process,"
    " and the account at the broker"
)
EPISODE_SECONDS = 15.0
"""A rejected client retries every two seconds; after this time without an error, its credentials are accepted."""

_rejected_at = float("-inf")


def note(error: KafkaError) -> None:
    """Note an error of any client of this process; the first rejection of an episode is logged with instructions."""
    global _rejected_at  # noqa: PLW0603  all clients of a process use the same credentials
    if error.code() != KafkaError._AUTHENTICATION:
        return
    if not is_rejected():
        log.error("the broker rejects the credentials", check=CHECK, reason=error.str())
    _rejected_at = time.monotonic()


def is_rejected() -> bool:
    """Whether a client of this process was rejected within EPISODE_SECONDS."""
    return time.monotonic() - _rejected_at < EPISODE_SECONDS
