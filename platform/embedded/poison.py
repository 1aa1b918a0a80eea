"""Records that a consumer cannot process, to see how the system handles them."""

import uuid

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from embedded.errors import EmbeddedError

SECONDS = 5.0
"""How long the broker has for each answer."""
UNREADABLE, FAILING = "unreadable", "failing"
FLAWS = {
    UNREADABLE: "its payload is cut off, so it becomes a dead letter at once",
    FAILING: "its handler fails, so it is retried, and then becomes a dead letter",
}
"""What can be wrong with a record, and what follows."""
FAILS_IN = "payment.completed"
"""The event that fails in its handler if it is about an order that does not exist."""


class NotSent(EmbeddedError):
    """The record was not written; the message says why."""


def topics(servers: str) -> list[str]:
    """The topics of events. Raises NotSent."""
    try:
        known = AdminClient({"bootstrap.servers": servers, "log_level": 0}).list_topics(timeout=SECONDS).topics
    except KafkaException as error:
        raise NotSent(f"Kafka does not respond: {error.args[0].str()}") from None
    return sorted(name for name in known if not name.startswith("__") and not name.endswith(".dlq"))


def send(servers: str, topic: str, flaw: str) -> str:
    """Write a record, and return its place. Raises NotSent."""
    if flaw not in FLAWS:
        raise NotSent(f"the flaw must be one of {', '.join(FLAWS)}")
    if topic not in topics(servers):
        raise NotSent(f"there is no topic {topic[:80]!r}")
    name = _event(topic)
    if flaw == FAILING and name != FAILS_IN:
        raise NotSent(f"only a record of {FAILS_IN} can fail in its handler: it names an order that does not exist")
    key = str(uuid.uuid4())
    reports: list[tuple[KafkaError | None, str]] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        reports.append((error, f"{message.topic()}/{message.partition()}@{message.offset()}"))

    producer = Producer({"bootstrap.servers": servers, "log_level": 0, "message.timeout.ms": int(SECONDS * 1000)})
    producer.produce(topic, _payload(key, flaw), key.encode(), headers=_headers(name), on_delivery=delivered)
    producer.flush(SECONDS + 1)
    if not reports or reports[0][0] is not None:
        raise NotSent(f"Kafka did not accept it: {reports[0][0].str() if reports and reports[0][0] else 'no answer'}")
    return reports[0][1]


def _event(topic: str) -> str:
    """The event's name; the topic may have a prefix."""
    return FAILS_IN if topic.endswith(FAILS_IN) else topic


def _payload(key: str, flaw: str) -> bytes:
    whole = (
        f'{{"paymentId": "{uuid.uuid4()}", "orderId": "{key}", "userId": "missing", "amount": 0,'
        ' "status": "completed", "completedAt": "2026-11-23T12:00:00Z"}'
    )
    return whole.encode() if flaw == FAILING else whole[:-7].encode()


def _headers(event: str) -> list[tuple[str, str | bytes | None]]:
    event_id = str(uuid.uuid4())
    trace_id, span_id = uuid.uuid4().hex, uuid.uuid4().hex[:16]
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_type", event.encode()),
        ("ce_source", b"/break-it"),
        ("ce_dataschema", f"urn:events:{event}:v1".encode()),
        ("content-type", b"application/json"),
        ("requestId", event_id.encode()),
        ("traceparent", f"00-{trace_id}-{span_id}-01".encode()),  # recorded, so that its story is shown
    ]
