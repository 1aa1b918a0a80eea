"""How long processing stops on a broker with Kafka's default settings."""

import pytest

from tests.acceptance.default_broker import harness, topics
from tests.drills.test_takeover_consumer import replaced_after
from tests.drills.test_takeover_payments import paid_after

__all__ = ["harness", "topics"]

pytestmark = pytest.mark.drill


def test_consumer_never_comes_back_on_a_default_broker(system, topics, load, figures, limit):
    """Consumer killed -9 and never restarted, on a broker with Kafka's defaults. Limit: 8 s from the kill."""
    limit(replaced_after(system, topics, load, figures), 8.0)


def test_payments_never_comes_back_on_a_default_broker(system, topics, raw, figures, limit):
    """Payments killed -9 inside its transaction and never restarted, on a broker with Kafka's defaults. Limit: 16 s."""
    limit(paid_after(system, topics, raw, figures), 16.0)
