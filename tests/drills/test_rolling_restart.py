"""Two replicas of each process are restarted one after the other under load: clients do not notice."""

import pytest

from services import BEHIND_GATEWAY
from tests.acceptance.harness import KNOWN, READY_WITHIN
from tests.acceptance.ledger import check, check_placed, settle
from tests.drills.balancer import Balancer, Visitor
from tests.waiting import eventually

pytestmark = pytest.mark.drill

WEB = tuple(service.name for service in BEHIND_GATEWAY)
WANTED = {"POST /api/users": 201, "POST /api/orders": 201, "GET /api/users": 200}


@pytest.fixture
def pairs(system):
    """Two of every process; both gateways know both replicas of each service, and drain as they do by default."""
    others = [f"{name}-1" for name in KNOWN if name != "gateway"]
    urls = {f"{name.upper()}_URL": f"{system.url(name)},{system.url(f'{name}-1')}" for name in WEB}
    system.start(*others)
    system.start("gateway", "gateway-1", **urls, GATEWAY_DRAIN_SECONDS="2")
    return system


@pytest.fixture
def balancer(pairs):
    balancer = Balancer([pairs.url("gateway"), pairs.url("gateway-1")])
    balancer.start()
    eventually(lambda: len(balancer.ready) == 2)
    yield balancer
    balancer.end()


@pytest.fixture
def visitors(balancer):
    visitors = [Visitor(balancer) for _ in range(3)]
    for visitor in visitors:
        visitor.start()
    yield visitors
    for visitor in visitors:
        visitor.end()


def restart(system, name: str) -> int:
    """End a process and start it again until it is ready. Returns the exit status with which it ended."""
    member = system[name]
    member.terminate()
    status = member.ended()
    again = system.spawn(name, **member.changes)
    eventually(again.ready, within=READY_WITHIN, every=0.05, what=f"{name} is ready again")
    return status


def test_rolling_restart(pairs, topics, balancer, visitors, figures):
    """Rolling restart. Limit: no failed request."""
    eventually(lambda: all(len(visitor.responses) >= 6 for visitor in visitors))
    statuses = {}
    for name in sorted(pairs.members):
        statuses[name] = restart(pairs, name)
        if name.startswith("gateway"):
            eventually(lambda name=name: balancer.uses(pairs.url(name)), what="requests go there again")
    answers = [answer for visitor in visitors for answer in visitor.end()]
    settle(pairs, topics)

    failed = [answer for answer in answers if answer.status != WANTED[answer.what]]
    seconds = sorted(answer.seconds for answer in answers)
    figures.update({"restarts": len(statuses), "requests": len(answers), "failed": len(failed)})
    figures["p99"] = seconds[int(len(seconds) * 0.99)]
    figures["slowest"] = seconds[-1]
    assert failed == []
    assert set(statuses.values()) == {0}, statuses
    made = {what: [answer.body["id"] for answer in answers if answer.what == what] for what in WANTED}
    check(pairs, topics, made["POST /api/users"])
    check_placed(pairs, topics, made["POST /api/orders"])
