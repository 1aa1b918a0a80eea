"""The size limits of records, and how they are computed.

    largest_event         key + value + headers of an event that this system publishes, and that its consumers read
    event_topic           the limit of the topic of an event; a foreign producer may use all of it
    dead_letter_topic     the limit of a dead-letter topic: any record of the event's topic, plus the added headers
    largest_record        the limit of the Kafka clients here

A broker compares the size of a whole compressed batch with `max.message.bytes`; a record alone in its batch adds about 70
bytes to its key, value and headers. librdkafka compares the size of each uncompressed record, plus 36 bytes and up to 5 per
header, with `message.max.bytes`. Its limit is therefore larger than that of every topic, for records that compress well.
"""

from collections.abc import Iterable

from django.conf import settings

HEADROOM = 65_536
"""By how many bytes a topic's limit exceeds the largest event, and a dead-letter topic's limit that of the event's topic."""

DIAGNOSTICS = 32_768
"""Maximum size, in bytes, of the headers that dead-lettering adds. Including additional framing, it is less than HEADROOM."""

UNPACKED = 16_000_000
"""Maximum uncompressed size, in bytes, of a record that a foreign producer compressed, even if topics accept less. A relay
briefly holds a few copies of such a record: see the memory limits in deploy/kubernetes."""

QUEUED = 33_554_432
"""Maximum number of bytes in the queue of a Kafka client; beyond it, the client accepts no more until some are acknowledged."""


def largest_event() -> int:
    """Maximum size of key, value and headers of one event, in bytes."""
    return int(settings.KAFKA_MAX_MESSAGE_BYTES)


def event_topic() -> int:
    """`max.message.bytes` of an event's topic."""
    return largest_event() + HEADROOM


def dead_letter_topic() -> int:
    """`max.message.bytes` of a dead-letter topic."""
    return event_topic() + HEADROOM


def largest_record() -> int:
    """`message.max.bytes` of producers."""
    return max(UNPACKED, dead_letter_topic() + HEADROOM)


def largest_batch() -> int:
    """`batch.size` of producers: the topic's limit applies to a batch, so a batch must not be larger than the largest event."""
    return max(16_384, largest_event() - HEADROOM)


def queued_kbytes() -> int:
    """`queue.buffering.max.kbytes` of producers: at least two of the largest records fit."""
    return max(QUEUED, 2 * largest_record()) // 1024 + 1


def of(key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> int:
    """The size of a record as consumers count it: key, value, and names and values of headers."""
    return len(key or b"") + len(value or b"") + sum(len(name) + len(held or b"") for name, held in headers)
