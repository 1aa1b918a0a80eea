"""A dependency recovers: how long until all waiting work is done and all processes are ready."""

import pytest

from tests.acceptance.test_dependencies import NO_DATABASE, linked, system, topics, trial

__all__ = ["linked", "system", "topics", "trial"]

pytestmark = pytest.mark.drill


def test_database_comes_back(trial, figures, limit):
    """The database of orders is disconnected and reconnected. Limit: 10 s."""
    link = trial.engines.links["orders>db"]
    with trial.of(link.cut, link.heal, {**NO_DATABASE, "orders": "database"}):
        pass
    figures["everything resumes after"] = trial.seconds
    limit(trial.seconds, 10.0)


def test_broker_comes_back(trial, figures, limit):
    """The broker is disconnected from orders and reconnected. Limit: 10 s."""
    link = trial.engines.links["orders>kafka"]
    with trial.of(link.cut, link.heal, {"orders-relay": "broker", "orders-consume": "broker"}):
        pass
    figures["everything resumes after"] = trial.seconds
    limit(trial.seconds, 10.0)


def test_broker_comes_back_after_a_crash(trial, figures, limit):
    """The broker is killed -9 and restarted; it loads its groups and ends open transactions first. Limit: 20 s."""
    kafka = trial.engines.kafka
    down = dict.fromkeys(("users-relay", "orders-relay", "orders-consume", "payments-consume"), "broker")
    with trial.of(kafka.kill9, kafka.restart, down):
        pass
    figures["everything resumes after"] = trial.seconds
    limit(trial.seconds, 20.0)
