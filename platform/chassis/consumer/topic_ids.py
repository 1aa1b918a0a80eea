"""Which topic of a name a consumer reads: a topic that is deleted and made again is another one, with offsets of its own.

A running consumer is not told. Within the ten seconds in which its client refreshes what it knows, the new topic takes the
place of the old one, and the client continues at its old position: the first records of the new topic are skipped without
an error (seen with Apache Kafka 4.3.1 and librdkafka 2.16). Only the topic's id tells. So a consumer

- compares the ids of its topics by a clock, and starts anew when one has changed;
- commits each offset together with the id of its topic, so that nobody takes up an offset of a topic that is gone.

See docs/adr/0028-topic-ids.md.
"""

import time
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

import structlog
from confluent_kafka import KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from chassis.consumer.missing_topics import MissingTopics
from chassis.consumer.unit_of_work import Offsets
from chassis.kafka import clients, offset_metadata
from chassis.kafka.errors import Unsure
from chassis.observability import metrics

log = structlog.get_logger(__name__)

EVERY_SECONDS = 2.0
"""How often the ids are asked for. Records that a consumer reads of a new topic before it knows are handled out of order."""
ANSWER_SECONDS = 1.0
"""How long the broker has for each answer when partitions are assigned. Without one the offsets are taken as they are."""

ID = "topic_id"
"""Its name in the metadata of an offset."""


class TopicRecreated(Unsure):
    """A topic was deleted and made again: positions in the old one mean nothing in the new one, so begin anew."""


class TopicIds:
    """The ids of the topics that a consumer has partitions of.

    `needed` hears what the broker says of the topics that the consumer needs: it is asked for all of them at once.
    """

    def __init__(self, needed: MissingTopics | None = None) -> None:
        self._needed = needed or MissingTopics()
        self._admin: AdminClient | None = None
        self._known: dict[str, str] = {}
        self._asked: dict[str, Future[Any]] = {}
        self._next = 0.0
        self._changed: set[str] = set()

    def of(self, topic: str) -> str:
        """The id of a topic; empty while it is not known."""
        return self._known.get(topic, "")

    def tagged(self, offsets: Offsets) -> list[TopicPartition]:
        """Offsets to commit, each with the id of the topic that it belongs to in its metadata."""
        return [
            TopicPartition(
                topic, number, offset, offset_metadata.dump({ID: known} if (known := self.of(topic)) else {})
            )
            for (topic, number), offset in offsets.items()
        ]

    def learn(self, topics: Iterable[str]) -> None:
        """Called when partitions of these topics were assigned. Waits ANSWER_SECONDS at most; the clock asks again."""
        try:
            for topic, future in self._ask(topics).items():
                self._learn(topic, str(future.result(ANSWER_SECONDS).topic_id))
        except (KafkaException, TimeoutError) as error:
            log.warning("topic ids not known, committed offsets are taken as they are", reason=str(error)[:300])

    def without_void(self, committed: Iterable[TopicPartition]) -> list[TopicPartition]:
        """What the group has committed; nothing, offset -1, where that is of an earlier topic of the same name."""
        judged = [TopicPartition(p.topic, p.partition, -1) if self._is_void(p) else p for p in committed]
        if void := sorted(f"{p.topic}/{p.partition}" for p in committed if self._is_void(p)):
            log.error(
                "committed offsets are of a topic that was deleted since, starting at the beginning of the new one",
                partitions=void,
            )
        return judged

    def _is_void(self, committed: TopicPartition) -> bool:
        was, now = offset_metadata.load(committed.metadata).get(ID), self.of(committed.topic)
        return committed.offset >= 0 and bool(was and now) and was != now

    def raise_if_recreated(self) -> None:
        """Called at each turn of the loop; asks by a clock, and waits for no answer. Raises TopicRecreated."""
        for topic, future in [(topic, future) for topic, future in self._asked.items() if future.done()]:
            del self._asked[topic]
            error = future.exception()
            self._needed.answered(topic, error)
            if (
                error is None and topic in self._known
            ):  # else the broker is away, or the topic, and what is asked next tells more
                self._learn(topic, str(future.result().topic_id))
        if self._changed:
            raise TopicRecreated(f"made again: {', '.join(sorted(self._changed))}")
        now = time.monotonic()
        if now >= self._next and not self._asked:
            self._next = now + EVERY_SECONDS
            self._asked = self._ask(self._needed.topics | self._known.keys())

    def _learn(self, topic: str, topic_id: str) -> None:
        before = self._known.setdefault(topic, topic_id)
        if before != topic_id and topic not in self._changed:
            self._changed.add(topic)
            metrics.TOPICS_RECREATED.labels(topic).inc()
            log.error("topic was deleted and made again, starting anew", topic=topic, was=before, now=topic_id)

    def _ask(self, topics: Iterable[str]) -> dict[str, Future[Any]]:
        names = sorted(topics)
        if not names:
            return {}
        if self._admin is None:
            self._admin = clients.admin()
        answers: dict[str, Future[Any]] = self._admin.describe_topics(
            TopicCollection(names), request_timeout=ANSWER_SECONDS
        )
        return answers
