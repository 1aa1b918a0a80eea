"""Another payload for a dead letter whose own one the service cannot process."""

from chassis.deadletters.store import StoredDeadLetter
from chassis.events.envelope import unseal
from chassis.events.registry import handlers
from chassis.kafka import sizes
from chassis.kafka.records import Record


def check(letter: StoredDeadLetter, payload: bytes) -> None:
    """Check that the service can read the event with this payload: otherwise it would be dead-lettered again.

    Raises Unreadable, whose message contains no values of the payload.
    """
    kept, headers = letter.record, letter.original_headers()
    size = sizes.of(kept.key, payload, headers)
    record = Record(
        letter.topic, kept.partition, kept.offset, kept.key, payload, headers, kept.timestamp_ms,
        size=size, misnamed=kept.misnamed, headers_read=kept.headers_read,
    )  # fmt: skip
    unseal(record, handlers()[letter.topic].event)
