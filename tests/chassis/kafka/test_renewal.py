"""A client that gets no response is replaced, one that is refused something is not."""

from confluent_kafka import KafkaError, KafkaException
from django.test import override_settings

from chassis.kafka import clients, renewal
from chassis.kafka.renewal import Renewed

MISSING = "no-such-topic"


def ask(client: Renewed) -> BaseException | None:
    """Send a request, and note its result."""
    try:
        found = client.get().list_topics(MISSING, timeout=2).topics[MISSING].error
    except KafkaException as error:
        client.note(error)
        return error
    refusal = KafkaException(found)
    client.note(refusal)
    return None


def test_without_a_response_it_is_replaced(monkeypatch):
    monkeypatch.setattr(renewal, "RENEW_SECONDS", 1.0)
    with override_settings(KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1"):
        client = Renewed(clients.admin)
        first = client.get()
        assert ask(client) is not None
    assert client.get() is first, "one failure is not enough"
    assert ask(client) is not None
    assert client.get() is not first
    assert ask(client) is None


def test_a_refusal_is_a_response(monkeypatch):
    monkeypatch.setattr(renewal, "RENEW_SECONDS", 0.0)
    client = Renewed(clients.admin)
    first = client.get()
    for _ in range(3):
        assert ask(client) is None
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
