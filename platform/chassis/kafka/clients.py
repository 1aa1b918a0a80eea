"""The only module that creates Kafka clients. It contains every option on which a guarantee depends."""

import contextlib
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
)
from confluent_kafka.admin import AdminClient, OffsetSpec
from django.conf import settings

from chassis.kafka import authentication, names, sizes
from chassis.kafka.errors import Stranded
from chassis.kafka.renewal import Renewed
from chassis.runtime.dependency import Dependency
from chassis.runtime.failures import DependencyDown

log = structlog.get_logger(__name__)

PERMANENT_ERRORS = frozenset(
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
"""Errors that a retry cannot change if the record was alone in its request: the broker refuses whole batches.

All other errors (a missing topic, no permission, no broker) are retried."""

UNWRITABLE = (TypeError, ValueError, OverflowError)
"""The exceptions of produce() for arguments that are not a valid record; UnicodeError is a ValueError."""

TOPIC_ERRORS = PERMANENT_ERRORS | {
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_TOPIC_ID,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.POLICY_VIOLATION,
}
"""Errors about a single topic: the broker responds, but does not accept this record there at present."""

SESSION_SECONDS = (4.0, 6.0)
"""Session timeouts if CONSUMER_SESSION_TIMEOUT_SECONDS is unset. The shorter one is preferred; a broker with Kafka's default for
group.min.session.timeout.ms rejects it and accepts the longer one."""

UNREACHABLE = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION})
"""The errors that a client reports if it can connect to no broker."""

EARLIEST, LATEST = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]

ANY_TOPIC = "__consumer_offsets"
"""A topic that exists in every cluster, for small requests. Permission to access it is not required."""


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
    """Logs librdkafka's messages at debug level, since they are repeated at every connection attempt."""

    def log(self, level: int, message: str, *args: Any) -> None:
        log.debug("librdkafka", text=message % args if args else message)


def on_error(error: KafkaError) -> None:
    """Log a client's error at debug level, since it is repeated at every attempt. Rejected credentials are logged as an error."""
    log.debug("kafka client error", code=error.name(), reason=error.str())
    authentication.note(error)


def producer(**more: Any) -> Producer:
    """An idempotent producer: records are acknowledged by all in-sync replicas, once and in order, and never time out."""
    return Producer(
        _common()
        | {
            "enable.idempotence": True,
            "acks": "all",
            # Fewer, larger requests. A flush, which ends every batch, does not wait for it.
            "linger.ms": 5,
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
            "message.timeout.ms": 0,
            # Records of a missing topic fail after this time, and delay those of other topics no longer than that.
            "topic.metadata.propagation.max.ms": 3_000,
            "message.max.bytes": sizes.largest_record(),
            "batch.size": sizes.largest_batch(),
            "queue.buffering.max.messages": 200_000,
            "queue.buffering.max.kbytes": sizes.queued_kbytes(),
        }
        | more
    )


def gapless_producer(**more: Any) -> Producer:
    """A producer that writes nothing after a record that the broker has refused: the error is fatal, and it must be replaced.

    Otherwise later batches of the partition would be written, and retried records would follow them.
    """
    return producer(**{"enable.gapless.guarantee": True} | more)


def checked(headers: Sequence[tuple[str, str | bytes | None]]) -> list[tuple[str, str | bytes | None]]:
    """Check headers before they are passed to produce(): a name that is not valid text crashes confluent-kafka's C code.

    Raises UnicodeEncodeError.
    """
    if not "".join([name for name, _ in headers]).isascii():
        for name, _ in headers:
            name.encode()
    return list(headers)


FLUSH_SECONDS = 0.1
"""Maximum duration of a single flush. confluent-kafka divides a longer one into slices, and if the client is fenced during a
slice, the resulting error is not a regular exception: `except Exception` does not catch it (seen with 2.16.1)."""


def flush(producer: Producer, seconds: float) -> int:
    """Wait up to `seconds` for the delivery of all records, and serve delivery reports. Returns how many are undelivered."""
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
            # Records are sent at once, while the offsets are being sent; the batch is complete by then.
            "linger.ms": 0,
        }
    )


def open_transactional(check: Callable[[], None], broker: Dependency) -> Producer:
    """Create and initialise this worker's transactional producer, which aborts an open transaction of a predecessor.

    Waits for the broker without a limit; `check` is called meanwhile and may raise to give up.
    """
    name = names.transactional_id(settings.CONSUMER_ID or str(uuid.uuid4()))
    made = Renewed(lambda: transactional_producer(name))
    until_answered(lambda: made.ask(lambda producer: init_transactions(producer, 2.0)), check, broker)
    return made.get()


CONNECT_SECONDS = 0.5
"""The pause after which librdkafka repeats a request for a producer id that found no connection to a broker."""


def init_transactions(made: Producer, seconds: float) -> None:
    """Take over the transactional id of a producer. Raises KafkaException.

    Waits for a connection first: a new client has none yet, and the request would be repeated only after CONNECT_SECONDS.
    """
    with contextlib.suppress(KafkaException):  # the request itself tells what is wrong
        made.list_topics(timeout=min(seconds, CONNECT_SECONDS))
    made.init_transactions(seconds)


def until_answered(ask: Callable[[], None], check: Callable[[], None], broker: Dependency) -> None:
    """Repeat a request until the broker responds, without a limit.

    `check` is called before each attempt and may raise to give up. Raises KafkaException if the client has failed fatally.
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
    """Session timeouts of a consumer in seconds, in the order in which to try them if the broker rejects one."""
    chosen: float | None = settings.CONSUMER_SESSION_TIMEOUT_SECONDS
    return SESSION_SECONDS if chosen is None else (chosen,)


def consumer(session_seconds: float, **more: Any) -> Consumer:
    """A member of the service's consumer group that commits only explicitly, and reads only committed records.

    `session_seconds` is one of `sessions()`; if the broker rejects it, the first poll returns INVALID_SESSION_TIMEOUT.
    """
    session = int(session_seconds * 1000)
    options = _common() | {
        "group.id": names.group(),
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # An offset that no longer exists means lost events, which lost_events.py must detect.
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": session,
        # A member learns of a rebalance from the response to a heartbeat, so this delays the replacement of a dead member.
        "heartbeat.interval.ms": min(500, session // 6),
        "max.poll.interval.ms": 300_000,
        "fetch.wait.max.ms": 500,
        "fetch.error.backoff.ms": 100,
        # The queue of the client, in addition to the backlog; one fetch response may exceed it.
        "queued.max.messages.kbytes": 8_192,
        "fetch.max.bytes": 8_388_608,
        "receive.message.max.bytes": _largest_response(),
    }
    if settings.CONSUMER_ID:
        options["group.instance.id"] = settings.CONSUMER_ID
    return Consumer(options | more)


def reader(group: str | None = None, **more: Any) -> Consumer:
    """A consumer that reads assigned partitions, committed records only, without joining a group; it reports their ends.

    It can read the committed offsets of `group`, by default the service's own. `more` are further options of librdkafka.
    """
    return Consumer(_reader_options(group) | more)


def group_reader(group: str) -> Consumer:
    """A client that reads the committed offsets of a group: it never joins the group, fetches no records and commits nothing."""
    return Consumer(_common() | {"group.id": group, "enable.auto.commit": False})


def available(client: Consumer, most: int, seconds: float) -> list[Message]:
    """The records that a client has received, at most so many; if there are none, waits up to `seconds` for one.

    `Consumer.consume` waits until there are as many as requested.
    """
    if found := client.consume(most, 0):
        return found
    first = client.poll(seconds)
    return [] if first is None else [first]


def _reader_options(group: str | None) -> dict[str, Any]:
    return _common() | {
        "group.id": group or names.group(),  # never joined, and without commits
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 100,
        "queued.max.messages.kbytes": 16_384,
        "receive.message.max.bytes": _largest_response(),
    }


def plain_reader_options() -> dict[str, str]:
    """The options of `reader` in librdkafka's own form: values are strings, and there are no callbacks."""
    options = _reader_options(None) | {"queued.max.messages.kbytes": 1_024, "log_level": 0}
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in options.items()
        if name not in {"error_cb", "logger"}
    }


def _largest_response() -> int:
    """Maximum size of a fetch response in bytes: a record is always returned whole, including the largest dead letter."""
    return max(100_000_000, 2 * sizes.largest_record())


def admin() -> AdminClient:
    """A client for topics and groups."""
    return AdminClient(_common())


RESPONSE_SECONDS = 1.0
"""How long a new client has to connect and to get a response."""


def new_client_gets_response() -> bool:
    """Whether a broker responds to a new client, within RESPONSE_SECONDS."""
    try:
        admin().list_topics(ANY_TOPIC, timeout=RESPONSE_SECONDS)
    except KafkaException:
        return False
    return True


def raise_if_stranded() -> None:
    """Raise Stranded if a new client gets a response; call it if another one gets none."""
    if new_client_gets_response():
        raise Stranded("the Kafka client gets no response any more, although the brokers respond to a new one")
