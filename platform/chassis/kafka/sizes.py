"""How large a record may be, where: the arithmetic of every size limit, once.

    largest_event         key + value + headers of an event that this system publishes, and that its consumers read
    event_topic           what the broker takes on the topic of an event; a foreign producer may use all of it
    dead_letter_topic     what the broker takes on a dead-letter topic: any record of the event's topic, and our headers
    largest_record        what our own Kafka client takes

A broker holds a whole batch, compressed, against `max.message.bytes`; a record alone in its batch adds about 70 bytes to
its key, value and headers. librdkafka holds each record, uncompressed, with 36 bytes and up to 5 a header of its own,
against `message.max.bytes`: so its limit is larger than every topic's, for records that compress well.
"""

from collections.abc import Iterable

from django.conf import settings

HEADROOM = 65_536
"""Bytes that a topic allows over the largest event, and a dead-letter topic over the event's topic."""

DIAGNOSTICS = 32_768
"""Most bytes that a dead letter's own headers may take. With what the larger record costs in framing it is below HEADROOM."""

UNPACKED = 16_000_000
"""A record that was compressed by somebody else may be this large when it is not, even where topics take less. A relay
holds a few copies of it for a moment: see the memory limits in deploy/kubernetes."""

QUEUED = 33_554_432
"""Bytes that may wait in a Kafka client to be sent; then it takes no more until some are confirmed."""


def largest_event() -> int:
    """Key, value and headers of one event, in bytes."""
    return int(settings.KAFKA_MAX_MESSAGE_BYTES)


def event_topic() -> int:
    """`max.message.bytes` of an event's topic."""
    return largest_event() + HEADROOM


def dead_letter_topic() -> int:
    """`max.message.bytes` of a dead-letter topic."""
    return event_topic() + HEADROOM


def largest_record() -> int:
    """`message.max.bytes` of our producers."""
    return max(UNPACKED, dead_letter_topic() + HEADROOM)


def largest_batch() -> int:
    """`batch.size` of our producers: the broker holds a batch against the topic's limit, so it must not outgrow one event."""
    return max(16_384, largest_event() - HEADROOM)


def queued_kbytes() -> int:
    """`queue.buffering.max.kbytes` of our producers: room for two of the largest records at least."""
    return max(QUEUED, 2 * largest_record()) // 1024 + 1


def of(key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> int:
    """The size of a record as consumers count it: key, value, and names and values of headers."""
    return len(key or b"") + len(value or b"") + sum(len(name) + len(held or b"") for name, held in headers)
