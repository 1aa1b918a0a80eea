"""Every panel of the dashboards shows something on a loaded system, and the numbers are those of what was sent."""

import contextlib
import json
import math
import uuid
from collections.abc import Iterator

import pytest

from tests.acceptance.fixtures import prepared
from tests.docs.pages import ROOT
from tests.drills.test_alerts import Watched
from tests.telemetry.prometheus import PROGRAM, Prometheus
from tests.telemetry.system import monitor, targets
from tests.waiting import eventually

pytestmark = [pytest.mark.drill, pytest.mark.skipif(PROGRAM is None, reason="needs prometheus")]

PANELS = [
    pytest.param(target["expr"], id=f"{path.stem}: {panel['title']} {target['refId']}")
    for path in sorted((ROOT / "docker" / "grafana" / "dashboards").glob("*.json"))
    for panel in json.loads(path.read_text())["panels"]
    for target in panel.get("targets", ())
]
USERS, REFUSED = 60, 5
SHOWN: list[str] = []
"""What each panel showed, printed at the end."""


@pytest.fixture(scope="module")
def loaded(request: pytest.FixtureRequest) -> Iterator[Watched]:
    """A system that has processed users and orders, one dead letter, and a refused request, watched from the start."""
    with contextlib.ExitStack() as stack:
        system = stack.enter_context(prepared(request.config, "dashboards"))
        watching = monitor(system)
        stack.callback(watching.stop)
        prometheus = stack.enter_context(Prometheus(system.folder / "prometheus", factor=30))
        system.restore()
        prometheus.scrape(targets(system, watching))
        eventually(lambda: len(prometheus.query('up{job="services"} == 1')) == len(system.members) + 1)
        for _ in range(USERS):
            body = {"email": f"{uuid.uuid4()}@example.org", "name": "Ada"}
            assert system.client.post("/api/users", json=body).status_code == 201
        for _ in range(REFUSED):
            assert system.client.post("/api/users", json={"email": "no"}).status_code == 400
        eventually(lambda: settled(prometheus) == USERS, within=120, what="all orders are settled")
        yield Watched(system, None, prometheus)  # type: ignore[arg-type]
        for line in SHOWN:
            print(line)


def settled(prometheus: Prometheus) -> float:
    return sum(value for _, value in prometheus.query('orders_total{status=~"paid|failed"}'))


def expression(query: str) -> str:
    """A panel's query with Grafana's variables filled in."""
    return query.replace("$__rate_interval", "1h").replace("$service", ".*").replace("[5m]", "[1h]")


@pytest.mark.parametrize("query", PANELS)
def test_no_panel_is_empty(loaded, query, request):
    found = eventually(lambda: loaded.prometheus.query(expression(query)), within=60, what=query)
    numbers = [value for _, value in found if not math.isnan(value)]
    assert numbers
    SHOWN.append(f"{request.node.callspec.id}: {len(found)} series, {min(numbers):.4g} to {max(numbers):.4g}")


COUNTS = {
    'sum(http_server_request_duration_seconds_count{service="gateway", http_request_method="POST", http_response_status_code="201"})': USERS,
    'sum(http_server_request_duration_seconds_count{service="users", http_request_method="POST", http_response_status_code="201"})': USERS,
    'sum(http_server_request_duration_seconds_count{service="gateway", http_response_status_code="400"})': REFUSED,
    "sum(users_created_total)": USERS,
    'sum(outbox_written_total{service="users"})': USERS,
    'sum(outbox_published_total{service="users"})': USERS,
    'sum(outbox_published_total{service="orders"})': USERS,
    'sum(events_consumed_total{service="orders", topic="user.created"})': USERS,
    'sum(events_consumed_total{service="payments", topic="order.created"})': USERS,
    'sum(events_consumed_total{service="orders", topic="payment.completed"})': USERS,
    'sum(events_since_origin_seconds_count{service="orders", topic="payment.completed"})': USERS,
    'sum(orders_total{status="pending"})': USERS,
    'sum(orders_total{status=~"paid|failed"})': USERS,
    "sum(payments_total)": USERS,
    "max(orders_pending)": 0,
    "max(outbox_pending)": 0,
    "sum(events_dead_lettered_total)": 0,
    "max(kafka_brokers)": 1,
    "sum(outbox_relay_active)": 2,
    'sum(kafka_consumergroup_members{consumergroup="orders"})': 1,
}


@pytest.mark.parametrize("query", COUNTS)
def test_numbers_are_those_of_what_was_sent(loaded, query):
    eventually(lambda: loaded.prometheus.value(query) == COUNTS[query], within=60, what=f"{query} is {COUNTS[query]}")


def test_money_is_that_of_the_orders(loaded):
    total = loaded.system.rows("orderdb", "SELECT sum(total_amount) FROM orders WHERE status <> 'pending'")
    assert loaded.prometheus.value("sum(payments_amount_total)") == pytest.approx(float(total[0][0]))
