"""Gauges show what happens while the broker is frozen, and every process has the series of its topics from the start."""

import uuid

import pytest

from tests.waiting import eventually

pytestmark = pytest.mark.acceptance

ROWS = 50
STARTED = {
    "users-relay": {
        'outbox_published_total{topic="user.created"}',
        'outbox_refused_total{topic="user.created"}',
        'outbox_relay_batches_total{outcome="failed"}',
        'dependency_up{dependency="broker"}',
        'dependency_up{dependency="database"}',
        'health_part_status{part="loop"}',
        "purge_last_success_timestamp_seconds",
        "db_server_connection_max",
    },
    "orders-relay": {
        'outbox_published_total{topic="order.created"}',
        'outbox_published_total{topic="payment.completed.orders.dlq"}',
        "orders_pending",
        "orders_oldest_pending_seconds",
    },
    "orders-consume": {
        'events_consumed_total{topic="user.created"}',
        'events_duplicate_total{topic="payment.completed"}',
        'events_failed_total{reason="crash",topic="user.created"}',
        'events_dead_lettered_total{reason="unreadable",topic="user.created"}',
        'events_lost_total{topic="user.created"}',
        'events_dependency_waits_total{dependency="database"}',
        'events_since_origin_seconds_count{topic="payment.completed"}',
        'orders_total{status="failed"}',
        'outbox_written_total{topic="order.created"}',
        'dependency_up{dependency="dead_letter_topic"}',
    },
    "payments-consume": {
        'events_blocked_keys{topic="order.created"}',
        'messaging_process_duration_seconds_count{messaging_destination_name="order.created"}',
        'payments_total{status="failed"}',
        'payments_amount_total{status="completed"}',
        "payments_provider_seconds_count",
    },
    "users": {
        'outbox_written_total{topic="user.created"}',
        'health_part_status{part="database"}',
        "users_created_total",
    },
}


def series(member) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in member.metrics().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


@pytest.mark.parametrize("name", STARTED)
def test_series_exist_from_the_start(system, name):
    assert STARTED[name] <= series(system[name]).keys(), STARTED[name] - series(system[name]).keys()


def test_a_request_is_measured_to_its_last_effect(system):
    def ended() -> float:
        return series(system["orders-consume"])['events_since_origin_seconds_count{topic="payment.completed"}']

    before = ended()
    body = {"email": f"{uuid.uuid4()}@example.org", "name": "Ada"}
    assert system.client.post("/api/users", json=body).status_code == 201
    eventually(lambda: ended() > before)
    found = series(system["orders-consume"])
    assert found['orders_total{status="pending"}'] >= 1
    assert found['orders_total{status="paid"}'] + found['orders_total{status="failed"}'] >= 1
    assert series(system["payments-consume"])["payments_provider_seconds_count"] >= 1


def test_the_outbox_is_measured_while_the_broker_is_frozen(system, kafka):
    relay = system["users-relay"]
    kafka.pause()
    try:
        for _ in range(ROWS):
            body = {"email": f"{uuid.uuid4()}@example.org", "name": "Ada"}
            assert system.client.post("/api/users", json=body).status_code == 201
        eventually(lambda: relay.metric("outbox_pending") == ROWS)
        eventually(lambda: relay.metric("outbox_oldest_age_seconds") > 0)
        eventually(lambda: series(relay)['dependency_up{dependency="broker"}'] == 0)
        eventually(lambda: series(relay)['health_part_status{part="broker"}'] == 0)
    finally:
        kafka.resume()
    eventually(lambda: relay.metric("outbox_pending") == 0)
    eventually(lambda: series(relay)['dependency_up{dependency="broker"}'] == 1)
    eventually(lambda: series(relay)['health_part_status{part="broker"}'] == 1)
