"""The first offsets of partitions, their ends, and the offsets of a time."""

from confluent_kafka import OFFSET_INVALID, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from chassis.kafka.records import Partition


def read(
    client: AdminClient,
    places: list[TopicPartition],
    spec: OffsetSpec,
    *,
    timeout: float,
    isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    partial: bool = False,
) -> dict[Partition, int]:
    """The offset of `spec` in each of these partitions; -1 if it is a time after all records. `timeout` is in seconds.

    Raises KafkaException, also if the leader of one partition does not respond; with `partial`, such partitions are left out, and
    it is raised if no leader responds.
    """
    if not places:
        return {}
    found: dict[Partition, int] = {}
    errors: list[KafkaException] = []
    asked = client.list_offsets(dict.fromkeys(places, spec), isolation_level=isolation, request_timeout=timeout)
    for place, future in asked.items():
        try:
            found[place.topic, place.partition] = _offset(place, int(future.result().offset))
        except KafkaException as error:
            errors.append(error)
    if errors and not (partial and found):
        raise errors[0]
    return found


def _offset(place: TopicPartition, offset: int) -> int:
    """Raises KafkaException for what librdkafka (2.16) reports of a leader that does not respond, if another one does."""
    if offset == OFFSET_INVALID:
        reason = f"the leader of {place.topic}/{place.partition} does not respond"
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, reason))
    return offset
