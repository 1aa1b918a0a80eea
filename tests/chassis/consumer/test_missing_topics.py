"""A missing topic of a consumer is named by `/health/ready` until it exists."""

import uuid
from dataclasses import dataclass
from typing import ClassVar

import pytest
from confluent_kafka import KafkaError, KafkaException
from health_check.base import HealthCheck
from health_check.exceptions import ServiceUnavailable

from chassis.consumer import consumer as consumer_module
from chassis.consumer import orphaned_transactions
from chassis.consumer.consumer import Consumer
from chassis.consumer.missing_topics import MissingTopics
from chassis.events.event import Event
from chassis.events.registry import Handler
from chassis.health.checks import Awaited
from chassis.kafka import names
from tests.chassis.support.kafka_helpers import make_topic
from tests.chassis.support.loops import running
from tests.waiting import eventually


@dataclass
class Answers(HealthCheck):
    """A broker that answers."""

    def run(self) -> None:
        pass


def said(running_loop) -> str:
    """What `/health/ready` says of the broker; nothing when that is well."""
    try:
        Awaited("broker", Answers(), running_loop.heartbeat).run()
    except ServiceUnavailable as error:
        return error.message
    return ""


@pytest.fixture
def missing(scene, monkeypatch) -> str:
    """The name of a topic that the consumer reads beside its scene's, and that nobody has made."""
    name = f"missing-{uuid.uuid4().hex[:8]}"
    handlers = dict(consumer_module.registered())
    model = type("Other", (handlers[scene.topic].event,), {"topic": name, "__annotations__": {}})
    handlers[name] = Handler(model, scene.handle)
    monkeypatch.setattr(consumer_module, "registered", lambda: handlers)
    return name


@pytest.mark.django_db(databases=["users"], transaction=True)
def test_a_topic_that_is_read(scene, missing):
    with running(Consumer) as loop:
        reason = eventually(lambda: said(loop))
        assert reason.startswith(f"topics cannot be used: {missing} (missing); create missing topics with")
        scene.send(scene.event(1))
        eventually(lambda: scene.handled, what="the other topic is consumed")
        make_topic(missing)
        eventually(lambda: said(loop) == "")


@pytest.mark.service("payments")
def test_topics_that_are_written(scene, missing, monkeypatch):
    """By a service without a database: its events, and its dead letters."""
    published = f"published-{uuid.uuid4().hex[:8]}"
    event = type("Published", (Event,), {"topic": published, "__annotations__": {"topic": ClassVar[str]}})
    monkeypatch.setattr(orphaned_transactions, "published", lambda: [event])
    make_topic(missing)
    dead = names.dead_letter_topic(missing, scene.group)
    with running(Consumer) as loop:
        reason = eventually(lambda: said(loop))
        assert f"{dead} (missing), {published} (missing);" in reason
        make_topic(dead)
        eventually(lambda: dead not in said(loop))
        assert published in said(loop)
        make_topic(published)
        eventually(lambda: said(loop) == "")


def test_only_errors_about_the_topic_count():
    topics = MissingTopics(["a", "b"])

    def answer(topic: str, code: int | None) -> None:
        topics.answered(topic, None if code is None else KafkaException(KafkaError(code)))

    for code in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError.BROKER_NOT_AVAILABLE, None):
        answer("a", code)
        assert topics.up
    answer("not ours", KafkaError.UNKNOWN_TOPIC_OR_PART)
    assert topics.up
    answer("b", KafkaError.TOPIC_AUTHORIZATION_FAILED)
    answer("a", KafkaError.UNKNOWN_TOPIC_OR_PART)
    answer("a", KafkaError._TIMED_OUT)
    assert "a (missing), b (not permitted);" in topics.why
    answer("a", None)
    answer("b", None)
    assert topics.up
