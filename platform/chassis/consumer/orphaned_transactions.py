"""Finding Kafka transactions that remain open although no producer will end them: hanging transactions.

If a broker with the only replica of its topics is killed during a transaction, it may report after its restart that the
transaction has ended without having written this to its partitions (seen with 4.3.1; docs/adr/0020-hanging-transactions.md).
Readers of committed records then stop there forever, and members of the group never receive their committed offsets. The
next transaction that the same producer ends in such a partition ends the hanging one too, so each worker checks at startup.
"""

from collections.abc import Iterable

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from chassis.events.registry import published
from chassis.kafka import clients, names, partition_offsets
from chassis.kafka.records import Partition

ANSWER_SECONDS = 2.0
"""Timeout of each request. The broker never returns offsets that an open transaction holds back, so a worker waits this long
to detect one."""


def written(consumed: Iterable[str]) -> list[str]:
    """The topics to which the running service, which consumes these, writes in transactions: its events and dead letters."""
    return [names.topic(event) for event in published()] + [names.dead_letter_topic(topic) for topic in consumed]


def partitions(client: AdminClient, consumed: Iterable[str]) -> list[Partition]:
    """The partitions with open transactions of the running service, which consumes these topics.

    These are partitions in which readers of committed records do not reach the end. A transaction in progress of another
    replica looks the same. Raises KafkaException if the broker does not respond.
    """
    places = _places(client, written(consumed))
    latest = clients.LATEST
    ends = partition_offsets.read(client, places, latest, timeout=ANSWER_SECONDS)
    committed = partition_offsets.read(
        client, places, latest, timeout=ANSWER_SECONDS, isolation=IsolationLevel.READ_COMMITTED
    )
    return [place for place, end in ends.items() if committed[place] < end]


def offsets(client: AdminClient, consumed: Iterable[str]) -> bool:
    """Whether an open transaction holds back the committed offsets of the running service's group.

    Raises KafkaException if the broker does not respond for another reason.
    """
    places = _places(client, consumed)
    outsider = clients.reader()
    try:
        outsider.committed(places, timeout=ANSWER_SECONDS)
    except KafkaException as exception:
        if exception.args[0].code() != KafkaError._TIMED_OUT:
            raise
        return True
    finally:
        outsider.close()
    return False


def _places(client: AdminClient, topics: Iterable[str]) -> list[TopicPartition]:
    known = client.list_topics(timeout=ANSWER_SECONDS).topics
    return [TopicPartition(name, number) for name in topics if name in known for number in known[name].partitions]
