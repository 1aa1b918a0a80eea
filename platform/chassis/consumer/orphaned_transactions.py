"""Kafka transactions that stay open although nobody has them any more, found and ended.

A broker that has the only copy of its topics and is killed while a transaction is open may say, when it is back, that the
transaction has ended, and have written that to none of its partitions (seen with 4.3.1; docs/adr/0020-hanging-transactions.md).
Readers of committed records then stop there for ever, and a member of the group is never told from where to go on. Whatever
the same producer ends next in such a partition ends that too: so a worker that starts looks, and ends what hangs.
"""

from collections.abc import Iterable

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from chassis.events.registry import published
from chassis.kafka import clients, names
from chassis.kafka.records import Partition

ANSWER_SECONDS = 2.0
"""How long the broker has for each answer. Offsets that an open transaction holds back are never told, so this is also how
long a worker waits to learn that."""


def written(consumed: Iterable[str]) -> list[str]:
    """The topics that the running service, which consumes these, writes in its transactions: its events and dead letters."""
    return [names.topic(event) for event in published()] + [names.dead_letter_topic(topic) for topic in consumed]


def partitions(client: AdminClient, consumed: Iterable[str]) -> list[Partition]:
    """Where the transactions of the running service, which consumes these topics, leave something open.

    Returns those that hold records behind which no reader of committed records gets. Another replica that is just at work
    shows the same. Raises KafkaException when the broker does not answer.
    """
    places = _places(client, written(consumed))
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    ends = clients.offsets(client, places, latest, timeout=ANSWER_SECONDS)
    committed = clients.offsets(client, places, latest, timeout=ANSWER_SECONDS, isolation=IsolationLevel.READ_COMMITTED)
    return [place for place, end in ends.items() if committed[place] < end]


def offsets(client: AdminClient, consumed: Iterable[str]) -> bool:
    """Whether the committed offsets of the running service's group are held back by an open transaction.

    Raises KafkaException when the broker does not answer for another reason.
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
