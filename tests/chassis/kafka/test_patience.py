"""Requests to Kafka are repeated while their errors are temporary."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from chassis.kafka.patience import MOVING, UNANSWERED, Patience
from chassis.runtime.failures import DependencyDown


def asking(*codes):
    """A request that fails with these errors, then succeeds."""
    left = [KafkaException(KafkaError(code)) for code in codes]

    def ask(seconds):
        assert seconds > 0
        if left:
            raise left.pop(0)
        return "answer"

    return ask


@pytest.mark.parametrize("code", sorted(MOVING | UNANSWERED))
def test_a_temporary_error_is_waited_for(code):
    assert Patience(30).insist(asking(code, code)) == "answer"


def test_any_other_is_not():
    with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
        Patience(30).insist(asking(KafkaError.TOPIC_AUTHORIZATION_FAILED))


def test_the_last_error_is_the_reason():
    endless = [KafkaError.NOT_LEADER_FOR_PARTITION] * 1_000
    with pytest.raises(DependencyDown, match="NOT_LEADER_FOR_PARTITION"):
        Patience(0.5).insist(asking(*endless))
