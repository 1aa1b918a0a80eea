"""Records for tests that need no broker."""

from chassis.kafka.records import Record


def record(offset: int, key: str = "k", *, topic: str = "user.created", partition: int = 0, **more) -> Record:
    return Record(topic, partition, offset, key.encode(), b"{}", [], 0, size=10, **more)
