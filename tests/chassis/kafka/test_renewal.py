"""A client that gets no response is replaced, one that is refused something is not."""

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from django.test import override_settings

from chassis.kafka import clients, renewal
from chassis.kafka.patience import UNANSWERED
from chassis.kafka.renewal import Renewed

MISSING = "no-such-topic"


def describe(client: AdminClient) -> None:
    """Request a topic that does not exist."""
    raise KafkaException(client.list_topics(MISSING, timeout=2).topics[MISSING].error)


def code(client: Renewed) -> int:
    """The error of a request."""
    with pytest.raises(KafkaException) as caught:
        client.ask(describe)
    return caught.value.args[0].code()


def test_without_a_response_it_is_replaced(monkeypatch):
    monkeypatch.setattr(renewal, "RENEW_SECONDS", 1.0)
    with override_settings(KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1"):
        client = Renewed(clients.admin)
        first = client.get()
        assert code(client) in UNANSWERED
    assert client.get() is first, "one failure is not enough"
    assert code(client) in UNANSWERED
    assert client.get() is not first
    assert code(client) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_a_refusal_is_a_response(monkeypatch):
    monkeypatch.setattr(renewal, "RENEW_SECONDS", 0.0)
    client = Renewed(clients.admin)
    first = client.get()
    for _ in range(3):
        assert code(client) == KafkaError.UNKNOWN_TOPIC_OR_PART
    assert client.get() is first


def test_a_response_resets_the_time(monkeypatch):
    monkeypatch.setattr(renewal, "RENEW_SECONDS", 0.0)
    client = Renewed(clients.admin)
    first = client.get()
    failure = KafkaException(KafkaError(KafkaError._TIMED_OUT))
    client.note(failure)
    client.note(None)
    client.note(failure)
    assert client.get() is first
