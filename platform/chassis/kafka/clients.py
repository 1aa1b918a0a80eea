"""The only place that makes Kafka clients: every option that a guarantee rests on stands here."""

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from django.conf import settings

from chassis.kafka import authentication, names, sizes
from chassis.kafka.records import Partition
from chassis.runtime.dependency import Dependency
from chassis.runtime.failures import DependencyDown

log = structlog.get_logger(__name__)

REFUSED_FOR_GOOD = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError._INVALID_DIFFERENT_RECORD,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError._INVALID_ARG,
    }
)
"""What no later try could change, where the record was alone in its request: the broker refuses whole batches.

Everything else (no such topic, no permission, no broker) is waited for."""

UNWRITABLE = (TypeError, ValueError, OverflowError)
"""What produce() raises about arguments that are no record; UnicodeError is a ValueError."""

TOPIC_REFUSES = REFUSED_FOR_GOOD | {
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_TOPIC_ID,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.POLICY_VIOLATION,
}
"""What is about one topic and no other: the broker answers, and does not take this record there, as things are."""

SESSION_SECONDS = (4.0, 6.0)
"""Sessions of a consumer that CONSUMER_SESSION_TIMEOUT_SECONDS says nothing about: the shorter is preferred, and refused by a
broker with Kafka's default for group.min.session.timeout.ms, which allows the longer."""

UNREACHABLE = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION})
"""What a client says when it has no broker to talk to."""

ANY_TOPIC = "__consumer_offsets"
"""A topic that every cluster has, to ask for: the answer stays small. Whether it may be seen does not matter."""


def _common() -> dict[str, Any]:
    options: dict[str, Any] = {
        "bootstrap.servers": settings.KAFKA_BOOTSTRAP_SERVERS,
        "client.id": names.group(),
        "security.protocol": settings.KAFKA_SECURITY_PROTOCOL,
        "socket.keepalive.enable": True,
        "socket.nagle.disable": True,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 2_000,
        "allow.auto.create.topics": False,
        "topic.metadata.refresh.interval.ms": 10_000,
        "error_cb": on_error,
        "logger": _LibrdkafkaLog(),
    }
    if settings.KAFKA_SECURITY_PROTOCOL.startswith("SASL"):
        options |= {
            "sasl.mechanism": settings.KAFKA_SASL_MECHANISM,
            "sasl.username": settings.KAFKA_SASL_USERNAME,
            "sasl.password": settings.KAFKA_SASL_PASSWORD.get_secret_value(),
        }
    if settings.KAFKA_SSL_CA_LOCATION:
        options["ssl.ca.location"] = settings.KAFKA_SSL_CA_LOCATION
    return options


class _LibrdkafkaLog:
    """librdkafka repeats itself at every attempt to connect; what it says is kept at debug level."""

    def log(self, level: int, message: str, *args: Any) -> None:
        log.debug("librdkafka", said=message % args if args else message)


def on_error(error: KafkaError) -> None:
    """What a client says at every attempt: for those who look for it. Rejected credentials are for everybody."""
    log.debug("kafka client error", code=error.name(), reason=error.str())
    authentication.note(error)


def producer(**more: Any) -> Producer:
    """An idempotent producer: a record is acknowledged by all in-sync replicas, once, in order, and never given up."""
    return Producer(
        _common()
        | {
            "enable.idempotence": True,
            "acks": "all",
            # Fewer, fuller requests; a flush, which ends every batch of ours, does not wait for it.
            "linger.ms": 5,
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
            "message.timeout.ms": 0,
            # A topic that is missing fails its own records soon, and holds up those of others only so long.
            "topic.metadata.propagation.max.ms": 3_000,
            "message.max.bytes": sizes.largest_record(),
            "batch.size": sizes.largest_batch(),
            "queue.buffering.max.messages": 200_000,
            "queue.buffering.max.kbytes": sizes.queued_kbytes(),
        }
        | more
    )


def gapless_producer(**more: Any) -> Producer:
    """A producer that sends nothing behind a record that the broker has refused: it is fatal, and another one must be made.

    Without it later batches of the partition would be written, and what is tried again would come behind them.
    """
    return producer(**{"enable.gapless.guarantee": True} | more)


def checked(headers: Sequence[tuple[str, str | bytes | None]]) -> list[tuple[str, str | bytes | None]]:
    """Headers that produce() can be given: a name that is no text ends the process in confluent-kafka's C code.

    Raises UnicodeEncodeError.
    """
    if not all(name.isascii() for name, _ in headers):
        for name, _ in headers:
            name.encode()
    return list(headers)


FLUSH_SECONDS = 0.1
"""Longest flush at a time. confluent-kafka cuts a longer one into slices, and one in which the client learns that it was
fenced ends in an error that is no Python exception: `except Exception` does not catch it (seen with 2.16.1)."""


def flush(producer: Producer, seconds: float) -> int:
    """Wait at most so long until all records are answered for; returns how many are not. Serves delivery reports."""
    deadline = time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        waiting = producer.flush(max(0.0, min(FLUSH_SECONDS, left)))
        if not waiting or left <= FLUSH_SECONDS:
            return waiting


def transactional_producer(transactional_id: str) -> Producer:
    """A producer whose records and consumer offsets are committed together or not at all."""
    timeout = int(settings.KAFKA_TRANSACTION_TIMEOUT_SECONDS * 1000)
    return producer(
        **{
            "transactional.id": transactional_id,
            "transaction.timeout.ms": timeout,
            "message.timeout.ms": timeout,
            # Records are on their way while the offsets are sent; by then a set is complete anyway.
            "linger.ms": 0,
        }
    )


def open_transactional(check: Callable[[], None], broker: Dependency) -> Producer:
    """The transactional producer of this worker, ready: what a dead predecessor of the same id left open is aborted.

    Waits for the broker as long as it takes; `check` is called meanwhile and may raise to give up.
    """
    made = transactional_producer(names.transactional_id(settings.CONSUMER_ID or str(uuid.uuid4())))
    until_answered(lambda: made.init_transactions(2.0), check, broker)
    return made


def until_answered(ask: Callable[[], None], check: Callable[[], None], broker: Dependency) -> None:
    """Ask the broker until it answers, however long it is away.

    `check` is called before each try and may raise to give up. Raises KafkaException when the client is ended for good.
    """
    while True:
        check()
        try:
            ask()
        except (KafkaException, DependencyDown) as error:
            if isinstance(error, KafkaException) and error.args[0].fatal():
                raise
            broker.failed(error)
            time.sleep(max(0.0, min(0.5, broker.next_try - time.monotonic())))
        else:
            broker.answered()
            return


def sessions() -> tuple[float, ...]:
    """Session timeouts of a consumer in seconds, in the order in which to try them: the next one where the broker refuses one."""
    chosen: float | None = settings.CONSUMER_SESSION_TIMEOUT_SECONDS
    return SESSION_SECONDS if chosen is None else (chosen,)


def consumer(session_seconds: float, **more: Any) -> Consumer:
    """A member of the service's consumer group that commits only what it is told, and reads only committed records.

    `session_seconds` is one of `sessions()`; a broker that refuses it says INVALID_SESSION_TIMEOUT at the first poll.
    """
    session = int(session_seconds * 1000)
    options = _common() | {
        "group.id": names.group(),
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # An offset that is gone is lost events, which lost_events.py has to know of.
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": session,
        # Only the answer to a heartbeat tells a member of a rebalance: a dead one is replaced that much later.
        "heartbeat.interval.ms": min(500, session // 6),
        "max.poll.interval.ms": 300_000,
        "fetch.wait.max.ms": 500,
        "fetch.error.backoff.ms": 100,
        # What waits in the client, beside what the loop has in hand: one answer to a fetch may come on top.
        "queued.max.messages.kbytes": 8_192,
        "fetch.max.bytes": 8_388_608,
        "receive.message.max.bytes": _largest_response(),
    }
    if settings.CONSUMER_ID:
        options["group.instance.id"] = settings.CONSUMER_ID
    return Consumer(options | more)


def reader(group: str | None = None) -> Consumer:
    """Reads the partitions that it is told, committed records only, as a member of no group; says where each ends.

    Of `group`, by default the service's own, it can tell the committed offsets.
    """
    return Consumer(_reader_options(group))


def _reader_options(group: str | None) -> dict[str, Any]:
    return _common() | {
        "group.id": group or names.group(),  # never joined, and nothing is committed in it
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 100,
        "queued.max.messages.kbytes": 16_384,
        "receive.message.max.bytes": _largest_response(),
    }


def plain_reader_options() -> dict[str, str]:
    """What `reader` is made of, as librdkafka itself takes it: values are text, and nothing is called back."""
    options = _reader_options(None) | {"queued.max.messages.kbytes": 1_024, "log_level": 0}
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in options.items()
        if name not in {"error_cb", "logger"}
    }


def _largest_response() -> int:
    """Bytes of the largest answer to a fetch: a record comes whole, however large, also a dead letter."""
    return max(100_000_000, 2 * sizes.largest_record())


def admin() -> AdminClient:
    """A client for topics and groups."""
    return AdminClient(_common())


def offsets(
    client: AdminClient,
    places: list[TopicPartition],
    spec: OffsetSpec,
    *,
    timeout: float,
    isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
) -> dict[Partition, int]:
    """Where `spec` is in each of these partitions; `timeout` in seconds. Raises KafkaException."""
    if not places:
        return {}
    asked = client.list_offsets(dict.fromkeys(places, spec), isolation_level=isolation, request_timeout=timeout)
    return {(place.topic, place.partition): future.result().offset for place, future in asked.items()}
