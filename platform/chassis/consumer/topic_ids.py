"""Detecting recreated topics: a topic that was deleted and recreated is a different one, with its own offsets.

A running consumer is not notified. If the topic is recreated within the ten seconds between two metadata refreshes of its
client, the client continues at its old position and skips the first records of the new topic without an error (seen with
Apache Kafka 4.3.1 and librdkafka 2.16). Only the topic's id shows it. A consumer therefore

- compares the ids of its topics periodically, and starts over when one has changed;
- commits each offset together with the id of its topic, so that no consumer uses an offset of a deleted topic.

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
from chassis.kafka import clients, offset_metadata, renewal
from chassis.kafka.errors import Unsure
from chassis.observability import metrics

log = structlog.get_logger(__name__)

EVERY_SECONDS = 2.0
"""The interval of these requests. Records of a new topic that are read before it is detected are processed out of order."""
ANSWER_SECONDS = 1.0
"""Timeout of a request when partitions are assigned. If the broker does not respond, the offsets are used unchecked."""

ID = "topic_id"
"""The name of the id in the metadata of an offset."""


class TopicRecreated(Unsure):
    """A topic was deleted and recreated: positions in the old one are meaningless in the new one, so start over."""


class TopicIds:
    """The ids of the topics of which a consumer owns partitions.

    The same requests also ask for the topics that the consumer needs; `needed` receives the broker's responses.
    """

    def __init__(self, needed: MissingTopics | None = None) -> None:
        self._needed = needed or MissingTopics()
        self._client = renewal.Renewed(clients.admin)
        self._known: dict[str, str] = {}
        self._asked: dict[str, Future[Any]] = {}
        self._next = 0.0
        self._changed: set[str] = set()

    def admin(self) -> AdminClient:
        """The client of these requests, which others may use too: ask for it each time, since it may be replaced."""
        return self._client.get()

    def of(self, topic: str) -> str:
        """The id of a topic; empty if it is not known."""
        return self._known.get(topic, "")

    def tagged(self, offsets: Offsets) -> list[TopicPartition]:
        """Offsets to commit, with the id of their topic in their metadata."""
        return [
            TopicPartition(
                topic, number, offset, offset_metadata.dump({ID: known} if (known := self.of(topic)) else {})
            )
            for (topic, number), offset in offsets.items()
        ]

    def learn(self, topics: Iterable[str]) -> None:
        """Request the ids of topics whose partitions were assigned. Waits at most ANSWER_SECONDS."""
        try:
            for topic, future in _ask(self.admin(), topics).items():
                self._learn(topic, str(future.result(ANSWER_SECONDS).topic_id))
        except (KafkaException, TimeoutError) as error:
            log.warning("topic ids not known, using committed offsets unchecked", reason=str(error)[:300])

    def without_stale(self, committed: Iterable[TopicPartition]) -> list[TopicPartition]:
        """The committed offsets, with -1 in place of those that belong to an earlier topic of the same name."""
        judged = [TopicPartition(p.topic, p.partition, -1) if self._is_stale(p) else p for p in committed]
        if stale := sorted(f"{p.topic}/{p.partition}" for p in committed if self._is_stale(p)):
            log.error(
                "committed offsets belong to a deleted topic, starting at the beginning of the new one",
                partitions=stale,
            )
        return judged

    def _is_stale(self, committed: TopicPartition) -> bool:
        was, now = offset_metadata.load(committed.metadata).get(ID), self.of(committed.topic)
        return committed.offset >= 0 and bool(was and now) and was != now

    def raise_if_recreated(self) -> None:
        """Check for changed ids, and send the next request when it is due; never waits. Call it in every iteration.

        Raises TopicRecreated.
        """
        for topic, future in [(topic, future) for topic, future in self._asked.items() if future.done()]:
            del self._asked[topic]
            error = future.exception()
            self._needed.answered(topic, error)
            self._client.note(error)
            # After an error the broker is down or the topic is missing; the next request shows more.
            if error is None and topic in self._known:
                self._learn(topic, str(future.result().topic_id))
        if self._changed:
            raise TopicRecreated(f"recreated: {', '.join(sorted(self._changed))}")
        now = time.monotonic()
        if now >= self._next and not self._asked:
            self._next = now + EVERY_SECONDS
            self._asked = _ask(self.admin(), self._needed.topics | self._known.keys())

    def _learn(self, topic: str, topic_id: str) -> None:
        before = self._known.setdefault(topic, topic_id)
        if before != topic_id and topic not in self._changed:
            self._changed.add(topic)
            metrics.TOPICS_RECREATED.labels(topic).inc()
            log.error("topic was deleted and recreated, starting over", topic=topic, was=before, now=topic_id)


def _ask(admin: AdminClient, topics: Iterable[str]) -> dict[str, Future[Any]]:
    """Request the descriptions of topics."""
    names = sorted(topics)
    if not names:
        return {}
    answers: dict[str, Future[Any]] = admin.describe_topics(TopicCollection(names), request_timeout=ANSWER_SECONDS)
    return answers
