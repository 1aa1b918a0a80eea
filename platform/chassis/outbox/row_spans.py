"""The PRODUCER spans of outbox rows. They show how long a row waited in the outbox, apart from the time to the broker."""

import math
import time

from confluent_kafka import Message

from chassis.kafka import send_spans
from chassis.kafka.records import LONGEST_LOGGED
from chassis.outbox.row import Row


def sent(row: Row, sent_at: int, message: Message) -> None:
    """Record that the broker has acknowledged a row that was sent at this time, in nanoseconds since the epoch."""
    parent = send_spans.parent_in_json(row.headers)
    if parent is None:
        return
    attributes = _attributes(row, sent_at) | {
        "messaging.destination.partition.id": str(message.partition()),
        "messaging.kafka.offset": message.offset() or 0,
    }
    send_spans.sent(row.topic, str(row.event_id), parent, begun=sent_at, ended=time.time_ns(), attributes=attributes)


def parked(row: Row, reason: str) -> None:
    """Record that the broker will never accept a row, so it was parked."""
    parent = send_spans.parent_in_json(row.headers)
    if parent is None:
        return
    now = time.time_ns()
    attributes = _attributes(row, now) | {"error.type": "parked"}
    send_spans.sent(
        row.topic, str(row.event_id), parent, begun=now, ended=now, attributes=attributes, error=reason[:300]
    )


def _attributes(row: Row, sent_at: int) -> dict[str, str | int | float]:
    attributes: dict[str, str | int | float] = {}
    if math.isfinite(row.created_at):
        attributes["outbox.wait_seconds"] = round(max(0.0, sent_at / 1e9 - row.created_at), 6)
    if row.key is not None:
        attributes["messaging.kafka.message.key"] = row.key[:LONGEST_LOGGED]
    return attributes
