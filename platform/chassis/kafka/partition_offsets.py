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
) -> dict[Partition, int]:
    """The offset of `spec` in each of these partitions; -1 if it is a time after all records. `timeout` is in seconds.

    Raises KafkaException, also if the leader of one partition does not respond.
    """
    found, errors = _read(client, places, spec, timeout, isolation)
    for error in errors:
        raise error
    return found


def read_responding(
    client: AdminClient,
    places: list[TopicPartition],
    spec: OffsetSpec,
    *,
    timeout: float,
    isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
) -> dict[Partition, int]:
    """As `read`, but without the partitions whose leaders do not respond. Raises KafkaException if none does."""
    found, errors = _read(client, places, spec, timeout, isolation)
    for error in errors if not found else ():
        raise error
    return found


def _read(
    client: AdminClient, places: list[TopicPartition], spec: OffsetSpec, timeout: float, isolation: IsolationLevel
) -> tuple[dict[Partition, int], list[KafkaException]]:
    if not places:
        return {}, []
    found: dict[Partition, int] = {}
    errors: list[KafkaException] = []
    asked = client.list_offsets(dict.fromkeys(places, spec), isolation_level=isolation, request_timeout=timeout)
    for place, future in asked.items():
        try:
            offset = int(future.result().offset)
        except KafkaException as error:
            errors.append(error)
            continue
        if offset == OFFSET_INVALID:
            # librdkafka (2.16) reports a leader that does not respond like this, if another one does.
            reason = f"the leader of {place.topic}/{place.partition} does not respond"
            errors.append(KafkaException(KafkaError(KafkaError._TIMED_OUT, reason)))
        else:
            found[place.topic, place.partition] = offset
    return found, errors
